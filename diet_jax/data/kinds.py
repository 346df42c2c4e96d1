"""What an example can be: an image, a row of a table, a signal, tokens; and how each is normalised."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from diet_jax.errors import InputError

Kind = Literal["images", "table", "signals", "tokens"]
"""What an example is; see `Dataset.from_arrays`."""

WORDS: dict[Kind, tuple[str, str]] = {
    "images": ("images of {}", "normalised for each channel"),
    "table": ("rows of a table with {} features", "normalised for each feature"),
    "signals": ("signals of {}", "normalised for each channel"),
    "tokens": ("rows of {} tokens", "not normalised"),
}
"""What examples of a shape are called, and how they are normalised by default."""


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
    if kind is not None and kind not in get_args(Kind):
        raise InputError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    if inputs.ndim < 2 or 0 in inputs.shape:
        raise InputError(
            f"inputs must have shape [n ...], an array for each example, nowhere 0; got {inputs.shape}"
        )
    kind = _kind_of(inputs) if kind is None else kind
    if kind == "images":
        inputs = inputs[..., None] if inputs.ndim == 3 else inputs
        if inputs.ndim != 4:
            raise InputError(f"images must have shape [n h w ch] or [n h w], got {inputs.shape}")
    if kind == "table" and inputs.ndim != 2:
        raise InputError(f"a table must have shape [n f], got {inputs.shape}")
    if kind == "signals" and inputs.ndim < 3:
        raise InputError(f"signals must have shape [n t ch], got {inputs.shape}; add an axis of one channel")
    return _as_stored(inputs, kind), kind


def _kind_of(inputs: np.ndarray) -> Kind:
    """What inputs are where nobody says so; only what can be nothing else."""
    shape, pixels = inputs.shape, inputs.dtype == np.uint8
    if np.issubdtype(inputs.dtype, np.integer) and not pixels:
        if inputs.ndim == 2:
            return "tokens"
        raise InputError(
            f"images must be uint8 or floating, got {inputs.dtype} {shape}; convert them first, or say "
            'kind="tokens" if these are numbers of tokens'
        )
    if inputs.ndim == 2 and pixels:
        raise InputError(
            f"inputs are uint8 {shape}: reshape pixels to [n h w ch], or say kind='table' or kind='tokens'"
        )
    if inputs.ndim == 2:
        return "table"
    if inputs.ndim == 3 and shape[2] <= 3 and not pixels:
        raise InputError(
            f"inputs of shape {shape} are no images [n h w]: give a table as [n f] "
            "(inputs.reshape(len(inputs), -1)), or say kind='signals' for [n t ch], or kind='images'"
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
        raise InputError(f"{kind} must be {wanted}, got {inputs.dtype}; convert them first")
    inputs = inputs.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(inputs).all(axis=tuple(range(1, inputs.ndim))))
    if len(bad):
        what = "pixels" if kind == "images" else "entries"
        raise InputError(
            f"{kind} must be finite: {len(bad)} of {len(inputs)} have NaN or infinite {what}, "
            f"the first is row {bad[0]}"
        )
    return inputs


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


def checked_normalization(normalization: Any, inputs: np.ndarray) -> Normalization:
    """Raises InputError unless each channel has a finite mean and a positive deviation, or none has any."""
    channels = inputs.shape[-1]
    mean, std = (tuple(float(v) for v in values) for values in normalization)
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
    return Normalization(mean, std)
