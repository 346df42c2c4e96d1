"""JAX's convolution with a backward pass that XLA's CPU backend computes fast, also inside loops.

XLA has a fast convolution for CPUs, for inputs and kernels whose channels come last. JAX's rule for gradients
asks for other layouts. At the top of a program XLA transposes those, and joins the transpose with whatever
computed the array, element by element across memory; inside a loop on the device it does not transpose, and
falls back to plain loops, ten times slower. Here both gradients are written in forms that need neither.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from diet_jax.models.convolution import Window, check_convolution, matmul_convolution, patches, window_of
from diet_jax.models.unrolled import written_out

MOST_PATCHES = 2**20
"""How many numbers of patches are made at a time: they stay in a cache. 2^17 to 2^19 are no faster."""


def cpu_convolution(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """Computes `jax.lax.conv_general_dilated`, with gradients that are fast on CPUs.

    Where all patches are small or no larger than the kernel, or that is 1x1, it is `matmul_convolution`. Else
    the forward pass is JAX's convolution, the gradient of the input is one more with the kernel turned round,
    and the gradient of the kernel is patches times cotangents, of as many images at a time as fit in a cache:
    `dk = sum_t patch[t]^T g[t]`. The result is JAX's, and the gradients are but for rounding.

    It is meant as `nn.Conv(..., conv_general_dilated=diet_jax.cpu_convolution)` in networks that are trained.
    It can be differentiated once, in reverse mode: not by `jax.jvp`, nor can its gradient be differentiated
    again. What `matmul_convolution` does not cover is JAX's convolution.

    Args:
        lhs: input, float `[b spatial... c]`.
        rhs: kernel, float `[spatial... c f]`.
        window_strides: one for each spatial axis.
        padding: "SAME", "VALID", "SAME_LOWER" or a pair (low, high) for each spatial axis.
        lhs_dilation: dilation of the input.
        rhs_dilation: dilation of the kernel.
        dimension_numbers: as in JAX; anything but channels last goes to JAX's convolution.
        feature_group_count: groups of channels; more than one go to JAX's convolution.
        batch_group_count: groups of the batch; more than one go to JAX's convolution.
        precision: of all products, as in JAX.
        preferred_element_type: dtype of the result, as in JAX.

    Returns:
        float `[b spatial... f]`.

    Example:
        >>> import flax.linen as nn, jax
        >>> layer = nn.Conv(8, (3, 3), conv_general_dilated=cpu_convolution)
        >>> y, _ = layer.init_with_output(jax.random.key(0), jnp.ones((1, 9, 9, 3)))
        >>> y.shape
        (1, 9, 9, 8)
    """
    check_convolution(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    groups = feature_group_count * batch_group_count
    options = (window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers)
    window = window_of(lhs, rhs, *options, groups)
    offsets = math.prod(rhs.shape[:-2])
    if window is not None:
        patch = offsets * rhs.shape[-2] * math.prod(window.places)
        # A large kernel costs more to turn round than small images to make patches of.
        small = offsets == 1 or len(lhs) * patch <= max(MOST_PATCHES, rhs.size)
        same_dtype = preferred_element_type in (None, lhs.dtype)
        if not small and same_dtype:
            return _convolve(lhs, rhs, window, max(1, MOST_PATCHES // patch), precision)
    return matmul_convolution(
        lhs, rhs, *options, feature_group_count, batch_group_count, precision, preferred_element_type
    )


def _convolve(lhs: Array, rhs: Array, window: Window, chunk: int, precision: Any) -> Array:
    spatial = tuple(range(1, lhs.ndim - 1))
    data, last = (0, lhs.ndim - 1, *spatial), lhs.ndim - 1
    numbers = lax.ConvDimensionNumbers(data, (last, last - 1, *range(last - 1)), data)
    dilation = window.dilation

    def forward(kernel: Array, x: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            window.strides,
            window.padding,
            rhs_dilation=dilation,
            dimension_numbers=numbers,
            precision=precision,
        )

    def to_input(kernel: Array, x: Array, cotangent: Array) -> Array:
        pads = []
        for axis, ((low, _), stride) in enumerate(zip(window.padding, window.strides, strict=True)):
            reach = (kernel.shape[axis] - 1) * dilation[axis]
            pads.append((reach - low, x.shape[axis + 1] - 1 + low - (window.places[axis] - 1) * stride))
        turned = jnp.swapaxes(lax.rev(kernel, range(last - 1)), -1, -2)
        return lax.conv_general_dilated(
            cotangent,
            turned,
            (1,) * len(pads),
            pads,
            lhs_dilation=window.strides,
            rhs_dilation=dilation,
            dimension_numbers=numbers,
            precision=precision,
        )

    def to_kernel(kernel: Array, x: Array, cotangent: Array) -> Array:
        wide = jnp.float64 if x.dtype == jnp.float64 else jnp.float32

        def part(x: Array, cotangent: Array) -> Array:
            # In this order, and transposed only after the loop: XLA is twice as fast at it.
            return lax.dot_general(
                cotangent.reshape(-1, cotangent.shape[-1]),
                patches(x, kernel.shape[:-2], window),
                (((0,), (0,)), ((), ())),
                precision=precision,
                preferred_element_type=wide,
            )

        def add(i: Array, total: Array) -> Array:
            taken = (lax.dynamic_slice_in_dim(a, i * chunk, chunk) for a in (x, cotangent))
            return total + part(*taken)

        whole = len(x) // chunk
        total = jnp.zeros((kernel.shape[-1], math.prod(kernel.shape[:-1])), wide)
        total = lax.fori_loop(0, whole, add, total)
        if rest := len(x) % chunk:
            total += part(x[-rest:], cotangent[-rest:])
        return total.T.reshape(kernel.shape).astype(kernel.dtype)

    return written_out(forward, to_kernel, to_input)(rhs, lhs)
