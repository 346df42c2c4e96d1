"""Accuracy against keep fraction and against cost, the table, and what it says."""

from typing import Any

from diet_jax.analysis.reading import verdicts
from diet_jax.analysis.results import FULL, LEGEND, headings, to_cells
from diet_jax.plotting.accuracy import by_rule, levels_of, seeds_note, series_of
from diet_jax.plotting.costs import WIDE, front
from diet_jax.plotting.style import styles_of
from diet_jax.report.contents import Contents
from diet_jax.report.joined import Joined
from diet_jax.report.sections.section import Section


def build_accuracy(joined: Joined) -> dict[str, Any] | None:
    """Returns a panel for each run and rule, with a series for each score, and the tables."""
    runs = [run for run in joined.runs if run.rows]
    if not runs:
        return None
    looks = styles_of(list(dict.fromkeys(_name(row) for run in runs for row in run.rows)))
    shown = {
        name: {"label": look.label, "color": look.color, "marker": look.marker, "baseline": look.baseline}
        for name, look in looks.items()
    }
    return {
        "looks": shown,
        "panels": [panel for run in runs for panel in _panels(joined, run)],
        "tables": [_table(run) for run in runs],
        "legend": LEGEND,
    }


def _name(row: dict[str, Any]) -> str:
    return row["score"] or row["kept_by"]


def _panels(joined: Joined, run: Contents) -> list[dict[str, Any]]:
    parts = [row for row in run.rows if row["kept_by"] != FULL]
    known = [row["cost"] for row in run.rows if row["cost"] is not None]
    points = [(row["cost"], row["accuracy"]) for row in run.rows if row["cost"] is not None]
    panels = []
    for rule, rows in by_rule(parts):
        series = series_of(rows, "keep_fraction")
        costs = {each["name"]: each["x"] for each in series_of(rows, "cost")}
        for each in series:
            each["fraction"] = each.pop("x")
            each["cost"] = costs[each["name"]]
        panels.append(
            {
                "title": joined.called(run, rule or "what was kept"),
                "series": series,
                "levels": levels_of(run.rows),
                "front": [list(point) for point in front(points)],
                "log_cost": bool(known) and max(known) > WIDE * min(known),
            }
        )
    return panels


def _table(run: Contents) -> dict[str, Any]:
    return {
        "run": run.name,
        "head": list(headings(run.rows)),
        "lines": [list(cells) for cells in to_cells(run.rows)],
        "rows": run.rows,
        "verdicts": verdicts(run.rows),
        "note": seeds_note(run.rows),
    }


ACCURACY = Section("accuracy", "Accuracy", build_accuracy)
