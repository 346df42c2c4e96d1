"""How scores rank examples: how many seeds they need (D.1) and which agree (D.3, F)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diet_jax.analysis.statistics import Comparison, rank_correlations, spearman
from diet_jax.data.columns import read_column
from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.evidence import Evidence, kept_by, scored
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import (
    RANK_CORRELATION,
    TEST_ACCURACY,
    Claim,
    Outcome,
    Published,
    accuracy_panel,
    lacking_note,
    lines_panel,
    matrix_panel,
    networks,
    percent,
    series,
)
from diet_jax.experiments.reproduction.store import Store, tie_key
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.selection.ranks import keep_highest


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
        few, most = min(self.counts), max(self.counts)
        if few == most:
            raise InputError(f"counts needs two numbers of seeds to compare, got {self.counts}")
        agreement: dict[ScoreAt, list[list[float]]] = {at: [] for at in self.scores}
        masks: dict[tuple[ScoreAt, int], np.ndarray | None] = {}
        for at, values in store.scores(self.task, self.scores, most).items():
            full = values.mean(axis=0, dtype=np.float64)
            for count in self.counts:
                groups = values[: most // count * count].reshape(-1, count, len(full))
                means = groups.mean(axis=1, dtype=np.float64)
                agreement[at].append([spearman(mean, full) for mean in means])
                masks[at, count] = keep_highest(means[0], self.fraction, key=tie_key(self.task))
        accuracy = store.accuracies(self.task, masks, self.retrain_seeds)
        final = {at: [accuracy.get((at, count)) for count in self.counts] for at in self.scores}

        def lines(values: dict[ScoreAt, Any]) -> list[dict[str, Any]]:
            return [series(at.name, self.counts, found, label=at.label) for at, found in values.items()]

        correlation = f"rank correlation with the mean of {most} seeds"
        x_label, title = "seeds averaged over", f"keep {self.fraction:g} by that mean"
        ranks = lines_panel("agreement of the ranking", x_label, correlation, lines(agreement), x_scale="log")
        pruned = {**accuracy_panel(title, x_label, lines(final), {}), "x_scale": "log"}
        claims = []
        for at in self.scores:
            one, all_of_them = (accuracy.get((at, count)) for count in (few, most))
            if one is not None and all_of_them is not None:
                value = float(np.mean(agreement[at][self.counts.index(few)]))
                loss = Comparison.of(all_of_them, one)
                text = f"{at.label} of {few} seed prunes worse than the mean of {most}"
                theirs = "rank correlation 0.75, prunes worse" if at.score.reads == "gradients" else ""
                ours = f"rank correlation {value:.2f}; {percent(one)} against {percent(all_of_them)}, "
                ours += f"the mean is better by {loss.text()}"
                parts = tuple(kept_by(self.task, self.fraction, at, count) for count in (few, most))
                evidence = Evidence(TEST_ACCURACY, parts, self.retrain_seeds, most)
                claims.append(Claim(text, theirs, ours, loss.is_above(), evidence))
        return Outcome(
            title="How many seeds a score needs",
            note="Left: disjoint groups of seeds, bands show the 16th to 84th percentile over groups (the "
            f"groups are part of the mean that they are compared with). Right: {self.retrain_seeds} fresh "
            "networks on what the first group's mean keeps."
            + lacking_note([f"{at.label}, {count}" for at, count in masks if (at, count) not in accuracy]),
            chart={"kind": "lines", "panels": [ranks, pruned]},
            claims=tuple(claims),
        )


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
        matrix = rank_correlations([scores[at] for at in self.scores]).tolist()
        look: Any = {"reach": 1, "format": ".2f", "value_label": "Spearman's rank correlation"}
        panels = [matrix_panel(self.task.name, names, names, matrix, **look)]
        claims = []
        theirs: list[list[float | None]] = [[None] * len(names) for _ in names]
        for i, j, value in self.published:
            theirs[i][j] = theirs[j][i] = value
            strong = "above" if value > 0.5 else "below"
            agree = "yes" if (value > 0.5) == (matrix[i][j] > 0.5) else "no"
            text = f"rank correlation of {names[i]} and {names[j]} is {strong} 0.5"
            parts = tuple(scored(self.task, self.scores[place], self.score_seeds) for place in (i, j))
            evidence = Evidence(RANK_CORRELATION, parts, self.score_seeds)
            claims.append(Claim(text, f"{value:.3f}", f"{matrix[i][j]:.3f}", agree, evidence))
        if self.published:
            labels = self.published_labels
            panels.append(matrix_panel(self.published_about, labels, labels, theirs, **look, published=True))
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
        panels, claims = [], []
        for at in self.scores:
            rank = spearman(scores[at], values)
            panel = {"title": f"{at.label}: rank correlation {rank:.2f}", "x_label": "memorisation"}
            points = _points(at.name, values, scores[at])
            panels.append({**panel, "y_label": at.label, "groups": [points]})
            text, ours = f"memorisation does not correlate with {at.label}", f"rank correlation {rank:.2f}"
            holds = "unclear" if np.isnan(rank) else "yes" if abs(rank) < 0.3 else "no"
            parts = (scored(self.task, at, self.score_seeds),)
            evidence = Evidence(f"{RANK_CORRELATION} with memorisation", parts, self.score_seeds)
            claims.append(Claim(text, "does not correlate", ours, holds, evidence))
        return Outcome(
            title="Scores and memorisation",
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
