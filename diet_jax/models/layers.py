"""The convolution and the BatchNorm that the networks share."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from diet_jax.errors import InputError
from diet_jax.models.convolution import ConvolutionForm, matmul_convolution, resolve_form
from diet_jax.models.cpu_convolution import cpu_convolution
from diet_jax.models.unrolled import unrolled_convolution

_FORMS = {
    "lax": None,
    "matmul": matmul_convolution,
    "cpu": cpu_convolution,
    "unrolled": unrolled_convolution,
}


def conv(
    filters: int,
    size: int,
    stride: int = 1,
    *,
    use_bias: bool = True,
    dtype: Any,
    form: ConvolutionForm,
    train: bool,
) -> nn.Conv:
    """Makes a square convolution with 'SAME' padding inside a compact linen module.

    Args:
        filters: output channels.
        size: height and width of the kernel.
        stride: of both axes.
        use_bias: whether a bias is added.
        dtype: dtype to compute in.
        form: how the convolution is computed.
        train: the mode, which "auto" depends on.

    Returns:
        The layer.

    Example:
        >>> conv(4, 3, dtype=jnp.float32, form="matmul", train=True).kernel_size
        (3, 3)
    """
    return nn.Conv(
        filters,
        (size, size),
        (stride, stride),
        padding="SAME",
        use_bias=use_bias,
        dtype=dtype,
        conv_general_dilated=_FORMS[resolve_form(form, train=train)],
    )


def check_images(images: Any, network: nn.Module) -> None:
    """Raises InputError unless a network of convolutions is given images."""
    if images.ndim != 4:
        raise InputError(
            f"{type(network).__name__} takes images [b h w ch], got an array of shape {images.shape}; take "
            'the model "mlp", or bring a model of your own'
        )


def last_dtype(dtype: Any) -> Any:
    """Returns the dtype of a network's last layer: float32 also in a bfloat16 network (float64 in that).

    Logits rounded to bfloat16 would double the error of scores, and the layer is a small part of the cost.
    """
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def batch_norm(
    x: Float[Array, "b h w f"],
    *,
    train: bool,
    dtype: Any,
    scale_init: Callable[..., Array] = nn.initializers.ones,
) -> Float[Array, "b h w f"]:
    """Normalises inside a compact linen module, with the paper's settings (section 3, BN).

    Args:
        x: activations, float [b h w f].
        train: whether to use, and fold into the running statistics, those of this batch.
        dtype: dtype of the result; statistics are always float32.
        scale_init: initialiser of the scale.

    Returns:
        Activations of the same shape, in `dtype`.

    Example:
        >>> import jax
        >>> class Net(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         return batch_norm(x, train=False, dtype=jnp.float32)
        >>> _, variables = Net().init_with_output(jax.random.key(0), jnp.ones((1, 2, 2, 3)))
        >>> sorted(variables)
        ['batch_stats', 'params']
    """
    # The casts say what Flax would do anyway, statistics and normalisation in float32: with bfloat16 inputs
    # it relies on implicit promotion, which fails under jax_numpy_dtype_promotion="strict".
    norm = nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=jnp.float32, scale_init=scale_init
    )
    return norm(x.astype(jnp.float32)).astype(dtype)
