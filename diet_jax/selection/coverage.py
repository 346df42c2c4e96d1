"""Rules that cover the whole range of one score: strata of it (CCS), and its middle (Moderate)."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from diet_jax.checks.values import check_choice, check_count, check_number
from diet_jax.errors import InputError
from diet_jax.selection.groups import group_counts, places_within
from diet_jax.selection.masks import checked_scores, num_kept
from diet_jax.selection.ranks import keep_lowest, random_rows, ranked_rows
from diet_jax.selection.rule import RULES, Rule
from diet_jax.types import PRNGKey

MOST_STRATA = 1_000_000


def keep_covering(
    scores: Any, fraction: float, *, cutoff: float = 0.0, strata: int = 50, key: PRNGKey | None = None
) -> np.ndarray:
    """Keeps as many of each stratum of the scores as there can be, after the very hardest are dropped: CCS.

    The `cutoff` share with the highest scores is dropped. The range of the others is cut into strata of equal
    width, and each gives an equal share of what is kept, at random; what a small one cannot give, the others
    give in equal parts.

    Args:
        scores: float `[n]`, NaN-free. Infinite ones belong to the first or last stratum of the finite range.
        fraction: share to keep, above 0 and at most 1.
        cutoff: share of the highest-scored examples to drop, at least 0; cutoff + fraction at most 1. Zheng
            et al. choose it for each dataset and fraction, 0.3 for a tenth of ImageNet.
        strata: how many.
        key: draws within the strata, and decides between equal scores at the cutoff.

    Returns:
        bool `[n]`, True = train on it; exactly `num_kept(n, fraction)` are True.

    Raises:
        InputError: fraction or cutoff is out of range, or their sum above 1.

    Paper: Zheng et al. 2023 (CCS), algorithm 1. There the last of several equal strata gives what does not
    divide; here the largest ones do, one each.

    Example:
        >>> keep = keep_covering([0.0, 0.1, 0.2, 5.0, 9.0, 99.0], 0.5, strata=2, cutoff=0.2)
        >>> keep[:3].sum().item(), keep[3:5].sum().item(), keep[5].item()
        (2, 1, False)
    """
    scores = checked_scores(scores)
    count = num_kept(len(scores), fraction)
    check_coverage(fraction, cutoff, strata)
    dropped = min(math.floor(len(scores) * cutoff + 0.5), len(scores) - count)
    rest = ranked_rows(scores, key)[: len(scores) - dropped]
    stratum = _strata(scores[rest], strata)
    kept = group_counts(np.bincount(stratum, minlength=strata), count)
    # The bits that decide between equal scores also draw: of equal ones those dropped are those drawn last.
    at_random = np.argsort(random_rows(key, len(scores)))[rest]
    place = places_within(stratum, np.argsort(at_random))
    keep = np.zeros(len(scores), bool)
    keep[rest[place < kept[stratum]]] = True
    return keep


def check_coverage(fraction: float, cutoff: float, strata: int) -> None:
    """Raises InputError unless so much can be kept of what a cutoff leaves."""
    check_number(cutoff, "cutoff", least=0, below=1)
    check_count(strata, "strata", most=MOST_STRATA)
    if cutoff + fraction > 1 + 1e-9:
        raise InputError(
            f"cutoff {cutoff} drops so many of the highest scores that keep fraction {fraction} is not left; "
            f"their sum must be at most 1"
        )


def keep_moderate(
    scores: Any,
    fraction: float,
    *,
    nearest_by: Literal["rank", "value"] = "rank",
    key: PRNGKey | None = None,
) -> np.ndarray:
    """Keeps the examples whose scores are nearest to the median.

    With the distance to the median feature of an example's class as score this is Moderate-DS.

    Args:
        scores: float `[n]`, NaN-free.
        fraction: share to keep, above 0 and at most 1.
        nearest_by: "rank" keeps as many ranks below the median as above it, as the authors' code does;
            "value" keeps the smallest differences `|score − median|`, as their text says. These differ where
            the distribution is skewed.
        key: decides between equal scores, or equal differences.

    Returns:
        bool `[n]`, True = train on it; exactly `num_kept(n, fraction)` are True.

    Raises:
        InputError: the fraction is out of range.

    Paper: Xia et al. 2023 (Moderate coreset).

    Example:
        >>> keep_moderate([0.0, 1.0, 1.1, 1.2, 9.0], 0.6).tolist()
        [False, True, True, True, False]
    """
    scores = checked_scores(scores)
    check_choice(nearest_by, "nearest_by", ("rank", "value"))
    if nearest_by == "rank":
        count = num_kept(len(scores), fraction)
        first = (len(scores) - count) // 2
        keep = np.zeros(len(scores), bool)
        keep[ranked_rows(scores, key)[first : first + count]] = True
        return keep
    median = np.median(scores)
    with np.errstate(invalid="ignore"):
        # Of an infinite median the infinite scores are the nearest: ∞ − ∞ is none of their difference.
        difference = np.where(scores == median, 0.0, np.abs(scores - median))
    return keep_lowest(difference, fraction, key=key)


def _strata(scores: np.ndarray, strata: int) -> np.ndarray:
    """The stratum of each score, from 0: of equal width, both ends included."""
    finite = scores[np.isfinite(scores)]
    if not len(finite):
        return np.where(scores > 0, strata - 1, 0)
    # Halves: the range of floats is wider than the largest one.
    low, high = finite.min() / 2, finite.max() / 2
    if low == high:
        return np.where(scores == np.inf, strata - 1, 0)
    share = (np.clip(scores, finite.min(), finite.max()) / 2 - low) / (high - low)
    return np.minimum(np.floor(share * strata), strata - 1).astype(np.int64)


@dataclass(frozen=True)
class CoverageOptions:
    """Options of the rule "coverage"."""

    cutoff: float = 0.0
    """Share of the highest-scored examples to drop; 0 drops none, also where their labels are wrong."""
    strata: int = 50
    """Strata of equal width."""

    def __post_init__(self) -> None:
        check_number(self.cutoff, "cutoff", least=0, below=1)
        check_count(self.strata, "strata", most=MOST_STRATA)


@dataclass(frozen=True)
class ModerateOptions:
    """Options of the rule "moderate"."""

    nearest_by: Literal["rank", "value"] = "rank"
    """Nearest to the median by rank, or by value."""


COVERAGE = RULES.register(
    Rule(
        name="coverage",
        words="equal shares of strata of the scores, below a cutoff",
        reference="Zheng et al. 2023 (CCS), algorithm 1",
        select=keep_covering,
        options=CoverageOptions(),
        check=check_coverage,
        about=lambda cutoff, strata: (
            f"equal shares of {strata} strata of the scores kept"
            + (f", of all but the highest {cutoff:g}" if cutoff else ", the highest among them (cutoff 0)")
        ),
    )
)

MODERATE = RULES.register(
    Rule(
        name="moderate",
        words="the scores nearest to the median",
        reference="Xia et al. 2023 (Moderate coreset)",
        select=keep_moderate,
        options=ModerateOptions(),
        about=lambda nearest_by: f"the scores nearest to the median kept, by {nearest_by}",
    )
)
