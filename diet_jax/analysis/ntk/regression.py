"""Regression with a tangent kernel that stays as it is."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from diet_jax.checks.values import check_array, check_number
from diet_jax.errors import InputError
from diet_jax.per_example.products import contract
from diet_jax.types import AnyArray, Array


def kernel_regression(
    gram: Float[AnyArray, "m m"],
    targets: Float[AnyArray, "e c"],
    test_gram: Float[AnyArray, "t m"],
    *,
    ridge: float,
    logits: Float[AnyArray, "e c"] | None = None,
    test_logits: Float[AnyArray, "e2 c"] | None = None,
) -> Float[Array, "e2 c"]:
    """Returns what training the linearised network on squared error converges to, by solving for it.

    `f₀(x) + K(x, X) (K + λ mean(diag K) I)⁻¹ (Y − f₀(X))`, by Cholesky factorisation. Rows that are linearly
    dependent, such as those of one image twice, need a ridge.

    Args:
        gram: float `[e·c, e·c]`, of the training images.
        targets: float `[e c]`, such as one-hot labels minus `1/c`.
        test_gram: float `[t m]`, `logit_gram` with test images in rows and training images in columns.
        ridge: λ, at least 0, relative to the mean of the kernel's diagonal.
        logits: float `[e c]`, the network's own for the training images; by default 0.
        test_logits: float `[e2 c]`, those for the test images; given if and only if `logits` is.

    Returns:
        float `[e2 c]` of the kernel's dtype, predictions for the test images; NaN if the regularised kernel
        is not positive definite in it.

    Raises:
        InputError: shapes that do not fit, a negative ridge, or logits for one set of images only.

    Paper: not in it; Fort et al. compare networks with this.

    Example:
        >>> import jax.numpy as jnp
        >>> targets = jnp.array([[1.0, -1.0]])
        >>> kernel_regression(4 * jnp.eye(2), targets, jnp.eye(2), ridge=0).tolist()
        [[0.25, -0.25]]
    """
    gram = jnp.asarray(check_array(gram, "gram", "m m", "numbers"))
    targets = jnp.asarray(check_array(targets, "targets", "e c", "numbers"))
    test_gram = jnp.asarray(check_array(test_gram, "test_gram", "t m", "numbers"))
    if not targets.size:
        raise InputError(f"targets must not be empty, got shape {targets.shape}")
    num_classes = targets.shape[1]
    size = targets.size
    if gram.shape != (size, size) or test_gram.shape[1] != size or test_gram.shape[0] % num_classes:
        raise InputError(
            f"targets {targets.shape} need a gram of shape {(size, size)} and a test_gram of {size} columns "
            f"and {num_classes} rows for each test image; got {gram.shape} and {test_gram.shape}"
        )
    ridge = check_number(ridge, "ridge", least=0)
    start = jnp.zeros((test_gram.shape[0] // num_classes, num_classes), gram.dtype)
    if (logits is None) != (test_logits is None):
        raise InputError("logits and test_logits must be given together, or neither")
    if logits is not None and test_logits is not None:
        own: Any = check_array(logits, "logits", "e c", "numbers")
        tested: Any = check_array(test_logits, "test_logits", "e2 c", "numbers")
        if own.shape != targets.shape or tested.shape != start.shape:
            raise InputError(
                f"logits and test_logits must have shapes {targets.shape} and {start.shape}, got "
                f"{own.shape} and {tested.shape}"
            )
        start, targets = jnp.asarray(tested), targets - jnp.asarray(own)
    shift = ridge * jnp.mean(jnp.diagonal(gram))
    factor = jax.scipy.linalg.cho_factor(gram + shift * jnp.eye(size, dtype=gram.dtype), lower=True)
    weights = jax.scipy.linalg.cho_solve(factor, targets.ravel())
    return start + contract(test_gram, weights, ((1,), (0,))).reshape(start.shape)
