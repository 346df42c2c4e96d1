"""Trainings that diverge: the first step whose loss is NaN or infinite."""

from typing import Any, NamedTuple

import numpy as np


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
