"""Trainings that diverge are named, count as done, and are left out of means, if enough others are left."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diet_jax as dj
from diet_jax.cli.main import main
from diet_jax.data.kinds import Normalization
from diet_jax.devices.deadline import Deadline
from diet_jax.experiments import scoring, train_one
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.own import Own
from diet_jax.experiments.prune import run_prune
from diet_jax.experiments.reproduction.store import open_store
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.scoring import save_scores
from diet_jax.experiments.scoring_notes import missing_notes
from diet_jax.experiments.setup import prepare
from diet_jax.experiments.train_one import facts_of
from diet_jax.scores.score import SCORES
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.divergence import Divergence
from diet_jax.training.loop import start
from diet_jax.training.step import run_keys

CONFIG = RunConfig(
    train=dj.TrainConfig(steps=24, batch_size=10, learning_rate=0.05, augment="none", steps_per_call=4),
    score=dj.ScoreConfig(names=("el2n",), epoch=2, num_seeds=4),
    select=dj.SelectConfig(fractions=(0.5,)),
    retrain=dj.RetrainConfig(num_seeds=4),
)
PER_EPOCH = 6


def init(bad, key, shape):
    """Two layers, whose weights are too large for some keys: after some steps the cubes overflow."""
    is_bad = (jax.random.key_data(key)[None] == jnp.asarray(bad, jnp.uint32)).all(axis=1).any()
    draws = (
        jax.random.normal(k, s) for k, s in zip(jax.random.split(key), ((shape[0], 3), (3, 3)), strict=True)
    )
    first, second = (jnp.where(is_bad, 3.0, 0.1) * draw for draw in draws)
    return {"first": first, "second": second}


def apply(params, inputs):
    return (inputs @ params["first"]) ** 3 @ params["second"]


@functools.lru_cache
def fragile(*seeds):
    """A network that diverges for these: pairs of purpose and seed."""
    keys = [run_keys(dj.seed_keys(0, purpose, seed + 1)[seed]).init for purpose, seed in seeds]
    bad = tuple(tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys) or ((0, 0),)
    return dj.from_functions(functools.partial(init, bad), apply)


def table(bomb=None):
    """Rows of four numbers; one of them may be so large that a network which trains on it diverges."""

    def made(count, split, seed):
        labels = np.arange(count) % 3
        inputs = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32) + labels[:, None] / 2
        inputs = inputs.astype(np.float32)
        if bomb is not None and split == "train":
            inputs[bomb] = 1e20
        about = {
            "name": "table",
            "split": split,
            "kind": "table",
            "normalization": Normalization((0.0,) * 4, (1.0,) * 4),
        }
        return dj.Dataset.from_arrays(inputs, labels, **about)

    return {"train": made(60, "train", 0), "test": made(30, "test", 1)}


def in_folder(folder, *, how="auto", **changes):
    score, retrain = (
        dataclasses.replace(changes.pop(n, getattr(CONFIG, n)), how=how) for n in ("score", "retrain")
    )
    return dataclasses.replace(CONFIG, run_dir=str(folder / "run"), score=score, retrain=retrain, **changes)


def first_bad_step(model, data, purpose, seed):
    """By a training of its own."""
    key = dj.seed_keys(0, purpose, seed + 1)[seed]
    with pytest.warns(UserWarning, match="the training diverged"):
        loss = np.asarray(dj.train(key, model, data["train"], config=CONFIG.train)[1].loss)
    assert np.isfinite(loss).any()
    assert not np.isfinite(loss[-1])
    return int(np.argmin(np.isfinite(loss))) + 1


def not_json(constant):
    raise AssertionError(constant)


def no_training(*_args, **_options):
    raise AssertionError("it trains again")


@pytest.fixture
def trains_nothing(monkeypatch):
    def forbid():
        monkeypatch.setattr(train_one, "train_between", no_training)
        monkeypatch.setattr(scoring, "score_ensemble", no_training)

    return forbid


@pytest.mark.parametrize(
    "how", ["loop", *(pytest.param(how, marks=pytest.mark.slow) for how in ("map", "vmap"))]
)
def test_means_are_taken_over_the_other_seeds(how, tmp_path, capsys, trains_nothing):
    data, model = table(), fragile(("score", 1), ("retrain", 2))
    config = in_folder(tmp_path, how=how)
    result = dj.run(config, **data, model=model)
    step, again = first_bad_step(model, data, "score", 1), first_bad_step(model, data, "retrain", 2)
    assert 1 < step <= 2 * PER_EPOCH
    why = f"loss nan at step {step}, epoch {step / PER_EPOCH:.3g}"
    file = result.scores["el2n"]
    assert file.provenance["missing_seeds"] == {"1": why}
    assert (file.seed_numbers, file.num_seeds, file.describe_nan()) == ([0, 2, 3], "3 of 4", "")
    keys = dj.seed_keys(0, "score", 4)[np.array([0, 2, 3])]
    others = dj.score_ensemble(keys, model, data["train"], config=config.train, step=12, names=("el2n",))
    np.testing.assert_allclose(file.scores, others.scores["el2n"].mean(axis=0), rtol=1e-5)
    told = capsys.readouterr().err
    assert told.count(f"score/seed_01 diverged: {why}") == 1
    assert f"retrain/everything/seed_02 diverged: loss nan at step {again}, epoch" in told
    log = (result.path / "metrics.jsonl").read_text().splitlines()
    lines = [
        line
        for line in map(functools.partial(json.loads, parse_constant=not_json), log)
        if "diverged" in line
    ]
    assert {(line["unit"], line["step"]) for line in lines} >= {("score/seed_01", step)}
    assert len(lines) == 4
    # Three networks each, and three pairs of them.
    assert [(row["seeds"], row["of_seeds"]) for row in result.rows] == [(3, 4)] * 3
    assert all(np.isfinite([row["accuracy"], row["minus_everything"] or 0]).all() for row in result.rows)
    text = (result.path / "table.md").read_text()
    assert text.count("| 3 of 4 |") == 3
    assert f"el2n is the mean over 3 of 4 seeds, without seed 1: {why}" in text
    assert (
        "random, keep 0.5 is the mean over 3 of 4 networks: 1 of 4 networks diverged (seed 2: loss nan"
        in text
    )
    for figure in ("accuracy", "scores_el2n", "examples_el2n"):
        assert result.figures[figure].is_file()
    assert "nan" not in (result.path / "table.csv").read_text()
    # Nothing of it is done again.
    trains_nothing()
    assert dj.run(config, **data, model=model).rows == result.rows


@pytest.mark.parametrize(
    ("num_seeds", "min_seeds", "needed", "left"),
    # The seeds 0, 1 and 3 diverge.
    [(6, None, 3, 3), (5, None, 3, 0), (4, None, 2, 0), (4, 1, 1, 1), (6, 4, 4, 0), (2, 1, 1, 0)],
)
@pytest.mark.slow
def test_how_many_must_remain(num_seeds, min_seeds, needed, left, tmp_path):
    data, model = table(), fragile(("score", 0), ("score", 1), ("score", 3))
    score = dataclasses.replace(CONFIG.score, num_seeds=num_seeds, min_seeds=min_seeds)
    config = in_folder(tmp_path, how="loop", score=score, retrain=dj.RetrainConfig(num_seeds=1))
    if left:
        assert len(dj.run(config, **data, model=model).scores["el2n"].per_seed) == left
        return
    words = (
        rf"of {num_seeds} networks that score diverged \(seed 0: loss nan at step .*, at least {needed} must "
    )
    with pytest.raises(
        dj.InputError, match=words + r"remain \(score.min_seeds\): lower .*train.learning_rate"
    ):
        dj.run(config, **data, model=model)


@pytest.mark.parametrize("how", ["loop", pytest.param("map", marks=pytest.mark.slow)])
def test_what_was_done_is_kept_and_the_message_comes_at_once(how, tmp_path, trains_nothing):
    data, model = table(), fragile(("score", 0), ("score", 1), ("score", 3))
    config = in_folder(tmp_path, how=how, retrain=dj.RetrainConfig(num_seeds=1))
    with pytest.raises(dj.InputError, match="3 of 4 networks that score") as first:
        dj.run(config, **data, model=model)
    there = sorted(path.name for path in tmp_path.rglob("seed_*.npz"))
    assert there == ["seed_02.npz"]
    assert not list(tmp_path.rglob("_CHECKPOINT_METADATA"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_one, "train_between", no_training)
        patch.setattr(scoring, "score_ensemble", no_training)
        with pytest.raises(dj.InputError) as second:
            dj.run(config, **data, model=model)
    assert str(second.value) == str(first.value)
    # The one that is left may be enough for someone: the folder goes on.
    fewer = dataclasses.replace(config, score=dataclasses.replace(config.score, min_seeds=1))
    assert dj.run(fewer, **data, model=model).rows


@pytest.mark.slow
def test_rows_with_too_few_networks_are_left_out_and_the_others_stay(tmp_path, trains_nothing):
    data = table(bomb=7)
    score = dj.ScoreFile.from_seeds("mine", np.float32(np.arange(60) == 7), data["train"], step=0)
    config = in_folder(tmp_path, how="loop")
    options = {**data, "model": fragile(), "scores": score, "rules": ("highest", "lowest")}
    result = dj.run(config, **options)
    kept_by = [row["kept_by"] for row in result.rows]
    assert "mine lowest" in kept_by
    assert not {"everything", "mine highest"} & set(kept_by)
    notes = [note for note in result.notes if "is left out" in note]
    assert notes[0].startswith("everything, keep 1 is left out: 3 of 4 networks diverged (seed 0: loss ")
    assert notes[0].endswith("at least 2 must remain; lower the learning rate")
    masks = result.masks["random_keep0.5"].keep
    assert masks.shape == (4, 60)
    lost = int(masks[:, 7].sum())
    found = [row["seeds"] for row in result.rows if row["kept_by"] == "random"]
    assert found == ([4 - lost] if lost <= 2 else [])
    assert result.rows[0]["minus_everything"] is None
    trains_nothing()
    assert dj.run(config, **options).rows == result.rows


def test_a_size_by_a_loss_against_everything_needs_networks_on_everything(tmp_path):
    model = fragile(*(("retrain", seed) for seed in (0, 1, 2)))
    select = dataclasses.replace(CONFIG.select, max_loss=0.1)
    config = in_folder(tmp_path, how="vmap", select=select)
    with pytest.raises(dj.InputError, match="against training on everything, of which too many networks"):
        dj.run(config, **table(), model=model, scores="input_norm")


@pytest.mark.slow
def test_without_any_row_the_run_ends_with_the_remedy(tmp_path):
    model = fragile(*(("retrain", seed) for seed in (0, 1, 2)))
    for _ in range(2):
        with pytest.raises(
            dj.InputError, match=r"no row of the table is left.*everything, keep 1.*3 of 4|lower the"
        ):
            dj.run(in_folder(tmp_path, how="vmap"), **table(), model=model)


class Ticks:
    """A clock that is a second later whenever it is looked at."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.mark.slow
def test_slices_are_the_run_that_was_never_stopped(tmp_path):
    data, model = table(), fragile(("score", 1), ("retrain", 0))
    whole = dj.run(in_folder(tmp_path / "whole", how="loop"), **data, model=model)
    own, counts = Own(**data, model=model), []
    for number in range(100):
        place = tmp_path / str(number)
        if number:
            shutil.copytree(tmp_path / str(number - 1), place)
            shutil.rmtree(tmp_path / str(number - 1))
        done = run_prune(in_folder(place, how="loop"), own, deadline=Deadline(14 / 54, clock=Ticks()))
        if not done.unfinished:
            break
        counts.append(done.unfinished)
        assert len(list((done.path / "unfinished").rglob("_CHECKPOINT_METADATA"))) <= 1
    assert len(counts) > 3
    for name in ("table.csv", "table.md"):
        assert (done.path / name).read_bytes() == (whole.path / name).read_bytes()
    logs = [
        {(m["unit"], m["step"]) for m in RunFolder(r.path).metrics() if "step" in m} for r in (whole, done)
    ]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(
    ("how", "epoch", "message", "said"),
    [
        ("loop", 1 / PER_EPOCH, "3 of 4 networks that score", "60 of 60 train"),
        ("map", 1 / PER_EPOCH, "4 of 4 networks that score", "60 of 60 train"),
        ("loop", 0, "no row of the table is left", "30 of 30 test"),
        ("vmap", 0, "no row of the table is left", "30 of 30 test"),
    ],
)
@pytest.mark.slow
def test_the_last_update_may_be_the_one(how, epoch, message, said, tmp_path, capsys):
    """The losses of the training are finite, and those of the network that it leaves are not."""
    train = dataclasses.replace(CONFIG.train, learning_rate=1e30, steps=1)
    config = in_folder(tmp_path, how=how, train=train)
    config = dataclasses.replace(config, score=dataclasses.replace(config.score, epoch=epoch))
    with pytest.raises(dj.InputError, match=message):
        dj.run(config, **table(), model=fragile())
    unit = "score/seed_00" if epoch else "retrain/everything/seed_00"
    assert f"{unit} diverged: loss nan for {said} examples at step 1" in capsys.readouterr().err


@pytest.mark.slow
def test_the_last_update_is_warned_of_in_python():
    data, keys = table(), dj.seed_keys(0, "score", 2)
    config = dataclasses.replace(CONFIG.train, learning_rate=1e30, steps=1)
    with pytest.warns(UserWarning, match=r"2 of 2 seeds diverged .*all scores nan at step 1; .*result.div"):
        scored = dj.score_ensemble(keys, fragile(), data["train"], config=config, step=(0, 1))
    assert np.isfinite(scored.history.loss).all()
    assert scored.diverged == dict.fromkeys((0, 1), "all scores nan at step 1")
    config = dataclasses.replace(CONFIG.train, learning_rate=0.1, optimizer=optax.sgd(float("inf")), steps=1)
    with pytest.warns(UserWarning, match="training diverged: parameters not finite at step 1, epoch"):
        dj.train(keys[0], fragile(), data["train"], config=config)


CONFIG_FILE = """
from diet_jax.experiments.config import *
import diet_jax as dj
CONFIG = RunConfig(
    train=dj.TrainConfig(steps=60, batch_size=32, learning_rate={rate}, augment="none"),
    score=ScoreConfig(names=("el2n",), epoch=1, num_seeds=2), checkpoint_epochs=(1,), run_dir={path!r},
)
"""


@pytest.mark.slow
def test_checkpoints_and_the_train_command(tmp_path, capsys):
    path = tmp_path / "config.py"
    path.write_text(CONFIG_FILE.format(rate=30, path=str(tmp_path / "run")))
    command = ["train", str(path), "--purpose", "score", "--num-seeds", "2"]
    for _ in range(2):
        with pytest.raises(SystemExit):
            main(command)
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("diet-jax: score/seed_00 diverged: loss nan at step")
        assert "--train.learning-rate" in error
    assert not list(tmp_path.rglob("_CHECKPOINT_METADATA"))
    assert not list(tmp_path.rglob("seed_*.npz"))


@pytest.mark.slow
def test_a_checkpoint_that_is_nan_and_a_seed_without_one_are_missing(tmp_path, capsys):
    path, folder = tmp_path / "config.py", tmp_path / "run"
    path.write_text(CONFIG_FILE.format(rate=0.1, path=str(folder)).replace("num_seeds=2", "num_seeds=4"))
    main(["train", str(path), "--purpose", "score"])
    setup = prepare(RunFolder(folder).config(), scores=False, prunes=False)
    like = start(dj.seed_keys(0, "score", 1)[0], setup.splits.train, program=setup.program())
    unit = "score/seed_01"
    facts = facts_of(setup, unit, dj.seed_keys(0, "score", 2)[1])
    place = Checkpoints(folder / "checkpoints" / unit, facts)
    state = place.restore(33, like)
    shutil.rmtree(place.folder)
    place.save(state._replace(variables=jax.tree.map(lambda leaf: leaf * np.float32("nan"), state.variables)))
    shutil.rmtree(folder / "checkpoints" / "score" / "seed_02")
    # What such trainings would not have made.
    shutil.rmtree(folder / "trained")
    RunFolder(folder).log_divergence("score/seed_02", 20, 33, "loss nan")
    main(["score", "--from-run", str(folder), "--step", "33"])
    file = dj.ScoreFile.load(folder / "scores" / "step_33" / "el2n.npz")
    assert file.provenance["missing_seeds"] == {
        "1": "loss nan for 1,078 of 1,078 train examples at step 33, epoch 1",
        "2": "loss nan at step 20, epoch 0.606",
    }
    assert file.seed_numbers == [0, 3]
    assert np.isfinite(file.scores).all()
    assert "score/seed_01 diverged" in capsys.readouterr().err


@pytest.mark.parametrize("how", [pytest.param("map", marks=pytest.mark.slow), "loop"])
def test_figures_end_with_the_network_and_go_no_further(how, tmp_path):
    task = Task(
        data=dj.DataConfig(num_train=100),
        model=dj.ModelConfig(widths=(4,)),
        train=dj.TrainConfig(steps=12, batch_size=20, learning_rate=1e6, augment="none"),
    )
    with open_store(tmp_path, None) as store:
        store._how = lambda task: how
        for _ in range(2):
            with pytest.raises(dj.InputError, match=r"score-0\d-.* diverged: loss .*lower the learning rate"):
                store.mean_scores(task, [ScoreAt("el2n", 1), ScoreAt("el2n", 2)], 2)
            with pytest.raises(
                dj.InputError, match=r"retrain-0\d-.* diverged: loss .*lower the learning rate"
            ):
                store.predictions(task, {"everything": None}, 2)


# In functions.


@pytest.mark.slow
def test_functions_return_what_they_got_and_name_the_seeds():
    data, model = table(), fragile(("score", 1), ("retrain", 0))
    keys, train = dj.seed_keys(0, "score", 3), data["train"]
    step = first_bad_step(model, data, "score", 1)
    with pytest.warns(
        UserWarning,
        match=rf"1 of 3 seeds diverged \(seed 1: loss nan at step {step}, epoch \d.*result.diverged",
    ):
        scored = dj.score_ensemble(keys, model, train, config=CONFIG.train, step=24, names=("el2n",))
    assert scored.diverged == {1: f"loss nan at step {step}"}
    assert np.isnan(scored.scores["el2n"]).all(axis=1).tolist() == [False, True, False]
    with pytest.warns(UserWarning, match=r"1 of 2 seeds diverged \(seed 0: .*result.diverged"):
        trained = dj.train_ensemble(
            dj.seed_keys(0, "retrain", 2), model, train, data["test"], config=CONFIG.train
        )
    with pytest.warns(UserWarning, match=rf"the training diverged: loss nan at step {step}, epoch"):
        dj.train(keys[1], model, train, config=CONFIG.train)
    with pytest.raises(dj.InputError, match=r"60 of 60 are.* a whole seed is NaN .* result\.diverged"):
        dj.keep_highest(scored.scores["el2n"][1], 0.5)
    assert list(trained.diverged) == [0]
    values = scored.scores["el2n"]
    with pytest.warns(
        UserWarning, match=r"NaN for 60 of 60 examples, by 1 of 3 seeds \(1; .*missing=\{1: why\}"
    ):
        assert np.isnan(dj.ScoreFile.from_seeds("el2n", values, train, step=24).scores).all()
    file = dj.ScoreFile.from_seeds("el2n", values, train, step=24, missing=scored.diverged)
    np.testing.assert_array_equal(file.scores, values[[0, 2]].mean(axis=0, dtype=np.float64))
    assert file.seed_numbers == [0, 2]
    for missing in ({0: "", 1: "", 2: ""}, {3: "no such seed"}):
        with pytest.raises(dj.InputError, match="some must be left"):
            dj.ScoreFile.from_seeds("el2n", values, train, step=24, missing=missing)


def half_nan(predict_fn, variables, inputs, labels):
    return jnp.where(labels == 0, jnp.nan, predict_fn(variables, inputs)[:, 0])


def test_scores_that_are_nan_of_a_sound_network_are_refused_by_name(tmp_path, capsys):
    score = dj.Score(
        name="half",
        label="half",
        formula="NaN for label 0",
        reference="none",
        reads="logits",
        build=lambda model: functools.partial(half_nan, model.predict),
    )
    with pytest.raises(
        dj.InputError, match=r"half is NaN for 20 of 60 examples, by 4 of 4 seeds \(0, 1, 2, 3; 33"
    ):
        dj.run(in_folder(tmp_path), **table(), model=fragile(), scores=score)
    told = capsys.readouterr().err
    assert "warning: half is NaN for 20 of 60" in told
    assert "diverged" not in told


def test_a_built_in_score_that_is_nan_leaves_its_seed_out(tmp_path, capsys):
    values, train = np.random.default_rng(0).uniform(size=(4, 60)).astype(np.float32), table()["train"]
    grand, config = SCORES.find("grand"), in_folder(tmp_path)
    values[2, [3, 5]] = np.nan
    file = save_scores(tmp_path, grand, values, train, 12, {}, {0: Divergence(3, 0.5, "loss nan")}, config)
    assert file.seed_numbers == [1, 3]
    np.testing.assert_array_equal(file.scores, values[[1, 3]].mean(axis=0, dtype=np.float64))
    assert file.describe_missing() == (
        "the mean over 2 of 4 seeds, without seed 0: loss nan at step 3, epoch 0.5; seed 2: grand is NaN for "
        "2 of 60 examples, its network has nearly diverged (train.learning_rate 0.05)"
    )
    command = ["select", str(tmp_path / "grand.npz"), "--fraction", "0.5", "--out", str(tmp_path / "m.npz")]
    main(command)
    assert f"grand is {file.describe_missing()}\n" in capsys.readouterr().err
    values[1, 3] = values[3, 3] = np.nan
    with pytest.raises(dj.InputError, match=r"grand is defined by 1 of 4 seeds, at least 2 .*0.05\); lower"):
        save_scores(tmp_path, grand, values, train, 12, {}, {}, config)
    several = [dataclasses.replace(file, name=name) for name in ("grand", "el2n")]
    assert [note[:34] for note in missing_notes(several)] == ["grand, el2n are each the mean over"]


@pytest.mark.parametrize("min_seeds", [0, 5])
def test_min_seeds_out_of_range(min_seeds):
    with pytest.raises(dj.InputError, match=r"score.min_seeds must lie in 1 .. score.num_seeds = 4, got"):
        dataclasses.replace(CONFIG, score=dataclasses.replace(CONFIG.score, min_seeds=min_seeds))


def test_the_rows_of_the_page_on_own_data_are_run_here():
    page = (Path(__file__).parents[2] / "docs/own-data.md").read_text(encoding="utf-8")
    rows = (
        page.split("## Trainings that diverge")[1]
        .split("\n## ")[0]
        .split("| --- | --- |\n")[1]
        .strip()
        .split("\n")
    )
    tests = [
        (test_means_are_taken_over_the_other_seeds, "3 of 4"),
        (test_how_many_must_remain, "lower `--train.learning-rate`"),
        (test_what_was_done_is_kept_and_the_message_comes_at_once, "--score.min-seeds 1"),
        (test_rows_with_too_few_networks_are_left_out_and_the_others_stay, "left out with the reason"),
        (test_functions_return_what_they_got_and_name_the_seeds, "missing=result.diverged"),
        (test_scores_that_are_nan_of_a_sound_network_are_refused_by_name, "the seeds and the share"),
    ]
    assert all(words in row for row, (_, words) in zip(rows, tests, strict=True))
