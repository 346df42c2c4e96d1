"""Sampling by a Beta density over prediction means, the more of easy examples the fewer are kept (DUAL)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.checks.values import check_number
from diet_jax.errors import InputError
from diet_jax.selection.masks import checked_scores, num_kept
from diet_jax.selection.ranks import keep_lowest, random_bits, ranked_rows
from diet_jax.selection.rule import RULES, Rule
from diet_jax.types import PRNGKey

# The Beta density's parameters sum up to this and one.
CONCENTRATION = 15.0
# So many of the highest scores say where the density peaks for the largest fractions.
ANCHORS = 10
# Densities at 0 and 1 may be 0 or infinite.
MARGIN = 1e-6


def keep_beta(
    scores: Any, doubt: Any, fraction: float, *, adaption: float = 4.0, key: PRNGKey | None = None
) -> np.ndarray:
    """Draws examples with a chance in proportion to score times a Beta density of their prediction mean.

    With `μ = 1 − doubt`, the pruned share `r = 1 − fraction`, and `μ_D` the mean of μ over the ten highest
    scores, the density is that of `Beta(16 − β, β)` with `β = 15 (1 − μ_D) (1 − r^c)`: where nearly all is
    kept it peaks near the prediction means of the highest scores, and the more is pruned, the nearer to 1,
    the easy examples. They are drawn one after the other without replacement.

    Args:
        scores: float `[n]`, at least 0, high = keep; in the paper DUAL.
        doubt: float `[n]`, 1 minus the mean probability of the example's class, from 0 to 1; minus that mean,
            from -1 to 0, is taken for the same.
        fraction: share to keep, above 0 and at most 1.
        adaption: c, at least 0. The authors' command for CIFAR-100 has 4.
        key: draws.

    Returns:
        bool `[n]`, True = train on it; exactly `num_kept(n, fraction)` are True. Examples with score 0 are
        kept where there are too few others, at random.

    Raises:
        InputError: a negative score, or a doubt out of range.

    Paper: Cho et al. 2025 (DUAL), the sampling of their section on Beta sampling.

    Example:
        >>> keep_beta([1.0, 2.0, 0.0, 3.0], [0.5, 0.4, 0.1, 0.2], 0.75).tolist()
        [True, True, False, True]
    """
    from scipy.special import xlog1py, xlogy

    scores, doubt = checked_scores(scores), checked_scores(doubt)
    check_number(adaption, "adaption", least=0)
    num_kept(len(scores), fraction)
    if len(doubt) != len(scores):
        raise InputError(f"scores and doubt must be of the same examples, got {len(scores)} and {len(doubt)}")
    if scores.min() < 0:
        raise InputError(
            f"the first score of Beta sampling is a weight and must be at least 0, got {scores.min()}; give "
            f"DUAL's, or another that has no sign"
        )
    mean = -doubt if doubt.max() <= 0 and doubt.min() >= -1 and doubt.min() < 0 else 1 - doubt
    if mean.min() < 0 or mean.max() > 1:
        raise InputError(
            f"the second score of Beta sampling must be 1 minus a mean probability, from 0 to 1; got from "
            f"{doubt.min():g} to {doubt.max():g}"
        )
    anchors = mean[ranked_rows(scores, key)[-ANCHORS:]]
    beta = CONCENTRATION * (1 - anchors.mean()) * (1 - (1 - fraction) ** adaption)
    alpha = CONCENTRATION + 1 - beta
    within = np.clip(mean, MARGIN, 1 - MARGIN)
    log_density = xlogy(alpha - 1, within) + xlog1py(beta - 1, -within)
    shares = (random_bits(key, len(scores)) + 0.5) / 2**32
    with np.errstate(divide="ignore"):
        # The lowest of exponential times with these rates come in the order of such draws.
        times = np.log(-np.log(shares)) - log_density - np.log(scores)
    return keep_lowest(times, fraction, key=key)


@dataclass(frozen=True)
class BetaOptions:
    """Options of the rule "beta"."""

    adaption: float = 4.0
    """How late, as more is pruned, easy examples come in: c, at least 0."""

    def __post_init__(self) -> None:
        check_number(self.adaption, "adaption", least=0)


BETA = RULES.register(
    Rule(
        name="beta",
        words="a draw by score (the first) and a Beta density of the prediction mean (1 minus the second)",
        reference="Cho et al. 2025 (DUAL)",
        select=keep_beta,
        num_scores=2,
        options=BetaOptions(),
        about=lambda adaption: (
            f"drawn by score and a Beta density of prediction means (adaption {adaption:g})"
        ),
    )
)
