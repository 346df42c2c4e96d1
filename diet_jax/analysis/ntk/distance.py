"""How different two tangent kernels are, and how fast one moves."""

import jax.numpy as jnp
from jaxtyping import Float

from diet_jax.checks.values import check_array, check_number
from diet_jax.errors import InputError
from diet_jax.types import AnyArray, Array


def kernel_distance(gram: Float[AnyArray, "m m2"], other: Float[AnyArray, "m m2"]) -> Float[Array, ""]:
    """Returns how different two kernels are but for their scale: `1 − ⟨K, K'⟩ / (‖K‖ ‖K'‖)` (Frobenius).

    Computed as `½ ‖K/‖K‖ − K'/‖K'‖‖²`, the same number, which keeps the digits of small distances.

    Args:
        gram: float `[m m2]`, from `logit_gram`.
        other: float `[m m2]`, for the same images, of the same dtype.

    Returns:
        A scalar of that dtype, from 0 to 1 for positive semidefinite kernels; NaN if a kernel is all zeros,
        for that has no direction.

    Raises:
        InputError: the kernels have different shapes.

    Paper: section 5 (kernel distance).

    Example:
        >>> import jax.numpy as jnp
        >>> float(kernel_distance(jnp.eye(4), 3 * jnp.eye(4)))
        0.0
    """
    gram = check_array(gram, "gram", "m m2", "numbers")
    other = check_array(other, "other", "m m2", "numbers")
    if gram.shape != other.shape:
        raise InputError(
            f"other must be a kernel of the same examples as gram, of shape {gram.shape}; got {other.shape}"
        )
    return jnp.sum(jnp.square(_unit(jnp.asarray(gram)) - _unit(jnp.asarray(other)))) / 2


def kernel_velocity(
    gram: Float[AnyArray, "m m2"], later: Float[AnyArray, "m m2"], *, duration: float
) -> Float[Array, ""]:
    """Returns how fast the kernel turns: `kernel_distance(K(t), K(t + Δt)) / Δt`.

    Args:
        gram: float `[m m2]`, at the earlier time.
        later: float `[m m2]`, at the later time, for the same images.
        duration: time between them, in the caller's unit; above 0. The paper takes 1 epoch, Fort et al. 0.4.

    Returns:
        A scalar of the kernels' dtype, at least 0, per unit of time.

    Raises:
        InputError: the kernels have different shapes, or the duration is not above 0.

    Paper: section 5 and figure 3.

    Example:
        >>> import jax.numpy as jnp
        >>> float(kernel_velocity(jnp.eye(4), jnp.diag(jnp.array([1.0, 0, 0, 0])), duration=2))
        0.25
    """
    duration = check_number(duration, "duration", above=0)
    return kernel_distance(gram, later) / duration


def _unit(gram: Array) -> Array:
    """Divided by the largest entry first: squares of large or small kernels would not fit float32."""
    scaled = gram / jnp.max(jnp.abs(gram))
    return scaled / jnp.linalg.norm(scaled)
