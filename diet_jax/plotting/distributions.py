"""Panels of histograms over common bins, and panels of bars."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch

from diet_jax.errors import InputError
from diet_jax.plotting.style import (
    BORDER,
    Entry,
    Look,
    Seen,
    column,
    dress_panel,
    name_places,
    numbers,
    require,
)

# Inches that a number above a bar needs.
NUMBER_WIDTH = 0.3


def draw_distributions(
    ax: Axes, panel: Mapping[str, Any], groups: Seen, levels: Seen, width: float
) -> list[Entry]:
    """Draws histograms of several groups over the same bins.

    A panel is `{"title", "x_label", "edges", "groups"}`, and if wanted `"published"`. A group is `{"name",
    "counts"}`, if wanted with `"label"`; there is one edge more than counts.
    """
    edges = numbers(require(panel, "edges", "a panel of distributions"), "edges")
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise InputError(f"edges must be at least two rising numbers, got {panel['edges']!r:.80}")
    filled, entries = [], []
    for item, look in groups:
        counts = column(item, "counts", "group", len(edges) - 1)
        face, known = _face(look, bool(panel.get("published")), 0.3), np.isfinite(counts).any()
        if known:
            ax.stairs(counts, edges, fill=True, **{**face, "linewidth": 0})
            ax.stairs(counts, edges, color=look.color, linewidth=1.3, linestyle=look.dash)
        filled.append(counts[counts > 0])
        entries.append(Entry(look, Patch(**face), not known))
    # Few bins would show at all beside a peak that is far higher than most of them.
    highest = max((counts.max(initial=0.0) for counts in filled), default=0.0)
    log = any(np.median(counts) < highest / 20 for counts in filled if len(counts))
    ax.margins(y=0.08)
    if log:
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.7)
    ax.set_ylabel("examples per bin" + (" (log scale)" if log else ""))
    ax.set_xlim(edges[0], edges[-1])
    dress_panel(ax, panel, width - BORDER, ("x_label",))
    return entries


def draw_bars(ax: Axes, panel: Mapping[str, Any], series: Seen, levels: Seen, width: float) -> list[Entry]:
    """Draws bars from zero, side by side in each group.

    A panel is `{"title", "y_label", "groups", "series"}`, and if wanted `"percent"` and `"published"`.
    `groups` are names, a series is `{"name", "values"}`, if wanted with `"label"` and `"errors"`; values and
    errors have an entry per group, and errors reach as far up as down.
    """
    groups = require(panel, "groups", "a panel of bars")
    scale = 100.0 if panel.get("percent") else 1.0
    thick, entries = 0.8 / max(len(series), 1), []
    for position, (item, look) in enumerate(series):
        values = scale * column(item, "values", "series", len(groups))
        errors = scale * column(item, "errors", "series", len(groups), optional=True)
        face = _face(look, bool(panel.get("published")), 0.85)
        x = np.arange(len(groups)) + (position - (len(series) - 1) / 2) * thick
        shown = np.isfinite(values)
        if shown.any():
            known: Any = errors[shown] if np.isfinite(errors[shown]).any() else None
            ends: Any = {"ecolor": "#333333", "elinewidth": 1, "capsize": 2}
            bars = ax.bar(x[shown], values[shown], 0.92 * thick, yerr=known, error_kw=ends, **face)
            if thick * (width - BORDER) / max(len(groups), 1) > NUMBER_WIDTH:
                texts = [f"{value:.3g}".replace("-", "−") for value in values[shown]]
                ax.bar_label(bars, texts, padding=2, fontsize=7)
        entries.append(Entry(look, Patch(**face), not shown.any()))
    ax.margins(y=0.12)
    name_places(ax, groups, width)
    dress_panel(ax, panel, width - BORDER, ("y_label",), grid="y")
    return entries


def _face(look: Look, hollow: bool, alpha: float) -> Any:
    """Published numbers are outlined and hatched instead of filled."""
    if hollow:
        return {"facecolor": "none", "edgecolor": look.color, "hatch": "////", "linewidth": 1.2}
    return {"facecolor": to_rgba(look.color, alpha), "edgecolor": look.color, "linewidth": 0.8}
