"""Panels of lines with bands and levels, and panels of points: one number against another."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from diet_jax.errors import InputError
from diet_jax.plotting.style import (
    Entry,
    Look,
    dress_panel,
    looks_of,
    names_of,
    nothing_to_draw,
    numbers,
    plain,
    require,
    text_width,
    wrap,
)

LEVEL_DASHES = {"-": "--", "--": ":", ":": "-.", "-.": (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5))}
# Of more points than these not every one has a tick or a marker: they would run together.
MAX_TICKS, MAX_MARKERS = 20, 30
# Inches of a panel's width that belong to its axis labels.
BORDER = 0.9


def draw_lines(axes: Sequence[Axes], panels: Sequence[Mapping[str, Any]], width: float) -> list[Entry]:
    """Draws lines, the bands around them and horizontal levels, a panel per axes.

    Args:
        axes: one per panel.
        panels: `{"title", "x_label", "y_label", "series"}`, and if wanted `"x_scale"`, `"percent"`,
            `"levels"` and `"published"`. A series is `{"name", "x", "mean"}`, a level `{"name", "mean"}`,
            both if wanted with `"label"`, `"low"`, `"high"` and `"order"`, a number that the colours follow;
            None is a gap.
        width: of a panel, in inches.

    Returns:
        What the legend has to list, levels first.

    Raises:
        InputError: a key is missing, lists differ in length or hold no numbers.
    """
    series = [require(panel, "series", "a panel of lines") for panel in panels]
    levels = [panel.get("levels") or [] for panel in panels]
    names = names_of([item for items in (*levels, *series) for item in items])
    level_looks, series_looks = looks_of(levels, names), looks_of(series, names)
    level_entries, series_entries = [], []
    for place, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        hollow, scale = bool(panel.get("published")), 100.0 if panel.get("percent") else 1.0
        for item, look in zip(levels[place], level_looks[place], strict=True):
            level_entries.append(_draw_level(ax, item, look, scale))
        data = [_series_data(item, scale) for item in series[place]]
        places = np.unique(np.concatenate([x[np.isfinite(x)] for x, *_ in data] or [np.empty(0)]))
        for position, (item, look, arrays) in enumerate(
            zip(series[place], series_looks[place], data, strict=True)
        ):
            # Of a single place, points stand side by side instead of one over another.
            offset = position - (len(data) - 1) / 2 if len(places) == 1 else 0.0
            _draw_one(ax, arrays, look, offset, hollow)
            empty = not np.isfinite(arrays[1]).any()
            style: dict[str, Any] = {"linestyle": look.dash, **_marker(look, hollow)}
            handle = Line2D([], [], linewidth=1.6, **style)
            series_entries.append(Entry(look, handle, empty, item.get("order")))
        if not ax.lines:
            nothing_to_draw(ax)
        _x_axis(ax, places, panel.get("x_scale", "linear"), len(data), width - BORDER)
        _label_axes(ax, panel, width)
        plain(ax)
        ax.grid(axis="y", color="#E5E5E5", linewidth=0.7)
        dress_panel(ax, panel, width - BORDER)
    return level_entries + series_entries


def draw_points(axes: Sequence[Axes], panels: Sequence[Mapping[str, Any]], width: float) -> list[Entry]:
    """Draws groups of points, a panel per axes.

    Args:
        axes: one per panel.
        panels: `{"title", "x_label", "y_label", "groups"}`, and if wanted `"published"`. A group is
            `{"name", "x", "y"}`, if wanted with `"label"`, and with `"low"` and `"high"`, between which a
            bar lies at each y.
        width: of a panel, in inches.

    Returns:
        What the legend has to list.

    Raises:
        InputError: a key is missing, lists differ in length or hold no numbers.
    """
    groups = [require(panel, "groups", "a panel of points") for panel in panels]
    entries = []
    for ax, panel, items, looks in zip(axes, panels, groups, looks_of(groups), strict=True):
        hollow = bool(panel.get("published"))
        for item, look in zip(items, looks, strict=True):
            x, low, high = _columns(item, "x")
            y = numbers(require(item, "y", _name(item)), f"y of {_name(item)}", len(x))
            shown = np.isfinite(x) & np.isfinite(y)
            if shown.any():
                # Many points: small and sheer, so that dense places look dense.
                many = shown.sum() > 300
                size, alpha = (2.2, 0.35) if many else (4.5, 0.8)
                marker: dict[str, Any] = {**_marker(look, hollow), "markersize": size}
                if many or not hollow:
                    marker["markeredgewidth"] = 0.4
                order = 2.0 if look.baseline else 3.0
                bars = shown & np.isfinite(low) & np.isfinite(high)
                if bars.any():
                    ends = y[bars], low[bars], high[bars]
                    ax.hlines(*ends, color=look.color, linewidth=2.5, alpha=0.35, zorder=order - 0.5)
                ax.plot(x[shown], y[shown], linestyle="", alpha=alpha, zorder=order, **marker)
            handle = Line2D([], [], linestyle="", **_marker(look, hollow))
            entries.append(Entry(look, handle, not shown.any(), item.get("order")))
        if not ax.lines:
            nothing_to_draw(ax)
            ax.set_xticks([])
        _label_axes(ax, panel, width)
        plain(ax)
        ax.grid(color="#E5E5E5", linewidth=0.7)
        dress_panel(ax, panel, width - BORDER)
    return entries


def _name(item: Mapping[str, Any]) -> str:
    return f"series {item['name']!r}"


def _marker(look: Look, hollow: bool) -> dict[str, Any]:
    """Published numbers have hollow markers."""
    face, edge, line = ("white", look.color, 1.1) if hollow else (look.color, "white", 0.6)
    return {
        "color": look.color,
        "marker": look.marker,
        # A star's points are thin: of equal size it looks smaller.
        "markersize": 8.0 if look.marker == "*" else 5.5,
        "markerfacecolor": face,
        "markeredgecolor": edge,
        "markeredgewidth": line,
    }


def _series_data(item: Mapping[str, Any], scale: float) -> tuple[np.ndarray, ...]:
    """x, mean, low and high by rising x; NaN where there is none."""
    x = numbers(require(item, "x", _name(item)), f"x of {_name(item)}")
    rank = np.argsort(x, kind="stable")
    return x[rank], *(scale * values[rank] for values in _columns(item, "mean", len(x)))


def _columns(item: Mapping[str, Any], key: str, count: int | None = None) -> tuple[np.ndarray, ...]:
    """The values of a key, and their low and high ends; NaN where there is none."""
    middle = numbers(require(item, key, _name(item)), f"{key} of {_name(item)}", count)
    ends = ((end, item.get(end)) for end in ("low", "high"))
    return middle, *(
        np.full(len(middle), np.nan)
        if values is None
        else numbers(values, f"{end} of {_name(item)}", len(middle))
        for end, values in ends
    )


def _draw_one(ax: Axes, arrays: tuple[np.ndarray, ...], look: Look, offset: float, hollow: bool) -> None:
    """Draws one series with its band; a point without neighbours has a bar in place of a band."""
    x, mean, low, high = arrays
    known = np.isfinite(x) & np.isfinite(mean)
    if not known.any():
        return
    alone = known & ~np.append(known[1:], False) & ~np.append(False, known[:-1])
    band = known & np.isfinite(low) & np.isfinite(high)
    # A baseline goes behind what is compared with it.
    order = 2.0 if look.baseline else 3.0
    if (band & ~alone).any():
        ax.fill_between(
            x, low, high, where=band & ~alone, color=look.color, alpha=0.16, linewidth=0, zorder=order
        )
    bars = band & alone
    if bars.any():
        ax.vlines(
            x[bars] + offset, low[bars], high[bars], color=look.color, linewidth=2.5, alpha=0.45, zorder=order
        )
    step = math.ceil(known.sum() / (MAX_MARKERS / 2)) if known.sum() > MAX_MARKERS else 1
    marked = np.union1d(np.flatnonzero(alone), np.flatnonzero(known)[::step])
    ax.plot(
        x + offset,
        mean,
        linewidth=1.6,
        linestyle=look.dash,
        zorder=order + 0.5,
        markevery=marked.tolist(),
        **_marker(look, hollow),
    )


def _draw_level(ax: Axes, item: Mapping[str, Any], look: Look, scale: float) -> Entry:
    """Draws a horizontal line across the axes, and its band."""
    keys = ("mean", "low", "high")
    require(item, "mean", _name(item))
    mean, low, high = scale * numbers([item.get(key) for key in keys], f"mean, low, high of {_name(item)}")
    line = {"color": look.color, "linewidth": 1.2, "linestyle": LEVEL_DASHES[look.dash]}
    if np.isfinite(mean):
        ax.axhline(mean, zorder=1.9, **line)
    if np.isfinite([mean, low, high]).all():
        ax.axhspan(low, high, color=look.color, alpha=0.1, linewidth=0, zorder=1.5)
    return Entry(look, Line2D([], [], **line), not np.isfinite(mean), item.get("order"))


def _label_axes(ax: Axes, panel: Mapping[str, Any], width: float) -> None:
    x_label, y_label = (require(panel, key, "a panel") for key in ("x_label", "y_label"))
    if panel.get("percent") and "%" not in y_label:
        y_label += " (%)"
    ax.set_xlabel(wrap(x_label, int((width - 0.6) * 15)), fontsize=9, parse_math=False)
    ax.set_ylabel(wrap(y_label, 38), fontsize=9, parse_math=False)
    if ax.get_yscale() == "linear" and len(ax.get_yticks()):
        ax.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 6))


def _x_axis(ax: Axes, places: np.ndarray, scale: str, count: int, width: float) -> None:
    """Puts ticks at the places that were measured if they are few, else at round numbers."""
    if scale not in ("linear", "log"):
        raise InputError(f"x_scale must be 'linear' or 'log', got {scale!r}")
    if len(places) <= 1:
        reach = max(count / 2, 1) + 0.5
        ax.set_xticks(places, [_tick(place) for place in places])
        if len(places):
            ax.set_xlim(places[0] - reach, places[0] + reach)
        return
    where = places
    if scale == "log":
        where = _log_axis(ax, places)
    ends = (where - where[0]) / (where[-1] - where[0]) * 0.9 * width
    labels = [_tick(place) for place in places]
    half = np.array([text_width(label) / 2 for label in labels])
    fits = (np.diff(ends) > half[1:] + half[:-1] + 0.02).all()
    if len(places) > MAX_TICKS or not (fits or scale == "log"):
        if scale == "linear":
            most = int(width / (2 * half.max() + 0.12))
            ax.xaxis.set_major_locator(MaxNLocator(min(max(most, 3), 8), steps=[1, 2, 2.5, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
        return
    last = -math.inf
    for row, end in enumerate(ends):
        free = end - half[row] > last
        last = end + half[row] + 0.02 if free else last
        labels[row] = labels[row] if free else ""
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(places, labels)


def _log_axis(ax: Axes, places: np.ndarray) -> np.ndarray:
    """Makes the axis logarithmic, with room for a zero on its left, and says where the places lie on it."""
    if places[0] < 0:
        raise InputError(f"x_scale is 'log' and x goes down to {places[0]:g}; take 'linear'")
    first = places[places > 0][0]
    if places[0] > 0:
        ax.set_xscale("log")
        return np.log(places)
    # Zero, such as a score at initialization, stands half a decade before the first positive place.
    ax.set_xscale("symlog", linthresh=first, linscale=0.5)
    ax.set_xlim(left=-0.15 * first)
    return np.where(places > 0, np.log10(np.maximum(places, first)), np.log10(first) - 0.5)


def _tick(value: float) -> str:
    """At most four digits, thousands apart: 0.35, 20, 49,900."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}".replace("-", "−")
