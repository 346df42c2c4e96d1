"""Trainings that diverge: the first step whose loss is NaN or infinite."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np


class DivergenceWarning(UserWarning):
    """Networks diverged in a function that returns them all the same."""


def warn_of_divergence(diverged: Mapping[int, str], count: int, means_nothing: str) -> None:
    """Warns of the seeds that diverged, if any, of an ensemble of `count`."""
    if diverged:
        named = "; ".join(f"seed {seed}: {what}" for seed, what in list(diverged.items())[:3])
        more = ", ..." if len(diverged) > 3 else ""
        warnings.warn(
            f"{len(diverged)} of {count} networks diverged ({named}{more}), {means_nothing}: leave out the "
            f"seeds of `.diverged`, or lower the learning rate",
            DivergenceWarning,
            stacklevel=3,
        )


@contextlib.contextmanager
def divergence_told_elsewhere() -> Iterator[None]:
    """Keeps `warn_of_divergence` silent, for callers that say more of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)
        yield


class Divergence(NamedTuple):
    """Where a training diverged; `str` says it."""

    step: int
    """The update whose batch had the loss, counted from 1; or the last one, which made the network NaN."""
    epoch: float
    what: str
    """Such as "loss nan"."""

    def __str__(self) -> str:
        return f"{self.what} at step {self.step:,}, epoch {self.epoch:.3g}"


def first_bad(loss: Any) -> int | None:
    """Returns the place of the first NaN or infinite loss of a history `[t]`; None without any.

    Example:
        >>> first_bad([2.3, 2.1, float("inf"), float("nan")])
        2
    """
    bad = np.flatnonzero(~np.isfinite(np.asarray(loss)))
    return int(bad[0]) if len(bad) else None


def bad_losses(loss: Any) -> dict[int, str]:
    """Returns which seeds of a stacked history `[s t]` diverged, and where, in words.

    Example:
        >>> bad_losses([[2.3, 2.1, 1.9], [2.3, float("nan"), float("nan")]])
        {1: 'loss nan at step 2'}
    """
    places = {seed: first_bad(each) for seed, each in enumerate(np.asarray(loss))}
    return {
        seed: f"loss {float(loss[seed][place])} at step {place + 1:,}"
        for seed, place in places.items()
        if place is not None
    }
