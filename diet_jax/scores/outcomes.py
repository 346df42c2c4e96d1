"""What scores of training dynamics read of a forward pass, and folds that remember something of each row."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from diet_jax.per_example.losses import cross_entropy, error_norm, error_vector, predicted_classes
from diet_jax.scores.score import Fold
from diet_jax.types import AnyArray, Array, Mask, Model


class Outcomes(NamedTuple):
    """What became of a batch in one forward pass."""

    probability: Float[Array, "b"]
    """Of the label."""
    margin: Float[Array, "b"]
    """The label's logit minus the largest other one."""
    softmax_margin: Float[Array, "b"]
    """The same of probabilities."""
    correct: Bool[Array, "b"]
    """Whether the label has the largest logit."""
    loss: Float[Array, "b"]
    """Cross-entropy in nats."""
    error: Float[Array, "b"]
    """Norm of the error vector, as of EL2N."""


def outcomes(logits: Float[AnyArray, "b c"], labels: Int[AnyArray, "b"]) -> Outcomes:
    """Returns what became of a batch, float32.

    Args:
        logits: float `[b c]`.
        labels: int `[b]`.

    Example:
        >>> import jax.numpy as jnp
        >>> found = outcomes(jnp.array([[0.0, 2.0, 1.0]]), jnp.array([1]))
        >>> found.margin.tolist(), found.correct.tolist()
        ([1.0], [True])
    """
    logits, labels = jnp.asarray(logits).astype(jnp.float32), jnp.asarray(labels)
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    probabilities = jax.nn.softmax(logits, axis=-1)

    def margin(values: Array) -> Array:
        label = jnp.sum(jnp.where(own, values, 0), axis=-1)
        return label - jnp.max(jnp.where(own, -jnp.inf, values), axis=-1)

    loss = cross_entropy(logits, labels)
    return Outcomes(
        probability=jnp.exp(-loss),
        margin=margin(logits),
        softmax_margin=margin(probabilities),
        correct=predicted_classes(logits) == labels,
        loss=loss,
        error=error_norm(error_vector(logits, labels)),
    )


def both_passes(
    name: str,
    init: Callable[..., Any],
    absorb: Callable[..., Any],
    read: Callable[..., Any] = outcomes,
) -> tuple[Fold, Fold]:
    """Returns two folds of the same state: of the training's own pass, and of a clean pass after every epoch.

    Args:
        name: of the first; the other's ends in `_clean`.
        init: as of `Fold`; arrays `[n ...]`.
        absorb: `(state of some rows, values of these rows) -> their new state`.
        read: `(logits, labels) -> values`, a pytree of arrays `[b ...]`.
    """

    def take_in(state: Any, rows: Array, values: Any, labels: Array) -> Any:
        before = jax.tree.map(lambda leaf: leaf[rows], state)
        after = absorb(before, values)
        return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), state, after)

    def update(state: Any, rows: Array, logits: Array, labels: Array) -> Any:
        return take_in(state, rows, read(logits, labels), labels)

    return Fold(name, init, update), Fold(f"{name}_clean", init, take_in, _clean(read), of_logits=True)


def where_known(known: Bool[AnyArray, "n"], keep: Mask, values: Float[AnyArray, "n"]) -> Float[Array, "n"]:
    """Returns values of the rows that were trained on and that enough is known of; NaN elsewhere."""
    return jnp.where(jnp.asarray(known) & jnp.asarray(keep), jnp.asarray(values), jnp.nan)


@functools.cache
def _clean(read: Callable[..., Any]) -> Callable[[Model], Callable[..., Any]]:
    """The same object for the same values: folds that measure the same share a pass."""

    def measure(model: Model) -> Callable[..., Any]:
        return lambda variables, inputs, labels: read(model.predict(variables, inputs), labels)

    return measure
