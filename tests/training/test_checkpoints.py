"""Checkpoints: what comes back is what was saved at that very step, or an error."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.training.checkpoint_files import verify_checkpoint
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.loop import start, train_between
from diet_jax.training.recipe import TrainConfig, total_steps


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8)
    return dj.Dataset.from_arrays(images, np.arange(96) % 4)


MODELS = {
    "mlp": {"widths": (16,)},
    "small_cnn": {"widths": (4, 8)},
}


def trained(model, data, config, stops, state=None):
    """States (as NumPy copies) at the stops, and the joined losses."""
    num_steps = total_steps(config, len(data))
    program = dj.Program(model, config, num_steps)
    state = start(jax.random.key(3), data, program=program) if state is None else state
    states, losses = {}, []
    for reached, history in train_between(
        state, data.examples(), np.arange(len(data)), stops, program=program
    ):
        states[int(reached.step)] = jax.tree.map(
            np.array, reached._replace(key=jax.random.key_data(reached.key))
        )
        losses.append(history.loss)
    return states, np.concatenate(losses)


def as_state(copy):
    return jax.tree.map(jax.numpy.asarray, copy)._replace(key=jax.random.wrap_key_data(copy.key))


def assert_identical(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.mark.parametrize("name", MODELS)
def test_resuming_from_any_checkpoint_is_bit_identical(tmp_path, data, name):
    model = dj.create_model(name, num_classes=4, **MODELS[name])
    config = TrainConfig(epochs=4, batch_size=16, learning_rate=0.05, augment="crop_flip")
    whole, losses = trained(model, data, config, [0, 5, 11, 24])
    store = Checkpoints(tmp_path / "seed")
    for copy in whole.values():
        store.save(as_state(copy))
    assert store.steps() == [0, 5, 11, 24]
    fresh = start(jax.random.key(9), data, program=dj.Program(model, config, 24))
    for step in (0, 5, 11):
        resumed, tail = trained(model, data, config, [24], store.restore(step, fresh))
        assert_identical(resumed[24], whole[24])
        np.testing.assert_array_equal(tail, losses[step:])


@pytest.fixture
def store(tmp_path, data):
    model = dj.create_model("mlp", num_classes=4, widths=(16,))
    config = TrainConfig(epochs=1, batch_size=16, augment="none")
    state = start(jax.random.key(3), data, program=dj.Program(model, config, 6))
    checkpoints = Checkpoints(tmp_path / "seed")
    checkpoints.save(state)
    checkpoints.save(state._replace(step=jax.numpy.int32(4)))
    return checkpoints, state


def test_a_missing_step_raises_and_lists_the_steps_that_exist(store):
    checkpoints, state = store
    with pytest.raises(dj.InputError, match=r"no checkpoint of step 3 .*steps there: 0, 4"):
        checkpoints.restore(3, state)
    with pytest.raises(dj.InputError, match=r"steps there: none"):
        Checkpoints(checkpoints.folder.parent / "elsewhere").restore(0, state)
    assert not (checkpoints.folder.parent / "elsewhere").exists()


def test_step_zero_is_a_step_like_any_other(store):
    checkpoints, state = store
    assert int(checkpoints.restore(0, state).step) == 0
    assert int(checkpoints.restore(4, state).step) == 4


def test_a_renamed_checkpoint_is_refused(store):
    checkpoints, state = store
    (checkpoints.folder / "4").rename(checkpoints.folder / "7")
    with pytest.raises(dj.InputError, match="holds step 4, not 7"):
        checkpoints.restore(7, state)


def test_a_checkpoint_of_another_network_is_refused(store, data):
    checkpoints, _ = store
    other = dj.create_model("mlp", num_classes=4, widths=(17,))
    config = TrainConfig(epochs=1, batch_size=16, augment="none")
    like = start(jax.random.key(3), data, program=dj.Program(other, config, 6))
    with pytest.raises(dj.InputError, match="belongs to another network"):
        checkpoints.restore(4, like)


def test_a_damaged_checkpoint_is_refused(store):
    checkpoints, state = store
    for path in (checkpoints.folder / "4").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(dj.InputError, match=r"step|damaged"):
        checkpoints.restore(4, state)


def test_a_checkpoint_is_verified_by_a_relative_path_too(store, monkeypatch):
    folder = store[0].folder
    monkeypatch.chdir(folder)
    assert verify_checkpoint(Path("0")) == verify_checkpoint(folder / "0")


def test_half_a_checkpoint_does_not_count(store):
    checkpoints, _ = store
    shutil.copytree(checkpoints.folder / "4", checkpoints.folder / "5.orbax-checkpoint-tmp-1")
    assert checkpoints.steps() == [0, 4]


def cli(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "diet_jax", *arguments]


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_numbers(tmp_path):
    options = ["train", "--model.name", "small_cnn", "--model.widths", "4", "8", "--train.epochs", "12"]
    options += ["--checkpoint-epochs", "0", "1", "4", "12"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        cli(*options, "--run-dir", str(killed)),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    reached = killed / "checkpoints" / "retrain" / "everything" / "seed_00"
    deadline = time.monotonic() + 120
    while not (reached / "132").is_dir():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (reached / "396").is_dir()
    outputs = [
        subprocess.run(
            cli(*options, "--run-dir", str(folder)),
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for folder in (killed, whole)
    ]
    assert outputs[0] == outputs[1]
    assert "test accuracy" in outputs[0]
    model = dj.create_model("small_cnn", num_classes=10, widths=(4, 8))
    train = dj.load_dataset("digits").train
    config = TrainConfig(epochs=12, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none")
    like = start(jax.random.key(0), train, program=dj.Program(model, config, 396))
    states = [
        Checkpoints(folder / "checkpoints/retrain/everything/seed_00").restore(396, like)
        for folder in (killed, whole)
    ]
    assert_identical(*(s._replace(key=jax.random.key_data(s.key)) for s in states))
    assert metric_steps(killed) == metric_steps(whole) == [*range(33, 397, 33), 396]


def metric_steps(folder: Path) -> list[int]:
    from diet_jax.experiments.run_folder import RunFolder

    lines = RunFolder(folder).metrics()
    return [line["step"] for line in lines if line["unit"] == "retrain/everything/seed_00"]
