"""How groups of seeds agree: against seeds in a group, and against the step of the scores."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from diet_jax.errors import InputError
from diet_jax.plotting.result import draw_result


def draw_stability(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draws rank correlation and share kept in common of disjoint groups of seeds.

    Args:
        rows: `{"score", "step", "seeds", "correlation", "kept"}` of each score file and group size: a pair
            (mean, standard error), and such pairs by keep fraction. A step is None where it is not known.

    Returns:
        A figure with an axes for the correlation and one for each keep fraction, against seeds in a group;
        where there are several steps, as many again against the step, of the largest groups that all have.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError("there are no rows to draw; measure the stability of a score file first")
    fractions = list(rows[0]["kept"])
    steps = sorted({row["step"] for row in rows if row["step"] is not None})
    sizes = [{row["seeds"] for row in rows if row["step"] == step} for step in steps]
    largest = max(set.intersection(*sizes)) if len(steps) > 1 and set.intersection(*sizes) else None
    panels = _panels(rows, fractions, "seeds", "seeds in a group")
    if largest is not None:
        same = [row for row in rows if row["seeds"] == largest and row["step"] is not None]
        panels += _panels(same, fractions, "step", f"step of the scores ({largest} seeds in a group)")
    note = "Groups of seeds with none in common. Bands: one standard error, by the jackknife over seeds."
    return draw_result(
        {
            "title": "How much scores depend on their seeds",
            "note": note,
            "chart": {"kind": "lines", "panels": panels},
        }
    )


def _panels(
    rows: Sequence[dict[str, Any]], fractions: Sequence[float], x: str, label: str
) -> list[dict[str, Any]]:
    """One panel for the correlation, and one for each keep fraction, against a column."""
    several = x == "seeds" and len({row["step"] for row in rows}) > 1

    def named(row: dict[str, Any]) -> str:
        return (
            f"{row['score']}, step {row['step']:,}" if several and row["step"] is not None else row["score"]
        )

    def panel(title: str, y_label: str, of: Any) -> dict[str, Any]:
        series = []
        for name in dict.fromkeys(map(named, rows)):
            own = sorted((row for row in rows if named(row) == name), key=lambda row: row[x])
            means, errors = zip(*(tuple(of(row)) for row in own), strict=True)
            low, high = ([m + sign * e for m, e in zip(means, errors, strict=True)] for sign in (-1, 1))
            series.append(
                {"name": name, "x": [row[x] for row in own], "mean": means, "low": low, "high": high}
            )
        return {"title": title, "x_label": label, "y_label": y_label, "series": series}

    return [
        panel("rank correlation", "of the means of two groups", lambda row: row["correlation"]),
        *(
            panel(f"keep {fraction:g}", "share that both groups keep", lambda row, f=fraction: row["kept"][f])
            for fraction in fractions
        ),
    ]
