"""The numbers of figures, computed once more from the public functions, without store and figure code."""

import jax
import numpy as np
import pytest
from scipy import stats

import diet_jax as dj
from diet_jax.data.dataset import first_examples
from diet_jax.experiments.config import DataConfig, ModelConfig
from diet_jax.experiments.reproduction.accuracy import AccuracyByFraction
from diet_jax.experiments.reproduction.at_init import GrandAtInit
from diet_jax.experiments.reproduction.barriers import ErrorBarriers
from diet_jax.experiments.reproduction.kernels import KernelVelocity
from diet_jax.experiments.reproduction.noise import NoiseDetection, NoiseDistributions
from diet_jax.experiments.reproduction.rankings import Correlations, NumberOfSeeds
from diet_jax.experiments.reproduction.regression import FrozenKernel
from diet_jax.experiments.reproduction.store import open_store
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.experiments.reproduction.transfer import Transfer
from diet_jax.experiments.reproduction.windows import Windows
from diet_jax.training.loop import program_of, train_between

CONFIG = dj.TrainConfig(epochs=4, batch_size=20, learning_rate=0.05, schedule="cosine", augment="none")
TASK = Task(DataConfig("digits", num_train=240), ModelConfig("mlp", widths=(8,)), CONFIG)
PER_EPOCH, STEPS = 12, 48
MODEL = dj.create_model("mlp", num_classes=10, widths=(8,))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("store"), None) as opened:
        yield opened


@pytest.fixture(scope="module")
def splits():
    train, test = dj.load_dataset("digits")
    return first_examples(train, 240), test


@pytest.fixture(scope="module")
def noisy(splits):
    return dj.flip_labels(dj.seed_keys(0, "label_noise", 1)[0], splits[0], 0.25, mode="permute")


def mean_score(train, name, epoch, seeds=2, config=CONFIG, model=MODEL):
    step = round(epoch * PER_EPOCH)
    keys = dj.seed_keys(0, "score", seeds)
    scored = dj.score_ensemble(keys, model, train, config=config, step=step, names=(name,), how="loop")
    return scored.scores[name].mean(axis=0, dtype=np.float64)


def accuracies(train, test, keep=None, seeds=2, config=CONFIG, model=MODEL):
    keys = dj.seed_keys(0, "retrain", seeds)
    done = dj.train_ensemble(keys, model, train, test, config=config, keep=keep, how="loop")
    return (done.predicted == test.labels).mean(axis=1)


def tie_key():
    return dj.seed_keys(0, "tie_break", 1)[0]


def random_masks(count, fraction, seeds=2):
    return np.stack([dj.keep_random(key, count, fraction) for key in dj.seed_keys(0, "random_subset", seeds)])


def line(panel, name):
    return next(s for s in panel["series"] if s["name"] == name)


def check(drawn, values):
    """A line's mean and band over seeds."""
    np.testing.assert_allclose(drawn["mean"], np.mean(values, axis=1))
    for key, percentile in (("low", 16), ("high", 84)):
        np.testing.assert_allclose(drawn[key], np.percentile(values, percentile, axis=1))


def test_accuracy_by_fraction(store, splits):
    at = ScoreAt("el2n", 2)
    outcome = AccuracyByFraction(TASK, (0.5, 0.75), (at,), score_seeds=2, retrain_seeds=2).run(store, None)
    (panel,) = outcome.chart["panels"]
    scores = mean_score(splits[0], "el2n", 2)
    # Drawn against the share that is pruned, ascending: 0.25, 0.5.
    kept = [
        accuracies(*splits, keep=dj.keep_highest(scores, fraction, key=tie_key())) for fraction in (0.75, 0.5)
    ]
    assert line(panel, "el2n")["x"] == [0.25, 0.5]
    check(line(panel, "el2n"), kept)
    check(line(panel, "random"), [accuracies(*splits, keep=random_masks(240, f)) for f in (0.75, 0.5)])
    full = accuracies(*splits)
    assert panel["levels"][0]["mean"] == pytest.approx(full.mean())
    claim = outcome.claims[0].ours
    assert claim.startswith(f"{100 * kept[1].mean():.2f} against {100 * full.mean():.2f} (everything)")
    assert f"difference {100 * (kept[1] - full).mean():+.2f}" in claim


def test_a_selection_without_a_class_is_left_out_and_named(store):
    at = ScoreAt("el2n", 2)
    outcome = AccuracyByFraction(TASK, (0.75, 0.1), (at,), score_seeds=2, retrain_seeds=2).run(store, None)
    drawn = line(outcome.chart["panels"][0], "el2n")
    assert drawn["mean"][1] is None
    assert drawn["mean"][0] > 0.5
    assert "lack a class: random 0.1, EL2N at epoch 2 0.1." in outcome.note


@pytest.mark.slow
def test_windows_and_the_offset_chosen_without_clean_labels(store, splits, noisy):
    offsets = (0.05, 0.15, 0.25)
    task = TASK.with_noise(0.25)
    figure = Windows(task, 0.75, offsets, ScoreAt("el2n", 2), score_seeds=2, retrain_seeds=2, tune=True)
    outcome = figure.run(store, None)
    (panel,) = outcome.chart["panels"]
    train, test = noisy.dataset, splits[1]
    scores = mean_score(train, "el2n", 2)
    masks = [dj.keep_window(scores, 0.75, offset=offset, key=tie_key()) for offset in offsets]
    check(line(panel, "el2n"), [accuracies(train, test, keep=mask) for mask in masks])
    assert outcome.facts["changed_share"] == noisy.changed.mean()
    # Clean labels and test split take no part in the choice.
    out = dj.held_out(dj.seed_keys(0, "held_out", 1)[0], train.labels, 0.1)
    judged = []
    for mask in masks:
        done = dj.train_ensemble(
            dj.seed_keys(0, "retrain", 2), MODEL, train, test, config=CONFIG, keep=mask & ~out, how="loop"
        )
        predicted = [np.argmax(predict(dj.take_seed(done.variables, seed), train), axis=1) for seed in (0, 1)]
        judged.append([(p[out] == train.labels[out]).mean() for p in predicted])
    check(line(panel, "held_out"), judged)
    assert outcome.facts["tuned"]["offset"] == offsets[int(np.argmax(np.mean(judged, axis=1)))]


def predict(variables, dataset):
    examples = dataset.examples()
    return np.asarray(MODEL.predict(variables, dj.normalize(examples.images, examples.mean, examples.std)))


def test_noise_detection(store, noisy):
    at = (ScoreAt("el2n", 2), ScoreAt("forgetting", 4))
    outcome = NoiseDetection(TASK.with_noise(0.25), at, score_seeds=2).run(store, None)
    for score in at:
        values = mean_score(noisy.dataset, score.name, score.epoch)
        pairs = values[noisy.changed][:, None], values[~noisy.changed][None]
        with np.errstate(invalid="ignore"):
            above = (pairs[0] > pairs[1]) + 0.5 * (pairs[0] == pairs[1])
        assert outcome.facts[score.label]["roc_auc"] == pytest.approx(above.mean())


def variables_at(train, step, seed=0, config=CONFIG):
    key = dj.seed_keys(0, "score", seed + 1)[seed]
    return dj.train(key, MODEL, train, config=config, num_updates=step)[0].variables


@pytest.mark.slow
def test_kernel_velocity(store, splits):
    figure = KernelVelocity(TASK, (1, 2.5), num_groups=3, group_size=20, score_seeds=2, velocity_seeds=2)
    (panel,) = figure.run(store, None).chart["panels"]
    train = splits[0]
    examples = train.examples()
    images = dj.normalize(examples.images, examples.mean, examples.std)
    for drawn, epoch in zip(panel["series"], (1, 2.5), strict=True):
        order = np.argsort(mean_score(train, "el2n", epoch), kind="stable")
        assert drawn["x"] == [0, 110, 220]
        velocities = []
        for first in (0, 110, 220):
            rows = order[first : first + 20]
            values = []
            for seed in (0, 1):
                grams = []
                for step in (round(epoch * PER_EPOCH), round((epoch + 1) * PER_EPOCH)):
                    model_at = variables_at(train, step, seed)
                    jacobian = jax.jacrev(lambda p: MODEL.predict(dj.Variables(p, {}), images[rows]))(  # noqa: B023
                        model_at.params
                    )
                    flat = np.concatenate(
                        [np.reshape(leaf, (200, -1)) for leaf in jax.tree.leaves(jacobian)], axis=1
                    ).astype(np.float64)
                    grams.append(flat @ flat.T)
                a, b = grams
                values.append(1 - np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))
            velocities.append(values)
        np.testing.assert_allclose(drawn["mean"], np.mean(velocities, axis=1), rtol=1e-3)


@pytest.mark.slow
def test_error_barriers(store, splits):
    figure = ErrorBarriers(
        TASK, (0, 2), ScoreAt("el2n", 2), subset_size=30, parents=1, children=2, num_points=5, score_seeds=2
    )
    panels = figure.run(store, None).chart["panels"]
    train = splits[0]
    order = np.argsort(mean_score(train, "el2n", 2), kind="stable")
    subsets = {"lowest": np.sort(order[:30]), "highest": np.sort(order[-30:])}
    parent = variables_at(train, STEPS)
    for place, step in enumerate((0, 24)):
        ends = []
        for child in (0, 1):
            key = jax.random.fold_in(dj.seed_keys(0, "child", child + 1)[child], 0)
            state, _ = dj.train(dj.seed_keys(0, "score", 1)[0], MODEL, train, config=CONFIG, num_updates=step)
            start, program = state._replace(key=key), program_of(MODEL, train, CONFIG)
            steps = train_between(start, train.examples(), np.arange(240), [STEPS], program=program)
            ends.append(next(steps)[0].variables)
        for name, rows in subsets.items():
            for panel, kind in zip(panels, ("chord", "mean", "pair"), strict=True):
                if kind == "pair":
                    heights = [barrier(*ends, train, rows, "chord")]
                else:
                    heights = [barrier(parent, end, train, rows, kind) for end in ends]
                drawn = line(panel, name)
                assert drawn["mean"][place] == pytest.approx(np.mean(heights), abs=1e-6)


def barrier(one, other, train, rows, kind):
    """The definition, point by point in float64."""
    errors = []
    for weight in np.linspace(0, 1, 5):
        between = jax.tree.map(lambda a, b: (1 - np.float32(weight)) * a + np.float32(weight) * b, one, other)  # noqa: B023
        errors.append((np.argmax(predict(between, train)[rows], axis=1) != train.labels[rows]).mean())
    errors = np.array(errors)
    weights = np.linspace(0, 1, 5)
    chord = (1 - weights) * errors[0] + weights * errors[-1]
    return np.max(errors - (chord if kind == "chord" else errors[[0, -1]].mean()))


def test_correlations(store, splits):
    scores = (ScoreAt("input_norm"), ScoreAt("grand", 0), ScoreAt("el2n", 2), ScoreAt("forgetting", 4))
    (panel,) = Correlations(TASK, scores, score_seeds=2).run(store, None).chart["panels"]
    train = splits[0]
    examples = train.examples()
    pixels = np.asarray(dj.normalize(examples.images, examples.mean, examples.std)).reshape(240, -1)
    values = [np.linalg.norm(pixels, axis=1)]
    values += [mean_score(train, at.name, at.epoch) for at in scores[1:]]
    for i, one in enumerate(values):
        for j, other in enumerate(values):
            ranks = [stats.rankdata(v) for v in (one, other)]
            assert panel["values"][i][j] == pytest.approx(stats.spearmanr(*ranks).statistic, abs=1e-3)


def test_number_of_seeds(store, splits):
    at = ScoreAt("grand", 2)
    figure = NumberOfSeeds(TASK, (at,), counts=(1, 2, 4), fraction=0.5, retrain_seeds=2)
    agreement, final = figure.run(store, None).chart["panels"]
    keys = dj.seed_keys(0, "score", 4)
    scored = dj.score_ensemble(
        keys, MODEL, splits[0], config=CONFIG, step=24, names=("grand",), how="loop"
    ).scores["grand"]
    pairs = [scored[:2].mean(axis=0), scored[2:].mean(axis=0)]
    expected = np.mean([stats.spearmanr(pair, scored.mean(axis=0)).statistic for pair in pairs])
    assert agreement["series"][0]["mean"][1] == pytest.approx(expected, abs=1e-4)
    assert agreement["series"][0]["mean"][2] == pytest.approx(1)
    kept = accuracies(*splits, keep=dj.keep_highest(scored[0].astype(np.float64), 0.5, key=tie_key()))
    assert final["series"][0]["mean"][0] == pytest.approx(kept.mean())


@pytest.mark.slow
def test_transfer(store, splits):
    wide = Task(TASK.data, ModelConfig("mlp", widths=(12,)), CONFIG)
    figure = Transfer((("a", TASK), ("b", wide)), ScoreAt("el2n", 2), 0.75, score_seeds=2, retrain_seeds=2)
    (panel,) = figure.run(store, None).chart["panels"]
    models = [MODEL, dj.create_model("mlp", num_classes=10, widths=(12,))]
    masks = [
        dj.keep_highest(mean_score(splits[0], "el2n", 2, model=model), 0.75, key=tie_key())
        for model in models
    ]
    for row, model in enumerate(models):
        random = accuracies(*splits, keep=random_masks(240, 0.75), model=model)
        for column, mask in enumerate(masks):
            gain = accuracies(*splits, keep=mask, model=model) - random
            assert panel["values"][row][column] == pytest.approx(100 * gain.mean())


def test_grand_of_the_last_checkpoint_is_not_grand_at_initialisation(store, splits):
    figure = GrandAtInit(TASK, (0.75,), el2n_epoch=2, claim_fraction=0.75, score_seeds=2, retrain_seeds=2)
    (panel,) = figure.run(store, None).chart["panels"]
    for name, epoch in (("grand_at_init", 0), ("grand", 4)):
        keep = dj.keep_highest(mean_score(splits[0], "grand", epoch), 0.75, key=tie_key())
        check(line(panel, name), [accuracies(*splits, keep=keep)])


@pytest.mark.slow
def test_frozen_kernel(store, splits):
    figure = FrozenKernel(
        TASK,
        (0, 2),
        num_train=40,
        num_test=50,
        ridge=1e-2,
        linear_epochs=2,
        linear_rate=0.01,
        seeds=1,
        claim_epoch=2,
    )
    (panel,) = figure.run(store, None).chart["panels"]
    train, test = first_examples(splits[0], 40), first_examples(splits[1], 50)
    images = []
    for part in (train, test):
        examples = part.examples()
        images.append(dj.normalize(examples.images, examples.mean, examples.std))
    for place, step in enumerate((0, 24)):
        variables = variables_at(splits[0], step)
        jacobians = []
        for batch in images:
            tree = jax.jacrev(lambda p: MODEL.predict(dj.Variables(p, {}), batch))(variables.params)  # noqa: B023
            rows = 10 * len(batch)
            jacobians.append(
                np.concatenate([np.reshape(leaf, (rows, -1)) for leaf in jax.tree.leaves(tree)], axis=1)
            )
        mine, other = (j.astype(np.float64) for j in jacobians)
        gram = mine @ mine.T
        shift = 1e-2 * np.trace(gram) / len(gram) * np.eye(len(gram))
        targets = (np.eye(10)[train.labels] - 0.1).ravel()
        fitted = (other @ mine.T @ np.linalg.solve(gram + shift, targets)).reshape(50, 10)
        error = (fitted.argmax(axis=1) != test.labels).mean()
        assert line(panel, "kernel")["mean"][place] == pytest.approx(error)
        frozen = (predict(variables, test).argmax(axis=1) != test.labels).mean()
        assert line(panel, "network")["mean"][place] == pytest.approx(frozen)
    assert line(panel, "linear")["mean"][0] != line(panel, "network")["mean"][0]


def test_groups_larger_than_the_data_are_refused(store):
    figure = KernelVelocity(TASK, (1,), num_groups=3, group_size=500, score_seeds=2)
    with pytest.raises(dj.InputError, match=r"groups of 500 examples .* has 240"):
        figure.run(store, None)


@pytest.mark.slow
def test_the_drop_by_noise_is_compared_with_clean_labels(store):
    task = TASK.with_noise(0.25)
    figure = KernelVelocity(task, (1,), num_groups=3, group_size=20, score_seeds=2, velocity_seeds=2)
    outcome = figure.run(store, None)
    clean = KernelVelocity(TASK, (1,), num_groups=3, group_size=20, score_seeds=2, velocity_seeds=2)
    _, velocities = clean._measured(store, TASK)
    ratio = (velocities[1][-1] / velocities[1].max(axis=0)).mean()
    assert f"{ratio:.2f} with clean labels" in outcome.claims[0].ours


def test_clean_labels_are_those_that_came_with_the_data_whatever_replaced_them(store, splits, tmp_path):
    """Labels from a file are noise too: before and after must differ."""
    labels = (splits[0].labels + (np.arange(240) % 4 == 0)) % 10
    path = tmp_path / "labels.csv"
    lines = [f"{i},{label}" for i, label in zip(splits[0].ids, labels, strict=True)]
    path.write_text("\n".join(["id,label", *lines, ""]))
    task = Task(DataConfig("digits", num_train=240, labels=str(path)), TASK.model, CONFIG)
    assert task.clean() == TASK
    found = NoiseDistributions(task, ScoreAt("el2n", 2), score_seeds=2).run(store, None)
    before, after = found.chart["panels"][1]["groups"]
    edges = np.array(found.chart["panels"][0]["edges"])
    changed = labels != splits[0].labels
    clean = mean_score(splits[0], "el2n", 2)[changed]
    np.testing.assert_array_equal(before["counts"], np.histogram(clean, edges)[0])
    assert before["counts"] != after["counts"]


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (NoiseDistributions(TASK, ScoreAt("el2n", 2), 2), "0 labels differ"),
        (GrandAtInit(TASK, (0.9,), el2n_epoch=2), r"claim_fraction 0\.5 must be one of"),
        (FrozenKernel(TASK, (0, 1)), "claim_epoch 4 must be one of"),
        (FrozenKernel(TASK, (0, 1), claim_epoch=0), r"claim_epoch 0 must be one of .* after the first"),
        (NumberOfSeeds(TASK, (ScoreAt("el2n", 2),), (2, 2), 0.5), "two numbers of seeds to compare"),
        (KernelVelocity(TASK, (1,), num_groups=2, group_size=20), "num_groups must be at least 3, for two"),
        (Transfer((("a", TASK),), ScoreAt("el2n", 2), 0.5), "at least 2 tasks, got 1"),
        (ErrorBarriers(TASK, (1, 0), ScoreAt("el2n", 2)), r"must ascend.*\[12, 0\]"),
        (Windows(TASK, 0.09, (0, 0.91), ScoreAt("el2n", 2), 2, 2), "keep a larger fraction"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_that_do_not_fit_are_named(store, figure, message):
    with pytest.raises(dj.InputError, match=message):
        figure.run(store, None)
