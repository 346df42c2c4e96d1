"""Per-example cross-entropy and its gradient with respect to the logits."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from diet_jax.checks.values import check_array
from diet_jax.errors import InputError
from diet_jax.per_example.products import accumulator
from diet_jax.types import AnyArray, Array, Labels, ScoreArray

AnyLogits = Float[AnyArray, "b c"]


def cross_entropy(logits: AnyLogits, labels: Labels) -> ScoreArray:
    """Returns the negative log-likelihood of each example: `-log softmax(logits)[label]`.

    Args:
        logits: float `[b c]`.
        labels: int `[b]`, in `0 .. c-1`; any other gives NaN.

    Returns:
        float32 `[b]` (float64 for float64 logits), in nats; high means that the label is unlikely under the
        model. Small losses and their gradients are as precise, relative to their size, as large ones.

    Raises:
        InputError: labels are not one integer for each row of logits.

    Example:
        >>> import jax.numpy as jnp
        >>> float(cross_entropy(jnp.zeros((1, 2)), jnp.array([0]))[0])  # log 2
        0.6931471824645996
    """
    return jax.nn.softplus(_lead(*_split(logits, labels)[:2]))


def error_vector(logits: AnyLogits, labels: Labels) -> Float[Array, "b c"]:
    """Returns `softmax(logits) - onehot(label)`, the gradient of the cross-entropy in the logits.

    Args:
        logits: float `[b c]`.
        labels: int `[b]`, in `0 .. c-1`; any other gives NaN.

    Returns:
        float32 `[b c]` (float64 for float64 logits); every row sums to 0.

    Raises:
        InputError: labels are not one integer for each row of logits.

    Example:
        >>> import jax.numpy as jnp
        >>> error_vector(jnp.zeros((1, 2)), jnp.array([0])).tolist()
        [[-0.5, 0.5]]
    """
    others, own, is_label = _split(logits, labels)
    wrong = jax.nn.sigmoid(_lead(others, own))[:, None]
    return jnp.where(is_label, -wrong, wrong * jax.nn.softmax(others, axis=-1))


def predicted_classes(logits: AnyLogits) -> Int[Array, "b"]:
    """Returns the class with the largest logit of each example, the first of equal ones: int32 `[b]`.

    Args:
        logits: float `[b c]`.

    Example:
        >>> import jax.numpy as jnp
        >>> predicted_classes(jnp.array([[0.0, 2.0], [1.0, 1.0]])).tolist()
        [1, 0]
    """
    # int32, as labels are, whatever JAX's default is.
    return jax.lax.argmax(jnp.asarray(check_array(logits, "logits", "b c", "numbers")), 1, jnp.int32)


def error_norm(error: Float[AnyArray, "b c"]) -> ScoreArray:
    """Returns the norm of each error vector, scaled so that squares do not underflow.

    EL2N of logits that were computed elsewhere is `error_norm(error_vector(logits, labels))`.

    Args:
        error: float `[b c]`, from `error_vector`.

    Returns:
        float `[b]` of the same dtype, right to its last digits down to 1e-38; high means hard.

    Paper: Definition 2.3 (EL2N).

    Example:
        >>> import jax.numpy as jnp
        >>> bool(abs(error_norm(jnp.array([[-4e-30, 3e-30]]))[0] / 5e-30 - 1) < 1e-6)
        True
    """
    error = jnp.asarray(check_array(error, "error", "b c"))
    largest = jnp.max(jnp.abs(error), axis=-1)
    scale = jnp.where(largest > 0, largest, 1)
    return scale * jnp.linalg.norm(error / scale[:, None], axis=-1)


def _split(logits: AnyLogits, labels: Labels) -> tuple[Array, Array, Array]:
    """Returns the logits without the label's, the label's logit `[b]`, and where the label is."""
    logits = jnp.asarray(check_array(logits, "logits", "b c", "numbers"))
    labels = _checked_labels(logits, labels)
    kind = accumulator(logits.dtype)
    logits = logits.astype(kind)
    if labels.dtype.itemsize > 4:  # Else 2**32 would become the first class.
        labels = jnp.clip(labels, -1, logits.shape[-1])
    labels = labels.astype(jnp.int32)
    is_label = jnp.arange(logits.shape[-1], dtype=jnp.int32)[None, :] == labels[:, None]
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    # A label that is no class gives NaN, not the loss of another class.
    own = jnp.where(jnp.any(is_label, axis=-1), own, jnp.nan)
    # Finite, so that a single class has a loss of zero and no NaN.
    return jnp.where(is_label, jnp.finfo(kind).min, logits), own, is_label


def _lead(others: Array, own: Array) -> Array:
    """Returns how far the other classes together are ahead of the label: `logsumexp_{k≠y} z_k − z_y`.

    The loss is `softplus(lead)` and the probability of being wrong `sigmoid(lead)`. As `1 − p_y` it would
    be rounded at 6e-8 before it is small: of a well-fitted example nothing but rounding would be left.
    """
    return jax.nn.logsumexp(others - own[:, None], axis=-1)


def _checked_labels(logits: Array, labels: Labels) -> Array:
    # Other shapes would broadcast, and other dtypes be taken for no class, without a word.
    labels = jnp.asarray(check_array(labels, "labels", "...", "anything"))
    if labels.shape != logits.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"labels must be one integer for each row of logits [b c]; got {labels.dtype} of shape "
            f"{labels.shape} for logits of shape {logits.shape}"
        )
    return labels
