"""Trainings that diverge: the first step whose loss is NaN or infinite."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from diet_jax.errors import counted

# Of more diverged seeds a message names the first ones.
NAMED = 3


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


def warn_of(diverged: Mapping[int, str], loss: Any, per_epoch: int, so: str) -> None:
    """Warns once of the seeds of a call that diverged, if any, and where.

    Args:
        diverged: why, by seed.
        loss: of every step, `[s t]`.
        per_epoch: steps.
        so: what that means for the result.
    """
    if not diverged:
        return
    texts = []
    for seed, why in list(diverged.items())[:NAMED]:
        place = first_bad(loss[seed])
        at = "" if place is None else f", epoch {(place + 1) / per_epoch:.3g}"
        texts.append(f"seed {seed}: {why}{at}")
    more = "; ..." if len(diverged) > NAMED else ""
    warnings.warn(
        f"{len(diverged)} of {counted(len(loss), 'seed')} diverged ({'; '.join(texts)}{more}); {so}; "
        f"lower the "
        f"learning rate",
        stacklevel=3,
    )


@contextlib.contextmanager
def said_elsewhere() -> Iterator[None]:
    """Within it `warn_of` is silent, for callers that say themselves who diverged."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\d+ of \d+ seeds diverged")
        yield
