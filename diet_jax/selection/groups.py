"""Shares of groups, such as classes or strata: how many of each are kept, and which."""

import numpy as np


def group_counts(sizes: np.ndarray, count: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns how many of each group are kept: `min(size, t·weight)`, with the t that keeps `count` in all.

    What a group cannot give, the others give, in proportion to their weights; groups of weight 0 only give
    what all others together cannot, in proportion to their sizes. Shares are rounded down, and what is then
    missing comes from those with the largest remainders, of equal ones from the largest groups.

    Args:
        sizes: int `[g]`, how many there are of each group; 0 is allowed.
        count: how many are kept in all, at most the sum of the sizes.
        weights: float `[g]`, at least 0; by default all equal.

    Returns:
        int64 `[g]`, their sum is `count`.

    Example:
        >>> group_counts(np.array([2, 10, 10]), 10).tolist()
        [2, 4, 4]
        >>> group_counts(np.array([10, 10, 10]), 10, np.array([0.0, 1.0, 3.0])).tolist()
        [0, 3, 7]
    """
    sizes = np.asarray(sizes, np.int64)
    weights = np.ones(len(sizes)) if weights is None else np.asarray(weights, np.float64)
    exact, free, left = np.zeros(len(sizes)), sizes > 0, float(count)
    # Each turn fills a group, or ends: what is left is below one example by far.
    while left > 1e-6 and free.any():
        share = np.where(free, weights, 0.0)
        if not share.any():
            share = np.where(free, sizes, 0.0)
        exact += left * share / share.sum()
        left = float((exact - sizes).clip(min=0).sum())
        exact = np.minimum(exact, sizes)
        free &= exact < sizes
    kept = np.floor(exact + 1e-6).astype(np.int64)
    # Rounded: equal shares have equal remainders whatever the order of the sums.
    remainder = np.round(exact - kept, 6)
    order = np.lexsort((-sizes, -remainder))
    order = order[kept[order] < sizes[order]]
    kept[order[: count - kept.sum()]] += 1
    return kept


def places_within(groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the place of each example among those of its group, from 0, in an order of all rows: int `[n]`.

    Args:
        groups: int `[n]`, at least 0.
        rows: int `[n]`, all rows, in the order that decides.

    Example:
        >>> places_within(np.array([0, 1, 0, 1]), np.array([3, 2, 1, 0])).tolist()
        [1, 1, 0, 0]
    """
    grouped = rows[np.argsort(groups[rows], kind="stable")]
    counts = np.bincount(groups)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    places = np.empty(len(rows), np.int64)
    places[grouped] = np.arange(len(rows)) - first
    return places
