"""The picture of a result: title, panels, one legend for all of them, note."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.text import Text

from diet_jax.errors import InputError
from diet_jax.plotting.distributions import draw_bars, draw_distributions
from diet_jax.plotting.lines import draw_lines, draw_points
from diet_jax.plotting.matrix import draw_matrices, matrix_size
from diet_jax.plotting.style import (
    DPI,
    LINE,
    NOTE,
    TITLE,
    Entry,
    panel_title,
    require,
    save_figure,
    without_glyph_warnings,
    wrap,
)

Panels = Sequence[Mapping[str, Any]]
# Inches between title, panels, legend and note, and to the border.
GAP = 0.08


class _Kind(NamedTuple):
    """How to draw the panels of a chart, and `(width, height, panels per row)` in inches."""

    draw: Callable[[Sequence[Axes], Panels, float], list[Entry]]
    size: Callable[[Panels], tuple[float, float, int]]


def result_figure(result: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draws a result as PNG; the same result gives the same bytes.

    Args:
        result: as for `draw_result`.
        path: where to write, whole or not at all.

    Raises:
        InputError: the chart is of no known kind or lacks a key, or the file cannot be written.
    """
    save_figure(draw_result(result), path)


def draw_result(result: Mapping[str, Any]) -> Figure:
    """Builds the figure of `result_figure`.

    Args:
        result: `{"title", "chart"}`, and if wanted `"note"` and `"scale"`, which are written below. A chart
            is `{"kind", "panels"}` with kind lines, points, matrix, distributions or bars; the functions that
            draw them say what a panel holds. A panel may have a `"kind"` of its own. Other keys are ignored.

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

    figure = Figure(dpi=DPI, layout="constrained")
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(len(panels))]
    entries = []
    for each in dict.fromkeys(kinds):
        places = [place for place, own in enumerate(kinds) if own == each]
        entries += KINDS[each].draw([axes[p] for p in places], [panels[p] for p in places], width)
    with without_glyph_warnings():
        _compose(figure, (columns * width, rows * height), title, _note(result), _legend_entries(entries))
    return figure


def _usual_size(panels: Panels) -> tuple[float, float, int]:
    width, height, per_row = 3.8, 3.0, 3
    if len(panels) == 1:
        width, height, per_row = 5.6, 3.7, 1
    elif len(panels) in (2, 4):
        width, height, per_row = 4.4, 3.2, 2
    wrapped = 0
    for panel in panels:
        label = wrap(panel.get("x_label") or "", int((width - 0.6) * 15))
        wrapped = max(wrapped, panel_title(panel, width - 0.9).count("\n") + label.count("\n"))
    return width, height + LINE * wrapped, per_row


KINDS = {
    "lines": _Kind(draw_lines, _usual_size),
    "matrix": _Kind(draw_matrices, matrix_size),
    "distributions": _Kind(draw_distributions, _usual_size),
    "points": _Kind(draw_points, _usual_size),
    "bars": _Kind(draw_bars, _usual_size),
}


def _note(result: Mapping[str, Any]) -> str:
    """What the result says about itself; a scale below the paper's is never left out."""
    lines = [result["note"]] if result.get("note") else []
    if result.get("scale", "paper") != "paper":
        lines.append(f"Scale: {result['scale']}, not the paper's.")
    return "\n".join(lines)


def _legend_entries(entries: Sequence[Entry]) -> list[tuple[Any, str]]:
    """Each look once, ordered ones by their order; series that no panel could draw say so."""
    ranked = sorted(entries, key=lambda entry: -math.inf if entry.order is None else entry.order)
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
    beside = _legend(figure, entries, 1, 30) if len(figure.axes) == 1 and entries else None
    if beside and _extent(figure, beside)[1] > height - 0.3:
        beside.remove()
        beside = None
    right = _extent(figure, beside)[0] + GAP if beside else 0.0
    below = _legend_below(figure, entries, width - 2 * GAP) if entries and not beside else None
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


def _legend_below(figure: Figure, entries: Sequence[tuple[Any, str]], width: float) -> Legend:
    """A legend with as many columns as the width holds."""
    for columns in range(len(entries), 0, -1):
        legend = _legend(figure, entries, columns, 44)
        if columns == 1 or _extent(figure, legend)[0] <= width:
            return legend
        legend.remove()
    raise AssertionError


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
