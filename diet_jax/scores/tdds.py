"""TDDS: how unsteadily an example's probabilities move, of recent windows of presentations above all."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from diet_jax.checks.values import check_count
from diet_jax.errors import InputError
from diet_jax.scores.moments import register_both
from diet_jax.scores.outcomes import both_passes, where_known
from diet_jax.scores.score import Fold
from diet_jax.scores.windows import pushed, spread
from diet_jax.types import Array, Mask

# As in the authors' code: a probability of 0 has a logarithm.
SMALL = 1e-8


@dataclass(frozen=True)
class TDDSOptions:
    """Options of TDDS."""

    window: int = 10
    """Presentations in a window (J); the moves from each to the next are one fewer."""
    decay: float = 0.9
    """Weight of a window against all before it."""

    def __post_init__(self) -> None:
        check_count(self.window, "window", least=3)
        if not 0 < self.decay <= 1:
            raise InputError(f"decay must be above 0 and at most 1, got {self.decay}")


def probabilities(logits: Array, labels: Array) -> Float[Array, "b c"]:
    """Returns the probabilities of all classes."""
    return jax.nn.softmax(jnp.asarray(logits).astype(jnp.float32), axis=-1)


@functools.cache
def tdds_fold(window: int, decay: float) -> Fold:
    """Returns the fold: count, average and the last moves of every row, and its last probabilities."""

    def init(num_examples: int, num_classes: int) -> dict[str, Array]:
        return {
            "moves": jnp.zeros((num_examples, 2 + window - 1), jnp.float32),
            "last": jnp.zeros((num_examples, num_classes), jnp.float32),
        }

    def absorb(state: dict[str, Array], now: Float[Array, "b c"]) -> dict[str, Array]:
        (count, average), ring = state["moves"][:, :2].T, state["moves"][:, 2:]
        move = jnp.sum(jnp.abs(now * (jnp.log(now + SMALL) - jnp.log(state["last"] + SMALL))), axis=1)
        # The first presentation is no move.
        ring = jnp.where(count[:, None] > 0, pushed(ring, count - 1, move), ring)
        value = decay * jnp.sqrt(spread(ring, count)[1]) + (1 - decay) * average
        average = jnp.where(count >= window - 1, value, average)
        moves = jnp.concatenate([jnp.stack([count + 1, average], axis=1), ring], axis=1)
        return {"moves": moves, "last": now}

    return both_passes(f"tdds_{window}_{decay:g}", init, absorb, probabilities)[0]


def _tdds(window: int, decay: float) -> Any:
    def scores(state: dict[str, Array], keep: Mask) -> Float[Array, "n"]:
        (count, average), ring = state["moves"][:, :2].T, state["moves"][:, 2:]
        # Fewer presentations than a window has are one window.
        alone = decay * jnp.sqrt(spread(ring, count - 1)[1])
        return where_known(count > 2, keep, jnp.where(count >= window, average, alone))

    return scores


(TDDS,) = register_both(
    clean=False,
    folds=(tdds_fold,),
    name="tdds",
    label="TDDS",
    formula="of windows of presentations, the norm of the deviations from their mean of the moves "
    "p(t) |log p(t) - log p(t-1)|, summed over classes; decay times that of the last window, plus "
    "decay (1 - decay) times that of the one before, and so on",
    reference="Zhang et al. 2024 (TDDS)",
    build=_tdds,
    options=TDDSOptions(),
    high_means="unsteady",
    elsewhere=(
        "TDDS: TDDS",
        "DUAL's baselines: TDDS, of logits in place of probabilities, and of the first window every time",
    ),
)
