"""How scores rank examples: how many seeds they need (D.1) and which agree (D.3, F)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diet_jax.analysis.statistics import Comparison, spearman
from diet_jax.data.columns import read_column
from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import (
    Claim,
    Outcome,
    Published,
    lacking_note,
    networks,
    percent,
    series,
)
from diet_jax.experiments.reproduction.store import Store, highest
from diet_jax.experiments.reproduction.task import ScoreAt, Task


@dataclass(frozen=True)
class NumberOfSeeds(Experiment):
    """Rankings and prunings by the mean over few seeds, against the mean over all."""

    task: Task
    scores: tuple[ScoreAt, ...]
    counts: tuple[int, ...]
    """Numbers of seeds; the largest is what the others are compared with."""
    fraction: float
    retrain_seeds: int = 4

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Averages disjoint groups of seeds and prunes by the first group of each size."""
        most = max(self.counts)
        all_scores = store.scores(self.task, self.scores, most)
        agreement: dict[ScoreAt, list[list[float]]] = {}
        masks: dict[str, np.ndarray | None] = {}
        for at, values in all_scores.items():
            full = values.mean(axis=0, dtype=np.float64)
            agreement[at] = []
            for count in self.counts:
                groups = [values[first : first + count] for first in range(0, most - count + 1, count)]
                means = [group.mean(axis=0, dtype=np.float64) for group in groups]
                agreement[at].append([spearman(mean, full) for mean in means])
                masks[f"{at.label}, {count}"] = highest(self.task, means[0], self.fraction)
        masks, left_out = store.trainable(self.task, masks)
        accuracy = store.accuracies(self.task, masks, self.retrain_seeds)
        common = {"x_label": "seeds averaged over", "x_scale": "log"}
        ranks = {
            "title": "agreement of the ranking",
            "y_label": f"rank correlation with the mean of {most} seeds",
            **common,
            "series": [
                series(at.name, self.counts, values, label=at.label) for at, values in agreement.items()
            ],
            "levels": [],
        }
        final = {
            "title": f"keep {self.fraction:g} by that mean",
            "y_label": "final test accuracy",
            "percent": True,
            **common,
            "series": [
                series(
                    at.name,
                    self.counts,
                    [accuracy.get(f"{at.label}, {c}") for c in self.counts],
                    label=at.label,
                )
                for at in self.scores
            ],
            "levels": [],
        }
        return Outcome(
            title=f"How many seeds a score needs; {self.task.name}",
            note="Left: disjoint groups of seeds, bands show the 16th to 84th percentile over groups (the "
            f"groups are part of the mean that they are compared with). Right: {self.retrain_seeds} fresh "
            "networks on what the first group's mean keeps." + lacking_note(left_out),
            chart={"kind": "lines", "panels": [ranks, final]},
            claims=self._claims(agreement, accuracy),
        )

    def _claims(
        self, agreement: dict[ScoreAt, list[list[float]]], accuracy: dict[str, np.ndarray]
    ) -> tuple[Claim, ...]:
        claims, few, many = [], min(self.counts), max(self.counts)
        for at in self.scores:
            value = float(np.mean(agreement[at][self.counts.index(few)]))
            one, most = accuracy.get(f"{at.label}, {few}"), accuracy.get(f"{at.label}, {many}")
            if one is None or most is None:
                continue
            loss = Comparison.of(most, one)
            claims.append(
                Claim(
                    f"{at.label} of {few} seed prunes worse than the mean of {many}",
                    "rank correlation 0.75, prunes worse" if at.score.reads == "gradients" else "",
                    f"rank correlation {value:.2f}; {percent(one)} against {percent(most)}, "
                    f"the mean is better by {loss.text()}",
                    loss.is_above(),
                )
            )
        return tuple(claims)


@dataclass(frozen=True)
class Correlations(Experiment):
    """Rank correlations between the means of scores."""

    task: Task
    scores: tuple[ScoreAt, ...]
    score_seeds: int = 10
    published: tuple[tuple[int, int, float], ...] = ()
    """Published correlations: the places of two scores, and the number."""
    published_labels: tuple[str, ...] = ()
    """What the scores are called there: the epochs differ."""
    published_about: str = ""
    """Data, network and source."""

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Correlates every pair; an infinite mean ranks highest."""
        scores = store.mean_scores(self.task, self.scores, self.score_seeds)
        names = [at.label for at in self.scores]
        matrix = [[spearman(scores[a], scores[b]) for b in self.scores] for a in self.scores]
        common: dict[str, Any] = {
            "format": ".2f",
            "low": -1,
            "high": 1,
            "value_label": "Spearman's rank correlation",
        }
        panels = [{"title": self.task.name, **common, "rows": names, "columns": names, "values": matrix}]
        claims = []
        theirs: list[list[float | None]] = [[None] * len(names) for _ in names]
        for i, j, value in self.published:
            theirs[i][j] = theirs[j][i] = value
            strong = "above" if value > 0.5 else "below"
            agree = "yes" if (value > 0.5) == (matrix[i][j] > 0.5) else "no"
            text = f"rank correlation of {names[i]} and {names[j]} is {strong} 0.5"
            claims.append(Claim(text, f"{value:.3f}", f"{matrix[i][j]:.3f}", agree))
        if self.published:
            labels = list(self.published_labels)
            panel = {"title": self.published_about, "published": True, **common}
            panels.append({**panel, "rows": labels, "columns": labels, "values": theirs})
        folded = {at.score.label: at.score.infinite_means for at in self.scores if at.score.fold}
        infinite = "".join(f" ({label}: {means} by some seed)" for label, means in folded.items())
        return Outcome(
            title="Rank correlations between scores",
            note=f"Scores averaged over {networks(self.score_seeds)}; an infinite mean{infinite} ranks "
            "highest.",
            chart={"kind": "matrix", "panels": panels},
            claims=tuple(claims),
        )


@dataclass(frozen=True)
class Memorisation(Experiment):
    """Scores against memorisation values that the user brings (Feldman and Zhang's table)."""

    needs_table: ClassVar[bool] = True

    task: Task
    scores: tuple[ScoreAt, ...]
    score_seeds: int = 10
    table: str | None = None
    """CSV file with the header id,memorisation: one line for each train example, by id."""

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Correlates every score with the table."""
        if self.table is None:
            raise InputError(
                "this figure compares scores with memorisation values, which are not part of diet_jax; give "
                "--table FILE, a CSV file with the header id,memorisation and a line for each train example"
            )
        train = store.setup(self.task).splits.train
        values = np.array(read_column(self.table, "memorisation", train, _finite))
        scores = store.mean_scores(self.task, self.scores, self.score_seeds)
        ranks = {at: spearman(scores[at], values) for at in self.scores}
        panels = [
            {
                "title": f"{at.label}: rank correlation {ranks[at]:.2f}",
                "x_label": "memorisation",
                "y_label": at.label,
                "groups": [_points(at.name, values, scores[at])],
            }
            for at in self.scores
        ]
        claims = [
            Claim(
                f"memorisation does not correlate with {at.label}",
                "does not correlate",
                f"rank correlation {ranks[at]:.2f}",
                "unclear" if np.isnan(ranks[at]) else "yes" if abs(ranks[at]) < 0.3 else "no",
            )
            for at in self.scores
        ]
        return Outcome(
            title=f"Scores and memorisation; {self.task.name}",
            note=f"Scores averaged over {networks(self.score_seeds)}; memorisation values from "
            f"{Path(self.table).name}. Infinite scores are not drawn.",
            chart={"kind": "points", "panels": panels},
            claims=tuple(claims),
        )


def _finite(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{cell!r} is no finite number; give one")
    return value


def _points(name: str, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    # A few thousand points show the shape; more only make the files large.
    some = np.flatnonzero(np.isfinite(y))[:: max(1, len(y) // 2000)]
    return {"name": name, "label": None, "x": x[some].tolist(), "y": y[some].tolist()}
