"""Scores that read all examples at once: a pass that measures each, then a function of all the values."""

import functools
from typing import Any

import jax
import numpy as np

from diet_jax.checks.calls import num_logits
from diet_jax.data.dataset import Dataset
from diet_jax.devices.mesh import fetch, replicate
from diet_jax.devices.vmap_rules import in_turn
from diet_jax.scores.score import Score, values_of_all
from diet_jax.training.passes import batch_shapes, map_examples_of
from diet_jax.types import Array, Examples, Model, Variables


def score_of_all(
    score: Score, model: Model, variables: Variables, examples: Examples, *, batch_size: int
) -> Array:
    """Returns a score float32 `[n]` that reads the dataset, traced; networks under `vmap` take turns.

    Args:
        score: with a measure.
        model: what is scored with.
        variables: of one network.
        examples: all rows of the dataset, on the device.
        batch_size: examples measured at a time.
    """
    fn = score.on_batches(model)
    assert fn is not None
    one = jax.ShapeDtypeStruct((1, *examples.spec.shape), examples.spec.dtype)
    num_classes = num_logits(model.predict, variables, one)

    def whole(variables: Variables, examples: Examples) -> Array:
        values = map_examples_of(fn, variables, examples, batch_size=batch_size)
        return values_of_all(score, values, examples.labels, num_classes=num_classes)

    return in_turn(whole)(variables, examples)


def finished(
    score: Score, model: Model, variables: Variables, dataset: Dataset, values: np.ndarray
) -> np.ndarray:
    """Returns a score float32 `[n]` from what a pass over all examples returned: that itself, for most.

    Args:
        score: which.
        model: what is scored with.
        variables: of one network.
        dataset: whose rows the values are of.
        values: `[n ...]`.
    """
    if score.measure is None:
        return values
    num_classes = num_logits(model.predict, variables, batch_shapes(dataset)[0])
    given = replicate((values, np.asarray(dataset.labels)))
    return np.asarray(fetch(_finished(*given, score=score, num_classes=num_classes)))


@functools.partial(jax.jit, static_argnames=("score", "num_classes"))
def _finished(values: Any, labels: Any, *, score: Score, num_classes: int) -> Array:
    return values_of_all(score, values, labels, num_classes=num_classes)
