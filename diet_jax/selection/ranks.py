"""From scores to the examples that are kept. Fractions are always shares that are kept."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from diet_jax.errors import InputError
from diet_jax.types import Mask, PRNGKey

# Ties are broken by random bits from this key unless the caller brings one.
DEFAULT_TIE_SEED = 0


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
    if num_examples < 1:
        raise InputError(f"num_examples must be at least 1, got {num_examples}")
    if not 0 < fraction <= 1:
        raise InputError(f"keep fraction must be above 0 and at most 1, got {fraction}")
    count = math.floor(num_examples * fraction + 0.5)
    if count == 0:
        raise InputError(f"keep fraction {fraction} of {num_examples} examples keeps none; raise it")
    return count


def keep_highest(scores: Any, fraction: float, *, key: PRNGKey | None = None) -> np.ndarray:
    """Keeps the share of examples with the highest scores: the paper's pruning.

    Args:
        scores: float `[n]`; infinite scores are allowed, NaN is not.
        fraction: share to keep, above 0 and at most 1.
        key: decides between examples with equal scores; a fixed key by default.

    Returns:
        bool `[n]`, True = train on it; exactly `num_kept(n, fraction)` are True.

    Raises:
        InputError: the fraction is out of range, or the scores are not one NaN-free vector.

    Paper: section 3.

    Example:
        >>> keep_highest([0.1, 0.9, 0.5, 0.7], 0.5).tolist()
        [False, True, False, True]
    """
    scores = _checked_scores(scores)
    return _keep_ranks(scores, len(scores) - num_kept(len(scores), fraction), len(scores), key)


def keep_lowest(scores: Any, fraction: float, *, key: PRNGKey | None = None) -> np.ndarray:
    """Keeps the share of examples with the lowest scores, the easiest.

    Args, Returns and Raises as for `keep_highest`.

    Example:
        >>> keep_lowest([0.1, 0.9, 0.5, 0.7], 0.5).tolist()
        [True, False, True, False]
    """
    scores = _checked_scores(scores)
    return _keep_ranks(scores, 0, num_kept(len(scores), fraction), key)


def keep_window(scores: Any, fraction: float, *, offset: float, key: PRNGKey | None = None) -> np.ndarray:
    """Keeps a window of ranks: sorts ascending, skips the share `offset`, keeps the next `fraction`.

    With label noise the best window leaves out the very highest scores. `offset = 1 - fraction` is
    `keep_highest`, `offset = 0` is `keep_lowest`.

    Args:
        scores: float `[n]`, NaN-free.
        fraction: share to keep, above 0 and at most 1.
        offset: share of lowest-scored examples to skip, at least 0; offset + fraction at most 1.
        key: decides between examples with equal scores; a fixed key by default.

    Returns:
        bool `[n]`, True = train on it.

    Raises:
        InputError: fraction or offset is out of range, or the window ends above the highest score: it is
            never silently shortened.

    Paper: section 4, Figure 2.

    Example:
        >>> keep_window([0.1, 0.9, 0.5, 0.7], 0.5, offset=0.25).tolist()
        [False, False, True, True]
    """
    scores = _checked_scores(scores)
    count = num_kept(len(scores), fraction)
    check_window(fraction, offset)
    # Where offset and fraction both round up, the window still ends at the highest score.
    first = min(math.floor(len(scores) * offset + 0.5), len(scores) - count)
    return _keep_ranks(scores, first, first + count, key)


def check_window(fraction: float, offset: float) -> None:
    """Raises InputError unless a window of ranks lies within them."""
    if not 0 <= offset < 1:
        raise InputError(f"offset must be at least 0 and below 1, got {offset}")
    # The margin is for sums such as 0.7 + 0.2 + 0.1 that only miss 1 by the rounding of floats.
    if offset + fraction > 1 + 1e-9:
        raise InputError(
            f"offset {offset} and keep fraction {fraction} ask for a window that ends above the highest "
            f"score; their sum must be at most 1"
        )


def keep_random(key: PRNGKey, num_examples: int, fraction: float) -> np.ndarray:
    """Keeps a random share of the examples: the baseline that every score has to beat.

    Args:
        key: decides which; use a key of its own for every training run.
        num_examples: size of the dataset.
        fraction: share to keep, above 0 and at most 1.

    Returns:
        bool `[n]`, True = train on it; exactly `num_kept(n, fraction)` are True.

    Raises:
        InputError: the fraction is out of range.

    Example:
        >>> import jax
        >>> int(keep_random(jax.random.key(0), 10, 0.3).sum())
        3
    """
    num_kept(num_examples, fraction)
    return keep_lowest(_random_bits(key, num_examples).astype(np.float64), fraction, key=key)


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
    mask = np.asarray(keep)
    if mask.ndim != 1 or mask.dtype != bool:
        raise InputError(f"keep must be a boolean vector [n], got {mask.dtype} of shape {mask.shape}")
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
        >>> tie_mass([0.0, 1.0, 1.0, 2.0], keep_highest([0.0, 1.0, 1.0, 2.0], 0.5))
        Ties(tied=2, kept=1)
    """
    scores, keep = _checked_scores(scores), np.asarray(keep)
    if keep.shape != scores.shape or keep.dtype != bool:
        raise InputError(
            f"keep must be boolean and have shape {scores.shape} like scores, got {keep.dtype} of shape "
            f"{keep.shape}"
        )
    shared = np.intersect1d(scores[keep], scores[~keep])
    tied = np.isin(scores, shared)
    return Ties(tied=int(tied.sum()), kept=int((tied & keep).sum()))


def _keep_ranks(scores: np.ndarray, first: int, stop: int, key: PRNGKey | None) -> np.ndarray:
    key = jax.random.key(DEFAULT_TIE_SEED) if key is None else key
    # lexsort's last key is the first to sort by; random bits decide between equal scores.
    order = np.lexsort((_random_bits(key, len(scores)), scores))
    keep = np.zeros(len(scores), bool)
    keep[order[first:stop]] = True
    return keep


def _random_bits(key: PRNGKey, count: int) -> np.ndarray:
    return np.asarray(jax.random.bits(key, (count,), "uint32"))


def _checked_scores(scores: Any) -> np.ndarray:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"scores must be one vector [n] with n of at least 1, got shape {values.shape}")
    if np.isnan(values).any():
        raise InputError(
            f"scores must not be NaN: {int(np.isnan(values).sum())} of {len(values)} are, first row "
            f"{int(np.flatnonzero(np.isnan(values))[0])}; score them or select among the others"
        )
    return values
