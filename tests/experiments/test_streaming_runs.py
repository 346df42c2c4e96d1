"""Streaming from the command line: one run, stopped and continued, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.cli.main import main
from diet_jax.experiments import scoring, train_one
from diet_jax.experiments.config import LOCATIONS, DataConfig, RetrainConfig, RunConfig, ScoreConfig
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.options.plain import differences, to_json
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.recipe import TrainConfig

pytest.importorskip("grain")


def options(folder, run_dir, *more):
    return [
        "run",
        *("--data.name", f"folder:{folder}", "--data.streaming", "--run-dir", str(run_dir)),
        *("--model.name", "mlp", "--model.widths", "4", "--score.epoch", "1", "--score.num-seeds", "2"),
        *("--score.names", "el2n", "forgetting", "--select.fractions", "0.5", "--retrain.num-seeds", "1"),
        *("--train.epochs", "3", "--train.batch-size", "5", "--train.augment", "resized_crop"),
        *("--data.image-size", "7", *more),
    ]


@pytest.fixture(scope="module")
def whole(image_folder, tmp_path_factory):
    """A run that was never stopped."""
    run_dir = tmp_path_factory.mktemp("run") / "whole"
    main(options(image_folder, run_dir))
    return run_dir


def results(run_dir):
    """What a run found, without the times."""
    found = {}
    for path in sorted(run_dir.rglob("*.npz")):
        with np.load(path) as archive:
            found[path.relative_to(run_dir)] = {name: archive[name] for name in archive if name != "header"}
    lines = {(m["unit"], m["step"]): m["loss"] for m in RunFolder(run_dir).metrics() if "step" in m}
    return found, lines


def test_a_run_leaves_its_results_and_no_shards(whole):
    found, _ = results(whole)
    assert {"scores/el2n.npz", "scores/forgetting.npz"} <= {str(path) for path in found}
    assert found[Path("scores/el2n.npz")]["per_seed"].shape == (2, 30)
    assert not list(whole.rglob("*.shards"))
    assert not (whole / "unfinished").exists()
    assert (whole / "figures" / "examples_el2n.png").stat().st_size > 10_000


class Stopped(Exception):
    pass


@pytest.mark.parametrize("where", ["training", "scoring", "retraining"])
@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_results(whole, image_folder, tmp_path, monkeypatch, where):
    def fail(*_, **__):
        raise Stopped

    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(train_one, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        if where == "training":
            save = Checkpoints.save

            def save_twice(self, state, position=None):
                save(self, state, position)
                assert position["next_step"] == int(state.step)
                if int(state.step) >= 12:
                    raise Stopped

            patch.setattr(Checkpoints, "save", save_twice)
        elif where == "scoring":
            patch.setattr(scoring, "remove_shards", fail)
        else:
            save_whole = RunFolder.save

            def save_scores(self, name, *args):
                if name.startswith("retrain/"):
                    raise Stopped
                save_whole(self, name, *args)

            patch.setattr(RunFolder, "save", save_scores)
        with pytest.raises(Stopped):
            main(options(image_folder, run_dir))
    assert list(run_dir.rglob("unfinished/*/*/*") if where == "training" else run_dir.rglob("*.shards"))
    main(options(image_folder, run_dir))
    found, lines = results(run_dir)
    expected, expected_lines = results(whole)
    assert lines == expected_lines
    assert set(found) == set(expected)
    if where != "retraining":
        assert not list(run_dir.rglob("*.shards"))
    for path, arrays in expected.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[path][name], array)


@pytest.mark.slow
def test_workers_are_no_part_of_what_is_computed(whole, image_folder, capsys):
    main(options(image_folder, whole, "--data.workers", "1"))
    one, other = (RunConfig(data=DataConfig("folder:x", streaming=True, workers=w)) for w in (0, 2))
    assert differences(to_json(one), to_json(other), leaving_out=LOCATIONS) == []
    assert differences(to_json(one), to_json(RunConfig(data=DataConfig("folder:x")))) != []


STREAM = DataConfig("folder:x", streaming=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"data": DataConfig(image_size=8)}, "data.image_size is for images read from disk"),
        ({"data": DataConfig(workers=1)}, "data.workers is for images read from disk"),
        ({"train": TrainConfig(augment="resized_crop")}, "train.augment resized_crop is for images read"),
        ({"data": DataConfig(streaming=True, image_size=0)}, "data.image_size must be at least 1, got 0"),
        ({"data": DataConfig(streaming=True, workers=-1)}, "data.workers must be at least 0, got -1"),
        ({"data": STREAM, "score": ScoreConfig(how="vmap")}, "score.how is vmap"),
        ({"data": STREAM, "retrain": RetrainConfig(how="map")}, "retrain.how is map"),
    ],
)
def test_options_that_do_not_fit_streaming(config, message):
    with pytest.raises(dj.InputError, match=message):
        RunConfig(**config)


def test_a_missing_image_is_one_message(image_folder, tmp_path, capsys):
    own = Path(shutil.copytree(image_folder, tmp_path / "own"))
    (own / "train" / "a" / "0003.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as stopped:
        main(options(own, tmp_path / "run"))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "0003.png is damaged" in " ".join(message.split())
    assert "Traceback" not in message
