"""Panels of lines with bands and levels, of points, and of costs: one number against another."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

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
    text_width,
)

LEVEL_DASHES = {"-": "--", "--": ":", ":": "-.", "-.": (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5))}
# Of more points than these not every one has a tick or a marker: they would run together.
MAX_TICKS, MAX_MARKERS = 20, 30
# Inches between series that could hide each other: a marker.
BESIDE = 0.07
# Inches that all series of a place take together; of more than so many the axis needs room at its ends.
ALL_BESIDE, MANY_BESIDE = 0.42, 5
# Width in points of the caps of a bar: more than a marker, which would hide a short bar.
CAP = 9.0
# Fewer points than these are drawn as points: a line between two would look like a trend.
LINE_POINTS = 3


def draw_lines(ax: Axes, panel: Mapping[str, Any], series: Seen, levels: Seen, width: float) -> list[Entry]:
    """Draws lines, the bands around them and horizontal levels.

    A panel is `{"title", "x_label", "y_label", "series"}`, and if wanted `"x_scale"`, `"percent"`, `"levels"`
    and `"published"`. A series is `{"name", "x", "mean"}`, a level `{"name", "mean"}`, both if wanted with
    `"label"`, `"low"`, `"high"` and `"order"`, a number that the colours follow; None is a gap. With
    `"beside"`, series that coincide are drawn a little beside each other; with `"names"`, x counts these,
    and a level is named at its end, where a legend would have nothing else.
    """
    hollow, scale = bool(panel.get("published")), 100.0 if panel.get("percent") else 1.0
    names, x_scale = panel.get("names"), panel.get("x_scale", "linear")
    entries = [_draw_level(ax, item, look, scale) for item, look in levels]
    if names and len(entries) == 1 and not entries[0].empty:
        _name_level(ax, entries.pop().look, scale * levels[0][0]["mean"])
    data = [_series_data(item, scale) for item, _ in series]
    places = np.unique(np.concatenate([x[np.isfinite(x)] for x, *_ in data] or [np.empty(0)]))
    # Of one place or two, points stand side by side instead of one over another.
    step = 0.0 if names else _beside(places, x_scale)
    for position, ((_, look), arrays) in enumerate(zip(series, data, strict=True)):
        place = position - (len(data) - 1) / 2
        shift = ScaledTranslation(place * min(BESIDE, ALL_BESIDE / len(data)), 0, ax.figure.dpi_scale_trans)
        shifted = bool(panel.get("beside")) and not step and not names
        drawn = {"transform": ax.transData + shift} if shifted else {}
        _draw_one(ax, arrays, look, place * step, hollow, drawn)
        count = int(np.isfinite(arrays[1]).sum())
        style: Any = {"linestyle": look.dash if count >= LINE_POINTS else "", **_marker(look, hollow)}
        if not names:
            entries.append(Entry(look, Line2D([], [], linewidth=1.6, **style), not count))
    if bool(panel.get("beside")) and len(data) > MANY_BESIDE:
        ax.margins(x=0.09)
    if names:
        name_places(ax, names, width)
    else:
        _x_axis(ax, places, x_scale, len(data), width - BORDER)
    dress_panel(ax, panel, width - BORDER, ("x_label", "y_label"), grid="y")
    return entries


def draw_points(ax: Axes, panel: Mapping[str, Any], groups: Seen, levels: Seen, width: float) -> list[Entry]:
    """Draws groups of points.

    A panel is `{"title", "x_label", "y_label", "groups"}`, and if wanted `"published"`. A group is `{"name",
    "x", "y"}`, if wanted with `"label"`, and with `"low"` and `"high"`, between which a bar lies at each y.
    """
    hollow, entries = bool(panel.get("published")), []
    for item, look in groups:
        x, low, high = _columns(item, "x")
        y = column(item, "y", "series", len(x))
        shown = np.isfinite(x) & np.isfinite(y)
        if shown.any():
            # Many points: small and sheer, so that dense places look dense.
            many = shown.sum() > 300
            size, alpha = (2.2, 0.35) if many else (4.5, 0.8)
            marker = {**_marker(look, hollow), "markersize": size}
            if many or not hollow:
                marker["markeredgewidth"] = 0.4
            order = 2.0 if look.baseline else 3.0
            bars = shown & np.isfinite(low) & np.isfinite(high)
            if bars.any():
                ends = y[bars], low[bars], high[bars]
                ax.hlines(*ends, color=look.color, linewidth=2.5, alpha=0.35, zorder=order - 0.5)
            ax.plot(x[shown], y[shown], linestyle="", alpha=alpha, zorder=order, **marker)
        handle = Line2D([], [], linestyle="", **_marker(look, hollow))
        entries.append(Entry(look, handle, not shown.any()))
    if not ax.lines:
        ax.set_xticks([])
    dress_panel(ax, panel, width - BORDER, ("x_label", "y_label"), grid="both")
    return entries


def draw_costs_panel(
    ax: Axes, panel: Mapping[str, Any], series: Seen, levels: Seen, width: float
) -> list[Entry]:
    """Draws what something costs along x against how good it is, and the front of the best at each price.

    A panel is `{"title", "x_label", "y_label", "series", "front"}`, and if wanted `"x_scale"`, `"percent"`
    and `"levels"`; series and levels are those of `draw_lines`, with a bar from low to high at each point,
    and the front is a list of pairs (x, y), by rising x.
    """
    scale = 100.0 if panel.get("percent") else 1.0
    entries = [_draw_level(ax, item, look, scale) for item, look in levels]
    for item, look in series:
        x, mean, low, high = _series_data(item, scale)
        order = 2.0 if look.baseline else 3.0
        bars = np.isfinite(low) & np.isfinite(high)
        ax.vlines(x[bars], low[bars], high[bars], color=look.color, linewidth=2.5, alpha=0.35, zorder=order)
        style: Any = {"linewidth": 0.9, "linestyle": look.dash, **_marker(look, False)}
        ax.plot(x, mean, alpha=0.9, zorder=order + 0.5, **style)
        entries.append(Entry(look, Line2D([], [], **style), not len(x)))
    ends = np.asarray(panel["front"], np.float64).reshape(-1, 2).T
    style = {"color": "#CC3311", "linewidth": 1.0, "linestyle": (0, (1, 1))}
    ax.plot(ends[0], scale * ends[1], drawstyle="steps-post", zorder=1.8, **style)
    entries.append(Entry(Look("best at its price", "#CC3311", ""), Line2D([], [], **style), not ends.size))
    if panel.get("x_scale") == "log":
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    dress_panel(ax, panel, width - BORDER, ("x_label", "y_label"), grid="both")
    return entries


def _marker(look: Look, hollow: bool) -> Any:
    """Published numbers have hollow markers."""
    face, edge, line = ("white", look.color, 1.1) if hollow else (look.color, "white", 0.6)
    return {
        "color": look.color,
        "marker": look.marker,
        # The arms of these are thin: of equal size they look smaller.
        "markersize": 8.0 if look.marker in ("*", "P", "X") else 5.5,
        "markerfacecolor": face,
        "markeredgecolor": edge,
        "markeredgewidth": line,
    }


def _series_data(item: Mapping[str, Any], scale: float) -> tuple[np.ndarray, ...]:
    """x, mean, low and high by rising x; NaN where there is none."""
    x = column(item, "x", "series")
    rank = np.argsort(x, kind="stable")
    return x[rank], *(scale * values[rank] for values in _columns(item, "mean", len(x)))


def _columns(item: Mapping[str, Any], key: str, count: int | None = None) -> tuple[np.ndarray, ...]:
    """The values of a key, and their low and high ends; NaN where there is none."""
    middle = column(item, key, "series", count)
    return middle, *(column(item, end, "series", len(middle), optional=True) for end in ("low", "high"))


def _draw_one(
    ax: Axes, arrays: tuple[np.ndarray, ...], look: Look, offset: float, hollow: bool, drawn: Any
) -> None:
    """Draws one series with its band; single points, and two of them, have bars in place of a band."""
    x, mean, low, high = arrays
    known = np.isfinite(x) & np.isfinite(mean)
    if not known.any():
        return
    few = known.sum() < LINE_POINTS
    alone = known if few else known & ~np.append(known[1:], False) & ~np.append(False, known[:-1])
    band = known & np.isfinite(low) & np.isfinite(high)
    # A baseline goes behind what is compared with it.
    order = 2.0 if look.baseline else 3.0
    look_of_band: Any = {"color": look.color, "zorder": order, **drawn}
    if (area := band & ~alone).any():
        ax.fill_between(x, low, high, where=area, alpha=0.16, linewidth=0, **look_of_band)
    if (bars := band & alone).any():
        at = x[bars] + offset
        ax.vlines(at, low[bars], high[bars], linewidth=2.5, alpha=0.45, **look_of_band)
        caps: Any = {**look_of_band, "marker": "_", "s": CAP**2, "linewidths": 1.2}
        ax.scatter(np.tile(at, 2), np.append(low[bars], high[bars]), **{**caps, "zorder": order + 0.6})
    step = math.ceil(known.sum() / (MAX_MARKERS / 2)) if known.sum() > MAX_MARKERS else 1
    marked = np.union1d(np.flatnonzero(alone), np.flatnonzero(known)[::step])
    style = {
        "linestyle": "" if few else look.dash,
        "zorder": order + 0.5,
        "markevery": marked.tolist(),
        **drawn,
    }
    ax.plot(x + offset, mean, linewidth=1.6, **style, **_marker(look, hollow))
    # What is shifted on the paper does not count for the limits by itself.
    ends = np.concatenate([np.stack([x, y], axis=1) for y in (mean, low, high)])
    ax.update_datalim(ends[np.isfinite(ends).all(axis=1)])


def _beside(places: np.ndarray, scale: str) -> float:
    """How far points of one place stand apart; 0 where they are joined to lines."""
    if len(places) == 2 and scale == "linear":
        return float(0.03 * (places[1] - places[0]))
    return float(len(places) == 1)


def _draw_level(ax: Axes, item: Mapping[str, Any], look: Look, scale: float) -> Entry:
    """Draws a horizontal line across the axes, and its band."""
    name, keys = f"series {item['name']!r}", ("mean", "low", "high")
    require(item, "mean", name)
    mean, low, high = scale * numbers([item.get(key) for key in keys], f"mean, low, high of {name}")
    line = {"color": look.color, "linewidth": 1.2, "linestyle": LEVEL_DASHES[look.dash]}
    if np.isfinite(mean):
        ax.axhline(mean, zorder=1.9, **line)
    if np.isfinite([mean, low, high]).all():
        ax.axhspan(low, high, color=look.color, alpha=0.1, linewidth=0, zorder=1.5)
    return Entry(look, Line2D([], [], **line), not np.isfinite(mean))


def _name_level(ax: Axes, look: Look, mean: float) -> None:
    """Writes a level's name at the right end of its line, outside of the panel."""
    place: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    ax.annotate(look.label, (1, mean), (4, 0), fontsize=8.5, annotation_clip=False, **place)


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
    if scale == "log":
        if places[0] < 0:
            raise InputError(f"x_scale is 'log' and x goes down to {places[0]:g}; take 'linear'")
        if places[0] > 0:
            ax.set_xscale("log")
        else:
            # Zero, such as a score at initialization, stands half a decade before the first positive place.
            ax.set_xscale("symlog", linthresh=places[1], linscale=0.5)
            ax.set_xlim(left=-0.15 * places[1])
    where = ax.transScale.transform([(place, 1.0) for place in places])[:, 0]
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


def _tick(value: float) -> str:
    """At most four digits, thousands apart: 0.35, 20, 49,900."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}".replace("-", "−")
