"""What folds measure at the end of every epoch: values of all examples as they are stored, in eval mode.

The state of a step that ends an epoch has it done: a training that goes on from there does not repeat it.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from diet_jax.checks.calls import calling
from diet_jax.devices.batching import auto_batch_size, chunk_budget
from diet_jax.devices.mesh import hold_whole
from diet_jax.scores.score import Fold, takes
from diet_jax.training.passes import map_examples_of
from diet_jax.training.recipe import make_schedule
from diet_jax.training.step import Program, TrainState, ends_of_epochs
from diet_jax.types import AnyArray, Array, Examples, Model


def ends_epoch(program: Program, step: int) -> bool:
    """Returns whether folds measure all examples after so many updates."""
    every = ends_of_epochs(program)
    return bool(every) and step % every == 0


def with_ends_of_epochs(program: Program, first: int, stop: int) -> Sequence[int]:
    """Returns the steps after `first` up to `stop` at which folds measure, and `stop` itself.

    Example:
        >>> import diet_jax as dj
        >>> program = dj.Program(dj.create_model("mlp", num_classes=2), dj.TrainConfig(steps=7), num_steps=7)
        >>> list(with_ends_of_epochs(program, 0, 7))
        [7]
    """
    every = ends_of_epochs(program)
    if not every:
        return (stop,)
    ends = itertools.takewhile(lambda end: end < stop, itertools.count(first - first % every + every, every))
    return (*ends, *((stop,) if stop > first else ()))


def end_epoch(state: TrainState, examples: Examples, *, program: Program) -> TrainState:
    """Measures all examples in memory with the network as it is, and updates the folds that want it.

    Args:
        state: after the last step of an epoch.
        examples: all rows of the dataset, on the device.
        program: of the training.
    """
    measure = measuring(program)
    shape = functools.partial(jax.tree.map, lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
    count, spec = len(examples.labels), examples.spec
    inputs = jax.ShapeDtypeStruct((count, *spec.shape), spec.dtype)
    labels = jax.ShapeDtypeStruct((count,), "int32")
    size = auto_batch_size(measure, inputs, labels, shared=(shape(state.variables),), budget=chunk_budget())
    values = map_examples_of(measure, state.variables, examples, batch_size=size)
    return take_in(state, values, examples.labels, program=program)


def take_in(state: TrainState, values: Any, labels: AnyArray, *, program: Program) -> TrainState:
    """Updates the folds that measure with what `measuring` returned for all examples.

    Args:
        state: after the last step of an epoch.
        values: of each measure.
        labels: int `[n]`.
        program: of the training.
    """
    dynamics, rows, labels = dict(state.dynamics), jnp.arange(len(labels)), jnp.asarray(labels)
    measures = _measures(program.folds)
    for fold in program.folds:
        if fold.measure is None:
            continue
        options = {}
        if takes(fold.update, "rate"):
            options = {"rate": make_schedule(program.config, program.num_steps)(state.step)}
        measured = values[measures.index(fold.measure)]
        with calling(f"the update of the fold {fold.name}"):
            dynamics[fold.name] = fold.update(state.dynamics[fold.name], rows, measured, labels, **options)
    return state._replace(dynamics=hold_whole(dynamics))


def measuring(program: Program) -> Callable[..., Any]:
    """Returns `(variables, inputs, labels) -> tuple`, what each different measure of the folds returns.

    The same object for the same model and measures: in one pass, with one forward pass for all of them.
    """
    return _measuring(program.model, _measures(program.folds))


def _measures(folds: tuple[Fold, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(fold.measure for fold in folds if fold.measure is not None))


@functools.lru_cache(maxsize=64)
def _measuring(model: Model, measures: tuple[Any, ...]) -> Callable[..., Any]:
    functions = []
    for measure in measures:
        with calling("the measure of a fold"):
            functions.append(measure(model))

    def measured(variables: Any, inputs: Array, labels: Array) -> tuple[Any, ...]:
        return tuple(fn(variables, inputs, labels) for fn in functions)

    return measured
