"""Choosing a window of ranks without clean labels: what to hold out, and which offset did best on it."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from diet_jax.checks.values import check_array, check_key, check_number
from diet_jax.errors import InputError
from diet_jax.selection.groups import places_within
from diet_jax.types import AnyArray, PRNGKey


def held_out(key: PRNGKey, labels: Any, fraction: float) -> np.ndarray:
    """Chooses a random share of the train split to judge on, stratified by label.

    Of each class with `n_k` examples `n_k * fraction` are held out, rounded down or up so that the total is
    `floor(n * fraction + 1/2)`: those with the largest remainders are rounded up.

    Args:
        key: decides which.
        labels: int `[n]`, the labels there are; noisy ones will do.
        fraction: share to hold out, above 0 and below 1.

    Returns:
        bool `[n]`, True = held out: train on the others only.

    Raises:
        InputError: labels are no vector of integers, the fraction is out of range or holds out no example,
            or all examples of a class.

    Example:
        >>> import jax, numpy as np
        >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> mask = held_out(jax.random.key(0), labels, 0.5)
        >>> np.bincount(labels[mask]).tolist()
        [2, 2]
    """
    check_key(key)
    labels = np.asarray(check_array(labels, "labels", "...", "anything"))
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels must be integers [n], got {labels.dtype} of shape {labels.shape}")
    check_number(fraction, "held-out fraction", above=0, below=1)
    total = math.floor(len(labels) * fraction + 0.5)
    if total == 0:
        raise InputError(f"held-out fraction {fraction} of {len(labels)} examples holds out none; raise it")
    classes, positions, counts = np.unique(labels, return_inverse=True, return_counts=True)
    quota = counts * fraction
    taken = np.floor(quota).astype(np.int64)
    by_remainder = np.argsort(taken - quota, kind="stable")
    taken[by_remainder[: total - taken.sum()]] += 1
    emptied = np.flatnonzero(taken == counts)
    if len(emptied):
        raise InputError(
            f"held-out fraction {fraction} holds out all {counts[emptied[0]]} examples of class "
            f"{classes[emptied[0]]}; lower it"
        )
    at_random = np.argsort(np.asarray(jax.random.bits(key, (len(labels),), "uint32")), kind="stable")
    return places_within(positions, at_random) < taken[positions]


class BestWindow(NamedTuple):
    """The offset with the highest held-out accuracy, and how sure that is."""

    best: int
    """Index of the offset with the highest mean; the first of equal ones."""
    mean: np.ndarray
    """float64 `[o]`, mean accuracy over seeds."""
    standard_error: np.ndarray
    """float64 `[o]`, of the mean: sample standard deviation over `√s`; NaN for a single seed."""

    @property
    def within_one_standard_error(self) -> np.ndarray:
        """bool `[o]`: offsets whose mean is at most one standard error of the best's below it."""
        return self.mean >= self.mean[self.best] - np.nan_to_num(self.standard_error[self.best])


def best_window(accuracies: Float[AnyArray, "o s"]) -> BestWindow:
    """Returns which of several offsets did best on held-out examples.

    Their labels may be as noisy as the others: if noise takes a right label to each other class equally
    often, at a rate `r < 1 - 1/c`, an accuracy `a` is seen as `a (1 - r) + (1 - a) r / (c - 1)` on average,
    which rises with `a`. So offsets are in the same order as on clean labels, only closer together.

    Args:
        accuracies: float `[o s]`, held-out accuracy for each offset and seed.

    Returns:
        Index of the best offset; means and standard errors over seeds, float64 `[o]`.

    Raises:
        InputError: not a matrix of finite numbers with at least one offset and one seed.

    Paper: section 4 chooses the window by test accuracy; this needs no test split.

    Example:
        >>> import numpy as np
        >>> choice = best_window(np.array([[0.5, 0.6], [0.8, 0.6], [0.7, 0.65]]))
        >>> choice.best, choice.within_one_standard_error.tolist()
        (1, [False, True, True])
    """
    values = np.asarray(check_array(accuracies, "accuracies", "...", "numbers"), np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"accuracies must have shape [offsets seeds], none of them 0; got {values.shape}")
    if not np.isfinite(values).all():
        row, seed = np.argwhere(~np.isfinite(values))[0]
        raise InputError(f"accuracies must be finite, got {values[row, seed]} for offset {row}, seed {seed}")
    seeds = values.shape[1]
    mean = values.mean(axis=1)
    spread = values.std(axis=1, ddof=1) if seeds > 1 else np.full(len(mean), np.nan)
    return BestWindow(int(np.argmax(mean)), mean, spread / math.sqrt(seeds))
