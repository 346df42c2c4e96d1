"""What all figures share: colours, text that fits, saving."""

import io
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diet_jax.score_files import write_atomically
from diet_jax.tables import FULL, RANDOM


class Style(NamedTuple):
    """How a selection or score is written and drawn, the same in every figure."""

    label: str
    color: str
    marker: str


# Okabe and Ito's palette: told apart by all common kinds of colour vision. Markers differ for print in grey.
STYLES = {
    FULL: Style("everything", "#000000", ""),
    "el2n": Style("EL2N", "#0072B2", "o"),
    "grand": Style("GraNd", "#D55E00", "s"),
    "grand_last_layer": Style("GraNd (last layer)", "#E69F00", "D"),
    "forgetting": Style("forgetting", "#009E73", "^"),
    RANDOM: Style("random", "#7F7F7F", "v"),
}
OTHER_STYLES = (("#CC79A7", "P"), ("#56B4E9", "X"), ("#8C6D00", "*"))

DPI = 150
MAX_CLASSES = 10
TITLE = {"x": 0.01, "ha": "left", "fontsize": 10.5, "parse_math": False}
NOTE = {"fontsize": 7.5, "color": "#555555", "parse_math": False}


def styles_of(names: Sequence[str]) -> dict[str, Style]:
    """Styles of names in the order of `STYLES`, then other names in alphabetical order."""
    others = sorted(set(names) - set(STYLES))
    extra = {n: Style(n, *OTHER_STYLES[i % len(OTHER_STYLES)]) for i, n in enumerate(others)}
    return {**{n: s for n, s in STYLES.items() if n in names}, **extra}


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


def save_figure(figure: Figure, path: Any) -> None:
    """Writes a figure as PNG without a date or version: the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; that is no reason to end a run.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
