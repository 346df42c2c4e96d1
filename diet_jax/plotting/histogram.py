"""The distribution of a score, over all examples and in every class."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from diet_jax.errors import InputError
from diet_jax.plotting.result import draw_result
from diet_jax.plotting.style import MAX_CLASSES, shorten, styles_of
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.score import SCORES

# Most scores lie near 0 where their median is below this share of the largest; a log axis reaches from the
# largest down by this ratio.
NEAR_0, RATIO = 0.05, 1e6


def draw_histogram(file: ScoreFile, class_names: Sequence[str]) -> Figure:
    """Draws the distribution of a score over all examples, and its median in each class.

    Args:
        file: scores `[n]` with labels `[n]`.
        class_names: one name per class.

    Returns:
        A figure of two axes: the histogram, whose last bin is that of infinite scores if there are any, and
        median and 16th to 84th percentile of each class. Where most scores lie near 0, as those of a well
        fitted dataset do, both have a log axis, and bins of equal ratio.

    Raises:
        InputError: a label has no class name.
    """
    if file.labels.max() >= len(class_names):
        raise InputError(f"label {file.labels.max()} has no name: class_names has {len(class_names)}")
    label, seeds = styles_of([file.name])[file.name].label, len(file.per_seed)
    meaning = next((score.infinite_means for score in SCORES if score.name == file.name), "not finite")
    num_infinite = int((~np.isfinite(file.scores)).sum())
    axis = _axis_of(file)
    every = _all_examples(file, axis, f"{meaning}: {num_infinite:,}")
    over = f"mean over {file.num_seeds} seeds" if seeds > 1 else "one seed"
    high = f"high = {file.provenance.get('high_means', 'hard')}"
    every["x_label"] = f"{label} score, {over} ({high}{', log scale' if axis.floor else ''})"
    by_class, left_out = _by_class(file, class_names, axis)
    same = {key: every[key] for key in ("x_label", "x_ticks", "x_range")}
    note = [f"{file.provenance.get('definition', file.name)}."]
    if num_infinite and seeds > 1:
        note.append(f"{meaning.capitalize()} (∞): by at least one of the {seeds} seeds.")
    if axis.num_small:
        note.append(f"Below {axis.floor:.1g}, in the bin on the left: {axis.num_small:,} examples.")
    if left_out:
        note.append(f"{left_out} classes of middling median are left out.")
    what = f"{shorten(file.dataset, 40)}: {label} score at {file.when}"
    return draw_result(
        {
            "title": f"{what}, {len(file.scores):,} examples",
            "note": "\n".join(note),
            "chart": {"kind": "distributions", "panels": [every, {**by_class, **same}]},
        }
    )


class _Axis(NamedTuple):
    """Where scores stand: themselves, or their decimal logarithms from a floor on."""

    edges: np.ndarray
    """Of the bins."""
    floor: float
    """The least score of a log axis that has a place of its own; 0 on a linear one."""
    num_small: int
    """How many scores lie below the floor, which share one place on the left."""
    num_infinite: int
    """How many are not finite, which share one place on the right."""
    any_finite: bool

    @property
    def width(self) -> float:
        """Of the bins of what has no place of its own, which stand apart by as much."""
        return 0.06 * float(self.edges[-1] - self.edges[0])

    @property
    def small(self) -> float:
        """The place of what lies below the floor."""
        return float(self.edges[0]) - 1.5 * self.width

    @property
    def infinity(self) -> float:
        """The place of what is not finite."""
        return float(self.edges[-1]) + 1.5 * self.width

    def places(self, scores: np.ndarray) -> np.ndarray:
        """Where scores of any shape stand."""
        places = scores
        if self.floor:
            places = np.log10(np.maximum(np.nan_to_num(scores, nan=np.inf), self.floor))
            places = np.where(scores < self.floor, self.small, np.minimum(places, self.edges[-1]))
        return np.where(np.isfinite(scores), places, self.infinity)

    def ticks(self) -> list[tuple[float, str]] | None:
        """Places and their texts; None where numbers say it themselves."""
        low, high = self.edges[0], self.edges[-1]
        if self.floor:
            powers = range(math.ceil(low), math.floor(high) + 1)
            ticks = [(float(power), _power(power)) for power in powers]
        elif self.num_infinite:
            values = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
            ticks = [(value, f"{value:g}") for value in values if low <= value <= high and self.any_finite]
        else:
            return None
        # Beside the tick of the floor.
        first = [(self.small, "<")] if self.num_small else []
        return first + ticks + ([(self.infinity, "∞")] if self.num_infinite else [])


def _axis_of(file: ScoreFile) -> _Axis:
    """A log axis where most scores lie near 0: on a linear one, one bin would hold them all."""
    finite = file.scores[np.isfinite(file.scores)]
    num_infinite = len(file.scores) - len(finite)
    edges = _bin_edges(finite, file.per_seed)
    if not len(finite) or _are_counts(file.per_seed) or finite.min() < 0:
        return _Axis(edges, 0.0, 0, num_infinite, len(finite) > 0)
    top = finite.max()
    if not 0 < np.median(finite) < NEAR_0 * top:
        return _Axis(edges, 0.0, 0, num_infinite, True)
    floor = float(finite[finite > 0].min())
    floor = floor if floor > top / RATIO else 10.0 ** math.ceil(np.log10(top / RATIO))
    logs = np.linspace(np.log10(floor), np.log10(top), len(edges))
    return _Axis(logs, floor, int((finite < floor).sum()), num_infinite, True)


def _power(power: int) -> str:
    if -4 < power < 5:
        return f"{10.0**power:g}"
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _all_examples(file: ScoreFile, axis: _Axis, infinite: str) -> dict[str, Any]:
    """The panel of the histogram: what has no place of its own in bins beyond a gap."""
    edges, half = axis.edges, axis.width / 2
    own = np.isfinite(file.scores) & (file.scores >= (axis.floor or -np.inf))
    counts: list[int | None] = np.histogram(axis.places(file.scores[own]), edges)[0].tolist()
    if axis.num_small:
        edges = np.append([axis.small - half, axis.small + half], edges)
        counts = [axis.num_small, None, *counts]
    groups = [{"name": file.name, "counts": counts}]
    if axis.num_infinite:
        edges = np.append(edges, [axis.infinity - half, axis.infinity + half])
        beyond = [*(None for _ in counts), None, axis.num_infinite]
        groups = [
            {"name": file.name, "counts": [*counts, None, None]},
            {"name": "infinite", "label": infinite, "counts": beyond},
        ]
    panel = {"title": "all examples", "edges": edges.tolist(), "groups": groups}
    # With some air, or half of a median at the border would be hidden.
    air = 0.02 * (edges[-1] - edges[0])
    return {**panel, "x_ticks": axis.ticks(), "x_range": (edges[0] - air, edges[-1] + air)}


def _by_class(file: ScoreFile, class_names: Sequence[str], axis: _Axis) -> tuple[dict[str, Any], int]:
    """The panel of the medians, and how many classes it leaves out."""
    quantiles = _class_quantiles(file, len(class_names))
    shown, left_out = _classes_to_show(quantiles)
    low, middle, high = axis.places(quantiles[shown]).T.tolist()
    rows = list(range(len(shown)))
    panel = {
        "kind": "points",
        "title": "median of each class, bar from the 16th to the 84th percentile",
        "y_label": "",
        "y_ticks": [(row, shorten(class_names[c], 22)) for row, c in enumerate(shown)],
        "groups": [{"name": file.name, "x": middle, "y": rows, "low": low, "high": high}],
    }
    return panel, left_out


def _are_counts(per_seed: np.ndarray) -> bool:
    each = per_seed[np.isfinite(per_seed)]
    return bool((each == np.round(each)).all())


def _bin_edges(finite: np.ndarray, per_seed: np.ndarray) -> np.ndarray:
    if not len(finite):
        return np.array([0.0, 1.0])
    low, high = float(finite.min()), float(finite.max())
    if _are_counts(per_seed):
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
