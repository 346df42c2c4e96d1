"""Accuracy against keep fraction, with everything and random to compare."""

import math
import os
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from diet_jax.analysis.results import FULL, RANDOM
from diet_jax.errors import InputError
from diet_jax.plotting.style import (
    NOTE,
    STYLES,
    TITLE,
    Style,
    plain,
    save_figure,
    styles_of,
    wrap,
)


def accuracy_figure(rows: list[dict[str, Any]], path: str | os.PathLike[str], *, title: str) -> None:
    """Draws final test accuracy against keep fraction, a line per selection, as PNG.

    Args:
        rows: what `tables.to_rows` returns.
        path: where to write, whole or not at all.
        title: what was trained on what.

    Raises:
        InputError: there are no rows, or the file cannot be written.
    """
    save_figure(draw_accuracy(rows, title=title), path)


def draw_accuracy(rows: list[dict[str, Any]], *, title: str) -> Figure:
    """Builds the figure of `accuracy_figure`.

    Args:
        rows: what `tables.to_rows` returns.
        title: what was trained on what.

    Returns:
        A figure of one axes: a line per selection in per cent, labelled as in `STYLES`.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError("there are no rows to draw; retrain at least one selection first")
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["keep_fraction"]):
        lines.setdefault(row["kept_by"], []).append(row)
    full = lines.pop(FULL, [])
    styles = styles_of([row["kept_by"] for row in rows])
    names = [name for name in styles if name in lines]
    fractions = sorted({row["keep_fraction"] for name in names for row in lines[name]}) or [1.0]

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for row in full:
        axes.axhline(
            100 * row["accuracy"], color="black", linewidth=1.2, linestyle="--", label=STYLES[FULL].label
        )
        axes.axhspan(100 * row["accuracy_p16"], 100 * row["accuracy_p84"], color="black", alpha=0.1, lw=0)
    for position, name in enumerate(names):
        _draw_line(axes, lines[name], styles[name], position - (len(names) - 1) / 2, len(fractions) == 1)

    _fraction_axis(axes, fractions, len(names))
    of = f" of the {full[0]['examples']:,} training examples" if full else ""
    axes.set_xlabel(f"keep fraction{of}")
    axes.set_ylabel("final test accuracy (%)")
    figure.suptitle(wrap(title, 82), **TITLE)
    plain(axes)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.7)
    # Beside the axes, where no line can run under it, and below the title, which may be wider than the axes.
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        frameon=False,
        fontsize=9,
        title="kept by",
        title_fontsize=9,
        alignment="left",
    )
    figure.supxlabel(_seeds_note(rows), x=0.01, ha="left", **NOTE)
    return figure


def _draw_line(axes: Axes, rows: list[dict[str, Any]], style: Style, offset: float, single: bool) -> None:
    """Draws one selection; of a single fraction, points side by side instead of lines."""
    x = np.array([row["keep_fraction"] for row in rows])
    y, low, high = (
        100 * np.array([row[k] for row in rows]) for k in ("accuracy", "accuracy_p16", "accuracy_p84")
    )
    look = {"color": style.color, "marker": style.marker, "markersize": 5.5, "label": style.label}
    # A baseline goes behind what is compared with it.
    order = 2.0 if style == STYLES[RANDOM] else 3.0
    if single:
        axes.vlines(x + offset, low, high, color=style.color, linewidth=2.5, alpha=0.45, zorder=order)
        axes.plot(x + offset, y, linestyle="", zorder=order + 0.5, **look)
    else:
        axes.fill_between(x, low, high, color=style.color, alpha=0.16, linewidth=0, zorder=order)
        axes.plot(x, y, linewidth=1.6, zorder=order + 0.5, markeredgecolor="white", mew=0.6, **look)


def _fraction_axis(axes: Axes, fractions: list[float], count: int) -> None:
    """Puts ticks at the fractions; a log axis where they would be too close on a linear one."""
    if len(fractions) == 1:
        reach = max(count / 2, 1) + 0.5
        axes.set_xlim(fractions[0] - reach, fractions[0] + reach)
        axes.set_xticks(fractions, [f"{fractions[0]:g}"])
        return
    places = np.array(fractions)
    span = places[-1] - places[0]
    if np.diff(places).min() < 0.05 * span and places[-1] > 20 * places[0]:
        axes.set_xscale("log")
        places = np.log(places)
        span = places[-1] - places[0]
    labels, last = [], -math.inf
    for fraction, place in zip(fractions, places, strict=True):
        free = place - last > 0.06 * span
        labels.append(f"{fraction:g}" if free else "")
        last = place if free else last
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(fractions, labels)


def _seeds_note(rows: list[dict[str, Any]]) -> str:
    fewest, most = min(row["seeds"] for row in rows), max(row["seeds"] for row in rows)
    if most == 1:
        return "One seed each: no band."
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"Mean over {count} seeds; bands show the 16th to 84th percentile over seeds."
