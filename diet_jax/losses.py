"""Per-example cross-entropy and its gradient with respect to the logits."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from diet_jax.errors import InputError
from diet_jax.types import Array, Labels, Logits, ScoreArray


def cross_entropy(logits: Logits, labels: Labels) -> ScoreArray:
    """Returns the negative log-likelihood of each example: `-log softmax(logits)[label]`.

    Args:
        logits: float `[b c]`.
        labels: int `[b]`, in `0 .. c-1`.

    Returns:
        float32 `[b]`, in nats; high means that the label is unlikely under the model.

    Raises:
        InputError: labels are not one integer for each row of logits.

    Example:
        >>> import jax.numpy as jnp
        >>> float(cross_entropy(jnp.zeros((1, 2)), jnp.array([0]))[0])  # log 2
        0.6931471824645996
    """
    labels = _checked_labels(logits, labels)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]


def error_vector(logits: Logits, labels: Labels) -> Float[Array, "b c"]:
    """Returns `softmax(logits) - onehot(label)`, the gradient of the cross-entropy in the logits.

    Args:
        logits: float `[b c]`.
        labels: int `[b]`, in `0 .. c-1`.

    Returns:
        float32 `[b c]`; every row sums to 0.

    Raises:
        InputError: labels are not one integer for each row of logits.

    Example:
        >>> import jax.numpy as jnp
        >>> error_vector(jnp.zeros((1, 2)), jnp.array([0])).tolist()
        [[-0.5, 0.5]]
    """
    labels = _checked_labels(logits, labels)
    probs = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    return probs - jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32)


def _checked_labels(logits: Logits, labels: Labels) -> Array:
    # Other shapes would broadcast, and other dtypes be taken for no class, without a word.
    labels = jnp.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"labels must be one integer for each row of logits [b c]; got {labels.dtype} of shape "
            f"{labels.shape} for logits of shape {logits.shape}"
        )
    return labels
