"""The paper's optimiser as an Optax chain, and learning-rate schedules in steps.

Schedules here take the update number `t`, counted from 1 as in the paper.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import optax

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


def sgd(
    schedule: Schedule, *, momentum: float = 0.9, nesterov: bool = True, weight_decay: float = 5e-4
) -> optax.GradientTransformation:
    """The paper's SGD: L2 on every parameter, then (Nesterov) momentum, then the learning rate.

    `g ← g + weight_decay·w;  m ← momentum·m + g;  w ← w − lr(t)·(g + momentum·m)`. The L2 term is added
    before the momentum and reaches biases and BatchNorm's scale and bias too.

    Args:
        schedule: from the update number `t` (from 1) to the rate.
        momentum: decay of the momentum.
        nesterov: whether the step looks ahead.
        weight_decay: coefficient of the L2 term's gradient.

    Returns:
        An Optax transformation whose state counts the updates.

    Paper: appendix B, after Flax's former `optim.Momentum`.

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = sgd(piecewise_schedule(0.1, [], 1.0), momentum=0.0, weight_decay=0.0)
        >>> w = {"w": jnp.ones(1)}
        >>> updates, _ = optimizer.update({"w": jnp.ones(1)}, optimizer.init(w), w)
        >>> round(float(updates["w"][0]), 6)
        -0.1
    """
    # Optax counts updates from 0 when it asks for a rate; `t` counts them from 1.
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.trace(decay=momentum, nesterov=nesterov),
        optax.scale_by_learning_rate(lambda count: schedule(jnp.asarray(count) + 1)),
    )
