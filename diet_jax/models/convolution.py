"""The forms of a convolution, and the one that is a matrix product, for backends whose own is slow.

XLA's CPU backend has a fast convolution that it cannot use inside a loop on the device, nor for the grouped
convolutions that batching over seeds or examples makes. Its matrix products are fast everywhere.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from diet_jax.checks.values import check_count, check_type, shown
from diet_jax.errors import InputError

ConvolutionForm = Literal["auto", "lax", "matmul", "cpu", "unrolled"]
"""How a network computes its convolutions; see `resolve_form`."""


def resolve_form(form: ConvolutionForm, *, train: bool) -> Literal["lax", "matmul", "cpu", "unrolled"]:
    """Returns what a form means: "auto" is "cpu" for training on CPUs, "unrolled" for training elsewhere.

    Training steps run in loops on the device, where the backward pass of JAX's convolution is slow on CPUs.
    Scoring and evaluation do not; see `docs/results/benchmarks-cpu.md`. "cpu" and "unrolled" concern training
    alone: networks predict one after the other anyway, and kernels need forward-mode derivatives.
    """
    if form == "auto":
        form = "cpu" if jax.default_backend() == "cpu" else "unrolled"
        return form if train else "lax"
    return "lax" if form in ("cpu", "unrolled") and not train else form


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
    window = window_of(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        feature_group_count * batch_group_count,
    )
    if window is None:
        return lax.conv_general_dilated(
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

    def convolve(x: Array, kernel: Array) -> Array:
        product = lax.dot(
            patches(x, kernel.shape[:-2], window),
            kernel.reshape(-1, kernel.shape[-1]),
            precision=precision,
            preferred_element_type=preferred_element_type,
        )
        return product.reshape(len(x), *window.places, kernel.shape[-1])

    # The patches of a 1x1 kernel are no larger than its input.
    return (jax.checkpoint(convolve) if math.prod(rhs.shape[:-2]) > 1 else convolve)(lhs, rhs)


class Window(NamedTuple):
    """What a plain convolution reads, channels last: an entry of each field for each spatial axis."""

    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    """Of the kernel."""
    padding: tuple[tuple[int, int], ...]
    """Below and above; negative numbers cut."""
    places: tuple[int, ...]
    """Where the kernel is put: the size of the result."""


def check_convolution(lhs: Any, rhs: Any, window_strides: Any, padding: Any, **options: Any) -> None:
    """Raises InputError for what JAX's convolution refuses; shapes and options alone are looked at."""
    for name, array in (("lhs", lhs), ("rhs", rhs)):
        check_type(array, name, (jax.Array, np.ndarray), "an array of JAX")
        if isinstance(array, np.ma.MaskedArray) or array.dtype.kind in "OSUM":
            raise InputError(f"{name} must be an array of numbers, got {shown(array)}")
    for name in ("feature_group_count", "batch_group_count"):
        check_count(options.get(name, 1), name)

    def convolve(x: Any, kernel: Any) -> Array:
        return lax.conv_general_dilated(x, kernel, window_strides, padding, **options)

    try:
        jax.eval_shape(convolve, lhs, rhs)
    except Exception as error:  # Of many kinds, all of bad arguments: nothing is computed.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"the arguments of the convolution do not fit: {reason[:300]}") from error


def window_of(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    dimension_numbers: Any,
    groups: int,
) -> Window | None:
    """Returns the window of a convolution, None if grouped, transposed, impossible or not channels last.

    Args:
        lhs: input.
        rhs: kernel.
        window_strides: as in `jax.lax.conv_general_dilated`, and so are the next four.
        padding: named or in pairs.
        lhs_dilation: dilation of the input.
        rhs_dilation: dilation of the kernel.
        dimension_numbers: which axis is which.
        groups: of channels or of the batch.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ones = (1,) * (lhs.ndim - 2)
    strides, dilation = tuple(window_strides), tuple(rhs_dilation or ones)
    covered = (
        _channels_last(numbers, lhs.ndim)
        and groups == 1
        and tuple(lhs_dilation or ones) == ones
        and lhs.shape[-1] == rhs.shape[-2]
        and lhs.dtype == rhs.dtype
        and min(rhs.shape, default=0) > 0
        and len(strides) == len(dilation) == len(ones) > 0
        and min(*strides, *dilation) > 0
        and (isinstance(padding, str) or len(padding) == len(ones))
    )
    if not covered:
        return None
    reach = [(size - 1) * step + 1 for size, step in zip(rhs.shape[:-2], dilation, strict=True)]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:-1], reach, strides, padding)
    # The last place that each offset may start at; anything impossible is for JAX's own message.
    room = [
        size + sum(pair) - length for size, pair, length in zip(lhs.shape[1:-1], padding, reach, strict=True)
    ]
    if min(room) < 0:
        return None
    pairs = tuple((int(low), int(high)) for low, high in padding)
    places = tuple(left // stride + 1 for left, stride in zip(room, strides, strict=True))
    return Window(strides, dilation, pairs, places)


def patches(x: Array, sizes: Sequence[int], window: Window) -> Array:
    """Returns what the kernel sees at every place, float `[b places, offsets c]`.

    Args:
        x: input, float `[b spatial... c]`.
        sizes: of the kernel.
        window: of the convolution.
    """
    if any(low or high for low, high in window.padding):
        pads = [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)]
        x = lax.pad(x, jnp.zeros((), x.dtype), pads)
    read = [
        _read(
            x,
            [i * step for i, step in zip(offset, window.dilation, strict=True)],
            window.places,
            window.strides,
        )
        for offset in itertools.product(*map(range, sizes))
    ]
    rows = read[0] if len(read) == 1 else jnp.concatenate(read, axis=-1)
    return rows.reshape(-1, rows.shape[-1])


def _channels_last(numbers: Any, ndim: int) -> bool:
    spatial = tuple(range(1, ndim - 1))
    data = (0, ndim - 1, *spatial)
    kernel = (ndim - 1, ndim - 2, *range(ndim - 2))
    return (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (data, kernel, data)


def _read(x: Array, start: Sequence[int], places: Sequence[int], strides: Sequence[int]) -> Array:
    """What one offset of the kernel reads, `[b places... c]`."""
    ends = [at + (count - 1) * step + 1 for at, count, step in zip(start, places, strides, strict=True)]
    return lax.slice(x, (0, *start, 0), (len(x), *ends, x.shape[-1]), (1, *strides, 1))
