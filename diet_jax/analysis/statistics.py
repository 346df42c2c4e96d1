"""Numbers over seeds: mean and band, paired differences with their error, agreement of rankings."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

Verdict = Literal["yes", "no", "unclear"]
# A difference counts if it is this many times its standard error; with one seed there is none.
ERRORS_THAT_COUNT = 2.0


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

    @classmethod
    def of(cls, values: Any, others: Any) -> "Comparison":
        """Subtracts `[s]` from `[s]`, seed by seed."""
        paired = np.asarray(values, np.float64) - np.asarray(others, np.float64)
        error = paired.std(ddof=1) / np.sqrt(len(paired)) if len(paired) > 1 else np.nan
        return cls(float(paired.mean()), float(error))

    def __neg__(self) -> "Comparison":
        return Comparison(-self.mean, self.error)

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
        """Per cent points, such as "+0.21 ± 0.08"."""
        return f"{100 * self.mean:+.2f}" + ("" if np.isnan(self.error) else f" ± {100 * self.error:.2f}")


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
    from scipy import stats  # Slow to import, and seldom needed.

    ranks = [stats.rankdata(values) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])
