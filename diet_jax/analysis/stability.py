"""How much scores depend on their seeds: agreement of disjoint groups, and what more seeds would change."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from diet_jax.checks.values import check_array, check_count, check_number
from diet_jax.errors import InputError
from diet_jax.selection.masks import num_kept

# Seeds in a group, as far as two such groups are there.
GROUPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
LEAST_SEEDS = 4
"""Of fewer there are no two disjoint groups of two."""
# Standard errors on each side of a mean, where errors are normal and seeds are many.
OF_95_PER_CENT = 1.96
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)

Choose = Callable[[np.ndarray, float], np.ndarray]


class Estimate(NamedTuple):
    """A mean over pairs of groups, and its standard error by the jackknife over seeds; NaN if it has none."""

    mean: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """About 95 %: 1.96 standard errors on each side."""
        return self.mean - OF_95_PER_CENT * self.error, self.mean + OF_95_PER_CENT * self.error

    def text(self) -> str:
        """Such as "0.812 ± 0.010"."""
        return f"{self.mean:.3f}" + ("" if np.isnan(self.error) else f" ± {self.error:.3f}")


class Agreement(NamedTuple):
    """How two groups of so many seeds agree that have none in common."""

    seeds: int
    """In each group."""
    pairs: int
    """How many pairs of groups the means are over."""
    correlation: Estimate
    """Rank correlation of the means of two groups."""
    with_all: Estimate
    """Rank correlation of a group's mean with the mean of all seeds; higher, for those are among them."""
    kept: dict[float, Estimate]
    """By keep fraction, the share of what one group keeps that the other keeps too."""

    def jaccard(self, fraction: float) -> float:
        """Examples that both keep over examples that either keeps, from the mean share kept in common."""
        return self.kept[fraction].mean / (2 - self.kept[fraction].mean)


def stability(
    per_seed: Any,
    fractions: Sequence[float] = (0.1, 0.3, 0.5),
    *,
    groups: Sequence[int] | None = None,
    pairs: int = 10,
    seed: int = 0,
    choose: Choose | None = None,
) -> list[Agreement]:
    """Compares the means of disjoint groups of seeds, for groups of 1, 2, ... up to half of the seeds.

    The error is that of the jackknife: with `t_j` the mean over the pairs without seed j, its square is
    `(s - 1) / s * sum_j (t_j - mean t)^2`. It has the noise of the pairs drawn in it too. Where some seed is
    in every pair, as in groups of half of the seeds often, there is none.

    Args:
        per_seed: float `[s n]`, scores by each of at least 4 seeds; few further vectors `[n]` are held.
        fractions: keep fractions at which kept sets are compared.
        groups: seeds in a group; by default 1, 2, 3, 4, 6, 8, 12, ... and half of them.
        pairs: of groups for each size, drawn at random; a few more where each has some seed in it.
        seed: draws them.
        choose: `(scores [n], fraction) -> keep mask bool [n]`; by default the highest, equal scores in one
            random order.

    Raises:
        InputError: fewer than four seeds, NaN scores, or a fraction that keeps nothing.

    Example:
        >>> import numpy as np, diet_jax as dj
        >>> rng = np.random.default_rng(0)
        >>> scores = rng.normal(size=500) + rng.normal(size=(8, 500))
        >>> [(row.seeds, round(row.correlation.mean, 1)) for row in dj.stability(scores)]
        [(1, 0.5), (2, 0.7), (3, 0.7), (4, 0.8)]
    """
    values = np.asarray(check_array(per_seed, "per_seed", "s n", "numbers"))
    if len(values) < LEAST_SEEDS:
        raise InputError(
            f"stability needs the scores of at least {LEAST_SEEDS} seeds, got {len(values)}; score more"
        )
    for row, scores in enumerate(values):
        if np.isnan(scores).any():
            raise InputError(f"per_seed must not be NaN: row {row} is; leave that seed out")
    check_count(pairs, "pairs")
    for fraction in fractions:
        num_kept(values.shape[1], fraction)
    half = len(values) // 2
    sizes = sorted({*(size for size in GROUPS if size <= half), half}) if groups is None else groups
    for size in sizes:
        check_count(size, "groups", most=half)
    rng = np.random.default_rng(seed)
    ties = rng.permutation(values.shape[1])
    whole = _Ranked(values, np.arange(len(values)), ties, (), choose)
    return [_agreement(values, size, fractions, pairs, rng, ties, whole, choose) for size in sizes]


def _agreement(
    values: np.ndarray,
    size: int,
    fractions: Sequence[float],
    pairs: int,
    rng: np.random.Generator,
    ties: np.ndarray,
    whole: "_Ranked",
    choose: Choose | None,
) -> Agreement:
    members, found, count = [], [], np.zeros(len(values), int)

    def wanted() -> bool:
        # Beyond those asked for, until every seed is missing from some pair: without that there is no error.
        missing = 2 * size < len(values) and (count == len(found)).any()
        return len(found) < pairs or (bool(missing) and len(found) < 4 * pairs)

    while wanted():
        seeds = rng.permutation(len(values))
        for first in range(0, len(values) - 2 * size + 1, 2 * size):
            chosen = seeds[first : first + 2 * size]
            one, other = (
                _Ranked(values, part, ties, fractions, choose) for part in (chosen[:size], chosen[size:])
            )
            common = [float((a & b).sum() / a.sum()) for a, b in zip(one.kept, other.kept, strict=True)]
            members.append(chosen)
            found.append([one.correlation(other), one.correlation(whole), *common])
            count[chosen] += 1
            if not wanted():
                break
    used = np.zeros((len(found), len(values)), bool)
    for row, chosen in enumerate(members):
        used[row, chosen] = True
    correlation, with_all, *kept = _jackknife(np.array(found), used)
    return Agreement(size, len(found), correlation, with_all, dict(zip(fractions, kept, strict=True)))


def _jackknife(found: np.ndarray, used: np.ndarray) -> list[Estimate]:
    """Means over pairs `[p q]`, with the errors that the seeds `[p s]` in them leave."""
    count, (pairs, seeds) = (~used).sum(axis=0), used.shape
    errors = np.full(found.shape[1], np.nan)
    if (count > 0).all() and pairs > 1:
        without = (~used).T.astype(float) @ found / count[:, None]
        errors = np.sqrt((seeds - 1) / seeds * np.square(without - without.mean(axis=0)).sum(axis=0))
    return [Estimate(float(m), float(e)) for m, e in zip(found.mean(axis=0), errors, strict=True)]


class _Ranked:
    """The mean of some seeds, by its ranks and what it keeps; its scores are not held."""

    def __init__(
        self,
        values: np.ndarray,
        seeds: np.ndarray,
        ties: np.ndarray,
        fractions: Sequence[float],
        choose: Choose | None,
    ) -> None:
        scores = np.zeros(values.shape[1])
        with np.errstate(invalid="ignore"):
            for seed in seeds:
                scores += values[seed]
        if np.isnan(scores).any():
            raise InputError("per_seed holds inf and -inf for one example, which have no mean")
        order = ties[np.argsort(scores[ties], kind="stable")]
        self.kept = []
        for fraction in fractions:
            if choose is not None:
                self.kept.append(choose(scores / len(seeds), fraction))
                continue
            keep = np.zeros(len(scores), bool)
            keep[order[len(order) - num_kept(len(order), fraction) :]] = True
            self.kept.append(keep)
        ascending = scores[order]
        # Equal scores share the mean of their ranks.
        first = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
        counts = np.diff(np.r_[first, len(scores)])
        self.ranks = np.empty(len(scores))
        self.ranks[order] = np.repeat(first + (counts - 1) / 2, counts)
        self.ranks -= self.ranks.mean()
        self.length = np.sqrt(self.ranks @ self.ranks)

    def correlation(self, other: "_Ranked") -> float:
        """Of ranks; 0 where all scores of one are equal."""
        lengths = self.length * other.length
        return float(self.ranks @ other.ranks / lengths) if lengths else 0.0


def correlation_of_means(correlation: float, seeds: int, now: int, more: int) -> float:
    """Returns how the mean of `now` seeds correlates with the mean of these and `more` (Spearman-Brown).

    With `r_k = k r / (1 + (k - 1) r)` the correlation of the means of two groups of k seeds that have none in
    common, it is `sqrt(r_now / r_(now + more))`. This holds for linear correlations of scores whose seeds
    differ by independent noise of one size; for ranks it is close.

    Args:
        correlation: of the means of two disjoint groups.
        seeds: in each of these groups.
        now: seeds that there are.
        more: seeds that would be added.

    Example:
        >>> round(correlation_of_means(0.8, seeds=4, now=8, more=2), 4)
        0.9888
    """
    if correlation <= 0:
        # Nothing but noise: of the later mean, the seeds that are there now are still their share.
        return float(np.sqrt(now / (now + more)))
    single = correlation / (seeds - (seeds - 1) * correlation)

    def of(count: int) -> float:
        return count * single / (1 + (count - 1) * single)

    return min(1.0, float(np.sqrt(of(now) / of(now + more))))


def normal_overlap(correlation: float, fraction: float) -> float:
    """Returns what share of its highest `fraction` one normal score has in common with another.

    Example:
        >>> round(normal_overlap(0.0, 0.3), 6), round(normal_overlap(1.0, 0.3), 6)
        (0.3, 1.0)
    """
    from scipy.special import ndtri  # Slow to import, and seldom needed.

    check_number(fraction, "fraction", above=0, most=1)
    if fraction == 1:
        return 1.0
    # The derivative by the correlation sin(a) is the density at the edge: smooth in a, up to a right angle.
    edge, top = float(ndtri(fraction)), np.arcsin(np.clip(correlation, 0, 1))
    angles = top * (NODES + 1) / 2
    density = np.exp(-(edge**2) / (1 + np.sin(angles))) / (2 * np.pi)
    return float(fraction + (WEIGHTS @ density) * top / 2 / fraction)


def expected_overlap(overlap: float, fraction: float, *, seeds: int, now: int, more: int) -> float:
    """Returns what share of the kept examples would still be kept with more seeds.

    The overlap of two disjoint groups is taken for that of two normal scores, which gives the correlation
    that counts at the edge; `correlation_of_means` leads to that of the mean now with the later one, and the
    normal scores back to an overlap.

    Args:
        overlap: share kept in common by two disjoint groups, from `stability`.
        fraction: keep fraction.
        seeds: in each of these groups.
        now: seeds that there are.
        more: seeds that would be added.

    Returns:
        A share up to 1. Where scores are nothing but noise it is above chance too: the later mean has the
        noise of the seeds now in it.

    Example:
        >>> round(expected_overlap(0.8, 0.5, seeds=5, now=10, more=10), 3)
        0.926
    """
    check_number(overlap, "overlap", least=0, most=1)
    for name, value in (("seeds", seeds), ("now", now)):
        check_count(value, name)
    check_count(more, "more", least=0)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if normal_overlap(middle, fraction) < overlap else (low, middle)
    return normal_overlap(correlation_of_means(high, seeds, now, more) if more else 1.0, fraction)
