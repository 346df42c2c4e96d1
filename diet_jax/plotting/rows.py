"""Examples that are no pictures, as a table of their rows: the hardest, and the easiest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diet_jax.data.dataset import Dataset
from diet_jax.plotting.style import NOTE, ShownFigure, shorten

VALUES = 6
# What the ends of a ranking are called where high means hard.
ENDS = ("hardest", "easiest")


def ends_of(high_means: str | None) -> tuple[str, str]:
    """Returns what the ends of a ranking are called: by difficulty where high means hard, or is taken to."""
    return ENDS if high_means in (None, "hard") else ("highest", "lowest")


def draw_rows(
    dataset: Dataset,
    scores: np.ndarray,
    hard: np.ndarray,
    easy: np.ndarray,
    title: str,
    clean_labels: np.ndarray | None = None,
    notes: Sequence[str] = (),
    words: tuple[str, str] = ENDS,
) -> Figure:
    """Draws examples as a table: the hardest, hardest first, then the easiest, easiest first.

    Args:
        dataset: of any kind; the first values of an example stand for it.
        scores: `[n]` of exactly these examples.
        hard: rows of the hardest, by falling score.
        easy: rows of the easiest, by rising score.
        title: of the figure.
        clean_labels: int `[n]`, where those of the dataset are noisy.
        notes: what else to say below.
        words: what the two ends are called.

    Returns:
        A figure of one axes.
    """
    labels = {"class" if clean_labels is None else "given": dataset.labels}
    labels |= {} if clean_labels is None else {"clean": clean_labels}
    size = int(np.prod(dataset.shape))
    shown = min(VALUES, size)
    # Ids of arrays without any are the row numbers.
    named = not np.array_equal(dataset.ids, np.arange(len(dataset)))
    headings = ["", "score", *["id"] * named, "row", *labels, *(f"[{place}]" for place in range(shown))]
    cells = []
    for place, row in enumerate([*hard, *easy]):
        numbers = [f"{value:.4g}" for value in np.ravel(dataset.inputs[row])[:shown]]
        names = [shorten(dataset.class_names[each[row]], 28 // (2 * len(labels))) for each in labels.values()]
        identity = [shorten(str(dataset.ids[row]), 14, keep_end=True)] * named
        end_word = words[1] if place == len(hard) else words[0] if not place else ""
        cells.append([end_word, f"{scores[row]:.4g}", *identity, f"{row:,}", *names, *numbers])
    lines = 0.24 * (len(cells) + 1)
    height = lines + 0.9
    figure = ShownFigure(figsize=(10, height))
    axes = figure.add_axes((0.01, 0.4 / height, 0.98, lines / height))
    axes.set_axis_off()
    widths = [0.08, 0.09, *[0.17] * named, 0.08, *[0.16 / len(labels)] * len(labels), *[0.07] * shown]
    options: Any = {"cellLoc": "right", "colLoc": "right", "edges": "horizontal", "bbox": (0, 0, 1, 1)}
    table = axes.table(cells, colLabels=headings, colWidths=widths, **options)
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    for cell in table.get_celld().values():
        cell.set(edgecolor="#cccccc", linewidth=0.5)
        cell.get_text().set_parse_math(False)
    figure.text(0.01, 1 - 0.3 / height, title, fontsize=10.5, parse_math=False)
    values = f"All {size}" if shown == size else f"The first {shown} of {size:,}"
    order = (
        f" {words[0].capitalize()} first, then the {words[1]}, {words[1]} first."
        if len(hard) and len(easy)
        else ""
    )
    note = [f"{values} values, as stored.{order}", *notes]
    figure.text(0.01, 0.12 / height, " ".join(note), **NOTE)
    return figure
