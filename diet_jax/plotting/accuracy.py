"""Accuracy against keep fraction, with everything and random to compare."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diet_jax.analysis.results import FULL
from diet_jax.errors import InputError
from diet_jax.plotting.result import draw_result
from diet_jax.plotting.style import styles_of

WHAT = "what was kept: everything, by lot, or by a score"
COLUMNS = {"mean": "accuracy", "low": "accuracy_p16", "high": "accuracy_p84"}


def draw_accuracy(rows: list[dict[str, Any]], *, title: str) -> Figure:
    """Draws final test accuracy against keep fraction, a line per selection.

    Args:
        rows: what `results.to_rows` returns.
        title: what was trained on what.

    Returns:
        A figure of an axes per rule: a line per selection in per cent, and everything as a level; of a single
        keep fraction, one axes with a point and its band per selection, by name.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError("there are no rows to draw; retrain at least one selection first")
    parts, full = [row for row in rows if row["kept_by"] != FULL], levels_of(rows)
    fractions = sorted({row["keep_fraction"] for row in parts})
    of = next(
        (f" of the {row['examples']:,} training examples" for row in rows if row["kept_by"] == FULL), ""
    )
    common = {"y_label": "final test accuracy", "percent": True, "levels": full, "beside": True}
    note = seeds_note(rows)
    if len(fractions) == 1:
        names = [row["kept_by"] for row in parts]
        looks = styles_of(names)
        panels = [
            {
                "title": WHAT,
                "x_label": f"by what {fractions[0]:g}{of} is kept",
                **common,
                "names": [looks[name].label for name in names],
                "series": [
                    {"name": row["kept_by"], "x": [place]} | {key: [row[of]] for key, of in COLUMNS.items()}
                    for place, row in enumerate(parts)
                ],
            }
        ]
    else:
        panels = [
            {
                "title": rule or WHAT,
                "x_label": f"keep fraction{of}",
                **common,
                "x_scale": _scale(fractions),
                "series": series_of(group, "keep_fraction"),
            }
            for rule, group in by_rule(parts)
        ]
        if len(parts) > len(fractions) > 1:
            note += " Points of a fraction stand side by side."
    return draw_result({"title": title, "note": note, "chart": {"kind": "lines", "panels": panels}})


def by_rule(rows: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Returns a title and the rows for each rule, those of baselines among them; one group for one rule."""
    rules = list(dict.fromkeys(row["rule"] for row in rows if row["rule"]))
    if len(rules) < 2:
        return [("", rows)]
    return [
        (f"kept by the rule {rule.replace('_', ' ')}", [row for row in rows if row["rule"] in ("", rule)])
        for rule in rules
    ]


def series_of(rows: list[dict[str, Any]], x: str) -> list[dict[str, Any]]:
    """Returns a series for each score or baseline, by rising keep fraction, against a column of the rows."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["keep_fraction"]):
        groups.setdefault(row["score"] or row["kept_by"], []).append(row)
    order = dict.fromkeys(row["score"] or row["kept_by"] for row in rows)
    return [
        {"name": name, "x": [row[x] for row in groups[name]]}
        | {key: [row[column] for row in groups[name]] for key, column in COLUMNS.items()}
        for name in order
    ]


def levels_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns everything as a level, if it is there."""
    return [
        {"name": FULL} | {key: row[column] for key, column in COLUMNS.items()}
        for row in rows
        if row["kept_by"] == FULL
    ]


def _scale(fractions: list[float]) -> str:
    """A log axis where fractions would be too close on a linear one."""
    if len(fractions) < 2:
        return "linear"
    close = np.diff(fractions).min() < 0.05 * (fractions[-1] - fractions[0])
    return "log" if close and fractions[-1] > 20 * fractions[0] else "linear"


def seeds_note(rows: list[dict[str, Any]]) -> str:
    """Says over how many seeds the rows are, and what a band is."""
    fewest, most = min(row["seeds"] for row in rows), max(row["seeds"] for row in rows)
    if most == 1:
        return "One seed each: no band."
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    of = f" of {rows[0]['of_seeds']}" if "of_seeds" in rows[0] else ""
    return f"Mean over {count}{of} seeds; bands show the 16th to 84th percentile over seeds."
