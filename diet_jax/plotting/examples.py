"""The easiest and the hardest examples of every class."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.plotting.rows import draw_rows
from diet_jax.plotting.style import DPI, MAX_CLASSES, NOTE, shorten, styles_of, text_width
from diet_jax.scores.file import ScoreFile

PER_SIDE = 5


def draw_examples(dataset: Dataset, file: ScoreFile) -> Figure:
    """Draws the easiest and the hardest examples of each class by mean score; a table if they are no images.

    Args:
        dataset: what was scored.
        file: scores `[n]` of exactly these examples, in this order.

    Returns:
        A figure of one axes in inches: a row of images per class, easiest first. Examples that are no images
        are rows of a table, the hardest first.

    Raises:
        InputError: the ids of file and dataset differ.
    """
    if file.ids.shape != dataset.ids.shape or not np.array_equal(file.ids, dataset.ids):
        raise InputError(
            f"the scores are of {file.dataset} ({len(file.ids)} examples) and their ids are not those of "
            f"{dataset.name}/{dataset.split} ({len(dataset)} examples); score this dataset, or load the other"
        )
    style = styles_of([file.name])[file.name]
    what = f"Easiest and hardest examples of {shorten(file.dataset, 40)} by {style.label}, step {file.step:,}"
    if dataset.kind != "images":
        return draw_rows(dataset, file, what)
    sizes = np.bincount(dataset.labels, minlength=dataset.num_classes)
    classes = np.sort(np.argsort(-sizes, kind="stable")[:MAX_CLASSES])
    classes = classes[sizes[classes] > 0]

    # In inches, and whole pixels each: images of 8, 16 or 32 pixels are enlarged by a whole number.
    cell, gap, step = 96 / DPI, 9 / DPI, 147 / DPI
    names = [shorten(dataset.class_names[c], 16) for c in classes]
    left = math.ceil(DPI * (0.28 + max(text_width(name) for name in names))) / DPI
    middle = 45 / DPI
    row_width = PER_SIDE * (cell + gap)
    width = left + 2 * row_width + middle + 0.15
    height = 0.8 + step * len(classes) + 0.32
    figure = Figure(figsize=(width, height))
    # One axes whose unit is the inch, in place of a hundred: it is drawn ten times as fast.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    show = _image_drawer(axes, dataset, cell)

    starts = (left, left + row_width + middle)

    def write(x: float, y: float, text: str, size: float, **look: Any) -> None:
        axes.text(x, y, text, **{"fontsize": size, "va": "center", "parse_math": False, **look})

    write(0.15, height - 0.2, what, 10.5)
    headings = ("easiest (lowest score)", "hardest (highest score), the last is hardest")
    for start, heading in zip(starts, headings, strict=True):
        write(start, height - 0.52, heading, 9)
        axes.plot([start, start + row_width - gap], [height - 0.66] * 2, color="#999999", lw=0.8)
    for line, (c, name) in enumerate(zip(classes, names, strict=True)):
        bottom = height - 0.76 - cell - line * step
        write(left - 0.12, bottom + cell / 2, name, 9, ha="right")
        for start, rows in zip(starts, easiest_and_hardest(file.scores, dataset.labels, int(c)), strict=True):
            for place, row in enumerate(rows):
                x = start + place * (cell + gap)
                show(int(row), x, bottom)
                below: Any = {"ha": "center", "va": "top"}
                write(x + cell / 2, bottom - 0.03, _number(float(file.scores[row])), 7, **below)
                identity = shorten(str(dataset.ids[row]), 13, keep_end=True)
                write(x + cell / 2, bottom - 0.15, identity, 5, color="#777777", **below)
    seeds = len(file.per_seed)
    note = f"Below each image: {f'mean score over {seeds} seeds' if seeds > 1 else 'score'}, and id."
    if dataset.num_classes > len(classes):
        note += f" The {len(classes)} classes with most examples, of {dataset.num_classes}."
    axes.text(0.15, 0.15, note, va="center", **NOTE)
    # Last, because drawing images moves the limits.
    axes.set_aspect("auto")
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    return figure


def easiest_and_hardest(scores: np.ndarray, labels: np.ndarray, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the examples of class c with the lowest and the highest scores, none twice.

    Args:
        scores: float `[n]`.
        labels: int `[n]`.
        c: class.

    Returns:
        Two int arrays of at most `PER_SIDE` rows, both in rising order of score, ties in dataset order.
    """
    rows = np.flatnonzero(labels == c)
    rows = rows[np.argsort(scores[rows], kind="stable")]
    easy = min(PER_SIDE, math.ceil(len(rows) / 2))
    hard = min(PER_SIDE, len(rows) - easy)
    return rows[:easy], rows[len(rows) - hard :]


def _image_drawer(axes: Axes, dataset: Dataset, cell: float) -> Callable[[int, float, float], None]:
    """Returns a function that draws a row's pixels, as stored, into a square of side `cell`."""
    images = dataset.images
    # One scale for all images, so that bright and dark ones stay so. Digits are stored as 0..16.
    low = 0.0 if images.dtype == np.uint8 else float(images.min())
    # Images on disk are photographs of 8 bits, and too many to look for the largest value.
    scale = 255.0 if dataset.streamed else (float(images.max()) - low) or 1.0
    height, width, channels = dataset.image_shape
    shrink = cell / max(height, width)
    size = (width * shrink, height * shrink)

    # Pixels stay squares when enlarged and are averaged when reduced.
    interpolation = "nearest" if max(height, width) <= cell * DPI else "auto"

    def show(row: int, x: float, y: float) -> None:
        pixels = np.clip((images[row].astype(np.float32) - np.float32(low)) / np.float32(scale), 0, 1)
        # Of more or fewer channels than colours, the first three or the first.
        pixels = pixels[..., :3] if channels >= 3 else pixels[..., 0]
        x, y = x + (cell - size[0]) / 2, y + (cell - size[1]) / 2
        extent = (x, x + size[0], y, y + size[1])
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation=interpolation)

    return show


def _number(score: float) -> str:
    return f"{score:.3g}" if np.isfinite(score) else {np.inf: "∞", -np.inf: "−∞"}.get(score, "NaN")
