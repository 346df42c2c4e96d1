"""What all figures share: colours, text that fits, saving."""

import io
import textwrap
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from diet_jax.analysis.results import BALANCED, FULL, RS2
from diet_jax.errors import InputError, counted
from diet_jax.files.writing import write_atomically
from diet_jax.scores.score import SCORES
from diet_jax.selection.rule import RULES


class Look(NamedTuple):
    """How a selection, a score or a series is written and drawn, the same in every panel and figure."""

    label: str
    color: str
    marker: str
    baseline: bool = False
    """Goes behind what is compared with it."""
    dash: str = "-"
    order: float | None = None
    """A number that the colours of a figure follow."""


class Entry(NamedTuple):
    """One line of a legend; `empty` where the panel had nothing to draw for it."""

    look: Look
    handle: Any
    empty: bool


# What is no score. Scores bring their own styles; together they are told apart by all common kinds of colour
# vision (palettes of Okabe and Ito, and of Tol), and markers differ for print in grey.
STYLES = {
    FULL: Look("everything", "#000000", ""),
    BALANCED: Look("random, class-balanced", "#AAAAAA", "D", baseline=True, dash="--"),
    RS2: Look("RS2, random anew each epoch", "#333333", "P", baseline=True, dash=":"),
    "grand_at_init": Look("GraNd at initialization", "#332288", "X"),
    "lowest": Look("lowest scores", "#44AA99", "D"),
    "highest": Look("highest scores", "#CC3311", "^"),
    "infinite": Look("not finite", "#555555", ""),
    "clean": Look("label kept", "#4477AA", "o"),
    "corrupted": Look("label changed", "#EE7733", "s"),
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
RULE_MARKERS = "oDXP"

DPI = 150
MAX_CLASSES = 10
PUBLISHED = " (published)"
# Height in inches of a line of a panel's title or label, and what of a panel's width belongs to axis labels.
LINE, BORDER = 0.16, 0.9
TITLE = {"x": 0.01, "ha": "left", "fontsize": 10.5, "parse_math": False}
NOTE = {"fontsize": 7.5, "color": "#555555", "parse_math": False}


def styles_of(names: Sequence[str]) -> dict[str, Look]:
    """Looks of names: of `STYLES`, of the registered scores, and free ones for all others.

    A registered score that brings no colour has the same one in all figures, unless it is taken there. Of a
    score and a rule, such as "el2n window", the colour is the score's; dash and marker follow the rule.
    """
    scores = {score.name: score for score in SCORES}
    parts = {name: _score_and_rule(name, scores) for name in names}
    bases = {base for base, _ in parts.values()}
    colorless = [name for name, score in scores.items() if score.color is None]
    styles = {name: STYLES[name] for name in bases if name in STYLES}

    def add(name: str, color: str, marker: str) -> None:
        if name in scores:
            score = scores[name]
            color, marker = score.color or color, score.marker or marker
            styles[name] = Look(score.label, color, marker, score.reads == "nothing")
        else:
            read = name.split("+")
            label = " + ".join(scores[each].label for each in read) if {*read} <= {*scores} else name
            styles[name] = Look(label, color, marker)

    for name in bases & set(scores) - set(colorless):
        add(name, "", "o")
    used = Counter(style.color for style in styles.values())
    for name in sorted(bases - set(styles)):
        first = colorless.index(name) % len(OTHER_STYLES) if name in scores else 0
        color, marker = min(OTHER_STYLES[first:] + OTHER_STYLES[:first], key=lambda other: used[other[0]])
        used[color] += 1
        add(name, color, marker)
    rules = sorted({rule for base, rule in parts.values() if not (styles[base].baseline or base in STYLES)})
    return {name: _by_rule(styles[base], rule, rules) for name, (base, rule) in parts.items()}


def _score_and_rule(name: str, scores: Collection[str]) -> tuple[str, str]:
    """What was selected by, and the rule, "" if the name has none: "el2n+grand mean_rank"."""
    base, _, rule = name.partition(" ")
    known = set(base.split("+")) <= set(scores) or rule.split(" ")[0] in RULES.names()
    return (base, rule) if rule and known else (name, "")


def _by_rule(look: Look, rule: str, rules: Sequence[str]) -> Look:
    """The look of a score under one of a figure's rules; the first is drawn as the score itself."""
    look = look._replace(label=f"{look.label}, {rule.replace('_', ' ')}") if rule else look
    rank = rules.index(rule) if rule in rules else 0
    if not rank:
        return look
    return look._replace(dash=DASHES[rank % len(DASHES)], marker=RULE_MARKERS[rank % len(RULE_MARKERS)])


Series = Mapping[str, Any]
Seen = list[tuple[Series, Look]]
"""The series of a panel with their looks."""


def looks_of(panels: Sequence[Sequence[Series]], names: Sequence[str]) -> list[Seen]:
    """The series of each panel with their looks: by name, or by rank if they have an `order`.

    Series of one colour, which a repeated name or many unknown names lead to, differ in their dashes.
    `names` are all names of the figure.
    """
    every = [item for items in panels for item in items]
    styles = styles_of(names)
    orders = sorted({item["order"] for item in every if item.get("order") is not None})
    drawn: dict[tuple[Any, ...], Look] = {}
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
                look = styles.get(name, Look(name, "", ""))
                if order is not None:
                    color, marker = _ordered(orders, order)
                    look = look._replace(color=color, marker=marker, order=order)
                if look.dash == DASHES[0]:
                    look = look._replace(dash=DASHES[uses[look.color] % len(DASHES)])
                    uses[look.color] += 1
                drawn[key] = look
            looks[-1].append((item, drawn[key]._replace(label=item.get("label") or drawn[key].label)))
    return looks


def names_of(items: Sequence[Series]) -> list[str]:
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
        raise InputError(f"{what} has {counted(len(array), 'value')}, must have {count}")
    return array


def column(
    item: Series, key: str, what: str, count: int | None = None, *, optional: bool = False
) -> np.ndarray:
    """The numbers of a key of a series; NaN where it may be missing and is.

    Raises:
        InputError: as `require` and `numbers`.
    """
    if optional and item.get(key) is None:
        return np.full(count or 0, np.nan)
    name = f"{what} {item['name']!r}"
    return numbers(require(item, key, name), f"{key} of {name}", count)


def dress_panel(
    axes: Axes, panel: Mapping[str, Any], width: float, labels: Sequence[str], grid: str | None = None
) -> None:
    """Finishes a panel: title, labels, grid, and the frame of a panel of published numbers.

    Its `"x_ticks"` and `"y_ticks"`, pairs of a place and a text, replace those of numbers, and `"x_range"`
    its own ends of the x axis.

    Args:
        axes: with everything drawn; without anything it says so.
        panel: see the function that draws it.
        width: of the panel without labels, in inches.
        labels: keys of the panel that label its axes, of "x_label" and "y_label".
        grid: of which axis, "x", "y" or "both", behind the data.
    """
    for key in labels:
        text = require(panel, key, "a panel")
        percent = " (%)" if key == "y_label" and panel.get("percent") and "%" not in text else ""
        letters = 38 if key == "y_label" else int((width + 0.3) * 15)
        axes.set(**{key[0] + "label": wrap(text + percent, letters)})
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(fontsize=9, parse_math=False)
    if isinstance(axes.yaxis.get_major_formatter(), ScalarFormatter):
        axes.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 6))
    if not axes.has_data():
        look: Any = {"ha": "center", "va": "center", "color": "#777777", "fontsize": 9}
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, **look)
        axes.set_yticks([])
    plain(axes)
    if grid is not None:
        axes.grid(axis=grid, color="#E5E5E5", linewidth=0.7)  # type: ignore[arg-type]
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


def name_places(ax: Axes, groups: Sequence[str], width: float) -> None:
    """Writes names at the places 0, 1, ... of the x axis: level if they fit, else slanted."""
    room = (width - BORDER) / max(len(groups), 1)
    level = [wrap(group, max(int(room * 11), 1)) for group in groups]
    broken = any(len(word) > room * 11 for group in groups for word in group.split())
    fits = not broken and all(text_width(line) < room for text in level for line in text.split("\n"))
    look = {} if fits else {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(len(groups)), level if fits else [wrap(group, 26) for group in groups], **look)
    ax.set_xlim(-0.6, len(groups) - 0.4)
    for label in ax.get_xticklabels():
        label.set_parse_math(False)


def panel_title(panel: Mapping[str, Any], width: float) -> str:
    """The wrapped title, which says whether the numbers are published ones."""
    title = require(panel, "title", "a panel")
    if panel.get("published") and not title.endswith(PUBLISHED):
        title += PUBLISHED
    return wrap(title, max(int(width * 12.5), 12))


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


class ShownFigure(Figure):
    """A figure that notebooks show whether or not they use pyplot, of as many pixels as a run's."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"dpi": DPI, **options})

    def _repr_png_(self) -> bytes:
        return png_of(self)


def png_of(figure: Figure) -> bytes:
    """Returns a figure as PNG without a date or version: the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with without_glyph_warnings():
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def save_figure(figure: Figure, path: Any) -> None:
    """Writes a figure as PNG, whole or not at all."""
    write_atomically(path, png_of(figure))
