"""Learning-rate schedules in steps.

Schedules here take the update number `t`, counted from 1 as in the paper; those of Optax count from 0.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from diet_jax.errors import InputError
from diet_jax.types import Array

Schedule = Callable[[Array], Array]


def piecewise_schedule(learning_rate: float, boundaries: Sequence[int], factor: float) -> Schedule:
    """Multiplies the rate by `factor` after each boundary: `lr(t) = learning_rate · factor^#{b : b < t}`.

    Args:
        learning_rate: rate of the first updates.
        boundaries: steps, the last update number that still has the old rate.
        factor: what the rate is multiplied by.

    Returns:
        A function from the update number `t` (from 1) to a float32 rate.

    Paper: appendix B; 0.1, times 0.2 after steps 23,400, 46,800 and 62,400 of 78,000.

    Example:
        >>> import jax.numpy as jnp
        >>> lr = piecewise_schedule(1.0, [10], 0.5)
        >>> [float(lr(jnp.int32(t))) for t in (1, 10, 11)]
        [1.0, 1.0, 0.5]
    """

    def schedule(t: Array) -> Array:
        passed = [jnp.where(boundary < t, jnp.float32(factor), jnp.float32(1)) for boundary in boundaries]
        rate = jnp.float32(learning_rate)
        for scale in passed:
            rate = rate * scale
        return rate

    return schedule


def warmup_schedule(learning_rate: float, warmup: int, num_steps: int, *, decay: str) -> Schedule:
    """Rises linearly to the peak at step `warmup`, then falls to 0 at step `num_steps`.

    Args:
        learning_rate: the peak.
        warmup: step of the peak; 0 for none.
        num_steps: the last step; the rate is 0 there and beyond.
        decay: "linear" or "cosine".

    Returns:
        A function from the update number `t` (from 1) to a float32 rate.

    Raises:
        InputError: the warm-up is negative or not shorter than the training.

    Paper: the authors' code has the linear form (peak 0.2 at 4,680 of 31,200).

    Example:
        >>> import jax.numpy as jnp
        >>> lr = warmup_schedule(1.0, 2, 6, decay="linear")
        >>> [float(lr(jnp.int32(t))) for t in (1, 2, 4, 6)]
        [0.5, 1.0, 0.5, 0.0]
    """
    if not 0 <= warmup < num_steps:
        raise InputError(f"warm-up must end before the training does: {warmup} of {num_steps} steps")

    def schedule(t: Array) -> Array:
        step = jnp.asarray(t).astype(jnp.float32)
        rise = step / jnp.float32(max(warmup, 1))
        progress = jnp.clip((step - warmup) / jnp.float32(num_steps - warmup), 0.0, 1.0)
        fall = 1.0 - progress if decay == "linear" else 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        return jnp.float32(learning_rate) * jnp.where(step < warmup, rise, fall)

    return schedule
