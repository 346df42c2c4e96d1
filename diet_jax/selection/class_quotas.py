"""More of the classes that a network gets wrong (DRoP): quotas of classes, at random or by a score within."""

from typing import Any

import numpy as np

from diet_jax.selection.groups import group_counts, places_within
from diet_jax.selection.masks import checked_scores, num_kept
from diet_jax.selection.ranks import random_rows, ranked_rows
from diet_jax.selection.rule import RULES, Rule
from diet_jax.types import PRNGKey


def keep_class_quotas(
    fraction: float, *, labels: Any, class_errors: Any, key: PRNGKey | None = None
) -> np.ndarray:
    """Keeps a share of each class in proportion to its error, at random within the class: DRoP.

    Of a class with `n_k` examples and error `e_k` are kept `n_k min(1, t e_k)`, with the t that keeps
    `fraction` of all. Of a class without errors nothing is kept before the others are used up: a minimum per
    class (`select.min_per_class`) sees to it that some are.

    Args:
        fraction: share to keep, above 0 and at most 1.
        labels: int `[n]`.
        class_errors: float `[c]`, from 0 to 1, the share of each class that a network trained on everything
            gets wrong; in the paper on a validation set. A run measures them on the train examples, where all
            are lower, and those of classes that are learned by heart the most.
        key: draws.

    Returns:
        bool `[n]`, True = train on it; exactly `num_kept(n, fraction)` are True.

    Raises:
        InputError: the fraction is out of range.

    Paper: Vysogorets et al. 2025 (DRoP), algorithm 1.

    Example:
        >>> import numpy as np
        >>> labels = np.repeat([0, 1], 10)
        >>> keep = keep_class_quotas(0.4, labels=labels, class_errors=np.array([0.1, 0.3]))
        >>> np.bincount(labels[keep]).tolist()
        [2, 6]
    """
    labels = np.asarray(labels)
    return _quotas(labels, class_errors, fraction, random_rows(key, len(labels)))


def keep_class_quotas_highest(
    scores: Any, fraction: float, *, labels: Any, class_errors: Any, key: PRNGKey | None = None
) -> np.ndarray:
    """Keeps a share of each class in proportion to its error, those with the highest scores of the class.

    Args:
        scores: float `[n]`, NaN-free.
        key: decides between equal scores.

    The others, Returns and Raises as for `keep_class_quotas`.

    Paper: Vysogorets et al. 2025 (DRoP), algorithm 1, with other pruning within classes.

    Example:
        >>> import numpy as np
        >>> labels, errors = np.repeat([0, 1], 3), np.array([0.2, 0.4])
        >>> keep_class_quotas_highest(np.arange(6.0), 0.5, labels=labels, class_errors=errors).tolist()
        [False, False, True, False, True, True]
    """
    scores = checked_scores(scores)
    return _quotas(np.asarray(labels), class_errors, fraction, ranked_rows(scores, key)[::-1])


def _quotas(labels: np.ndarray, class_errors: Any, fraction: float, rows: np.ndarray) -> np.ndarray:
    """Keeps the first of each class, in an order of all rows."""
    count = num_kept(len(labels), fraction)
    errors = np.asarray(class_errors, np.float64)
    there = np.bincount(labels, minlength=len(errors))
    return places_within(labels, rows) < group_counts(there, count, there * errors)[labels]


CLASS_QUOTAS = RULES.register(
    Rule(
        name="class_quotas",
        words="shares of classes in proportion to their error, at random within each",
        reference="Vysogorets et al. 2025 (DRoP), algorithm 1",
        select=keep_class_quotas,
        num_scores=0,
        reads=("labels", "class_errors"),
        about=lambda: "shares of classes kept in proportion to their error, at random within each",
    )
)

CLASS_QUOTAS_HIGHEST = RULES.register(
    Rule(
        name="class_quotas_highest",
        words="shares of classes in proportion to their error, the highest scores of each",
        reference="Vysogorets et al. 2025 (DRoP), algorithm 1, with others within classes",
        select=keep_class_quotas_highest,
        reads=("labels", "class_errors"),
        about=lambda: "shares of classes kept in proportion to their error, the highest scores of each",
    )
)
