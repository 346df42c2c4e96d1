"""The distribution of a score, over all examples and in every class."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from diet_jax.errors import InputError
from diet_jax.plotting.result import draw_result
from diet_jax.plotting.style import MAX_CLASSES, save_figure, shorten, styles_of
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.score import SCORES


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
        A figure of two axes: the histogram, whose last bin is that of infinite scores if there are any, and
        median and 16th to 84th percentile of each class.

    Raises:
        InputError: a label has no class name.
    """
    if file.labels.max() >= len(class_names):
        raise InputError(f"label {file.labels.max()} has no name: class_names has {len(class_names)}")
    label, seeds = styles_of([file.name])[file.name].label, len(file.per_seed)
    meaning = next((score.infinite_means for score in SCORES if score.name == file.name), "not finite")
    num_infinite = int((~np.isfinite(file.scores)).sum())
    every, infinity = _all_examples(file, f"{meaning}: {num_infinite:,}")
    over = f"mean over {seeds} seeds" if seeds > 1 else "one seed"
    every["x_label"] = f"{label} score, {over} (high = hard)"
    by_class, left_out = _by_class(file, class_names, infinity)
    same = {key: every[key] for key in ("x_label", "x_ticks", "x_range")}
    note = [f"{file.provenance.get('definition', file.name)}."]
    if num_infinite and seeds > 1:
        note.append(f"{meaning.capitalize()} (∞): by at least one of the {seeds} seeds.")
    if left_out:
        note.append(f"{left_out} classes of middling median are left out.")
    what = f"{shorten(file.dataset, 40)}: {label} score at step {file.step:,}"
    return draw_result(
        {
            "title": f"{what}, {len(file.scores):,} examples",
            "note": "\n".join(note),
            "chart": {"kind": "distributions", "panels": [every, {**by_class, **same}]},
        }
    )


def _all_examples(file: ScoreFile, infinite: str) -> tuple[dict[str, Any], float]:
    """The panel of the histogram, and the place of infinity: beyond the last bin, with a gap between."""
    finite = file.scores[np.isfinite(file.scores)]
    edges = _bin_edges(finite, file.per_seed)
    counts = np.histogram(finite, edges)[0].tolist()
    groups = [{"name": file.name, "counts": counts}]
    width = 0.06 * (edges[-1] - edges[0])
    infinity, ticks = edges[-1] + 1.5 * width, None
    if len(finite) < len(file.scores):
        round_numbers = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(edges[0], edges[-1])
        shown = [t for t in round_numbers if edges[0] <= t <= edges[-1] and len(finite)]
        ticks = [*((t, f"{t:g}") for t in shown), (infinity, "∞")]
        edges = np.append(edges, [infinity - width / 2, infinity + width / 2])
        groups.append({"name": "infinite", "label": infinite})
        groups[1]["counts"] = [*(None for _ in counts), None, len(file.scores) - len(finite)]
        counts += [None, None]
    panel = {"title": "all examples", "edges": edges.tolist(), "groups": groups}
    # With some air, or half of a median at the border would be hidden.
    air = 0.02 * (edges[-1] - edges[0])
    return {**panel, "x_ticks": ticks, "x_range": (edges[0] - air, edges[-1] + air)}, infinity


def _by_class(file: ScoreFile, class_names: Sequence[str], infinity: float) -> tuple[dict[str, Any], int]:
    """The panel of the medians, and how many classes it leaves out."""
    quantiles = _class_quantiles(file, len(class_names))
    shown, left_out = _classes_to_show(quantiles)
    low, middle, high = np.where(np.isfinite(quantiles), quantiles, infinity)[shown].T.tolist()
    rows = list(range(len(shown)))
    panel = {
        "kind": "points",
        "title": "median of each class, bar from the 16th to the 84th percentile",
        "y_label": "",
        "y_ticks": [(row, shorten(class_names[c], 22)) for row, c in enumerate(shown)],
        "groups": [{"name": file.name, "x": middle, "y": rows, "low": low, "high": high}],
    }
    return panel, left_out


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
