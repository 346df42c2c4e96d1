"""Numbers over seeds: mean and band, paired differences, their error and tests, agreement of rankings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from diet_jax.errors import InputError

Verdict = Literal["yes", "no", "unclear"]
# A difference counts if it is this many times its standard error; with one seed there is none.
ERRORS_THAT_COUNT = 2.0
# A difference is called significant where the adjusted p value is below.
SIGNIFICANT = 0.05


class Summary(NamedTuple):
    """Values over seeds: their mean, and a band that about two thirds of them lie in."""

    mean: float
    low: float
    """16th percentile, linearly interpolated."""
    high: float
    """84th percentile."""

    @classmethod
    def of(cls, values: Any) -> "Summary":
        """Summarises values `[s]`."""
        low, high = np.percentile(values, [16, 84])
        return cls(float(np.mean(values)), float(low), float(high))


@dataclass(frozen=True)
class Comparison:
    """Mean of the paired differences between two accuracies, and its standard error; NaN with one seed.

    Seed r of both started from the same initialisation.
    """

    mean: float
    error: float
    p: float | None = None
    """Of a paired t-test, two-sided; None where nothing can be tested."""

    @classmethod
    def of(cls, values: Any, others: Any) -> "Comparison":
        """Subtracts `[s]` from `[s]`, seed by seed."""
        paired = np.asarray(values, np.float64) - np.asarray(others, np.float64)
        error = paired.std(ddof=1) / np.sqrt(len(paired)) if len(paired) > 1 else np.nan
        return cls(float(paired.mean()), float(error), paired_p(values, others))

    def __neg__(self) -> "Comparison":
        return Comparison(-self.mean, self.error, self.p)

    def is_above(self) -> Verdict:
        """Whether the difference is above zero: yes or no beyond its error, else unclear."""
        if not abs(self.mean) > ERRORS_THAT_COUNT * self.error:
            return "unclear"
        return "yes" if self.mean > 0 else "no"

    def is_no_loss(self) -> Verdict:
        """Whether nothing is lost: no if the loss is beyond its error, unclear with one seed."""
        if np.isnan(self.error):
            return "unclear"
        return "yes" if self.mean >= -ERRORS_THAT_COUNT * self.error else "no"

    def text(self) -> str:
        """Per cent points, such as "+0.21 ± 0.08".

        An error that two digits do not show gets more of them. Where all differences are equal, as those of
        two seeds may be by chance, it cannot be told: n/a.
        """
        if np.isnan(self.error):
            return f"{100 * self.mean:+.2f}"
        points = 100 * self.error
        # Equal but for the rounding of the subtraction.
        if points <= 1e-10:
            return f"{100 * self.mean:+.2f} ± n/a"
        return f"{100 * self.mean:+.2f} ± " + (f"{points:.2f}" if points >= 0.005 else f"{points:.1g}")


def paired_p(values: Any, others: Any) -> float | None:
    """Returns the two-sided p value of Student's paired t-test: t = mean / (std / sqrt(s)), s - 1 degrees.

    Wilcoxon's signed ranks would assume less, but of `s` seeds their least p value is `2 ** (1 - s)`: below
    six seeds it never reaches 0.05, and after a correction for tens of comparisons not below a dozen.

    Args:
        values: float `[s]`, such as the accuracies of a selection.
        others: float `[s]` of the same seeds.

    Returns:
        High means that chance explains the difference. None of one seed, and where all differences are equal:
        accuracies come in steps of one test example, so that two or three of them may agree by chance.

    Raises:
        InputError: they are not two vectors of one length.

    Example:
        >>> round(paired_p([0.91, 0.93, 0.95], [0.90, 0.91, 0.92]), 4)
        0.0742
    """
    from scipy import special

    pair = [np.asarray(each, np.float64) for each in (values, others)]
    if pair[0].ndim != 1 or pair[0].shape != pair[1].shape:
        raise InputError(
            f"values and others must be two vectors of one length, one entry per seed; got shapes "
            f"{pair[0].shape} and {pair[1].shape}"
        )
    paired = pair[0] - pair[1]
    count = len(paired)
    # Equal but for the rounding of the subtraction.
    if count < 2 or np.ptp(paired) <= 1e-12 * max(1.0, float(np.abs(pair).max())):
        return None
    t = paired.mean() / (paired.std(ddof=1) / np.sqrt(count))
    return float(2 * special.stdtr(count - 1, -abs(t)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p values adjusted for their number by Holm's step-down rule, in the same order.

    Of `m` of them, the i-th smallest (from 0) becomes `max over j <= i of min(1, (m - j) p_j)`: calling those
    below a level significant is wrong about any of them with at most that probability.

    Args:
        p_values: of all comparisons; those of None, which could not be tested, stay None and are not counted.

    Example:
        >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    tested = [i for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for place, i in enumerate(sorted(tested, key=lambda i: float(p_values[i] or 0.0))):
        least = max(least, min(1.0, (len(tested) - place) * float(p_values[i] or 0.0)))
        adjusted[i] = least
    return adjusted


def errors_to_be_significant(num_seeds: int, comparisons: int, level: float = SIGNIFICANT) -> float:
    """Returns how many standard errors the clearest of some comparisons must be from 0 to be significant.

    By the paired t-test and Holm's rule: the quantile `1 - level / (2 m)` of Student's t of `s - 1` degrees.

    Args:
        num_seeds: `s`; infinite with one.
        comparisons: `m`, how many are tested.
        level: of significance.

    Example:
        >>> round(errors_to_be_significant(3, 1), 2), round(errors_to_be_significant(20, 30), 2)
        (4.3, 3.66)
    """
    from scipy import special

    if num_seeds < 2 or comparisons < 1:
        return float("inf")
    return float(special.stdtrit(num_seeds - 1, 1 - level / (2 * comparisons)))


def seed_agreement(per_seed: Any) -> float | None:
    """Returns the mean rank correlation between the scores `[s n]` of two seeds; high means they rank alike.

    None for one seed, NaN scores, or a seed that gives all examples one score.

    Example:
        >>> seed_agreement([[1.0, 2.0, 3.0], [10.0, 30.0, 20.0], [1.0, 2.0, 4.0]])
        0.6666666666666666
    """
    from scipy import stats  # Slow to import, and seldom needed.

    values = np.asarray(per_seed)
    if len(values) < 2 or np.isnan(values).any():
        return None
    ranks = stats.rankdata(values, axis=1)
    if (np.ptp(ranks, axis=1) == 0).any():
        return None
    return float(np.corrcoef(ranks)[np.triu_indices(len(ranks), 1)].mean())


def spearman(first: Any, second: Any) -> float:
    """Returns the rank correlation; infinite values rank highest, ties share their mean rank."""
    return float(rank_correlations([first, second])[0, 1])


def rank_correlations(scores: Sequence[Any]) -> np.ndarray:
    """Returns the rank correlation `[k k]` of every pair of `k` scores `[n]`, as `spearman` does.

    Example:
        >>> rank_correlations([[1.0, 2.0, 3.0], [1.0, 9.0, float("inf")], [3.0, 2.0, 1.0]]).round(9).tolist()
        [[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    """
    from scipy import stats  # Slow to import, and seldom needed.

    return np.corrcoef([stats.rankdata(values) for values in scores])
