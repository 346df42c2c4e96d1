"""Panels of matrices, such as the correlations between scores."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle

from diet_jax.errors import InputError, counted
from diet_jax.plotting.style import (
    LINE,
    Entry,
    Seen,
    dress_panel,
    numbers,
    panel_title,
    require,
    shorten,
    text_width,
    wrap,
)

CELL_HEIGHT = 0.32
SLANT = 45
# Inches beside the cells: the colour bar with its label, and the title with some air.
BAR, TITLE_ROOM = 0.85, 0.45


class _Contents(NamedTuple):
    """What a panel holds, and the room in inches that it takes."""

    rows: list[str]
    """Labels, wrapped."""
    columns: list[str]
    values: np.ndarray
    spec: str
    cell: float
    """Width of a cell."""
    slanted: bool
    """Whether the columns' labels are wider than their cells."""
    left: float
    below: float

    def title_width(self, width: float) -> float:
        """Of a panel of some width."""
        return width - self.left - 0.2


def matrix_size(panels: Sequence[Mapping[str, Any]]) -> tuple[float, float, int]:
    """Width and height of a panel in inches, the same for all, and how many stand in a row."""
    all_contents = [_contents(panel) for panel in panels]
    width = max(3.2, *(len(c.columns) * c.cell + c.left + BAR for c in all_contents))
    height = max(len(c.rows) * CELL_HEIGHT + c.below + TITLE_ROOM for c in all_contents)
    titles = [panel_title(p, c.title_width(width)) for p, c in zip(panels, all_contents, strict=True)]
    height += LINE * max(title.count("\n") for title in titles)
    return width, max(height, 1.8), max(1, min(3, int(13 // width)))


def draw_matrix(ax: Axes, panel: Mapping[str, Any], series: Seen, levels: Seen, width: float) -> list[Entry]:
    """Draws a matrix as coloured cells with the value in each, and a bar of its colours in place of a legend.

    A panel is `{"title", "rows", "columns", "values", "format", "low", "high", "value_label"}`, and if wanted
    `"published"`. `values` is a list per row; None is hatched.
    """
    contents = _contents(panel)
    low, high = numbers([require(panel, key, "a matrix") for key in ("low", "high")], "low and high")
    if not low < high:
        raise InputError(f"low must be below high, got {low:g} and {high:g}")
    # Two colours around zero only where there are two sides.
    colors = matplotlib.colormaps["RdBu_r" if low < 0 < high else "viridis"]
    norm = Normalize(low, high, clip=True)
    ax.imshow(np.ma.masked_invalid(contents.values), cmap=colors, norm=norm, aspect="auto")
    _write_values(ax, contents, colors, norm)
    ax.set_yticks(range(len(contents.rows)), contents.rows)
    look = {"rotation": SLANT, "ha": "right", "rotation_mode": "anchor"} if contents.slanted else {}
    ax.set_xticks(range(len(contents.columns)), contents.columns, **look)
    for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        label.set_parse_math(False)
    dress_panel(ax, panel, contents.title_width(width), ())
    ax.spines[:].set_visible(bool(panel.get("published")))
    ax.tick_params(length=0, labelsize=8)
    bar = ax.figure.colorbar(ScalarMappable(norm, colors), ax=ax, aspect=22, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5)
    label = wrap(require(panel, "value_label", "a matrix"), int(13 * (CELL_HEIGHT * len(contents.rows) + 1)))
    bar.set_label(label, fontsize=8, parse_math=False)
    return []


def _contents(panel: Mapping[str, Any]) -> _Contents:
    rows, columns, lines, spec = (
        require(panel, key, "a matrix") for key in ("rows", "columns", "values", "format")
    )
    if not rows or not columns:
        raise InputError(f"a matrix needs rows and columns, got {len(rows)} and {len(columns)}")
    if len(lines) != len(rows):
        raise InputError(
            f"values has {counted(len(lines), 'row')}, must have {len(rows)}, one per name in rows"
        )
    values = [
        numbers(line, f"row {row!r} of values", len(columns)) for row, line in zip(rows, lines, strict=True)
    ]
    try:
        format(0.5, spec)
    except (TypeError, ValueError):
        raise InputError(f"format must be a number format such as '.2f', got {spec!r}") from None
    array = np.array(values)
    texts = [format(value, spec) for value in array[np.isfinite(array)]]
    cell = max(0.42, 0.07 * max(map(len, texts), default=0) + 0.1)
    labels = [wrap(shorten(row, 44), 24) for row in rows]
    # Two lines at most: a third would run into the neighbour.
    names = [wrap(shorten(column, 40), 24) for column in columns]
    slanted = _longest(columns) > cell - 0.06
    below = 0.75 * _longest(names) + 0.25 if slanted else 0.2
    return _Contents(labels, names, array, spec, cell, slanted, _longest(labels), below)


def _write_values(ax: Axes, contents: _Contents, colors: Colormap, norm: Normalize) -> None:
    for (row, column), value in np.ndenumerate(contents.values):
        if np.isnan(value):
            gap: Any = {"facecolor": "#E8E8E8", "edgecolor": "#AAAAAA", "hatch": "////", "linewidth": 0}
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **gap))
            continue
        color = "black" if _luminance(colors(norm(value))[:3]) > 0.179 else "white"
        text = format(value, contents.spec)
        # A small negative number is written as 0.00, not as −0.00.
        text = (
            text.replace("-", "−") if any(digit in text for digit in "123456789") else text.replace("-", "")
        )
        ax.text(column, row, text, ha="center", va="center", color=color, fontsize=7.5)


def _luminance(color: tuple[float, ...]) -> float:
    """Relative luminance; black and white stand out equally well at 0.179."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def _longest(labels: Sequence[str]) -> float:
    return max(0.9 * text_width(line) for label in labels for line in label.split("\n") or [""])
