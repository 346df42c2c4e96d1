"""Scores of how an example's probability moves within windows of presentations: Dyn-Unc and DUAL."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from diet_jax.checks.values import check_count
from diet_jax.scores.moments import register_both
from diet_jax.scores.outcomes import Outcomes, both_passes, where_known
from diet_jax.scores.score import Fold
from diet_jax.types import Array, Mask


@dataclass(frozen=True)
class WindowOptions:
    """Options of scores of windows."""

    window: int = 10
    """Presentations in a window (J)."""

    def __post_init__(self) -> None:
        check_count(self.window, "window", least=2)


class Windows(NamedTuple):
    """What is remembered of every row, `[n]` each but for `recent`; in the state they are one array."""

    count: Array
    """How often it was presented."""
    deviations: Array
    """Sum over windows of the standard deviation of the label's probability."""
    hard_deviations: Array
    """The same, each times 1 minus the mean probability in its window."""
    recent: Float[Array, "n window"]
    """The probabilities of the last presentations, in a ring."""


def _split(state: Float[Array, "n k"]) -> Windows:
    return Windows(state[:, 0], state[:, 1], state[:, 2], state[:, 3:])


def spread(ring: Float[Array, "n window"], count: Float[Array, "n"]) -> tuple[Array, Array]:
    """Returns mean and sum of squared deviations of the first `count` entries of each row, or of all."""
    there = _places(ring) < count[:, None]
    number = jnp.minimum(jnp.maximum(count, 1), ring.shape[1])
    mean = jnp.sum(jnp.where(there, ring, 0), axis=1) / number
    return mean, jnp.sum(jnp.where(there, (ring - mean[:, None]) ** 2, 0), axis=1)


def pushed(ring: Float[Array, "n window"], place: Float[Array, "n"], values: Float[Array, "n"]) -> Array:
    """Returns a ring with a value in place of the oldest one: that at `place` modulo its length."""
    return jnp.where(_places(ring) == (place % ring.shape[1])[:, None], values[:, None], ring)


def _places(ring: Float[Array, "n window"]) -> Float[Array, "1 window"]:
    return jnp.arange(ring.shape[1], dtype=jnp.float32)[None]


def _of_window(recent: Float[Array, "n window"], count: Float[Array, "n"]) -> tuple[Array, Array]:
    mean, squares = spread(recent, count)
    number = jnp.minimum(count, recent.shape[1])
    deviation = jnp.sqrt(squares / jnp.maximum(number - 1, 1))
    return deviation, deviation * (1 - mean)


@functools.cache
def window_folds(window: int) -> tuple[Fold, Fold]:
    """Returns the folds, of both passes, of windows of so many presentations."""

    def init(num_examples: int) -> Float[Array, "n k"]:
        return jnp.zeros((num_examples, 3 + window), jnp.float32)

    def absorb(state: Float[Array, "b k"], values: Outcomes) -> Float[Array, "b k"]:
        old = _split(state)
        recent, count = pushed(old.recent, old.count, values.probability), old.count + 1
        deviation, hard = _of_window(recent, count)
        full = (count >= window).astype(jnp.float32)
        sums = [count, old.deviations + full * deviation, old.hard_deviations + full * hard]
        return jnp.concatenate([jnp.stack(sums, axis=1), recent], axis=1)

    return both_passes(f"windows_{window}", init, absorb)


def _mean_over_windows(which: int) -> Callable[..., Any]:
    def build(window: int) -> Any:
        def scores(state: Float[Array, "n k"], keep: Mask) -> Float[Array, "n"]:
            moved = _split(state)
            windows = moved.count - window + 1
            # Fewer presentations than a window has are one window.
            alone = _of_window(moved.recent, moved.count)[which]
            total = (moved.deviations, moved.hard_deviations)[which]
            values = jnp.where(windows > 0, total / jnp.maximum(windows, 1), alone)
            return where_known(moved.count > 1, keep, values)

        return scores

    return build


_register = functools.partial(
    register_both,
    folds=(lambda window: window_folds(window)[0], lambda window: window_folds(window)[1]),
    options=WindowOptions(),
    high_means="undecided",
)
DYN_UNC, DYN_UNC_CLEAN = _register(
    name="dyn_unc",
    label="Dyn-Unc",
    formula="mean over all windows of consecutive presentations of the standard deviation (divided by their "
    "number minus 1) of the probability of the label",
    reference="He et al. 2024 (Dyn-Unc)",
    build=_mean_over_windows(0),
    elsewhere=(
        "BAAI (Dataset-Pruning): dynamic uncertainty, 10 times it, without the last window",
        "DUAL's baselines: Dyn-Unc, 10 times it",
    ),
)
DUAL, DUAL_CLEAN = _register(
    name="dual",
    label="DUAL",
    formula="mean over all windows of consecutive presentations of the standard deviation (divided by their "
    "number minus 1) of the probability of the label, times 1 minus its mean",
    reference="Cho et al. 2025 (DUAL)",
    build=_mean_over_windows(1),
    elsewhere=("DUAL (dual-pruning): DUAL, 10 times it, of the first 30 epochs of 200 on CIFAR",),
)
