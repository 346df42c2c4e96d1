"""The hardest and the easiest examples, of every class or of all: hardest first, then easiest first."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diet_jax.checks.values import check_count, shown
from diet_jax.data.classes import checked_labels
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.errors import InputError
from diet_jax.plotting.pictures import pictures_of
from diet_jax.plotting.rows import ENDS, draw_rows, ends_of
from diet_jax.plotting.style import (
    DPI,
    MAX_CLASSES,
    NOTE,
    STYLES,
    TITLE,
    ShownFigure,
    shorten,
    styles_of,
    text_width,
    wrap,
)
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.masks import checked_scores

PER_SIDE, PER_LINE = 5, 10
# Of more pictures than these, one figure would be larger than programs show.
MAX_EXAMPLES = 1000


class _Block(NamedTuple):
    """Lines of pictures under one or several headings side by side."""

    headings: tuple[str, ...]
    lines: list[tuple[str, tuple[np.ndarray, ...]]]
    """A name for each line, and the rows under each heading."""
    per_heading: int


def draw_examples(
    dataset: Dataset,
    scores: Any,
    *,
    hardest: int | None = None,
    easiest: int | None = None,
    clean_labels: Any = None,
) -> Figure:
    """Draws the examples with the highest scores, those with the lowest, or both of each class.

    Below each picture stand score, class and id, in a run of noisy labels the label given and the clean one.
    Examples that are no images are rows of a table. The hardest come before the easiest; of the hardest the
    highest score is first, of the easiest the lowest. By a score of which high does not mean hard they are
    called the highest and the lowest.

    Args:
        dataset: what was scored.
        scores: float `[n]` in dataset order, high means hard; or the `ScoreFile` of this dataset, or of
            the one that it was taken from.
        hardest: how many of the hardest of all examples; at most all are drawn.
        easiest: how many of the easiest, of those that are not among the hardest. Without both numbers: some
            of each class.
        clean_labels: int `[n]`, where the dataset's own labels are noisy.

    Returns:
        A Matplotlib figure of one axes in inches; notebooks show it.

    Raises:
        InputError: the scores are of other examples, are NaN, or the numbers are no numbers of examples.

    Example:
        >>> import numpy as np, diet_jax as dj
        >>> dataset = dj.Dataset.from_arrays(np.zeros((6, 8, 8), np.uint8), [0, 1, 0, 1, 0, 1])
        >>> figure = dj.draw_examples(dataset, np.arange(6.0), hardest=4, easiest=1)
        >>> len(figure.axes[0].images)
        5
    """
    check_dataset(dataset)
    file = scores.of(dataset) if isinstance(scores, ScoreFile) else None
    values = _scores_of(dataset, file.scores if file else scores)
    clean = None if clean_labels is None else _checked_clean(clean_labels, dataset)
    order, notes = np.argsort(values, kind="stable"), []
    of = f"{shorten(f'{dataset.name}/{dataset.split}', 40)}"
    by = f"{styles_of([file.name])[file.name].label}, {file.when}" if file else "the given scores"
    words = ends_of(None if file is None else file.high_means)
    each = hardest is None and easiest is None
    if each:
        title = f"{words[0].capitalize()} and {words[1]} examples of {of} by {by}"
        most = min(PER_LINE, len(order) // 2)
        hard, easy = order[::-1][:most], order[:most]
    else:
        hard = order[::-1][: _count("hardest", hardest, len(order), notes)]
        easy = order[: _count("easiest", easiest, len(order) - len(hard), notes)]
        counts = [f"{len(rows)} {word}" for rows, word in zip((hard, easy), words, strict=True) if len(rows)]
        title = f"The {' and the '.join(counts)} of {len(order):,} examples of {of} by {by}"
    if dataset.kind != "images":
        return draw_rows(dataset, values, hard, easy, title, clean, notes, words)
    seeds = len(file.per_seed) if file else 1
    below = [f"mean score over {file.num_seeds} seeds" if file and seeds > 1 else "score"]
    below += [] if each else ["class" if clean is None else "given label"]
    below += ["id"] if clean is None else ["id", "clean label if it is another"]
    notes.insert(0, f"Below each image: {', '.join(below)}.")
    if each:
        block, left_out = _by_class(dataset, values, words)
        blocks = [block]
        if left_out:
            notes.append(f"The {len(block.lines)} classes with most examples, of {dataset.num_classes}.")
        if clean is not None:
            notes.append("Names on the left are the given labels.")
    else:
        blocks = [
            _in_lines(*both) for both in zip(_headings(words), (hard, easy), strict=True) if len(both[1])
        ]

    def captions(row: int) -> Iterator[tuple[str, Any]]:
        yield _number(float(values[row])), {"fontsize": 7}
        if not each:
            yield shorten(dataset.class_names[dataset.labels[row]], 13), {"fontsize": 6}
        yield shorten(str(dataset.ids[row]), 13, keep_end=True), {"fontsize": 5, "color": "#777777"}
        if clean is not None:
            changed = clean[row] != dataset.labels[row]
            text = f"clean: {shorten(dataset.class_names[clean[row]], 9)}" if changed else ""
            yield text, {"fontsize": 6, "color": STYLES["corrupted"].color}

    return _draw(dataset, blocks, title, " ".join(notes), captions)


def _draw(
    dataset: Dataset,
    blocks: list[_Block],
    title: str,
    note: str,
    captions: Callable[[int], Iterator[tuple[str, Any]]],
) -> Figure:
    """Draws blocks one below the other."""
    # In inches, and whole pixels each: images of 8, 16 or 32 pixels are enlarged by a whole number.
    cell, gap, middle, caption = 96 / DPI, 9 / DPI, 45 / DPI, 18 / DPI
    step = cell + caption * len(list(captions(0))) + 15 / DPI
    names = max(text_width(name) for block in blocks for name, _ in block.lines)
    left = math.ceil(DPI * (0.28 + names)) / DPI if names else 0.15
    starts = [left + place * (blocks[0].per_heading * (cell + gap) + middle) for place in range(2)]
    across = blocks[0].per_heading * (cell + gap) - gap
    width = starts[len(blocks[0].headings) - 1] + across + gap + 0.15
    title = wrap(title, int(12.5 * (width - 0.3)))
    # A title takes 0.38 inches and 0.18 for each further line, a heading 0.38, the note 0.24.
    above = 0.38 + 0.18 * title.count("\n")
    height = above + 0.24 + sum(0.38 + step * len(block.lines) for block in blocks)
    figure = ShownFigure(figsize=(width, height))
    # One axes whose unit is the inch, in place of a hundred: it is drawn ten times as fast.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    show = _image_drawer(axes, dataset, cell)

    def write(x: float, y: float, text: str, **look: Any) -> None:
        axes.text(x, y, text, **{"va": "center", "parse_math": False, **look})

    write(0.15, height - 0.11, title, va="top", fontsize=TITLE["fontsize"])
    top = height - above
    for block in blocks:
        for start, heading in zip(starts, block.headings, strict=False):
            write(start, top - 0.14, heading, fontsize=9)
            axes.plot([start, start + across], [top - 0.28] * 2, color="#999999", lw=0.8)
        top -= 0.38
        for name, groups in block.lines:
            bottom = top - cell
            write(left - 0.12, bottom + cell / 2, name, ha="right", fontsize=9)
            for start, rows in zip(starts, groups, strict=False):
                for place, row in enumerate(rows.tolist()):
                    x = start + place * (cell + gap)
                    show(row, x, bottom)
                    for line, (text, look) in enumerate(captions(row)):
                        write(
                            x + cell / 2, bottom - 0.03 - line * caption, text, ha="center", va="top", **look
                        )
            top -= step
    axes.text(0.15, 0.15, note, va="center", **NOTE)
    # Last, because drawing images moves the limits.
    axes.set_aspect("auto")
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    return figure


def _by_class(dataset: Dataset, scores: np.ndarray, words: tuple[str, str]) -> tuple[_Block, bool]:
    """A line for each class, and whether classes are left out."""
    sizes = np.bincount(dataset.labels, minlength=dataset.num_classes)
    classes = np.sort(np.argsort(-sizes, kind="stable")[:MAX_CLASSES])
    lines = [
        (shorten(dataset.class_names[c], 16), hardest_and_easiest(scores, dataset.labels, int(c)))
        for c in classes[sizes[classes] > 0]
    ]
    return _Block(_headings(words), lines, PER_SIDE), len(lines) < dataset.num_classes


def _headings(words: tuple[str, str]) -> tuple[str, str]:
    """What stands above the examples of each end."""
    highest, lowest = (f" ({end} score)" if words == ENDS else " scores" for end in ("highest", "lowest"))
    return f"{words[0]}{highest} first", f"{words[1]}{lowest} first"


def _in_lines(heading: str, rows: np.ndarray) -> _Block:
    lines = [("", (rows[first : first + PER_LINE],)) for first in range(0, len(rows), PER_LINE)]
    return _Block((heading,), lines, PER_LINE)


def _scores_of(dataset: Dataset, scores: Any) -> np.ndarray:
    """Scores float64 `[n]` of exactly the examples of a dataset, none of them NaN."""
    values = checked_scores(scores)
    if len(values) != len(dataset):
        raise InputError(
            f"scores must be one number for each of the {len(dataset)} examples of "
            f"{dataset.name}/{dataset.split}, in its order; got {len(values)}"
        )
    return values


def _checked_clean(labels: Any, dataset: Dataset) -> np.ndarray:
    names = dataset.class_names
    return checked_labels(labels, len(dataset), dataset.name, class_names=names, name="clean_labels").labels


def _count(name: str, count: int | None, left: int, notes: list[str]) -> int:
    """How many examples to draw, at most as many as are left, which is noted."""
    if count is None:
        return 0
    try:
        check_count(count, name, most=2**63)
    except InputError:
        raise InputError(
            f"{name} must be a whole number of examples of at least 1, got {shown(count)}; or leave it out"
        ) from None
    if min(count, left) > MAX_EXAMPLES:
        raise InputError(f"{name} must be at most {MAX_EXAMPLES:,} for one figure, got {count:,}")
    if count > left:
        notes.append(f"{name}={count:,}, of which there are {left:,}.")
    return min(int(count), left)


def hardest_and_easiest(scores: np.ndarray, labels: np.ndarray, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the examples of class c with the highest and the lowest scores, none twice.

    Args:
        scores: float `[n]`.
        labels: int `[n]`.
        c: class.

    Returns:
        Two int arrays of at most `PER_SIDE` rows: by falling score the hardest, by rising score the easiest.
    """
    rows = np.flatnonzero(labels == c)
    rows = rows[np.argsort(scores[rows], kind="stable")]
    easy = min(PER_SIDE, math.ceil(len(rows) / 2))
    hard = min(PER_SIDE, len(rows) - easy)
    return rows[::-1][:hard], rows[:easy]


def _image_drawer(axes: Axes, dataset: Dataset, cell: float) -> Callable[[int, float, float], None]:
    """Returns a function that draws a row's pixels, as stored, into a square of side `cell`."""
    pictures = pictures_of(dataset)
    height, width, _ = dataset.image_shape
    shrink = cell / max(height, width)
    size = (width * shrink, height * shrink)

    # Pixels stay squares when enlarged and are averaged when reduced.
    interpolation = "nearest" if max(height, width) <= cell * DPI else "auto"

    def show(row: int, x: float, y: float) -> None:
        pixels = pictures(np.array([row]))[0]
        x, y = x + (cell - size[0]) / 2, y + (cell - size[1]) / 2
        extent = (x, x + size[0], y, y + size[1])
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation=interpolation)

    return show


def _number(score: float) -> str:
    return f"{score:.3g}" if np.isfinite(score) else "∞" if score > 0 else "−∞"
