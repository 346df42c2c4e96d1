"""What all figures share: colours, text that fits, saving."""

import io
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from diet_jax.analysis.results import FULL
from diet_jax.errors import InputError
from diet_jax.files.arrays import write_atomically
from diet_jax.scores.score import SCORES, Score


class Style(NamedTuple):
    """How a selection or score is written and drawn, the same in every figure."""

    label: str
    color: str
    marker: str
    baseline: bool = False
    """Goes behind what is compared with it."""


# What is no score. Scores bring their own styles; together they are told apart by all common kinds of colour
# vision (palettes of Okabe and Ito, and of Tol), and markers differ for print in grey.
STYLES = {
    FULL: Style("everything", "#000000", ""),
    "grand_at_init": Style("GraNd at initialization", "#332288", "X"),
    "lowest": Style("lowest scores", "#44AA99", "D"),
    "highest": Style("highest scores", "#CC3311", "^"),
    "infinite": Style("not finite", "#555555", ""),
    "clean": Style("label kept", "#4477AA", "o"),
    "corrupted": Style("label changed", "#EE7733", "s"),
}
OTHER_STYLES = (
    ("#CC79A7", "P"),
    ("#56B4E9", "X"),
    ("#8C6D00", "*"),
    ("#117733", "d"),
    ("#AA4499", "<"),
    ("#6B6BD6", ">"),
)
# Series in an order go from the dark end of viridis to where it is still seen on white.
ORDER_MAP, ORDER_END, ORDER_MARKERS = "viridis", 0.8, "osD^vPXd"
DASHES = ("-", "--", ":", "-.")

DPI = 150
MAX_CLASSES = 10
PUBLISHED = " (published)"
# Height in inches of a line of a panel's title or label.
LINE = 0.16
TITLE = {"x": 0.01, "ha": "left", "fontsize": 10.5, "parse_math": False}
NOTE = {"fontsize": 7.5, "color": "#555555", "parse_math": False}


def styles_of(names: Sequence[str]) -> dict[str, Style]:
    """Styles of names: of `STYLES`, of the registered scores, and free ones for all others.

    A registered score that brings no colour has the same one in all figures, unless it is taken there.
    """
    scores = {score.name: score for score in SCORES}
    colorless = [name for name, score in scores.items() if score.color is None]
    styles = {name: STYLES[name] for name in names if name in STYLES}
    for name in set(names) & set(scores) - set(colorless):
        styles[name] = _score_style(scores[name], "", "o")
    used = Counter(style.color for style in styles.values())
    for name in sorted(set(names) - set(styles)):
        first = colorless.index(name) % len(OTHER_STYLES) if name in scores else 0
        others = OTHER_STYLES[first:] + OTHER_STYLES[:first]
        color, marker = min(others, key=lambda other: used[other[0]])
        used[color] += 1
        styles[name] = (
            _score_style(scores[name], color, marker) if name in scores else Style(name, color, marker)
        )
    return styles


def _score_style(score: Score, color: str, marker: str) -> Style:
    baseline = score.reads == "nothing"
    return Style(score.label, score.color or color, score.marker or marker, baseline)


class Look(NamedTuple):
    """How one series of a result is written and drawn, the same in every panel of its figure."""

    label: str
    color: str
    marker: str
    dash: str
    baseline: bool
    """Goes behind what is compared with it."""


class Entry(NamedTuple):
    """One line of a legend; `empty` where the panel had nothing to draw for it."""

    look: Look
    handle: Any
    empty: bool
    order: float | None = None


def looks_of(
    panels: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str] | None = None
) -> list[list[Look]]:
    """Looks of the series of each panel: by name, or by rank if they have an `order`.

    Series of one colour, which a repeated name or many unknown names lead to, differ in their dashes.
    `names` are all names of the figure, where these series are not all of it.
    """
    every = [item for items in panels for item in items]
    styles = styles_of(names if names is not None else names_of(every))
    orders = sorted({item["order"] for item in every if item.get("order") is not None})
    drawn: dict[tuple[Any, ...], tuple[str, str, str]] = {}
    uses: Counter[str] = Counter()
    looks = []
    for items in panels:
        seen: Counter[Any] = Counter()
        looks.append([])
        for item in items:
            name, order = require(item, "name", "a series"), item.get("order")
            key = (name, order, seen[name, order])
            seen[name, order] += 1
            if key not in drawn:
                color, marker = _ordered(orders, order) if order is not None else styles[name][1:3]
                drawn[key] = (color, marker, DASHES[uses[color] % len(DASHES)])
                uses[color] += 1
            style = styles.get(name, Style(name, "", ""))
            looks[-1].append(Look(item.get("label") or style.label, *drawn[key], style.baseline))
    return looks


def names_of(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the series that get their colour by name."""
    return [require(item, "name", "a series") for item in items if item.get("order") is None]


def _ordered(orders: Sequence[float], order: float) -> tuple[str, str]:
    rank = orders.index(order)
    color = matplotlib.colormaps[ORDER_MAP](ORDER_END * rank / max(len(orders) - 1, 1))
    return to_hex(color), ORDER_MARKERS[rank % len(ORDER_MARKERS)]


def require(mapping: Any, key: str, what: str) -> Any:
    """The value of a key.

    Raises:
        InputError: there is no such key.
    """
    if not isinstance(mapping, Mapping):
        raise InputError(f"{what} must be a dict with the key {key!r}, got {type(mapping).__name__}")
    if key not in mapping:
        raise InputError(f"{what} has no key {key!r}, only {', '.join(sorted(mapping)) or 'none'}; add it")
    return mapping[key]


def numbers(values: Any, what: str, count: int | None = None) -> np.ndarray:
    """Float64 array of a list of numbers; a gap, None or NaN, becomes NaN.

    Raises:
        InputError: something in the list is no number or infinite, or there are not `count` of them.
    """
    try:
        array = np.array([np.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError):
        raise InputError(f"{what} must be a list of numbers and None, got {values!r:.80}") from None
    if np.isinf(array).any():
        raise InputError(f"{what} has an infinite value at position {np.isinf(array).argmax()}; give None")
    if count is not None and len(array) != count:
        raise InputError(f"{what} has {len(array)} values, must have {count}")
    return array


def dress_panel(axes: Axes, panel: Mapping[str, Any], width: float) -> None:
    """Writes a panel's title, at most `width` inches wide, and frames a panel of published numbers.

    Its `"x_ticks"` and `"y_ticks"`, pairs of a place and a text, replace those of numbers, and `"x_range"`
    its own ends of the x axis.
    """
    axes.set_title(panel_title(panel, width), loc="left", fontsize=9.5, parse_math=False)
    axes.tick_params(labelsize=8.5)
    for key, axis in (("x_ticks", axes.xaxis), ("y_ticks", axes.yaxis)):
        if panel.get(key):
            axis.set_ticks(*zip(*panel[key], strict=True), parse_math=False)
    if panel.get("x_range"):
        axes.set_xlim(*panel["x_range"])
    if panel.get("published"):
        axes.set_facecolor("#F7F7F7")
        axes.spines[:].set(visible=True, color="#BBBBBB")


def panel_title(panel: Mapping[str, Any], width: float) -> str:
    """The wrapped title, which says whether the numbers are published ones."""
    title = require(panel, "title", "a panel")
    if panel.get("published") and not title.endswith(PUBLISHED):
        title += PUBLISHED
    return wrap(title, max(int(width * 12.5), 12))


def nothing_to_draw(axes: Axes) -> None:
    """Says that a panel is empty, where its values would be."""
    axes.text(
        0.5, 0.5, "no values", transform=axes.transAxes, ha="center", va="center", color="#777777", fontsize=9
    )
    axes.set_yticks([])


def text_width(text: str) -> float:
    """Upper bound of the width in inches at 9 points."""
    return sum(0.085 if c.isascii() and not c.isupper() else 0.125 for c in text)


def wrap(text: str, width: int) -> str:
    """Breaks text into lines of at most `width` characters."""
    return "\n".join(textwrap.wrap(text, width))


def shorten(text: str, length: int, *, keep_end: bool = False) -> str:
    """Cuts text to at most `length` characters, with an ellipsis in place of what is left out."""
    if len(text) <= length:
        return text
    return "…" + text[1 - length :] if keep_end else text[: length - 1] + "…"


def plain(axes: Axes) -> None:
    """Takes away the frame's top and right, and puts the grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """A name in a script that the font lacks is drawn as boxes; that is no reason to end a run."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def save_figure(figure: Figure, path: Any) -> None:
    """Writes a figure as PNG without a date or version: the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with without_glyph_warnings():
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
