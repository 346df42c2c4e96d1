"""What a table of results says: accuracies by selection and keep fraction, mean ranks, what beat random."""

from typing import Any

import numpy as np

from diet_jax.analysis.results import FULL, significant
from diet_jax.analysis.statistics import ERRORS_THAT_COUNT, SIGNIFICANT, errors_to_be_significant
from diet_jax.errors import counted

UP, DOWN = "↑", "↓"
BUDGETS = {
    "equal_steps": "equal steps: whatever is kept, a training has as many steps as one on everything",
    "equal_epochs": "equal epochs: a training on a part has as many passes over it, and so fewer steps",
}


def mean_ranks(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the rank of each selection by accuracy at its keep fraction, averaged over fractions.

    Args:
        rows: what `to_rows` returns; everything has no rank.

    Returns:
        By what was kept; 1 is the best, ties share their mean rank. Selections that are not there at every
        fraction are left out.

    Example:
        >>> rows = [("a", 0.1, 0.5), ("b", 0.1, 0.6), ("a", 0.2, 0.7), ("b", 0.2, 0.7)]
        >>> keys = "kept_by", "keep_fraction", "accuracy"
        >>> mean_ranks([dict(zip(keys, row)) for row in rows])
        {'a': 1.75, 'b': 1.25}
    """
    ranks: dict[str, list[float]] = {}
    fractions = _by_fraction(rows)
    for group in fractions.values():
        accuracies = np.array([row["accuracy"] for row in group])
        for row in group:
            above = np.count_nonzero(accuracies > row["accuracy"])
            equal = np.count_nonzero(accuracies == row["accuracy"])
            ranks.setdefault(row["kept_by"], []).append(1 + above + (equal - 1) / 2)
    return {name: float(np.mean(of)) for name, of in ranks.items() if len(of) == len(fractions)}


def pivot(rows: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns accuracies in per cent as text: a line per score and rule, a column per keep fraction.

    An arrow says that it is significantly above or below random; the last column is the mean rank.

    Args:
        rows: what `to_rows` returns.

    Returns:
        The headings, and the lines: everything, then the best mean rank first.
    """
    fractions, ranks = _by_fraction(rows), mean_ranks(rows)
    cells = {(row["kept_by"], row["keep_fraction"]): _cell(row) for row in rows}
    heads = ("accuracy, %", *(f"keep {fraction:g}" for fraction in fractions), "mean rank")
    lines = [
        (FULL, *(_cell(row) for _ in fractions), "") for row in rows if row["kept_by"] == FULL and fractions
    ]
    names = dict.fromkeys(row["kept_by"] for group in fractions.values() for row in group)
    for name in sorted(names, key=lambda name: ranks.get(name, float("inf"))):
        rank = f"{ranks[name]:.1f}" if name in ranks else ""
        lines.append((name, *(cells.get((name, fraction), "") for fraction in fractions), rank))
    return heads, lines


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Returns a sentence for each keep fraction: which selections beat random, and which lost to it.

    What beat it or lost to it did so significantly: by a paired t-test over seeds with Holm's correction for
    all comparisons with random in the table. Others beyond 2 standard errors are named apart.

    Args:
        rows: what `to_rows` returns.

    Returns:
        Sentences without a full stop, the last one about what so few seeds cannot show.
    """
    said = []
    for fraction, group in _by_fraction(rows).items():
        found: dict[str, list[str]] = {}
        for row in group:
            if row["minus_random"] is not None:
                found.setdefault(_verdict(row), []).append(row["kept_by"])
        parts = [f"{verdict} {', '.join(found[verdict])}" for verdict in ORDER if verdict in found]
        if parts:
            said.append(f"keep {fraction:g}: {'; '.join(parts)}")
    return [*said, _power(rows)] if said else []


ORDER = (
    "beat random:",
    "lost to random:",
    f"above it by more than {ERRORS_THAT_COUNT:g} standard errors, not significantly:",
    f"below it by more than {ERRORS_THAT_COUNT:g} standard errors, not significantly:",
    "not told apart from it:",
)


def _verdict(row: dict[str, Any]) -> str:
    above, below, near_above, near_below, neither = ORDER
    gain = row["minus_random"]
    if significant(row, "random"):
        return above if gain > 0 else below
    # With one seed there is no error, and nothing is told apart.
    if abs(gain) > ERRORS_THAT_COUNT * row["minus_random_error"]:
        return near_above if gain > 0 else near_below
    return neither


def _power(rows: list[dict[str, Any]]) -> str:
    compared = [row for row in rows if row["minus_random_p"] is not None]
    if not compared:
        return "nothing is told from chance: that takes at least two seeds (retrain.num_seeds)"
    seeds = max(row["seeds"] for row in compared)
    needed = errors_to_be_significant(seeds, len(compared))
    error = float(np.median([row["minus_random_error"] for row in compared]))
    points = f"{100 * needed * error:.2f} points" if needed * error < 1 else "more than 100 points"
    return (
        f"with {seeds} seeds and {counted(len(compared), 'comparison')} with random, the clearest is "
        f"significant at {SIGNIFICANT:g} (paired t-test, Holm) from {needed:.1f} standard errors on, which "
        f"is {points} of difference at the median error here; more seeds (retrain.num_seeds) tell smaller "
        f"ones"
    )


def _cell(row: dict[str, Any]) -> str:
    arrow = ""
    if row["minus_random"] is not None and significant(row, "random"):
        arrow = UP if row["minus_random"] > 0 else DOWN
    return f"{100 * row['accuracy']:.2f}{arrow}"


def _by_fraction(rows: list[dict[str, Any]]) -> dict[float, list[dict[str, Any]]]:
    """The rows of each keep fraction, ascending, without everything."""
    groups: dict[float, list[dict[str, Any]]] = {}
    for row in sorted((r for r in rows if r["kept_by"] != FULL), key=lambda row: row["keep_fraction"]):
        groups.setdefault(row["keep_fraction"], []).append(row)
    return groups
