"""What an example can be: an image, a row of a table, a signal, tokens; and how each is normalised."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from diet_jax.checks.values import check_array, check_choice, shown
from diet_jax.errors import InputError, counted

Kind = Literal["images", "table", "signals", "tokens"]
"""What an example is; see `Dataset.from_arrays`."""

WORDS: dict[Kind, tuple[str, str]] = {
    "images": ("images of {}", "normalised for each channel"),
    "table": ("rows of a table with {} features", "normalised for each feature"),
    "signals": ("signals of {}", "normalised for each channel"),
    "tokens": ("rows of {} tokens", "not normalised"),
}
"""What examples of a shape are called, and how they are normalised by default."""


MANY_ROWS, FAR = 10, 3
"""From how many rows on, and from how many deviations on, the mean of a column is far from another."""


class Normalization(NamedTuple):
    """Mean and standard deviation of each entry of the last axis: a channel, or a feature of a table.

    In the unit that is stored (0..255 for 8-bit images). `Normalization((), ())` leaves inputs as they are.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


def checked_inputs(inputs: np.ndarray, kind: Kind | None) -> tuple[np.ndarray, Kind]:
    """Returns inputs in the dtype that is stored, and what they are.

    Raises:
        InputError: a shape or dtype that no kind has, or that several could have and none was named; a
            number that is not finite.
    """
    if kind is not None:
        check_choice(kind, "kind", get_args(Kind))
    if inputs.ndim < 2 or 0 in inputs.shape:
        raise InputError(
            f"inputs must have shape [n ...], an array for each example, nowhere 0; got {inputs.shape}"
        )
    _check_numbers(inputs)
    kind = _kind_of(inputs) if kind is None else kind
    if kind == "images":
        inputs = inputs[..., None] if inputs.ndim == 3 else inputs
        if inputs.ndim != 4:
            raise InputError(f"images must have shape [n h w ch] or [n h w], got {inputs.shape}")
        if _is_channels_first(inputs.shape):
            channels, *_, last = inputs.shape[1:]
            raise InputError(
                f"images of shape {inputs.shape} look like {counted(channels, 'channel')} first; give "
                f"them last, "
                f"np.moveaxis(inputs, 1, -1), or say kind='signals' if the last axis holds "
                f"{counted(last, 'channel')}"
            )
    if kind == "table" and inputs.ndim != 2:
        raise InputError(f"a table must have shape [n f], got {inputs.shape}")
    if kind == "signals" and inputs.ndim < 3:
        raise InputError(f"signals must have shape [n t ch], got {inputs.shape}; add an axis of one channel")
    return _as_stored(inputs, kind), kind


def _check_numbers(inputs: np.ndarray) -> None:
    """Raises InputError for what is no number that an input can be."""
    kind, remedy = inputs.dtype.kind, None
    if kind == "c":
        remedy = "np.abs(inputs), or np.stack([np.real(inputs), np.imag(inputs)], axis=-1)"
    elif kind in "Mm":
        unit = "datetime64[s]" if kind == "M" else "timedelta64[s]"
        remedy = f"np.asarray(inputs, {unit!r}).astype(np.int64)"
    if remedy:
        raise InputError(f"inputs must be real numbers, got {inputs.dtype}; make some of them: {remedy}")


def _is_channels_first(shape: tuple[int, ...]) -> bool:
    """Whether images `[n h w ch]` are rather `[n ch h w]`: few rows, and more channels than images have."""
    _, first, middle, last = shape
    square = first in (1, 3) and last not in (1, 3) and middle == last
    return square or (first <= 4 < min(middle, last))


def is_of_tokens(inputs: np.ndarray) -> bool:
    """Whether inputs `[n t]` are taken for tokens where nobody says so: integers, and no pixels."""
    return inputs.ndim == 2 and np.issubdtype(inputs.dtype, np.integer) and inputs.dtype != np.uint8


def _kind_of(inputs: np.ndarray) -> Kind:
    """What inputs are where nobody says so; only what can be nothing else."""
    shape, pixels = inputs.shape, inputs.dtype == np.uint8
    if is_of_tokens(inputs):
        return "tokens"
    if np.issubdtype(inputs.dtype, np.integer) and not pixels:
        raise InputError(
            f"images must be uint8 or floating, got {inputs.dtype} {shape}; {_as_pixels(inputs)}, or say "
            'kind="tokens" if these are numbers of tokens'
        )
    if inputs.ndim == 2 and pixels:
        side = math.isqrt(shape[1])
        code = f", np.reshape(inputs, (-1, {side}, {side}))," if side > 1 and side**2 == shape[1] else ""
        raise InputError(
            f"inputs are uint8 {shape}: reshape pixels to [n h w ch]{code} or say kind='table' or "
            "kind='tokens'"
        )
    if inputs.ndim == 2:
        return "table"
    if inputs.ndim == 3 and shape[2] <= 3 and not pixels:
        raise InputError(
            f"inputs of shape {shape} are no images [n h w]: give a table as [n f] "
            "(np.reshape(inputs, (len(inputs), -1))), or say kind='signals' for [n t ch], or kind='images'"
        )
    if inputs.ndim == 3 and shape[1] <= 3 and not pixels:
        raise InputError(
            f"inputs of shape {shape} are no images [n h w]: if they are signals with "
            f"{counted(shape[1], 'channel')} "
            "first, give np.moveaxis(inputs, 1, -1) with kind='signals'; or say kind='images'"
        )
    strips = inputs.ndim == 4 and 1 in shape[1:3] and shape[1:3] != (1, 1)
    if strips and shape[3] <= 3 and not pixels:
        raise InputError(
            f"inputs of shape {shape} are no images [n h w ch] but rows or columns of pixels, and "
            f"features would share a mean: give a table as [n f] (np.reshape(inputs, (len(inputs), -1))), "
            f"or say kind='signals', or kind='images'"
        )
    if inputs.ndim > 4:
        raise InputError(f"inputs of shape {shape}: say kind='signals' if the last axis holds channels")
    return "images"


def _as_stored(inputs: np.ndarray, kind: Kind) -> np.ndarray:
    if kind == "tokens":
        limits = np.iinfo(np.int32)
        if not np.issubdtype(inputs.dtype, np.integer):
            raise InputError(f"tokens must be integers, got {inputs.dtype}")
        if inputs.min() < limits.min or inputs.max() > limits.max:
            raise InputError(f"tokens must fit 32 bits, they go from {inputs.min()} to {inputs.max()}")
        return inputs.astype(np.int32)
    if inputs.dtype == np.uint8 and kind == "images":
        return inputs
    if not np.issubdtype(inputs.dtype, np.floating) and (
        kind == "images" or not np.issubdtype(inputs.dtype, np.integer)
    ):
        wanted = "uint8 or floating" if kind == "images" else "floating or integers"
        raise InputError(f"{kind} must be {wanted}, got {inputs.dtype}; {_as_pixels(inputs)}")
    with np.errstate(over="ignore"):  # Too large a number becomes infinite, and is named below.
        given, inputs = inputs, inputs.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(inputs).all(axis=tuple(range(1, inputs.ndim))))
    if len(bad):
        what = "pixels" if kind == "images" else "entries"
        if np.isfinite(given).all():
            raise InputError(
                f"{kind} are stored as float32, and {len(bad)} of {len(inputs)} have {what} beyond 3.4e38, "
                f"the first is row {bad[0]}; divide them, or take their logarithm"
            )
        raise InputError(
            f"{kind} must be finite: {len(bad)} of {len(inputs)} have NaN or infinite {what}, "
            f"the first is row {bad[0]}; fill them (np.nan_to_num(inputs)), or leave these examples out"
        )
    return inputs


def _as_pixels(inputs: np.ndarray) -> str:
    """The line of code that makes pixels, or entries, of numbers that are not stored."""
    if inputs.dtype == bool:
        return "np.asarray(inputs, np.float32) makes 0 and 1 of them"
    if inputs.dtype.kind == "U":
        return "numbers that are written as text are read by np.asarray(inputs, np.float32)"
    if inputs.dtype.kind not in "iu":
        return "convert them first"
    if inputs.min() >= 0 and inputs.max() <= 255:
        return "their values fit 8 bits: np.asarray(inputs, np.uint8)"
    return f"they go from {inputs.min()} to {inputs.max()}: np.asarray(inputs, np.float32)"


def statistics(inputs: np.ndarray, kind: Kind) -> Normalization:
    """Returns how inputs are normalised by default: not at all for tokens, else over the last axis."""
    return Normalization((), ()) if kind == "tokens" else channel_statistics(inputs)


def channel_statistics(inputs: np.ndarray) -> Normalization:
    """Mean and standard deviation of each entry of the last axis; 1 stands in for a deviation of 0."""
    if inputs.dtype == np.uint8:
        # Counting the 256 values is exact and needs no float copy of the dataset.
        return statistics_of_counts(value_counts(inputs))
    axes = tuple(range(inputs.ndim - 1))
    means = inputs.mean(axis=axes, dtype=np.float64).tolist()
    stds = inputs.std(axis=axes, dtype=np.float64).tolist()
    return Normalization(tuple(means), tuple(s if s > 0 else 1.0 for s in stds))


def far_from(normalization: Normalization, inputs: np.ndarray, kind: Kind) -> str:
    """Says if a column of a table lies far from where its normalisation was measured; "" if none does.

    Columns in another order or unit do, and what they are called is not known here. Few rows may by chance.
    """
    if kind != "table" or not normalization.mean or len(inputs) < MANY_ROWS:
        return ""
    if set(normalization.mean) == {0.0} and set(normalization.std) == {1.0}:
        return ""  # a way to leave them as they are
    means = inputs.mean(axis=0, dtype=np.float64)
    away = np.abs(means - normalization.mean) / normalization.std
    if away.max() <= FAR:
        return ""
    at = int(away.argmax())
    return (
        f"the mean of {counted(int((away > FAR).sum()), 'feature')} lies far from the normalisation's, that "
        f"of feature {at} ({means[at]:.4g}) {away[at]:.3g} deviations from {normalization.mean[at]:.4g}: are "
        f"the columns in another order, or in another unit, than those it was measured on?"
    )


def value_counts(images: np.ndarray) -> np.ndarray:
    """How often each of the 256 values occurs in each channel of 8-bit images: int64 `[ch 256]`."""
    channels = np.moveaxis(images, -1, 0)
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in channels])


def statistics_of_counts(counts: np.ndarray) -> Normalization:
    """Per-channel mean and standard deviation from `value_counts`; 1 stands in for a deviation of 0."""
    values = np.arange(256, dtype=np.float64)
    means, stds = [], []
    for channel in counts:
        share = channel / channel.sum()
        means.append(float(share @ values))
        stds.append(float(np.sqrt(share @ (values - means[-1]) ** 2)))
    return Normalization(tuple(means), tuple(s if s > 0 else 1.0 for s in stds))


def _check_unit(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raises InputError for pixels in 0..255 with a mean and deviation of pixels in 0..1, and the reverse."""
    low, high = float(images.min()), float(images.max())
    # Of pixels in 0..1 no deviation is above 1/2, and none below 1/20 is one of photographs or drawings.
    if low >= 0 and 50 < high <= 255 and 0 < max(mean) < 1 and 0.05 < min(std) <= max(std) <= 0.5:
        raise InputError(
            f"normalization has means up to {max(mean):g}, of pixels in 0..1, but the images go up to "
            f"{high:g}; give dj.Normalization(*np.multiply(255, normalization))"
        )
    if low >= 0 and 0.5 < high <= 1 and images.dtype != np.uint8 and min(*mean, *std) > 20:
        raise InputError(
            f"normalization has means from {min(mean):g}, of pixels in 0..255, but the images go up to "
            f"{high:g}; give 255 * np.asarray(inputs)"
        )


def checked_normalization(normalization: Any, inputs: np.ndarray, kind: Kind) -> Normalization:
    """Raises InputError unless each channel has a finite mean and a positive deviation, or none has any."""
    channels = inputs.shape[-1]
    if not isinstance(normalization, Sequence) or isinstance(normalization, str) or len(normalization) != 2:
        raise InputError(
            f"normalization must be dj.Normalization(means, stds), one of each per channel; got "
            f"{shown(normalization)}"
        )
    arrays = [
        check_array(v, f"normalization.{n}", "ch", "numbers")
        for n, v in zip(("mean", "std"), normalization, strict=True)
    ]
    mean, std = (tuple(float(v) for v in values) for values in arrays)
    if mean == std == ():
        return Normalization((), ())
    if np.issubdtype(inputs.dtype, np.integer) and inputs.dtype != np.uint8:
        raise InputError("tokens are not normalised: leave normalization out, or make them floating inputs")
    if len(mean) != channels or len(std) != channels:
        raise InputError(
            f"normalization must have {channels} means and stds, one per channel; "
            f"got {len(mean)} and {len(std)}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and min(std) > 0):
        raise InputError(f"normalization needs finite means and positive stds, got mean {mean}, std {std}")
    if isinstance(inputs, np.ndarray) and kind == "images":
        _check_unit(inputs, mean, std)
    return Normalization(mean, std)
