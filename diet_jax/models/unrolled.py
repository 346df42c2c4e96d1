"""A convolution that stays one convolution for each network where many networks are batched by `vmap`.

`vmap` over kernels makes one grouped convolution of all networks, which accelerators compute far slower than
the plain convolutions that it stands for. Here the batching rule writes those out one by one, while all that
lies between convolutions stays batched.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array, lax

from diet_jax.devices.vmap_rules import one_by_one
from diet_jax.models.convolution import check_convolution


def unrolled_convolution(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> Array:
    """Computes `jax.lax.conv_general_dilated`; under `vmap` over kernels, one network after the other.

    Without `vmap`, or under `vmap` over inputs alone, it is JAX's convolution, and so are its gradients.
    Under `vmap` over kernels the forward pass and both gradients are as many plain convolutions as there are
    networks. It is meant as `nn.Conv(..., conv_general_dilated=diet_jax.unrolled_convolution)` in networks
    that are trained many at a time on an accelerator (`how="vmap"`). It can be differentiated once, in
    reverse mode: not by `jax.jvp`, nor can its gradient be differentiated again.

    Args:
        lhs: input, float.
        rhs: kernel, float.
        window_strides: one for each spatial axis.
        padding: "SAME", "VALID", "SAME_LOWER" or a pair (low, high) for each spatial axis.
        **options: the others of `jax.lax.conv_general_dilated`.

    Returns:
        float, of the shape and dtype that `jax.lax.conv_general_dilated` returns.

    Example:
        >>> import flax.linen as nn, jax.numpy as jnp
        >>> layer = nn.Conv(8, (3, 3), conv_general_dilated=unrolled_convolution)
        >>> y, _ = layer.init_with_output(jax.random.key(0), jnp.ones((1, 9, 9, 3)))
        >>> y.shape
        (1, 9, 9, 8)
    """
    check_convolution(lhs, rhs, window_strides, padding, **options)
    convolve = functools.partial(
        lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options
    )

    def forward(kernel: Array, x: Array) -> Array:
        return convolve(x, kernel)

    def to_kernel(kernel: Array, x: Array, cotangent: Array) -> Array:
        return jax.linear_transpose(lambda kernel: convolve(x, kernel), kernel)(cotangent)[0]

    def to_input(kernel: Array, x: Array, cotangent: Array) -> Array:
        return jax.linear_transpose(lambda x: convolve(x, kernel), x)(cotangent)[0]

    return written_out(forward, to_kernel, to_input)(rhs, lhs)


def written_out(
    forward: Callable[..., Array], to_kernel: Callable[..., Array], to_input: Callable[..., Array]
) -> Callable[[Array, Array], Array]:
    """Returns a convolution with its gradients, each written out for every network under `vmap` over kernels.

    Args:
        forward: `(kernel, x) -> result`.
        to_kernel: `(kernel, x, cotangent) -> gradient of the kernel`.
        to_input: `(kernel, x, cotangent) -> gradient of x`.
    """

    @jax.custom_vjp
    def convolution(kernel: Array, x: Array) -> Array:
        return one_by_one(forward)(kernel, x)

    def run(kernel: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
        return convolution(kernel, x), (kernel, x)

    def back(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
        return one_by_one(to_kernel)(*kept, cotangent), one_by_one(to_input)(*kept, cotangent)

    convolution.defvjp(run, back)
    return convolution
