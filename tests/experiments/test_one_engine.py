"""What run, reproduce and single commands do is one thing each: where two copies had drifted apart."""

import dataclasses
import itertools

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.analysis import results, statistics
from diet_jax.cli.main import main
from diet_jax.ensemble import retraining
from diet_jax.ensemble import scoring as ensemble_scoring
from diet_jax.ensemble.over_seeds import joined
from diet_jax.experiments import prune
from diet_jax.experiments import retraining as run_retraining
from diet_jax.experiments.config import DataConfig, ModelConfig, RetrainConfig, RunConfig, ScoreConfig
from diet_jax.experiments.reproduction import outcome
from diet_jax.experiments.reproduction import store as store_module
from diet_jax.experiments.reproduction.store import open_store
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.experiments.retraining import PREDICTIONS
from diet_jax.experiments.setup import prepare
from diet_jax.files.arrays import load_arrays

CONFIG = dj.TrainConfig(epochs=3, batch_size=20, learning_rate=0.05, schedule="cosine", augment="none")
SMALL = RunConfig(
    data=DataConfig("digits", num_train=400),
    model=ModelConfig("mlp", widths=(4,)),
    train=CONFIG,
    score=ScoreConfig(epoch=1, num_seeds=3),
    retrain=RetrainConfig(num_seeds=3),
)


@pytest.mark.slow
def test_train_judges_streamed_data_as_run_does(image_folder, tmp_path, monkeypatch):
    """Through shards, which a stopped command goes on from: `train` used to read everything in one pass."""
    pytest.importorskip("grain")
    folders, real = [], retraining.score_streamed

    def watched(*args, folder, **options):
        folders.append(folder)
        return real(*args, folder=folder, **options)

    monkeypatch.setattr(retraining, "score_streamed", watched)
    run = tmp_path / "run"
    main(
        [
            "train",
            *("--data.name", f"folder:{image_folder}", "--data.streaming", "--run-dir", str(run)),
            *("--model.name", "mlp", "--model.widths", "4", "--train.steps", "6", "--train.batch-size", "5"),
            *("--train.augment", "none", "--num-seeds", "1"),
        ]
    )
    assert folders == [run / "trained/retrain/everything/seed_00.shards"]
    assert not list(run.rglob("*.shards"))
    found, _ = load_arrays(run / "trained/retrain/everything/seed_00.npz", PREDICTIONS, None)

    train, test = dj.load_dataset(f"folder:{image_folder}", quiet=True)
    config = dataclasses.replace(RunConfig().train, steps=6, batch_size=5)
    model = dj.create_model("mlp", num_classes=3, widths=(4,))
    trained = dj.train_ensemble(dj.seed_keys(0, "retrain", 1), model, train, test, config=config)
    np.testing.assert_allclose(found["loss"], trained.loss[0], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["vmap", pytest.param("map", marks=pytest.mark.slow)])
def test_the_batch_size_that_is_announced_is_used(how, monkeypatch, tmp_path, capsys):
    """Networks take their turns in passes over examples: each has the whole budget."""
    used = []
    real = ensemble_scoring.score_batch_sizes

    def sizes(*args):
        used.append(real(*args))
        return used[-1]

    monkeypatch.setattr(ensemble_scoring, "score_batch_sizes", sizes)
    config = dataclasses.replace(
        SMALL,
        score=dataclasses.replace(SMALL.score, how=how, names=("el2n",)),
        retrain=dataclasses.replace(SMALL.retrain, how=how),
        select=dataclasses.replace(SMALL.select, fractions=(0.95,)),
        run_dir=str(tmp_path / "run"),
    )
    prune.run_prune(config)
    ((score, size),) = used[0]
    assert f"{score.name}: at most {size:,} examples at a time" in capsys.readouterr().err
    assert len(used) == 1


@pytest.mark.slow
def test_the_store_takes_the_ensembles_way(tmp_path, monkeypatch):
    """All seeds and epochs in one program, all retrainings of a selection in one; nothing twice."""
    calls = []
    for module, name in ((store_module, "score_ensemble"), (run_retraining, "train_ensemble")):
        real = getattr(module, name)

        def watched(*args, name=name, real=real, **options):
            calls.append(name)
            return real(*args, **options)

        monkeypatch.setattr(module, name, watched)
    task = Task(SMALL.data, SMALL.model, CONFIG)
    wanted = [ScoreAt("el2n", 1), ScoreAt("el2n", 2), ScoreAt("forgetting", 2)]
    with open_store(tmp_path / "store", None) as store:
        scores = store.scores(task, wanted, 3)
        assert calls == ["score_ensemble"]
        keep = dj.keep_highest(scores[wanted[0]].mean(axis=0), 0.95)
        accuracy = store.accuracies(task, {"all": None, "most": keep}, 2)
        assert calls == ["score_ensemble", "train_ensemble", "train_ensemble"]
        store.scores(task, wanted, 3)
        store.accuracies(task, {"most": keep}, 2)
        assert len(calls) == 3

    train, test = prepare(SMALL).splits
    model = dj.create_model("mlp", num_classes=10, widths=(4,))
    keys = dj.seed_keys(0, "score", 3)
    options = {"config": CONFIG, "names": ("el2n", "forgetting"), "how": "loop"}
    early, later = (dj.score_ensemble(keys, model, train, step=s, **options).scores for s in (20, 40))
    for at, expected in zip(wanted, (early["el2n"], later["el2n"], later["forgetting"]), strict=True):
        # The programs of the loop are others: they agree to rounding, which training enlarges.
        np.testing.assert_allclose(scores[at], expected, rtol=1e-3, atol=1e-5)
    keys = dj.seed_keys(0, "retrain", 2)
    trained = dj.train_ensemble(keys, model, train, test, config=CONFIG, keep=keep, how="loop")
    # One of 719 test examples may fall on the other side.
    np.testing.assert_allclose(
        accuracy["most"], (trained.predicted == test.labels).mean(axis=1), atol=2.1 / 719
    )


@pytest.mark.parametrize("how", ["vmap", pytest.param("map", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_side_by_side_the_store_retrains_several_selections_in_one_program(how, tmp_path, monkeypatch):
    """As many as pays, of one size, nothing twice: and each network to the bit what it is by itself."""
    together, real = [], run_retraining.train_ensemble

    def watched(keys, *args, **options):
        together.append(len(keys))
        return real(keys, *args, **options)

    monkeypatch.setattr(run_retraining, "train_ensemble", watched)
    monkeypatch.setattr(store_module.Store, "_how", lambda self, task: how)
    task = Task(SMALL.data, SMALL.model, CONFIG)
    train, test = prepare(SMALL).splits
    scores = [np.random.default_rng(seed).random(400) for seed in range(6)]
    keep = {"all": None, "none left out": np.ones(400, bool), "few": dj.keep_highest(scores[0], 0.8)}
    keep |= {seed: dj.keep_highest(scores[seed], 0.9) for seed in range(1, 6)} | {
        "again": dj.keep_highest(scores[1], 0.9)
    }
    with open_store(tmp_path / "store", None) as store:
        found = store.predictions(task, keep, 2)
    assert together == ([4, 2, 8, 2] if how == "vmap" else [2] * 8)
    monkeypatch.undo()
    keys, model = dj.seed_keys(0, "retrain", 2), dj.create_model("mlp", num_classes=10, widths=(4,))
    for name, mask in keep.items():
        alone = dj.train_ensemble(keys, model, train, test, config=CONFIG, keep=mask, how=how)
        np.testing.assert_array_equal(found[name], alone.predicted)


@pytest.mark.parametrize(
    ("how", "sizes"), [("vmap", [6, 4, 6, 3]), ("map", [3, 3, 4, 3, 3, 3]), ("unroll", [3, 3, 4, 3, 3, 3])]
)
def test_groups_are_joined_whole_and_in_order(how, sizes):
    """Of one size, to at most eight networks: the fourth is of another size than its neighbours."""
    groups = [[(10, "a")] * 3, [], [(10, "b")] * 3, [(7, "c")] * 4]
    groups += [[(10, name)] * 3 for name in ("d", "e", "f")]
    found = joined(groups, how, lambda training: training[0])
    assert [len(group) for group in found] == sizes
    assert all(len({size for size, _ in group}) == 1 for group in found)
    assert sorted(itertools.chain(*found)) == sorted(itertools.chain(*groups))


def test_tables_and_figures_compare_with_the_same_statistics():
    one, other = np.array([0.91, 0.93, 0.95]), np.array([0.90, 0.93, 0.91])
    compared = statistics.Comparison.of(one, other)
    paired = one - other
    assert compared.mean == pytest.approx(paired.mean())
    assert compared.error == pytest.approx(paired.std(ddof=1) / np.sqrt(3))
    labels = np.arange(100) % 2
    predicted = np.stack([np.where(np.arange(100) < 100 * a, labels, 1 - labels) for a in one])
    rows = results.to_rows(
        [
            results.Result.from_predictions(name, 1.0, 10, 5, values, labels)
            for name, values in (("everything", predicted[::-1]), ("el2n", predicted))
        ]
    )
    expected = statistics.Comparison.of(one, one[::-1])
    assert rows[1]["minus_everything"] == pytest.approx(expected.mean)
    assert rows[1]["minus_everything_error"] == pytest.approx(expected.error)
    (line,) = [outcome.series("el2n", [1.0], [one])]
    assert (line["low"][0], line["high"][0]) == pytest.approx(np.percentile(one, [16, 84]).tolist())
    band = rows[1]["accuracy_p16"], rows[1]["accuracy_p84"]
    assert band == pytest.approx((line["low"][0], line["high"][0]))


def test_scores_of_another_definition_are_refused_and_not_mixed(tmp_path):
    """Of one name, with the options of the config unchanged: the formula in the score's file was changed."""
    fields = {"label": "own", "reference": "none", "reads": "logits", "build": dj.SCORES.find("el2n").build}
    for formula, message in (("first", None), ("second", "definitions is .*first.*not .*second")):
        own = dj.Score(name="own_for_resume", formula=formula, **fields)
        config = dataclasses.replace(
            SMALL,
            score=dataclasses.replace(SMALL.score, names=(own,)),
            select=dataclasses.replace(SMALL.select, fractions=(0.95,)),
            run_dir=str(tmp_path / "run"),
        )
        if message is None:
            prune.run_prune(config)
        else:
            with pytest.raises(dj.InputError, match=message):
                prune.run_prune(config)
