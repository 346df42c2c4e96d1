"""Accuracy against keep fraction, with everything and random to compare."""

import os
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diet_jax.analysis.results import FULL
from diet_jax.errors import InputError
from diet_jax.plotting.result import draw_result
from diet_jax.plotting.style import save_figure

COLUMNS = {"mean": "accuracy", "low": "accuracy_p16", "high": "accuracy_p84"}


def accuracy_figure(rows: list[dict[str, Any]], path: str | os.PathLike[str], *, title: str) -> None:
    """Draws final test accuracy against keep fraction, a line per selection, as PNG.

    Args:
        rows: what `results.to_rows` returns.
        path: where to write, whole or not at all.
        title: what was trained on what.

    Raises:
        InputError: there are no rows, or the file cannot be written.
    """
    save_figure(draw_accuracy(rows, title=title), path)


def draw_accuracy(rows: list[dict[str, Any]], *, title: str) -> Figure:
    """Builds the figure of `accuracy_figure`.

    Args:
        rows: what `results.to_rows` returns.
        title: what was trained on what.

    Returns:
        A figure of one axes: a line per selection in per cent, and everything as a level.

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
    panel = {
        "title": "what was kept: everything, by lot, or by a score",
        "x_label": f"keep fraction{of}",
        "y_label": "final test accuracy",
        "percent": True,
        "x_scale": _scale(fractions),
        "series": [
            {"name": name, "x": [row["keep_fraction"] for row in lines]}
            | {key: [row[column] for row in lines] for key, column in COLUMNS.items()}
            for name, lines in kept.items()
        ],
        "levels": [{"name": FULL} | {key: row[column] for key, column in COLUMNS.items()} for row in full],
    }
    chart = {"kind": "lines", "panels": [panel]}
    return draw_result({"title": title, "note": _seeds_note(rows), "chart": chart})


def _scale(fractions: list[float]) -> str:
    """A log axis where fractions would be too close on a linear one."""
    if len(fractions) < 2:
        return "linear"
    close = np.diff(fractions).min() < 0.05 * (fractions[-1] - fractions[0])
    return "log" if close and fractions[-1] > 20 * fractions[0] else "linear"


def _seeds_note(rows: list[dict[str, Any]]) -> str:
    fewest, most = min(row["seeds"] for row in rows), max(row["seeds"] for row in rows)
    if most == 1:
        return "One seed each: no band."
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"Mean over {count} seeds; bands show the 16th to 84th percentile over seeds."
