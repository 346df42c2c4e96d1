"""A training with records that is stopped and goes on, and one that goes on from a state of another."""

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.analysis.connectivity.paths import spawn
from diet_jax.devices.progress import Progress
from diet_jax.experiments import train_one
from diet_jax.experiments.config import DataConfig, ModelConfig
from diet_jax.experiments.reproduction.store import Training, open_store
from diet_jax.experiments.reproduction.task import Task
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.train_one import trained_network
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.recipe import TrainConfig

TINY = Task(
    DataConfig("digits", num_train=120),
    ModelConfig("mlp", widths=(8,)),
    TrainConfig(epochs=4, batch_size=20, learning_rate=0.05, schedule="cosine", augment="none"),
)


class Stopped(Exception):
    pass


class StopAfter(Progress):
    """Stops the training after some updates, as a killed process would."""

    def __init__(self, count):
        super().__init__("", quiet=True)
        self.count = count

    def update(self, count):
        super().update(count)
        if self._done >= self.count:
            raise Stopped


@pytest.fixture
def setup(tmp_path):
    with open_store(tmp_path / "store", None) as store:
        yield store.setup(TINY)


def train(setup, folder, progress=None, **options):
    folder.mkdir(exist_ok=True)
    key = dj.seed_keys(0, "score", 1)[0]
    progress = progress or Progress("", quiet=True)
    with trained_network(setup, RunFolder(folder), "unit", key, progress=progress, **options) as state:
        return state


def same(one, other):
    leaves = zip(jax.tree.leaves(one.variables), jax.tree.leaves(other.variables), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def test_a_long_training_keeps_a_state_to_go_on_from(setup, tmp_path, monkeypatch):
    whole = train(setup, tmp_path / "whole", save=())
    monkeypatch.setattr(train_one, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        train(setup, folder, StopAfter(14), save=())
    unfinished = Checkpoints(folder / "unfinished" / "unit")
    assert unfinished.steps() == [18]
    steps = []
    again = train_one.train_between

    def noting(state, *args, **kwargs):
        steps.append(int(state.step))
        return again(state, *args, **kwargs)

    monkeypatch.setattr(train_one, "train_between", noting)
    assert same(train(setup, folder, save=()), whole)
    assert steps == [18]
    assert not unfinished.folder.exists()
    assert not (folder / "checkpoints").exists()
    logged = [line["step"] for line in RunFolder(folder).metrics()]
    assert logged == [6, 12, 18, 24]


def test_a_state_asked_for_is_no_state_to_go_on_from(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(train_one, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    train(setup, tmp_path, save={0, 12})
    assert Checkpoints(tmp_path / "checkpoints" / "unit").steps() == [0, 12]
    assert not (tmp_path / "unfinished" / "unit").exists()


def test_going_back_keeps_the_later_records(setup, tmp_path):
    train(setup, tmp_path, save={24})
    train(setup, tmp_path, save={6}, stop=6)
    assert Checkpoints(tmp_path / "checkpoints" / "unit").steps() == [6, 24]
    assert sorted(line["step"] for line in RunFolder(tmp_path).metrics()) == [6, 12, 18, 24]


def test_a_training_can_begin_at_a_state_that_is_given(setup, tmp_path):
    parent = train(setup, tmp_path / "parent", save=(), stop=9)
    child = train(setup, tmp_path / "child", save={9}, first=lambda: spawn(parent, parent.key))
    assert same(child, train(setup, tmp_path / "whole", save=()))
    assert Checkpoints(tmp_path / "child" / "checkpoints" / "unit").steps() == [9]


def test_a_child_with_its_parents_order_equals_it(tmp_path, monkeypatch):
    """Through the store: only the key makes a child differ from its parent."""
    with open_store(tmp_path / "store", None) as store:
        parent = Training(TINY, "score", 0)
        end = store.state(parent, 24)
        monkeypatch.setattr(jax.random, "fold_in", _parents_key(jax.random.fold_in, parent))
        child = store.state(Training(TINY, "child", 0, parent=(0, 12)), 24)
    assert same(child, end)


def _parents_key(fold_in, parent):
    own = dj.seed_keys(parent.task.seed, "score", 1)[0]
    made = dj.seed_keys(parent.task.seed, "child", 1)[0]

    def patched(key, data):
        if not isinstance(key, jax.core.Tracer) and np.array_equal(
            jax.random.key_data(key), jax.random.key_data(made)
        ):
            return own
        return fold_in(key, data)

    return patched


def test_a_checkpoint_that_cannot_be_written_is_one_message(setup, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "unit").write_text("in the way")
    with pytest.raises(dj.InputError, match="cannot write the checkpoint of step 6"):
        train(setup, tmp_path, save={6})


def test_an_earlier_state_leaves_an_unfinished_training_alone(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(train_one, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    with pytest.raises(Stopped):
        train(setup, tmp_path, StopAfter(14), save=())
    train(setup, tmp_path, save={6}, stop=6)
    assert Checkpoints(tmp_path / "unfinished" / "unit").steps() == [18]
    train(setup, tmp_path, save=())
    assert not (tmp_path / "unfinished" / "unit").exists()
