"""The distribution of a score, over all examples and in every class."""

import math
import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from diet_jax.errors import InputError
from diet_jax.plotting.style import (
    MAX_CLASSES,
    NOTE,
    TITLE,
    plain,
    save_figure,
    shorten,
    styles_of,
    wrap,
)
from diet_jax.scores.file import ScoreFile


def histogram_figure(file: ScoreFile, class_names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Draws the distribution of a score over all examples, and its median in each class, as PNG.

    Args:
        file: scores `[n]` with labels `[n]`.
        class_names: one name per class.
        path: where to write, whole or not at all.

    Raises:
        InputError: a label has no class name, or the file cannot be written.
    """
    save_figure(draw_histogram(file, class_names), path)


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
    style = styles_of([file.name])[file.name]
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
    what = f"{shorten(file.dataset, 40)}: {style.label} score at step {file.step:,}"
    figure.suptitle(wrap(f"{what}, {len(file.scores):,} examples", 82), **TITLE)
    plain(top)

    places = np.where(np.isfinite(quantiles), quantiles, infinity)
    for row, c in enumerate(shown):
        low, middle, high = places[c]
        bottom.plot(
            [low, high], [row, row], color=style.color, linewidth=2.5, alpha=0.35, solid_capstyle="butt"
        )
        bottom.plot([middle], [row], color=style.color, marker="o", markersize=4.5, linestyle="")
    bottom.set_yticks(range(len(shown)), [shorten(class_names[c], 22) for c in shown], fontsize=8)
    for label in bottom.get_yticklabels():
        label.set_parse_math(False)
    bottom.set_ylim(-0.7, len(shown) - 0.3)
    plain(bottom)
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
    return "\n".join(wrap(line, 115) for line in lines)
