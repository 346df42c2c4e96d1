"""Panels of histograms over common bins, and panels of bars."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch

from diet_jax.errors import InputError
from diet_jax.plotting.style import (
    Entry,
    Look,
    dress_panel,
    looks_of,
    nothing_to_draw,
    numbers,
    plain,
    require,
    text_width,
    wrap,
)

BORDER = 0.9
# Inches that a number above a bar needs.
NUMBER_WIDTH = 0.3


def draw_distributions(
    axes: Sequence[Axes], panels: Sequence[Mapping[str, Any]], width: float
) -> list[Entry]:
    """Draws histograms of several groups over the same bins, a panel per axes.

    Args:
        axes: one per panel.
        panels: `{"title", "x_label", "edges", "groups"}`, and if wanted `"published"`. A group is
            `{"name", "counts"}`, if wanted with `"label"`; there is one edge more than counts.
        width: of a panel, in inches.

    Returns:
        What the legend has to list.

    Raises:
        InputError: a key is missing, lists have the wrong length, or edges do not rise.
    """
    groups = [require(panel, "groups", "a panel of distributions") for panel in panels]
    entries = []
    for ax, panel, items, looks in zip(axes, panels, groups, looks_of(groups), strict=True):
        edges = numbers(require(panel, "edges", "a panel of distributions"), "edges")
        if len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise InputError(f"edges must be at least two rising numbers, got {panel['edges']!r:.80}")
        filled = []
        for item, look in zip(items, looks, strict=True):
            name = f"group {item['name']!r}"
            counts = numbers(require(item, "counts", name), f"counts of {name}", len(edges) - 1)
            empty = not np.isfinite(counts).any()
            face = _face(look, bool(panel.get("published")), 0.3)
            if not empty:
                face_only: dict[str, Any] = {**face, "linewidth": 0}
                ax.stairs(counts, edges, fill=True, **face_only)
                ax.stairs(counts, edges, color=look.color, linewidth=1.3, linestyle=look.dash)
            filled.append(counts[counts > 0])
            entries.append(Entry(look, Patch(**face), empty, item.get("order")))
        # Few bins would show at all beside a peak that is far higher than most of them.
        log = any(len(counts) and np.median(counts) < max(map(_top, filled)) / 20 for counts in filled)
        _log_counts(ax, log)
        if not ax.patches:
            nothing_to_draw(ax)
        ax.set_xlim(edges[0], edges[-1])
        x_label = wrap(require(panel, "x_label", "a panel of distributions"), int((width - 0.6) * 15))
        ax.set_xlabel(x_label, fontsize=9, parse_math=False)
        plain(ax)
        dress_panel(ax, panel, width - BORDER)
    return entries


def draw_bars(axes: Sequence[Axes], panels: Sequence[Mapping[str, Any]], width: float) -> list[Entry]:
    """Draws bars from zero, side by side in each group, a panel per axes.

    Args:
        axes: one per panel.
        panels: `{"title", "y_label", "groups", "series"}`, and if wanted `"percent"` and `"published"`.
            `groups` are names, a series is `{"name", "values"}`, if wanted with `"label"` and `"errors"`;
            values and errors have an entry per group, and errors reach as far up as down.
        width: of a panel, in inches.

    Returns:
        What the legend has to list.

    Raises:
        InputError: a key is missing, or lists have the wrong length.
    """
    series = [require(panel, "series", "a panel of bars") for panel in panels]
    entries = []
    for ax, panel, items, looks in zip(axes, panels, series, looks_of(series), strict=True):
        groups, y_label = (require(panel, key, "a panel of bars") for key in ("groups", "y_label"))
        scale = 100.0 if panel.get("percent") else 1.0
        thick = 0.8 / max(len(items), 1)
        for position, (item, look) in enumerate(zip(items, looks, strict=True)):
            name = f"series {item['name']!r}"
            values = scale * numbers(require(item, "values", name), f"values of {name}", len(groups))
            errors = np.full(len(groups), np.nan)
            if item.get("errors") is not None:
                errors = scale * numbers(item["errors"], f"errors of {name}", len(groups))
            face = _face(look, bool(panel.get("published")), 0.85)
            x = np.arange(len(groups)) + (position - (len(items) - 1) / 2) * thick
            shown = np.isfinite(values)
            if shown.any():
                ax.bar(x[shown], values[shown], 0.92 * thick, **face)
            sure = shown & np.isfinite(errors)
            if sure.any():
                ax.errorbar(
                    x[sure], values[sure], errors[sure], fmt="none", ecolor="#333333", elinewidth=1, capsize=2
                )
            if thick * (width - BORDER) / max(len(groups), 1) > NUMBER_WIDTH:
                _write_numbers(ax, x[shown], values[shown], np.nan_to_num(errors[shown]))
            entries.append(Entry(look, Patch(**face), not shown.any(), item.get("order")))
        if not ax.patches:
            nothing_to_draw(ax)
        ax.margins(y=0.12)
        _name_groups(ax, groups, width)
        if panel.get("percent") and "%" not in y_label:
            y_label += " (%)"
        ax.set_ylabel(wrap(y_label, 38), fontsize=9, parse_math=False)
        plain(ax)
        ax.grid(axis="y", color="#E5E5E5", linewidth=0.7)
        dress_panel(ax, panel, width - BORDER)
    return entries


def _face(look: Look, hollow: bool, alpha: float) -> dict[str, Any]:
    """Published numbers are outlined and hatched instead of filled."""
    if hollow:
        return {"facecolor": "none", "edgecolor": look.color, "hatch": "////", "linewidth": 1.2}
    return {"facecolor": to_rgba(look.color, alpha), "edgecolor": look.color, "linewidth": 0.8}


def _top(counts: np.ndarray) -> float:
    return float(counts.max(initial=0.0))


def _log_counts(ax: Axes, log: bool) -> None:
    ax.margins(y=0.08)
    if log:
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.7)
    ax.set_ylabel("examples per bin" + (" (log scale)" if log else ""), fontsize=9)


def _write_numbers(ax: Axes, x: np.ndarray, values: np.ndarray, errors: np.ndarray) -> None:
    for place, value, error in zip(x, values, errors, strict=True):
        up = value >= 0
        ax.annotate(
            f"{value:.3g}".replace("-", "−"),
            (place, value + (error if up else -error)),
            xytext=(0, 2 if up else -2),
            textcoords="offset points",
            ha="center",
            va="bottom" if up else "top",
            fontsize=7,
        )


def _name_groups(ax: Axes, groups: Sequence[str], width: float) -> None:
    """Writes the names level if they fit, else slanted."""
    room = (width - BORDER) / max(len(groups), 1)
    level = [wrap(group, max(int(room * 11), 1)) for group in groups]
    broken = any(len(word) > room * 11 for group in groups for word in group.split())
    fits = not broken and all(text_width(line) < room for text in level for line in text.split("\n"))
    look = {} if fits else {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(len(groups)), level if fits else [wrap(group, 26) for group in groups], **look)
    ax.set_xlim(-0.6, len(groups) - 0.4)
    for label in ax.get_xticklabels():
        label.set_parse_math(False)
