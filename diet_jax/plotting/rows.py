"""Examples that are no pictures, as a table of their rows: the hardest, and the easiest."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diet_jax.data.dataset import Dataset
from diet_jax.plotting.style import NOTE, shorten
from diet_jax.scores.file import ScoreFile

PER_END = 10
VALUES = 6


def draw_rows(dataset: Dataset, file: ScoreFile, title: str) -> Figure:
    """Draws the examples with the highest and the lowest mean scores as a table.

    Args:
        dataset: of any kind; the first values of an example stand for it.
        file: scores `[n]` of exactly these examples.
        title: of the figure.

    Returns:
        A figure of one axes: the hardest example first.
    """
    order = np.argsort(-file.scores, kind="stable")
    end = min(PER_END, len(order) // 2)
    shown = [*order[:end], *order[len(order) - end :]]
    headings = ["", "score", "id", "row", "class", *(f"[{place}]" for place in range(VALUES))]
    cells = []
    for place, row in enumerate(shown):
        values = np.ravel(dataset.inputs[row])[:VALUES]
        numbers = [f"{value:.4g}" for value in values] + [""] * (VALUES - len(values))
        name = shorten(dataset.class_names[dataset.labels[row]], 14)
        identity = shorten(str(dataset.ids[row]), 14, keep_end=True)
        end_word = {0: "hardest", end: "easiest"}.get(place, "")
        cells.append([end_word, f"{file.scores[row]:.4g}", identity, f"{row:,}", name, *numbers])
    lines = 0.24 * (len(cells) + 1)
    height = lines + 0.9
    figure = Figure(figsize=(10, height))
    axes = figure.add_axes((0.01, 0.4 / height, 0.98, lines / height))
    axes.set_axis_off()
    widths = [0.08, 0.09, 0.17, 0.08, 0.16, *[0.42 / VALUES] * VALUES]
    options: Any = {"cellLoc": "right", "colLoc": "right", "edges": "horizontal", "bbox": (0, 0, 1, 1)}
    table = axes.table(cells, colLabels=headings, colWidths=widths, **options)
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    for cell in table.get_celld().values():
        cell.set(edgecolor="#cccccc", linewidth=0.5)
        cell.get_text().set_parse_math(False)
    figure.text(0.01, 1 - 0.3 / height, title, fontsize=10.5, parse_math=False)
    size = int(np.prod(dataset.shape))
    note = f"The first {min(VALUES, size)} of {size:,} values, as stored."
    figure.text(0.01, 0.12 / height, note, **NOTE)
    return figure
