"""Accuracy against keep fraction, with everything and random to compare."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diet_jax.analysis.results import FULL
from diet_jax.errors import InputError
from diet_jax.plotting.result import draw_result
from diet_jax.plotting.style import styles_of

COLUMNS = {"mean": "accuracy", "low": "accuracy_p16", "high": "accuracy_p84"}


def draw_accuracy(rows: list[dict[str, Any]], *, title: str) -> Figure:
    """Draws final test accuracy against keep fraction, a line per selection.

    Args:
        rows: what `results.to_rows` returns.
        title: what was trained on what.

    Returns:
        A figure of one axes: a line per selection in per cent, and everything as a level; of a single keep
        fraction, a point with its band per selection, by name.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError("there are no rows to draw; retrain at least one selection first")
    kept: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kept.setdefault(row["kept_by"], []).append(row)
    full = kept.pop(FULL, [])
    fractions = sorted({row["keep_fraction"] for lines in kept.values() for row in lines})
    of = f" of the {full[0]['examples']:,} training examples" if full else ""
    one, looks = len(fractions) == 1, styles_of(list(kept))
    panel = {
        "title": "what was kept: everything, by lot, or by a score",
        "x_label": f"by what {fractions[0]:g}{of} is kept" if one else f"keep fraction{of}",
        "y_label": "final test accuracy",
        "percent": True,
        "x_scale": _scale(fractions),
        "beside": True,
        "names": [looks[name].label for name in kept] if one else None,
        "series": [
            {"name": name, "x": [place] if one else [row["keep_fraction"] for row in lines]}
            | {key: [row[column] for row in lines] for key, column in COLUMNS.items()}
            for place, (name, lines) in enumerate(kept.items())
        ],
        "levels": [{"name": FULL} | {key: row[column] for key, column in COLUMNS.items()} for row in full],
    }
    note = seeds_note(rows)
    if len(fractions) > 1 and len(kept) > 1:
        note += " Points of a fraction stand side by side."
    return draw_result({"title": title, "note": note, "chart": {"kind": "lines", "panels": [panel]}})


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
