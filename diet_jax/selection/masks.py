"""Keep masks: how many are kept, which rows, what a tie-break decided. Fractions are shares that are kept."""

import math
from typing import Any, NamedTuple

import numpy as np

from diet_jax.checks.arrays import plain_array
from diet_jax.checks.rows import checked_mask
from diet_jax.checks.values import check_count, check_number
from diet_jax.errors import InputError
from diet_jax.types import Mask


def num_kept(num_examples: int, fraction: float) -> int:
    """Returns how many of `num_examples` a keep fraction keeps: rounded to nearest, halves up.

    Args:
        num_examples: size of the dataset.
        fraction: share to keep, above 0 and at most 1.

    Raises:
        InputError: there are no examples, or the fraction is out of range or NaN, or keeps none of them.

    Example:
        >>> num_kept(1078, 0.5), num_kept(5, 0.5)
        (539, 3)
    """
    check_count(num_examples, "num_examples", most=2**53)
    check_number(fraction, "keep fraction", above=0, most=1)
    count = math.floor(num_examples * fraction + 0.5)
    if count == 0:
        raise InputError(f"keep fraction {fraction} of {num_examples} examples keeps none; raise it")
    return count


def kept_indices(keep: Mask, num_kept: int) -> np.ndarray:
    """Returns the rows that a keep mask keeps, ascending.

    Args:
        keep: bool `[n]`, True = train on it.
        num_kept: how many the mask keeps. Given so that shapes are known and a wrong mask is noticed.

    Returns:
        int32 `[k]` with `k = num_kept`.

    Raises:
        InputError: the mask is not a boolean vector, or keeps another number.

    Example:
        >>> import numpy as np
        >>> kept_indices(np.array([True, False, True]), 2).tolist()
        [0, 2]
    """
    mask = checked_mask(keep)
    check_count(num_kept, "num_kept", least=0)
    rows = np.flatnonzero(mask).astype(np.int32)
    if len(rows) != num_kept:
        raise InputError(
            f"num_kept is {num_kept} but the keep mask keeps {len(rows)} of {len(mask)} examples"
        )
    return rows


class Ties(NamedTuple):
    """How much of a selection was decided by the tie-break: `tied` examples share a score that is both kept
    and left out, and `kept` of them were kept."""

    tied: int
    kept: int


def tie_mass(scores: Any, keep: Mask) -> Ties:
    """Counts the examples whose score occurs both among the kept and among the others.

    Args:
        scores: float `[n]`, those that made the mask.
        keep: bool `[n]`.

    Returns:
        The number of tied examples and how many of them are kept; (0, 0) if scores alone decided.

    Raises:
        InputError: scores and mask differ in length, or the mask is not boolean.

    Example:
        >>> import diet_jax as dj
        >>> tie_mass([0.0, 1.0, 1.0, 2.0], dj.keep_highest([0.0, 1.0, 1.0, 2.0], 0.5))
        Ties(tied=2, kept=1)
    """
    scores = checked_scores(scores)
    keep = checked_mask(keep, len(scores))
    shared = np.intersect1d(scores[keep], scores[~keep])
    tied = np.isin(scores, shared)
    return Ties(tied=int(tied.sum()), kept=int((tied & keep).sum()))


def check_defined(values: np.ndarray, remedy: str) -> None:
    """Raises InputError where a score is NaN."""
    undefined = np.isnan(values)
    if undefined.any():
        if undefined.all():
            remedy = (
                "a whole seed is NaN where its training diverged: leave out of means what result.diverged of "
                "score_ensemble names"
            )
        raise InputError(
            f"scores must not be NaN: {int(undefined.sum())} of {len(values)} are, first row "
            f"{int(undefined.argmax())}; {remedy}"
        )


def checked_scores(scores: Any) -> np.ndarray:
    """Returns scores as one vector float64 `[n]`; InputError if they are none, or any is NaN."""
    given = plain_array(scores, "scores")
    if given.dtype.kind not in "iuf":
        raise InputError(
            f"scores must be numbers, one vector [n], got {scores!r:.80}; give values of a score, such as "
            f"ScoreFile.load(path).scores, not its name"
        )
    values = given.astype(np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"scores must be one vector [n] with n of at least 1, got shape {values.shape}")
    check_defined(values, "score them or select among the others")
    return values
