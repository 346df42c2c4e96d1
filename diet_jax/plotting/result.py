"""The picture of a result: title, panels, one legend for all of them, note."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.text import Text

from diet_jax.errors import InputError
from diet_jax.plotting.distributions import draw_bars, draw_distributions
from diet_jax.plotting.lines import draw_costs_panel, draw_lines, draw_points
from diet_jax.plotting.matrix import draw_matrix, matrix_size
from diet_jax.plotting.style import (
    BORDER,
    LINE,
    NOTE,
    TITLE,
    Entry,
    Seen,
    ShownFigure,
    looks_of,
    names_of,
    panel_title,
    require,
    without_glyph_warnings,
    wrap,
)

Panels = Sequence[Mapping[str, Any]]
# Inches between title, panels, legend and note, and to the border.
GAP = 0.08


class _Kind(NamedTuple):
    """How panels of a kind are drawn and sized.

    `draw(ax, panel, series, levels, width)` is given what the panel lists with its looks, and the panel's
    width in inches; it returns what the legend has to list, levels first.
    """

    draw: Callable[[Axes, Mapping[str, Any], Seen, Seen, float], list[Entry]]
    lists: str | None
    """Key of the panel's series."""
    size: Callable[[Panels], tuple[float, float, int]]
    """Width and height of a panel in inches, and panels per row."""


def draw_result(result: Mapping[str, Any]) -> Figure:
    """Builds the picture of a result; the same result gives the same bytes.

    Args:
        result: `{"title", "chart"}`, and if wanted `"note"` and `"scale"`, which are written below. A chart
            is `{"kind", "panels"}` with kind lines, points, costs, matrix, distributions or bars; the
            functions that draw them say what a panel holds. A panel may have a `"kind"` of its own. Other
            keys are ignored.

    Returns:
        A figure with an axes per panel, in this order.

    Raises:
        InputError: the chart is of no known kind, or a key is missing or wrong; the message names it.
    """
    title, chart = (require(result, key, "the result") for key in ("title", "chart"))
    kind, panels = (require(chart, key, "the chart") for key in ("kind", "panels"))
    kinds = [panel.get("kind", kind) for panel in panels]
    for unknown in {kind, *kinds} - set(KINDS):
        raise InputError(f"kind of chart must be one of {', '.join(KINDS)}, got {unknown!r}")
    if not panels:
        raise InputError("the chart has no panels to draw; give at least one")
    width, height, per_row = KINDS[kind].size(panels)
    columns = min(per_row, len(panels))
    rows = math.ceil(len(panels) / columns)

    figure = ShownFigure(layout="constrained")
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(len(panels))]
    entries = []
    for each in dict.fromkeys(kinds):
        chosen = [place for place, own in enumerate(kinds) if own == each]
        entries += _draw_panels(KINDS[each], [axes[p] for p in chosen], [panels[p] for p in chosen], width)
    with without_glyph_warnings():
        _compose(figure, (columns * width, rows * height), title, _note(result), _legend_entries(entries))
    return figure


def _draw_panels(kind: _Kind, axes: Sequence[Axes], panels: Panels, width: float) -> list[Entry]:
    """Draws panels of one kind, in which the same series looks the same; returns levels before series."""
    series = [require(panel, kind.lists, "a panel") if kind.lists else [] for panel in panels]
    levels = [panel.get("levels") or [] for panel in panels]
    names = names_of([item for items in (*levels, *series) for item in items])
    first, last = [], []
    looks = looks_of(series, names), looks_of(levels, names)
    for ax, panel, listed, across in zip(axes, panels, *looks, strict=True):
        entries = kind.draw(ax, panel, listed, across, width)
        first += entries[: len(across)]
        last += entries[len(across) :]
    return first + last


def _usual_size(panels: Panels) -> tuple[float, float, int]:
    width, height, per_row = 3.8, 3.0, 3
    if len(panels) == 1:
        width, height, per_row = 5.6, 3.7, 1
    elif len(panels) in (2, 4):
        width, height, per_row = 4.4, 3.2, 2
    wrapped = 0
    for panel in panels:
        label = wrap(panel.get("x_label") or "", int((width - 0.6) * 15))
        wrapped = max(wrapped, panel_title(panel, width - BORDER).count("\n") + label.count("\n"))
    return width, height + LINE * wrapped, per_row


KINDS = {
    "lines": _Kind(draw_lines, "series", _usual_size),
    "matrix": _Kind(draw_matrix, None, matrix_size),
    "distributions": _Kind(draw_distributions, "groups", _usual_size),
    "points": _Kind(draw_points, "groups", _usual_size),
    "costs": _Kind(draw_costs_panel, "series", _usual_size),
    "bars": _Kind(draw_bars, "series", _usual_size),
}


def _note(result: Mapping[str, Any]) -> str:
    """What the result says about itself; a scale below the paper's is never left out."""
    lines = [result["note"]] if result.get("note") else []
    if result.get("scale", "paper") != "paper":
        lines.append(f"Scale: {result['scale']}, not the paper's.")
    return "\n".join(lines)


def _legend_entries(entries: Sequence[Entry]) -> list[tuple[Any, str]]:
    """Each look once, ordered ones by their order; series that no panel could draw say so."""
    ranked = sorted(entries, key=lambda e: -math.inf if e.look.order is None else e.look.order)
    chosen: dict[Any, Entry] = {}
    for entry in ranked:
        # Filled markers stand for hollow ones as well, and something drawn for something empty.
        if entry.look not in chosen or (chosen[entry.look].empty and not entry.empty):
            chosen[entry.look] = entry
    return [(e.handle, e.look.label + (" (no values)" if e.empty else "")) for e in chosen.values()]


def _compose(
    figure: Figure, size: tuple[float, float], title: str, note: str, entries: Sequence[tuple[Any, str]]
) -> None:
    """Sizes the figure and places its parts by their measured extents: none can cover another."""
    width, height = size
    beside = below = None
    if entries and len(figure.axes) == 1:
        beside = _legend(figure, entries, 1, 30)
        if _extent(figure, beside)[1] > height - 0.3:
            beside.remove()
            beside = None
    # Below, a legend has as many columns as the width holds.
    for columns in range(len(entries), 0, -1) if not beside else ():
        below = _legend(figure, entries, columns, 44)
        if columns == 1 or _extent(figure, below)[0] <= width - 2 * GAP:
            break
        below.remove()
    right = _extent(figure, beside)[0] + GAP if beside else 0.0
    total = width + right

    heading = figure.suptitle("", **TITLE)
    footing = figure.supxlabel("", **{"ha": "left", **NOTE})
    top = _fit(figure, heading, title, total - 2 * GAP, 13.0)
    bottom = _fit(figure, footing, note, total - 2 * GAP, 18.0)
    low = _extent(figure, below)[1] + GAP if below else 0.0
    figure.set_size_inches(total, all_height := top + height + low + bottom)
    for text, y, side in ((heading, all_height - GAP, "top"), (footing, GAP, "bottom")):
        text.set(x=GAP / total, y=y / all_height, va=side, in_layout=False)
    panels_at = (0.0, (low + bottom) / all_height, width / total, height / all_height)
    figure.set_layout_engine(
        ConstrainedLayoutEngine(rect=panels_at, w_pad=GAP, h_pad=GAP, wspace=0.03, hspace=0.03)
    )
    if beside:
        beside.set_bbox_to_anchor((width / total, (all_height - top - GAP) / all_height), figure.transFigure)
    if below:
        below.set_bbox_to_anchor((GAP / total, (low + bottom) / all_height), figure.transFigure)


def _legend(figure: Figure, entries: Sequence[tuple[Any, str]], columns: int, letters: int) -> Legend:
    handles, labels = zip(*entries, strict=True)
    legend = figure.legend(
        handles,
        [wrap(label, letters) for label in labels],
        loc="upper left",
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        borderpad=0.2,
        borderaxespad=0,
        handlelength=2.4,
        columnspacing=1.4,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return legend


def _fit(figure: Figure, text: Text, words: str, width: float, letters_per_inch: float) -> float:
    """Wraps words until they are at most `width` inches wide; returns their height with gaps, in inches."""
    letters = int(width * letters_per_inch)
    while words:
        text.set_text("\n".join(wrap(line, letters) for line in words.split("\n")))
        wide, high = _extent(figure, text)
        if wide <= width or letters <= 10:
            return high + 2 * GAP
        letters = int(0.95 * letters)
    return GAP


def _extent(figure: Figure, artist: Any) -> tuple[float, float]:
    """Width and height in inches."""
    box = artist.get_window_extent()
    return box.width / figure.dpi, box.height / figure.dpi
