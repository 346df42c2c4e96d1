"""What a figure found: a chart as plain JSON values, and the paper's claims with our figures beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diet_jax.analysis.statistics import Summary, Verdict


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, its figure, ours, and whether it holds here."""

    claim: str
    published: str
    ours: str
    holds: Verdict


@dataclass(frozen=True)
class Published:
    """Points of a published figure: by name, pairs of x and y; and horizontal lines."""

    about: str
    """Data and network, the panel's title."""
    series: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    levels: Mapping[str, float] = field(default_factory=dict)


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


def with_published(panel: dict[str, Any], published: Published | None) -> list[dict[str, Any]]:
    """Returns our panel, and beside it one with the published points and the same axes, if there are any."""
    if published is None:
        return [panel]
    lines = []
    for name, points in published.series.items():
        x, y = zip(*points, strict=True)
        lines.append({"name": name, "x": list(x), "mean": list(y), "low": None, "high": None})
    theirs = {key: panel[key] for key in ("x_label", "y_label", "percent", "x_scale") if key in panel}
    theirs |= {
        "title": published.about,
        "published": True,
        "series": lines,
        "levels": [{"name": n, "mean": v, "low": None, "high": None} for n, v in published.levels.items()],
    }
    return [panel, theirs]


def percent(values: Any) -> str:
    """Mean of accuracies in per cent, such as "89.12"."""
    return f"{100 * float(np.mean(values)):.2f}"


def lacking_note(names: Sequence[str]) -> str:
    """What a figure says about selections that no network can be trained on; nothing without any."""
    return f" Not drawn, for the kept examples lack a class: {', '.join(names)}." if names else ""


def networks(count: int) -> str:
    """Such as "4 networks"."""
    return "one network" if count == 1 else f"{count} networks"


def seeds_note(score_seeds: int, retrain_seeds: int) -> str:
    """What all accuracy figures say about seeds."""
    count = f"{retrain_seeds} fresh networks" if retrain_seeds > 1 else "one fresh network"
    band = "; bands show the 16th to 84th percentile" if retrain_seeds > 1 else ""
    return f"Scores averaged over {networks(score_seeds)}, final test accuracy of {count}{band}."
