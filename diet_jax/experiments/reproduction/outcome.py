"""What a figure found: a chart as plain JSON values, and the paper's claims with our figures beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diet_jax.analysis.results import FULL, RANDOM
from diet_jax.analysis.statistics import Comparison, Summary, Verdict
from diet_jax.experiments.reproduction.evidence import Evidence

TEST_ACCURACY, RANK_CORRELATION = "final test accuracy", "rank correlation"
# A verdict over fewer seeds says so: the error of a difference of two is hardly known.
FEW_SEEDS = 3


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, its figure, ours, and whether it holds here."""

    claim: str
    published: str
    ours: str
    holds: Verdict
    evidence: Evidence

    def facts(self) -> dict[str, Any]:
        """Returns it as JSON values, the evidence beside the words."""
        words = {"claim": self.claim, "published": self.published, "ours": self.ours, "holds": self.holds}
        return {**words, **self.evidence.facts()}


def verdict(holds: str, seeds: int) -> str:
    """Returns how a claim's verdict is written, such as "yes", or "yes (2 seeds)" where they are few."""
    if seeds >= FEW_SEEDS:
        return holds
    return f"{holds} ({seeds} seed{'s' if seeds > 1 else ''})"


@dataclass(frozen=True)
class Published:
    """Points of a published figure: by name, pairs of x and y; and horizontal lines."""

    about: str
    """Data and network, the panel's title."""
    series: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    levels: Mapping[str, float] = field(default_factory=dict)

    def value(self, name: str, x: float | None = None) -> float | None:
        """Returns the value of a series at a place, by default its last one, or else that of a level."""
        points = {round(place, 6): y for place, y in self.series.get(name, ())}
        place = max(points, default=0.0) if x is None else round(x, 6)
        return points.get(place, self.levels.get(name))


def points(x: Sequence[float], y: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Pairs each place with its value, for the series of a published figure."""
    return tuple(zip(x, y, strict=True))


@dataclass(frozen=True)
class Outcome:
    """A figure's result: what `plotting.draw_result` draws, in words and in claims."""

    title: str
    note: str
    chart: dict[str, Any]
    claims: tuple[Claim, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    """Numbers beside the chart, JSON values."""


def series(name: str, x: Sequence[float], values: Any, **extra: Any) -> dict[str, Any]:
    """Returns one line of a chart: mean and 16th to 84th percentile (linearly interpolated) over seeds.

    Args:
        name: score or selection.
        x: places, ascending.
        values: for each place the seeds' values; None where there is nothing.
        **extra: more keys of the line, such as label or order.
    """
    summaries = [v if v is None else Summary.of(v) for v in values]
    columns = {key: [s and getattr(s, key) for s in summaries] for key in Summary._fields}
    return {"name": name, "x": [float(v) for v in x], **extra, **columns}


def level(name: str, values: Any, **extra: Any) -> dict[str, Any]:
    """Returns a horizontal line of a chart: mean and band over seeds."""
    return {"name": name, **extra, **Summary.of(values)._asdict()}


def lines_panel(title: str, x_label: str, y_label: str, lines: Sequence[Any], **extra: Any) -> dict[str, Any]:
    """Returns a panel of lines, without levels if `extra`, more keys of the panel, has none."""
    labels = {"title": title, "x_label": x_label, "y_label": y_label}
    return {**labels, "series": list(lines), "levels": [], **extra}


def accuracy_panel(
    title: str, x_label: str, lines: Sequence[Any], accuracy: Mapping[Any, Any], y_label: str = TEST_ACCURACY
) -> dict[str, Any]:
    """Returns a panel of accuracies, with the levels of everything and random as far as they were found."""
    levels = [level(name, accuracy[name]) for name in (FULL, RANDOM) if name in accuracy]
    return lines_panel(title, x_label, y_label, lines, percent=True, levels=levels)


def matrix_panel(
    title: str, rows: Sequence[str], columns: Sequence[str], values: Any, reach: float, **words: Any
) -> dict[str, Any]:
    """Returns a panel of numbers from `-reach` to `reach`; `words` are its "format" and "value_label"."""
    cells = {"rows": list(rows), "columns": list(columns), "values": values}
    return {"title": title, **cells, "low": -reach, "high": reach, **words}


def with_published(panel: dict[str, Any], published: Published | None) -> list[dict[str, Any]]:
    """Returns our panel, and beside it one with the published points and the same axes, if there are any."""
    if published is None:
        return [panel]
    lines: list[Any] = []
    for name, points in published.series.items():
        x, y = zip(*points, strict=True)
        lines.append({"name": name, "x": list(x), "mean": list(y), "low": None, "high": None})
    levels = [{"name": n, "mean": v, "low": None, "high": None} for n, v in published.levels.items()]
    same = {key: panel[key] for key in ("x_label", "y_label", "percent", "x_scale") if key in panel}
    theirs = lines_panel(published.about, lines=lines, levels=levels, published=True, **same)
    return [panel, theirs]


def percent(values: Any) -> str:
    """Mean of accuracies in per cent, such as "89.12"."""
    return f"{100 * float(np.mean(values)):.2f}"


def against(values: Any, others: Any, name: str = "") -> str:
    """Compares accuracies, such as "89.12 against 88.30 (random), difference +0.82 ± 0.19"."""
    named = f" ({name})" if name else ""
    gain = Comparison.of(values, others)
    return f"{percent(values)} against {percent(others)}{named}, difference {gain.text()}"


def networks(count: int) -> str:
    """Such as "4 networks"."""
    return "one network" if count == 1 else f"{count} networks"


def pruning_note(score_seeds: int, retrain_seeds: int, lacking: Sequence[str]) -> str:
    """What all accuracy figures say about seeds, and about selections that no network can be trained on."""
    count = f"{retrain_seeds} fresh networks" if retrain_seeds > 1 else "one fresh network"
    band = "; bands show the 16th to 84th percentile" if retrain_seeds > 1 else ""
    note = f"Scores averaged over {networks(score_seeds)}, {TEST_ACCURACY} of {count}{band}."
    return note + lacking_note(lacking)


def lacking_note(names: Sequence[str]) -> str:
    """Names selections that were not drawn; nothing without any."""
    return f" Not drawn, for the kept examples lack a class: {', '.join(names)}." if names else ""
