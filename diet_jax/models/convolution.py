"""The forms of a convolution, and the one that is a matrix product, for backends whose own is slow.

XLA's CPU backend has a fast convolution that it cannot use inside a loop on the device, nor for the grouped
convolutions that batching over seeds or examples makes. Its matrix products are fast everywhere.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

ConvolutionForm = Literal["auto", "lax", "matmul", "unrolled"]
"""How a network computes its convolutions; see `resolve_form`."""


def resolve_form(form: ConvolutionForm, *, train: bool) -> Literal["lax", "matmul", "unrolled"]:
    """Returns what a form means: "auto" is "matmul" for training on CPUs, "unrolled" for training elsewhere.

    Training steps run in loops on the device, where JAX's convolution is slow on CPUs. Scoring and evaluation
    do not, and there it is the faster one; see `docs/results/benchmarks-cpu.md`. "unrolled" concerns training
    alone: networks predict one after the other anyway, and kernels need forward-mode derivatives.
    """
    if form == "auto":
        form = "matmul" if jax.default_backend() == "cpu" else "unrolled"
        return form if train else "lax"
    return "lax" if form == "unrolled" and not train else form


def matmul_convolution(
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
    """Computes `jax.lax.conv_general_dilated` as patches times the kernel, one matrix product.

    `out[t] = concat_k(x[position(k, t)]) @ kernel`: the patch of a place t holds the input at every offset k
    of the kernel. Patches are as many times the input as the kernel has places; they are not kept for the
    backward pass but made again. The result is that of JAX's convolution but for rounding, and so are all
    gradients.

    This is for CPUs, above all inside loops on the device and under `vmap` over seeds. It is meant as
    `nn.Conv(..., conv_general_dilated=diet_jax.matmul_convolution)`. What it does not cover (grouped or
    transposed convolutions, channels that do not come last) it leaves to JAX's convolution.

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
        precision: of the matrix product, as in JAX.
        preferred_element_type: dtype of the result, as in JAX.

    Returns:
        float `[b spatial... f]`.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> layer = nn.Conv(8, (3, 3), strides=2, conv_general_dilated=matmul_convolution)
        >>> y, _ = layer.init_with_output(jax.random.key(0), jnp.ones((1, 9, 9, 3)))
        >>> y.shape
        (1, 5, 5, 8)
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ones = (1,) * (lhs.ndim - 2)
    strides, dilation = tuple(window_strides), tuple(rhs_dilation or ones)
    covered = (
        _channels_last(numbers, lhs.ndim)
        and feature_group_count == batch_group_count == 1
        and tuple(lhs_dilation or ones) == ones
        and lhs.shape[-1] == rhs.shape[-2]
        and lhs.dtype == rhs.dtype
        and min(rhs.shape, default=0) > 0
        and len(strides) == len(dilation) == len(ones) > 0
        and min(*strides, *dilation) > 0
        and (isinstance(padding, str) or len(padding) == len(ones))
    )
    reach = [(size - 1) * step + 1 for size, step in zip(rhs.shape[:-2], dilation, strict=False)]
    if covered and isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:-1], reach, strides, padding)
    # The last place that each offset may start at; anything impossible is for JAX's own message.
    room = [
        size + sum(pair) - length
        for size, pair, length in zip(lhs.shape[1:-1], padding, reach, strict=False)
        if not isinstance(pair, str)
    ]
    if not covered or len(room) != len(ones) or min(room) < 0:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
            precision=precision,
            preferred_element_type=preferred_element_type,
        )
    places = [left // stride + 1 for left, stride in zip(room, strides, strict=True)]

    def convolve(x: Array, kernel: Array) -> Array:
        if any(low or high for low, high in padding):
            pads = [(0, 0, 0), *((int(low), int(high), 0) for low, high in padding), (0, 0, 0)]
            x = lax.pad(x, jnp.zeros((), x.dtype), pads)
        patches = [
            _read(x, [i * step for i, step in zip(offset, dilation, strict=True)], places, strides)
            for offset in itertools.product(*map(range, kernel.shape[:-2]))
        ]
        rows = patches[0] if len(patches) == 1 else jnp.concatenate(patches, axis=-1)
        product = lax.dot(
            rows.reshape(-1, rows.shape[-1]),
            kernel.reshape(-1, kernel.shape[-1]),
            precision=precision,
            preferred_element_type=preferred_element_type,
        )
        return product.reshape(len(x), *places, kernel.shape[-1])

    # The patches of a 1x1 kernel are no larger than its input.
    return (jax.checkpoint(convolve) if math.prod(rhs.shape[:-2]) > 1 else convolve)(lhs, rhs)


def _channels_last(numbers: Any, ndim: int) -> bool:
    spatial = tuple(range(1, ndim - 1))
    data = (0, ndim - 1, *spatial)
    kernel = (ndim - 1, ndim - 2, *range(ndim - 2))
    return (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (data, kernel, data)


def _read(x: Array, start: Sequence[int], places: Sequence[int], strides: Sequence[int]) -> Array:
    """What one offset of the kernel reads, `[b places... c]`."""
    ends = [at + (count - 1) * step + 1 for at, count, step in zip(start, places, strides, strict=True)]
    return lax.slice(x, (0, *start, 0), (len(x), *ends, x.shape[-1]), (1, *strides, 1))
