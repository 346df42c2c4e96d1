"""Accuracy against what it costs, scoring included: which selections no other one beats at their price."""

from typing import Any

from matplotlib.figure import Figure

from diet_jax.analysis.results import FULL
from diet_jax.errors import InputError
from diet_jax.plotting.accuracy import WHAT, by_rule, levels_of, seeds_note, series_of
from diet_jax.plotting.result import draw_result

# Costs further apart than this have a log axis.
WIDE = 8.0


def draw_costs(rows: list[dict[str, Any]], *, title: str) -> Figure:
    """Draws final test accuracy against cost, a panel for each rule and a line for each score.

    Args:
        rows: what `results.to_rows` returns; those whose costs are not known are left out.
        title: what was trained on what.

    Returns:
        A figure with an axes per rule. Points are joined by rising keep fraction; baselines, and the steps
        below which something else is as good for less, are those of the whole table in each panel.

    Raises:
        InputError: no row has a cost.
    """
    known = [row for row in rows if row["cost"] is not None]
    if not known:
        raise InputError("no row has a cost to draw; retrain at least one selection of a run first")
    parts, costs = [row for row in known if row["kept_by"] != FULL], [row["cost"] for row in known]
    panels = [
        {
            "title": rule or WHAT,
            "x_label": "scoring and one retraining, in trainings on everything",
            "y_label": "final test accuracy",
            "percent": True,
            "x_scale": "log" if max(costs) > WIDE * min(costs) else "linear",
            "series": series_of(group, "cost"),
            "levels": levels_of(known),
            "front": front([(row["cost"], row["accuracy"]) for row in known]),
        }
        for rule, group in by_rule(parts)
    ]
    left = len(rows) - len(known)
    fractions = ", ".join(f"{fraction:g}" for fraction in sorted({row["keep_fraction"] for row in parts}))
    note = f"{seeds_note(rows)} Along a line the keep fraction rises: {fractions}."
    note += " Dotted: what no selection in any panel beats at its price or below."
    note += f" {left} rows by scores that were made elsewhere have no known cost." if left else ""
    return draw_result({"title": title, "note": note, "chart": {"kind": "costs", "panels": panels}})


def front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the points (cost, accuracy) to which no other is preferable: none is as cheap and better.

    Example:
        >>> front([(1.0, 0.9), (0.5, 0.8), (0.7, 0.7), (1.2, 0.9), (0.5, 0.6)])
        [(0.5, 0.8), (1.0, 0.9)]
    """
    found: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or accuracy > found[-1][1]:
            found.append((cost, accuracy))
    return found
