"""Figures of a run: accuracy against keep fraction, histograms of scores, easiest and hardest examples."""

import io
import math
import os
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from diet_jax.data import Dataset
from diet_jax.errors import InputError
from diet_jax.score_files import ScoreFile, write_atomically
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
PER_SIDE = 5
TITLE = {"x": 0.01, "ha": "left", "fontsize": 10.5, "parse_math": False}
NOTE = {"fontsize": 7.5, "color": "#555555", "parse_math": False}


def accuracy_figure(rows: list[dict[str, Any]], path: str | os.PathLike[str], *, title: str) -> None:
    """Draws final test accuracy against keep fraction, a line per selection, as PNG.

    Args:
        rows: what `tables.to_rows` returns.
        path: where to write, whole or not at all.
        title: what was trained on what.

    Raises:
        InputError: there are no rows, or the file cannot be written.
    """
    _save(draw_accuracy(rows, title=title), path)


def histogram_figure(file: ScoreFile, class_names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Draws the distribution of a score over all examples, and its median in each class, as PNG.

    Args:
        file: scores `[n]` with labels `[n]`.
        class_names: one name per class.
        path: where to write, whole or not at all.

    Raises:
        InputError: a label has no class name, or the file cannot be written.
    """
    _save(draw_histogram(file, class_names), path)


def examples_figure(dataset: Dataset, file: ScoreFile, path: str | os.PathLike[str]) -> None:
    """Draws the easiest and the hardest examples of each class by mean score, as PNG.

    Args:
        dataset: images `[n h w ch]` that were scored.
        file: scores `[n]` of exactly these examples, in this order.
        path: where to write, whole or not at all.

    Raises:
        InputError: the ids of file and dataset differ, or the file cannot be written.
    """
    _save(draw_examples(dataset, file), path)


def draw_accuracy(rows: list[dict[str, Any]], *, title: str) -> Figure:
    """Builds the figure of `accuracy_figure`.

    Args:
        rows: what `tables.to_rows` returns.
        title: what was trained on what.

    Returns:
        A figure of one axes: a line per selection in per cent, labelled as in `STYLES`.

    Raises:
        InputError: there are no rows.
    """
    if not rows:
        raise InputError("there are no rows to draw; retrain at least one selection first")
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["keep_fraction"]):
        lines.setdefault(row["kept_by"], []).append(row)
    full = lines.pop(FULL, [])
    styles = _styles([row["kept_by"] for row in rows])
    names = [name for name in styles if name in lines]
    fractions = sorted({row["keep_fraction"] for name in names for row in lines[name]}) or [1.0]

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for row in full:
        axes.axhline(
            100 * row["accuracy"], color="black", linewidth=1.2, linestyle="--", label=STYLES[FULL].label
        )
        axes.axhspan(100 * row["accuracy_p16"], 100 * row["accuracy_p84"], color="black", alpha=0.1, lw=0)
    for position, name in enumerate(names):
        _draw_line(axes, lines[name], styles[name], position - (len(names) - 1) / 2, len(fractions) == 1)

    _fraction_axis(axes, fractions, len(names))
    of = f" of the {full[0]['examples']:,} training examples" if full else ""
    axes.set_xlabel(f"keep fraction{of}")
    axes.set_ylabel("final test accuracy (%)")
    figure.suptitle(_wrap(title, 82), **TITLE)
    _plain(axes)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.7)
    # Beside the axes, where no line can run under it, and below the title, which may be wider than the axes.
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        frameon=False,
        fontsize=9,
        title="kept by",
        title_fontsize=9,
        alignment="left",
    )
    figure.supxlabel(_seeds_note(rows), x=0.01, ha="left", **NOTE)
    return figure


def _draw_line(axes: Axes, rows: list[dict[str, Any]], style: Style, offset: float, single: bool) -> None:
    """Draws one selection; of a single fraction, points side by side instead of lines."""
    x = np.array([row["keep_fraction"] for row in rows])
    y, low, high = (
        100 * np.array([row[k] for row in rows]) for k in ("accuracy", "accuracy_p16", "accuracy_p84")
    )
    look = {"color": style.color, "marker": style.marker, "markersize": 5.5, "label": style.label}
    # A baseline goes behind what is compared with it.
    order = 2.0 if style == STYLES[RANDOM] else 3.0
    if single:
        axes.vlines(x + offset, low, high, color=style.color, linewidth=2.5, alpha=0.45, zorder=order)
        axes.plot(x + offset, y, linestyle="", zorder=order + 0.5, **look)
    else:
        axes.fill_between(x, low, high, color=style.color, alpha=0.16, linewidth=0, zorder=order)
        axes.plot(x, y, linewidth=1.6, zorder=order + 0.5, markeredgecolor="white", mew=0.6, **look)


def _fraction_axis(axes: Axes, fractions: list[float], count: int) -> None:
    """Puts ticks at the fractions; a log axis where they would be too close on a linear one."""
    if len(fractions) == 1:
        reach = max(count / 2, 1) + 0.5
        axes.set_xlim(fractions[0] - reach, fractions[0] + reach)
        axes.set_xticks(fractions, [f"{fractions[0]:g}"])
        return
    places = np.array(fractions)
    span = places[-1] - places[0]
    if np.diff(places).min() < 0.05 * span and places[-1] > 20 * places[0]:
        axes.set_xscale("log")
        places = np.log(places)
        span = places[-1] - places[0]
    labels, last = [], -math.inf
    for fraction, place in zip(fractions, places, strict=True):
        free = place - last > 0.06 * span
        labels.append(f"{fraction:g}" if free else "")
        last = place if free else last
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(fractions, labels)


def _seeds_note(rows: list[dict[str, Any]]) -> str:
    fewest, most = min(row["seeds"] for row in rows), max(row["seeds"] for row in rows)
    if most == 1:
        return "One seed each: no band."
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"Mean over {count} seeds; bands show the 16th to 84th percentile over seeds."


def draw_histogram(file: ScoreFile, class_names: Sequence[str]) -> Figure:
    """Builds the figure of `histogram_figure`.

    Args:
        file: scores `[n]` with labels `[n]`.
        class_names: one name per class.

    Returns:
        A figure of two axes: the histogram, and below it median and 16th to 84th percentile of each class.

    Raises:
        InputError: a label has no class name.
    """
    if file.labels.max() >= len(class_names):
        raise InputError(f"label {file.labels.max()} has no name: class_names has {len(class_names)}")
    style = _styles([file.name])[file.name]
    finite = file.scores[np.isfinite(file.scores)]
    num_infinite = len(file.scores) - len(finite)
    edges = _bin_edges(finite, file.per_seed)
    counts, _ = np.histogram(finite, edges)
    span = edges[-1] - edges[0]
    infinity = edges[-1] + 0.08 * span

    quantiles = _class_quantiles(file, len(class_names))
    shown, left_out = _classes_to_show(quantiles)
    figure = Figure(figsize=(7, 3.3 + 0.2 * len(shown)), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 0.35 + 0.2 * len(shown)))

    top.bar(edges[:-1], counts, np.diff(edges), align="edge", color=style.color, alpha=0.85, linewidth=0)
    # Few bins would show at all beside a peak that is far higher than most of them.
    filled = counts[counts > 0]
    log = bool(len(filled)) and np.median(filled) < filled.max() / 20
    top.set_ylabel("examples per bin" + (" (log scale)" if log else ""))
    if num_infinite:
        top.bar([infinity], [num_infinite], 0.05 * span, color="white", edgecolor=style.color, hatch="////")
        top.annotate(
            f"{_infinite(file)}: {num_infinite:,}",
            (infinity + 0.025 * span, num_infinite),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8},
        )
    # Room for the number above the bar.
    top.margins(y=0.12)
    if log:
        top.set_yscale("log")
        top.set_ylim(bottom=0.7)
    what = f"{_shorten(file.dataset, 40)}: {style.label} score at step {file.step:,}"
    figure.suptitle(_wrap(f"{what}, {len(file.scores):,} examples", 82), **TITLE)
    _plain(top)

    places = np.where(np.isfinite(quantiles), quantiles, infinity)
    for row, c in enumerate(shown):
        low, middle, high = places[c]
        bottom.plot(
            [low, high], [row, row], color=style.color, linewidth=2.5, alpha=0.35, solid_capstyle="butt"
        )
        bottom.plot([middle], [row], color=style.color, marker="o", markersize=4.5, linestyle="")
    bottom.set_yticks(range(len(shown)), [_shorten(class_names[c], 22) for c in shown], fontsize=8)
    for label in bottom.get_yticklabels():
        label.set_parse_math(False)
    bottom.set_ylim(-0.7, len(shown) - 0.3)
    _plain(bottom)
    bottom.grid(axis="x", color="#E5E5E5", linewidth=0.7)
    if num_infinite:
        ticks = MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(edges[0], edges[-1])
        ticks = [t for t in ticks if edges[0] <= t <= edges[-1] and len(finite)]
        bottom.set_xticks([*ticks, infinity], [*(f"{t:g}" for t in ticks), "∞"])
    seeds = len(file.per_seed)
    over = f"mean over {seeds} seeds" if seeds > 1 else "one seed"
    bottom.set_xlabel(f"{style.label} score, {over} (high = hard)")
    figure.supxlabel(_histogram_note(file, left_out), x=0.01, ha="left", **NOTE)
    return figure


def _bin_edges(finite: np.ndarray, per_seed: np.ndarray) -> np.ndarray:
    if not len(finite):
        return np.array([0.0, 1.0])
    low, high = float(finite.min()), float(finite.max())
    each = per_seed[np.isfinite(per_seed)]
    if (each == np.round(each)).all():
        # Counts: bins around whole numbers, else some bins hold more whole numbers than others.
        width = max(1, math.ceil((high - low) / 60))
        return np.arange(math.floor(low), math.ceil(high) + width + 1, width) - 0.5
    if high == low:
        return np.array([low - 0.5, high + 0.5])
    return np.linspace(low, high, int(np.clip(np.sqrt(len(finite)), 10, 60)) + 1)


def _class_quantiles(file: ScoreFile, num_classes: int) -> np.ndarray:
    """16th, 50th and 84th percentile `[c 3]` of each class; NaN for a class without examples."""
    quantiles = np.full((num_classes, 3), np.nan)
    for c in np.unique(file.labels):
        ranked = np.sort(np.nan_to_num(file.scores[file.labels == c], nan=np.inf, posinf=np.inf))
        # An element, never a mean of two: scores may be infinite.
        quantiles[c] = [ranked[math.ceil(share * len(ranked)) - 1] for share in (0.16, 0.5, 0.84)]
    return quantiles


def draw_examples(dataset: Dataset, file: ScoreFile) -> Figure:
    """Builds the figure of `examples_figure`.

    Args:
        dataset: images `[n h w ch]` that were scored.
        file: scores `[n]` of exactly these examples, in this order.

    Returns:
        A figure of one axes in inches: a row of images per class, easiest first.

    Raises:
        InputError: the ids of file and dataset differ.
    """
    if file.ids.shape != dataset.ids.shape or not np.array_equal(file.ids, dataset.ids):
        raise InputError(
            f"the scores are of {file.dataset} ({len(file.ids)} examples) and their ids are not those of "
            f"{dataset.name}/{dataset.split} ({len(dataset)} examples); score this dataset, or load the other"
        )
    sizes = np.bincount(dataset.labels, minlength=dataset.num_classes)
    classes = np.sort(np.argsort(-sizes, kind="stable")[:MAX_CLASSES])
    classes = classes[sizes[classes] > 0]

    # In inches, and whole pixels each: images of 8, 16 or 32 pixels are enlarged by a whole number.
    cell, gap, step = 96 / DPI, 9 / DPI, 147 / DPI
    names = [_shorten(dataset.class_names[c], 16) for c in classes]
    left = math.ceil(DPI * (0.28 + max(_text_width(name) for name in names))) / DPI
    middle = 45 / DPI
    width = left + 2 * PER_SIDE * (cell + gap) + middle + 0.15
    height = 0.8 + step * len(classes) + 0.32
    figure = Figure(figsize=(width, height))
    # One axes whose unit is the inch, in place of a hundred: it is drawn ten times as fast.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    show = _image_drawer(axes, dataset, cell)

    starts = (left, left + PER_SIDE * (cell + gap) + middle)
    style = _styles([file.name])[file.name]
    axes.text(
        0.15,
        height - 0.2,
        f"Easiest and hardest examples of {_shorten(file.dataset, 40)} by {style.label}, step {file.step:,}",
        fontsize=10.5,
        va="center",
        parse_math=False,
    )
    for start, heading in zip(
        starts, ("easiest (lowest score)", "hardest (highest score), the last is hardest"), strict=True
    ):
        axes.text(start, height - 0.52, heading, fontsize=9, va="center")
        axes.plot(
            [start, start + PER_SIDE * (cell + gap) - gap], [height - 0.66] * 2, color="#999999", lw=0.8
        )
    for line, (c, name) in enumerate(zip(classes, names, strict=True)):
        bottom = height - 0.76 - cell - line * step
        axes.text(left - 0.12, bottom + cell / 2, name, fontsize=9, ha="right", va="center", parse_math=False)
        for start, rows in zip(starts, easiest_and_hardest(file.scores, dataset.labels, int(c)), strict=True):
            for place, row in enumerate(rows):
                x = start + place * (cell + gap)
                show(int(row), x, bottom)
                axes.text(
                    x + cell / 2,
                    bottom - 0.03,
                    _number(float(file.scores[row])),
                    fontsize=7,
                    ha="center",
                    va="top",
                )
                identity = _shorten(str(dataset.ids[row]), 13, keep_end=True)
                axes.text(
                    x + cell / 2,
                    bottom - 0.15,
                    identity,
                    fontsize=5,
                    ha="center",
                    va="top",
                    color="#777777",
                    parse_math=False,
                )
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
    scale = (float(images.max()) - low) or 1.0
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


def _classes_to_show(quantiles: np.ndarray) -> tuple[list[int], int]:
    """Classes by rising median, at most `MAX_CLASSES` of them at the ends, and how many that leaves out."""
    order = [int(c) for c in np.argsort(quantiles[:, 1], kind="stable") if not np.isnan(quantiles[c, 1])]
    if len(order) <= MAX_CLASSES:
        return order, 0
    return order[: MAX_CLASSES // 2] + order[-(MAX_CLASSES // 2) :], len(order) - MAX_CLASSES


def _infinite(file: ScoreFile) -> str:
    return "never learned" if file.name == "forgetting" else "not finite"


def _histogram_note(file: ScoreFile, left_out: int) -> str:
    lines = [f"{file.provenance.get('definition', file.name)}."]
    if len(file.per_seed) > 1 and not np.isfinite(file.scores).all():
        lines.append(
            f"{_infinite(file).capitalize()} (∞): by at least one of the {len(file.per_seed)} seeds."
        )
    lines.append("Below: median and 16th to 84th percentile of each class, hardest class on top.")
    if left_out:
        lines[-1] += f" {left_out} classes of middling median are left out."
    return "\n".join(_wrap(line, 115) for line in lines)


def _styles(names: Sequence[str]) -> dict[str, Style]:
    """Styles of names in the order of `STYLES`, then other names in alphabetical order."""
    others = sorted(set(names) - set(STYLES))
    extra = {n: Style(n, *OTHER_STYLES[i % len(OTHER_STYLES)]) for i, n in enumerate(others)}
    return {**{n: s for n, s in STYLES.items() if n in names}, **extra}


def _number(score: float) -> str:
    return f"{score:.3g}" if np.isfinite(score) else {np.inf: "∞", -np.inf: "−∞"}.get(score, "NaN")


def _text_width(text: str) -> float:
    """Upper bound of the width in inches at 9 points."""
    return sum(0.085 if c.isascii() and not c.isupper() else 0.125 for c in text)


def _wrap(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width))


def _shorten(text: str, length: int, *, keep_end: bool = False) -> str:
    if len(text) <= length:
        return text
    return "…" + text[1 - length :] if keep_end else text[: length - 1] + "…"


def _plain(axes: Axes) -> None:
    """Takes away the frame's top and right, and puts the grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: Any) -> None:
    """Writes a figure as PNG without a date or version: the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; that is no reason to end a run.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
