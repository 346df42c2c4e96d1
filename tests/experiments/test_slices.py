"""A run and a figure in slices of some minutes, moved between them, equal those that were never stopped."""

import dataclasses
import functools
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.cli.config_file import load_config
from diet_jax.cli.main import main
from diet_jax.devices.deadline import Deadline, OutOfTime
from diet_jax.devices.progress import Progress
from diet_jax.ensemble import retraining as ensemble_retraining
from diet_jax.ensemble import scoring as ensemble_scoring
from diet_jax.ensemble.scoring import score_state
from diet_jax.ensemble.shards import score_streamed
from diet_jax.experiments.config import (
    DataConfig,
    MeshConfig,
    ModelConfig,
    RetrainConfig,
    RunConfig,
    ScoreConfig,
    SelectConfig,
)
from diet_jax.experiments.prune import run_prune
from diet_jax.experiments.reproduction.figure import PaperFigure, config_folder, make_figure
from diet_jax.experiments.reproduction.store import open_store
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import prepare
from diet_jax.experiments.train_one import trained_network
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.step import TrainState
from diet_jax.types import Variables


class Ticks:
    """A clock that is a second later whenever it is looked at."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


CONFIG = RunConfig(
    data=DataConfig("digits", num_train=400),
    model=ModelConfig("mlp", widths=(8,)),
    train=dj.TrainConfig(
        epochs=3, batch_size=50, learning_rate=0.05, schedule="cosine", augment="none", steps_per_call=3
    ),
    # As before a deadline: other ways to batch seeds agree to rounding only.
    score=ScoreConfig(epoch=2, num_seeds=2, how="loop"),
    select=SelectConfig(fractions=(0.9, 0.8)),
    retrain=RetrainConfig(num_seeds=3, how="loop"),
)


def arrays_of(folder):
    found = {}
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path) as archive:
            found[str(path.relative_to(folder))] = {n: archive[n] for n in archive if n != "header"}
    return found


def assert_same_arrays(one, other):
    assert set(one) == set(other)
    for path, arrays in one.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, other[path][name], err_msg=f"{path} {name}")


def in_slices(config, places, ticks=15):
    """Runs a config in slices, each in another folder; yields what each left."""
    for number in range(200):
        folder = places / str(number)
        if number:
            shutil.copytree(places / str(number - 1), folder)
            shutil.rmtree(places / str(number - 1))
        deadline = Deadline(ticks / 54, clock=Ticks())
        done = run_prune(dataclasses.replace(config, run_dir=str(folder)), deadline=deadline)
        yield done
        if not done.unfinished:
            return
    raise AssertionError("never finished")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_prune(dataclasses.replace(CONFIG, run_dir=str(folder)))
    return folder


def test_a_run_in_slices_is_the_run(whole, tmp_path):
    auto = dataclasses.replace(
        CONFIG,
        score=dataclasses.replace(CONFIG.score, how="auto"),
        retrain=dataclasses.replace(CONFIG.retrain, how="auto"),
    )
    stopped_at = []
    for done in in_slices(auto, tmp_path):
        left = list((done.path / "unfinished").rglob("_CHECKPOINT_METADATA"))
        assert len(left) <= 1
        stopped_at += [(path.parents[2].name, int(path.parent.name)) for path in left]
    assert len(stopped_at) > 5
    # Some of them between two epochs, and one at its end, where its predictions were out of time.
    per_epoch = {"0.8": 6, "0.9": 7}
    assert any(step % per_epoch.get(group[-3:], 8) for group, step in stopped_at if step < 24)
    assert any(step == 24 for _, step in stopped_at)
    folder = done.path
    assert (folder / "table.csv").read_bytes() == (whole / "table.csv").read_bytes()
    assert (folder / "table.md").read_bytes() == (whole / "table.md").read_bytes()
    assert_same_arrays(arrays_of(whole), arrays_of(folder))
    assert not [path for path in (folder / "unfinished").rglob("*") if path.is_file()]
    assert not (folder / "checkpoints").exists()
    ends = [{m["unit"]: m["step"] for m in RunFolder(f).metrics() if "step" in m} for f in (whole, folder)]
    assert ends[0] == ends[1]


@pytest.mark.slow
def test_scores_of_dynamics_go_on_where_a_slice_stopped(tmp_path):
    """Folded at every batch, and measured at the end of every epoch, wherever the training was stopped."""
    names = ("aum", "tdds", "aum_clean", "dual_clean")
    score = dataclasses.replace(CONFIG.score, names=names, epoch=3)
    setup = prepare(dataclasses.replace(CONFIG, score=score))
    stops, key = set(), dj.seed_keys(0, "score", 2)[1]
    for number in range(20):
        deadline = Deadline((6 + number % 4) / 54, clock=Ticks())
        folder = RunFolder(tmp_path)
        try:
            sliced = dataclasses.replace(setup, deadline=deadline)
            with trained_network(sliced, folder, "score/seed_01", key, progress=Progress("")) as state:
                found = score_state(state, setup.model, setup.splits.train, scores=setup.scores)
                break
        except OutOfTime:
            stops |= {int(p.parent.name) for p in tmp_path.glob("unfinished/**/_CHECKPOINT_METADATA")}
    assert any(step % 8 for step in stops), stops
    assert any(step > 8 for step in stops), stops
    options = {"config": CONFIG.train, "epoch": 3, "names": names, "how": "loop"}
    whole = dj.score_ensemble(key[None], setup.model, setup.splits.train, **options)
    for name in names:
        np.testing.assert_array_equal(found[name], whole.scores[name][0])


def check_pairs(done):
    """Two seeds of EL2N and one at random are compared by the one that both have."""
    rows = {(row["kept_by"], row["keep_fraction"]): row for row in done.rows}
    assert [rows[name, 0.9]["seeds"] for name in ("el2n", "random")] == [2, 1]
    labels, accuracy = dj.load_dataset("digits").test.labels, {}
    for name in ("el2n_keep0.9", "random_keep0.9"):
        with np.load(done.path / "retrain" / name / "seed_00.npz") as archive:
            accuracy[name] = (archive["predicted"] == labels).mean()
    difference = accuracy["el2n_keep0.9"] - accuracy["random_keep0.9"]
    assert rows["el2n", 0.9]["minus_random"] == difference
    assert np.isnan(rows["el2n", 0.9]["minus_random_error"])


@pytest.mark.slow
def test_early_slices_hold_a_comparison(tmp_path):
    """All scores first, then two seeds of the first fraction by every selection, then seed by seed."""
    order, tables, checked = [], [], 0
    for done in in_slices(CONFIG, tmp_path, ticks=6):
        retrained = {str(p.relative_to(done.path)) for p in done.path.glob("retrain/*/*.npz")}
        assert not retrained or len(list(done.path.glob("scores/per_seed/*.npz"))) == 2
        order += sorted(retrained - set(order))
        if done.unfinished:
            assert f"{len(retrained)} of 21 are retrained" in done.unfinished
            assert [row["seeds"] for row in done.rows].count(0) == 0
            assert sum(row["seeds"] for row in done.rows) == len(retrained)
            if len(order) == 6:
                check_pairs(done)
                checked += 1
            if retrained:
                tables.append((done.path / "table.md").read_text())
                assert tables[-1].startswith(
                    f"**Unfinished**: {done.unfinished}. The same command goes on.\n\n"
                )
                assert (done.path / "table.csv").read_text().splitlines()[0].split(",")[4:6] == [
                    *("seeds", "of_seeds")
                ]
                assert not (done.path / "figures").exists()
    first = ("el2n_keep0.9", "grand_keep0.9", "random_keep0.9", "everything")
    rest = ("el2n_keep0.8", "grand_keep0.8", "random_keep0.8")
    wanted = [(name, seed) for seed in (0, 1) for name in first]
    wanted += [(name, seed) for seed in (0, 1) for name in rest] + [(name, 2) for name in (*first, *rest)]
    assert order == [f"retrain/{name}/seed_{seed:02d}.npz" for name, seed in wanted]
    assert len(tables) > 15
    assert checked
    assert any(line.endswith("| 1 of 3 |") for line in tables[0].splitlines())
    assert "of 3 |" not in (done.path / "table.md").read_text()
    assert (done.path / "figures" / "accuracy.png").is_file()


@pytest.mark.slow
def test_seeds_together_as_asked_for_are_begun_in_time_only(whole, tmp_path, capsys):
    together = dataclasses.replace(
        CONFIG,
        score=dataclasses.replace(CONFIG.score, how="map"),
        retrain=dataclasses.replace(CONFIG.retrain, how="map"),
    )
    slices = list(in_slices(together, tmp_path, ticks=4))
    assert "those together cannot stop" in capsys.readouterr().err
    assert len(slices) > 2
    one, other = (arrays_of(folder)["scores/el2n.npz"]["per_seed"] for folder in (whole, slices[-1].path))
    np.testing.assert_allclose(one, other, rtol=1e-4)


@pytest.mark.slow
def test_a_pass_over_data_on_disk_stops_between_shards(image_folder, tmp_path, monkeypatch):
    pytest.importorskip("grain")
    for module in (ensemble_scoring, ensemble_retraining):
        monkeypatch.setattr(module, "score_streamed", functools.partial(score_streamed, shard_size=8))
    config = RunConfig(
        data=DataConfig(f"folder:{image_folder}", streaming=True, image_size=7),
        model=ModelConfig("mlp", widths=(4,)),
        train=dj.TrainConfig(epochs=2, batch_size=5, augment="resized_crop"),
        score=ScoreConfig(names=("el2n", "forgetting"), epoch=1, num_seeds=2),
        select=SelectConfig(fractions=(0.8,)),
        retrain=RetrainConfig(num_seeds=1),
    )
    folder = run_prune(dataclasses.replace(config, run_dir=str(tmp_path / "whole"))).path
    shards, unfinished = [], 0
    for done in in_slices(config, tmp_path / "slices", ticks=9):
        shards += [len(list(path.glob("*.npz"))) for path in done.path.rglob("*.shards")]
        unfinished += (done.path / "unfinished").exists()
    # 30 images are 4 shards.
    assert {1, 2, 3} & set(shards)
    assert unfinished
    assert_same_arrays(arrays_of(folder), arrays_of(done.path))
    assert (folder / "table.csv").read_bytes() == (done.path / "table.csv").read_bytes()


@pytest.mark.slow
def test_a_folder_goes_on_with_other_places_and_ways_but_not_other_numbers(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "elsewhere")
    config = dataclasses.replace(
        CONFIG,
        run_dir=str(folder),
        data=dataclasses.replace(CONFIG.data, data_dir=str(tmp_path)),
        train=dataclasses.replace(CONFIG.train, steps_per_call=None),
        score=dataclasses.replace(CONFIG.score, how="map", batch_size=64),
        retrain=dataclasses.replace(CONFIG.retrain, how="auto"),
        mesh=MeshConfig(data=1),
    )
    assert not run_prune(config, deadline=Deadline(100)).unfinished
    for section, change in (("train", {"learning_rate": 0.06}), ("model", {"dtype": "bfloat16"})):
        other = dataclasses.replace(getattr(config, section), **change)
        with pytest.raises(dj.InputError, match=f"another config .*{next(iter(change))}"):
            run_prune(dataclasses.replace(config, **{section: other}))
    noisy = dataclasses.replace(config, data=dataclasses.replace(config.data, label_noise=0.1))
    with pytest.raises(dj.InputError, match=r"another config .*label_noise"):
        run_prune(noisy)


@pytest.mark.slow
def test_the_same_images_may_lie_elsewhere(image_folder, tmp_path):
    config = RunConfig(
        data=DataConfig(f"folder:{image_folder}"),
        model=ModelConfig("mlp", widths=(4,)),
        train=dj.TrainConfig(epochs=1, batch_size=5, augment="none"),
        score=ScoreConfig(names=("el2n",), epoch=1, num_seeds=1),
        select=SelectConfig(fractions=(0.8,)),
        retrain=RetrainConfig(num_seeds=1),
        run_dir=str(tmp_path / "run"),
    )
    rows = run_prune(config).rows
    moved = Path(shutil.copytree(image_folder, tmp_path / "moved"))
    there = dataclasses.replace(config, data=DataConfig(f"folder:{moved}"))
    assert run_prune(there).rows == rows
    (moved / "train" / "a" / "0000.png").unlink()
    with pytest.raises(dj.InputError, match=r"another config \(data.name"):
        run_prune(there)


# Figures.


def figure_in_slices(name, places, ticks=15):
    """Makes a figure in slices, each in another folder; yields the folder, the result and the report."""
    figure = load_config(str(config_folder() / f"{name.replace('-', '_')}.py"), PaperFigure)
    for number in range(200):
        folder = places / str(number)
        if number:
            shutil.copytree(places / str(number - 1), folder)
            shutil.rmtree(places / str(number - 1))
        with open_store(folder, None, Deadline(ticks / 54, clock=Ticks())) as store:
            try:
                result = make_figure(name, figure, "smoke", store, folder, None)
                yield folder, result, []
                return
            except OutOfTime as out:
                yield folder, None, out.report
    raise AssertionError("never finished")


@pytest.mark.slow
def test_a_figure_in_slices_is_the_figure(tmp_path):
    name, reports = "fig1-epochs-cifar10", []
    (_, expected, _), *none = figure_in_slices(name, tmp_path / "whole", ticks=10**6)
    assert not none
    for folder, result, report in figure_in_slices(name, tmp_path / "slices", ticks=30):
        reports.append(report)
        assert len(list((folder / "trainings").rglob("_CHECKPOINT_METADATA"))) <= 1
        assert (result is None) != (folder / f"{name}_smoke.png").is_file()
    del expected["made"], result["made"]
    assert json.dumps(result) == json.dumps(expected)
    assert len(reports) > 5
    assert not list((folder / "trainings").rglob("_CHECKPOINT_METADATA"))
    assert "scores are left, about" in reports[0][0]
    assert "retrainings are left" in reports[-2][0]
    finished = [line for report in reports for line in report[1:]]
    assert any(line.endswith("% test accuracy") and ": 1 of 2 networks" in line for line in finished)
    assert any(line.endswith(": 1 of 2 networks") for line in finished)


@pytest.mark.slow
def test_without_a_deadline_scores_keep_their_checkpoints(tmp_path):
    figure = load_config(str(config_folder() / "fig12_correlations.py"), PaperFigure)
    with open_store(tmp_path, None) as store:
        # As a convolutional network on a CPU would.
        store._how = lambda task: "loop"
        make_figure("fig12-correlations", figure, "smoke", store, tmp_path, None)
    assert len(list((tmp_path / "trainings").rglob("_CHECKPOINT_METADATA"))) > 1


# The pieces.


def test_a_deadline_never_comes_without_minutes():
    never = Deadline()
    assert not never.comes
    assert not never.is_over(1e9)
    with never.whole("work"):
        never.check_here()


@pytest.mark.parametrize(("minutes", "end"), [(1, 54), (10, 580)])
def test_a_deadline_leaves_time_to_write(minutes, end):
    now = [0.0]
    deadline = Deadline(minutes, clock=lambda: now[0])
    now[0] = end - 0.01
    deadline.check()
    deadline.check_here()
    assert deadline.is_over(lasting=0.02)
    now[0] = end
    for check in (deadline.check, deadline.check_here):
        with pytest.raises(OutOfTime):
            check()


def test_work_that_cannot_be_interrupted_is_begun_if_it_can_end():
    now = [0.0]
    deadline = Deadline(10, clock=lambda: now[0])
    for seconds in (200, 100):
        with deadline.whole("pass"):
            now[0] += seconds
    now[0] = 470
    with deadline.whole("pass"):
        pass
    now[0] = 300
    deadline._lasted["pass"] = 290
    with pytest.raises(OutOfTime), deadline.whole("pass"):
        raise AssertionError("begun")
    with deadline.whole("other work"):
        pass


def test_time_for_what_is_left_is_told_from_the_speed_so_far():
    now = [0.0]
    deadline = Deadline(10, clock=lambda: now[0])
    assert deadline.time_for(100) == "; no step was trained in this slice: give it more minutes"
    now[0] = 60
    deadline.worked(1000)
    assert deadline.time_for(10_000) == ", about 10 min at this speed"
    assert deadline.time_for(50_000) == ", about 50 min at this speed"
    # A fiftieth of it and less says nothing: beginning took the time.
    assert deadline.time_for(50_001) == ""
    assert deadline.time_for(0) == ""
    assert deadline.used() == "60 s"
    now[0] = 4500
    assert deadline.time_for(5000) == ", about 6.2 h at this speed"
    assert deadline.used() == "75.0 minutes"


def test_the_files_of_a_checkpoint_are_small_enough_to_travel(tmp_path):
    """A state of 113 MiB, more than ResNet18's with its momentum, one array larger than a file may be."""
    rng = np.random.default_rng(0)
    params = {f"w{i}": rng.normal(size=(3, 3, 512, 512)).astype(np.float32) for i in range(8)}
    params["large"] = rng.normal(size=(4096, 2600)).astype(np.float32)
    state = TrainState(np.int32(7), Variables(params, {}), (), jax.random.key(1), {})
    Checkpoints(tmp_path / "here").save(state)
    sizes = [path.stat().st_size for path in (tmp_path / "here").rglob("*") if path.is_file()]
    assert sum(sizes) > 40 * 2**20
    assert max(sizes) <= 16 * 2**20
    (tmp_path / "here").rename(tmp_path / "there")
    back = Checkpoints(tmp_path / "there").restore(7, state)
    for name, array in params.items():
        np.testing.assert_array_equal(back.variables.params[name], array)


# The command.


@pytest.mark.slow
def test_the_command_says_what_is_done_and_left(tmp_path, capsys):
    options = ["--model.widths", "8", "--train.epochs", "2", "--score.epoch", "1"]
    options += ["--score.num-seeds", "1", "--retrain.num-seeds", "1", "--select.fractions", "0.8"]
    options += ["--run-dir", str(tmp_path / "run")]
    main(["run", *options, "--minutes", "1e-6"])
    out, error = capsys.readouterr()
    assert "seeds train one by one" in error
    assert re.sub(r"after \d+ s", "after 0 s", out.splitlines()[-1]) == (
        "stopped after 0 s: 0 of 1 network scored, 0 of 4 retrained; left: 5 trainings; no step "
        "was trained in this slice: give it more minutes; the same command goes on, also from a copy of the "
        "folder elsewhere"
    )
    main(["run", *options, "--minutes", "100"])
    assert "stopped" not in capsys.readouterr().out
    assert "Unfinished" not in (tmp_path / "run" / "table.md").read_text()


def test_the_command_says_which_figures_are_left(tmp_path, capsys):
    command = ["reproduce", "examples", "fig12-correlations", "--scale", "smoke", "--store", str(tmp_path)]
    main([*command, "--minutes", "1e-6"])
    assert capsys.readouterr().out.splitlines() == [
        "stopped after 0 s: 0 of 2 figures are made, left: examples, fig12-correlations; the same "
        f"command goes on, also from a copy of the folder elsewhere: {tmp_path}",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "0"], "--minutes must be a finite number above 0, got 0"),
        (["--minutes", "inf"], "--minutes must be a finite number above 0, got inf"),
        (["--minutes", "5", "--plan"], "--minutes 5 with --plan, which runs nothing"),
    ],
)
def test_minutes_that_make_no_sense(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", *options])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
