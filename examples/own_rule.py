"""Your own selection rule, over two scores: it keeps what ranks high by their average rank.

Command: python examples/own_rule.py
         diet-jax run examples/own_rule.py --select.mean-rank.weight 0.8
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

import diet_jax as dj


@dataclass(frozen=True)
class MeanRankOptions:
    """Options of the rule; they become options of configs and of the command line."""

    weight: float = 0.5
    """Of the first score's ranks; the second's is 1 minus it."""


def keep_mean_rank(first, second, fraction, *, key, weight):
    """Keeps the share of examples with the highest weighted mean of their ranks by two scores: bool [n]."""
    mean = weight * rankdata(first) + (1 - weight) * rankdata(second)
    return dj.keep_highest(mean, fraction, key=key)


def about(weight):
    """Says what a reader of the result must know."""
    return f"the highest mean ranks kept, weight {weight:g}"


MEAN_RANK = dj.RULES.register(
    dj.Rule(
        name="mean_rank",
        words="the highest mean ranks of two scores",
        reference="none",
        select=keep_mean_rank,
        num_scores=2,
        options=MeanRankOptions(),
        about=about,
    )
)

CONFIG = dj.RunConfig(
    run_dir="runs/own-rule", select=dj.SelectConfig(method="mean_rank", fractions=(0.3, 0.5))
)

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    one, other = rng.random(1000), rng.random(1000)
    keep = MEAN_RANK(one, other, fraction=0.3)
    print(f"kept {keep.sum()} of {len(keep)}; means {one[keep].mean():.3f}, {other[keep].mean():.3f}")
