"""Factors that clip per-example gradients to a norm."""

import jax.numpy as jnp
from jaxtyping import Float

from diet_jax.checks.values import check_array, check_number
from diet_jax.types import Array, ScoreArray


def clipping_factors(norms: ScoreArray, max_norm: float) -> Float[Array, "b"]:
    """Returns what to multiply each example's gradient by, so that no norm is above a bound.

    `min(1, max_norm / norm)`. The gradient of `Σ_i factor_i · loss_i`, with the factors held constant, is
    the sum of the clipped gradients: two backward passes, and no gradient of a single example in memory.

    Args:
        norms: float `[b]`, from `per_example_grad_norms`.
        max_norm: the bound, above 0.

    Returns:
        float `[b]` of the norms' dtype, in `[0, 1]`; low means a large gradient, 0 an infinite one. NaN where
        the norm is NaN.

    Raises:
        InputError: a bound that is not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> clipping_factors(jnp.array([0.0, 1.0, 4.0]), max_norm=2.0).tolist()
        [1.0, 1.0, 0.5]
    """
    norms = jnp.asarray(check_array(norms, "norms", "..."))
    max_norm = check_number(max_norm, "max_norm", above=0)
    return jnp.where(norms <= max_norm, jnp.ones_like(norms), max_norm / norms)
