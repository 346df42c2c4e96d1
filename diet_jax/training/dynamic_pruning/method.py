"""What a method of dynamic pruning brings, and what it left out."""

from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.devices.mesh import fetch
from diet_jax.errors import InputError
from diet_jax.selection.file import KeepFile
from diet_jax.types import Array, Inputs, Labels, Model, PRNGKey, Rows, Variables

STATE = "pruning"
"""Where in `TrainState.dynamics` a method's state is."""


@runtime_checkable
class PruningState(Protocol):
    """What every method's state holds, beside what it remembers; with a leading axis it is of many seeds."""

    @property
    def kept(self) -> Array:
        """bool `[n]`, the last subset."""
        ...

    @property
    def offered(self) -> Array:
        """uint32, the examples that it chose from so far, each time that it did."""
        ...

    @property
    def left_out(self) -> Array:
        """uint32, how many of those it left out."""
        ...


class DynamicPruning(ABC):
    """A method of dynamic pruning, made for a config and a number of steps.

    Methods are frozen dataclasses: compiled programs are found by them. All that they remember is a pytree of
    arrays in `TrainState.dynamics`, of shapes that follow from the number of examples; what is random in them
    follows from the keys that they are given.
    """

    @abstractmethod
    def init(self, num_examples: int) -> Any:
        """Returns its state before the first step."""

    def choose(
        self, own: Any, model: Model, variables: Variables, inputs: Inputs, labels: Labels, rows: Array
    ) -> tuple[Any, Array | None]:
        """Returns its state and which of the prepared candidates are trained on, int `[b]`; None for all."""
        return own, None

    def weights(self, own: Any, rows: Array) -> Array | None:
        """Returns what the loss of each example of a batch is multiplied by, float32 `[b]`; None for 1."""
        return None

    def observe(self, own: Any, rows: Array, losses: Array) -> Any:
        """Returns its state after a forward pass in which the batch had these losses, float32 `[b]`."""
        return own


class OrderingPruning(DynamicPruning):
    """A method that draws the batches itself, in the place of `batch_rows`."""

    @abstractmethod
    def next_rows(
        self, own: Any, step: Array, order_key: PRNGKey, prune_key: PRNGKey, kept: Rows
    ) -> tuple[Any, Array]:
        """Returns its state and the rows int32 `[b]` of the next batch, of the rows `kept` int `[k]`.

        Args:
            own: its state.
            step: updates done before.
            order_key: of the data order.
            prune_key: of what is left out.
            kept: int `[k]`, the rows to train on.
        """


def share_left_out(state: Any) -> np.ndarray:
    """Returns the share of the examples that a training has left out so far, of those that it chose from.

    It is not the option of the method: InfoBatch with `leave_out` 0.5 leaves out half of the examples below
    the mean loss, which are fewer than half of all where few losses are large, or none was seen yet.

    Args:
        state: of the training, or the `pruning` of `train_ensemble`'s result, of many seeds.

    Returns:
        float64, or `[s]` for many seeds.

    Example:
        >>> import diet_jax as dj
        >>> train, test = dj.load_dataset("digits")
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> config = dj.TrainConfig(epochs=5, batch_size=32, augment="none", dynamic="infobatch")
        >>> result = dj.train_ensemble(dj.seed_keys(0, "retrain", 2), model, train, test, config=config)
        >>> dj.share_left_out(result.pruning).round(1).tolist()
        [0.3, 0.3]
    """
    own = pruning_of(state)
    left_out, offered = (np.asarray(fetch(count), np.float64) for count in (own.left_out, own.offered))
    return np.asarray(left_out / np.maximum(offered, 1))


def last_subset(state: Any, dataset: Dataset) -> KeepFile:
    """Returns the subset that a training with dynamic pruning used last, to save or to train on.

    Of InfoBatch, what the last epoch that was pruned kept; of batch-hardest, the examples that were among the
    hardest when they were last looked at.

    Args:
        state: of the training, or the `pruning` of `train_ensemble`'s result, of many seeds.
        dataset: the full train split.

    Returns:
        The mask bool `[n]`, or `[s n]`, with the ids of the dataset.

    Raises:
        InputError: the training has no dynamic pruning, or nothing was chosen yet.

    Example:
        >>> import jax, diet_jax as dj
        >>> train = dj.load_dataset("digits").train
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> config = dj.TrainConfig(epochs=5, batch_size=32, augment="none", dynamic="hardest")
        >>> state, _ = dj.train(jax.random.key(0), model, train, config=config)
        >>> file = dj.last_subset(state, train)
        >>> file.keep.shape, float(file.keep.mean().round(1))
        ((1078,), 0.5)
    """
    check_dataset(dataset)
    own = pruning_of(state)
    keep = np.asarray(fetch(own.kept))
    if not keep.any(axis=-1).all():
        raise InputError(
            "no subset was chosen yet: the training has done no step, or none of those that are pruned"
        )
    counts = {name: np.asarray(fetch(getattr(own, name))).tolist() for name in ("offered", "left_out")}
    return KeepFile.from_mask(keep, dataset, provenance={"method": type(own).method, **counts})  # type: ignore[attr-defined]


def pruning_of(state: Any) -> Any:
    """Returns the state of the method in a training's state, or itself.

    Raises:
        InputError: there is none.
    """
    own = getattr(state, "dynamics", {}).get(STATE) if hasattr(state, "dynamics") else state
    if not isinstance(own, PruningState):
        raise InputError(
            "state must be of a training with dynamic pruning, or the pruning of train_ensemble's result; "
            f"got {type(state).__name__} without: set dynamic in the TrainConfig"
        )
    return own


def none_yet() -> Array:
    """Returns a count of 0."""
    return jnp.uint32(0)
