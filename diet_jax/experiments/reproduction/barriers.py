"""Error barriers between a network and children spawned from it, on easy and hard examples (Figure 4)."""

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import jax
import numpy as np

from diet_jax.analysis.connectivity.barriers import BatchStatistics, path_correct
from diet_jax.analysis.connectivity.paths import barrier_height, connectivity_onset
from diet_jax.analysis.statistics import Comparison
from diet_jax.devices.progress import Progress
from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.evidence import Evidence, Part, scored
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import Claim, Outcome, Published, lines_panel, series
from diet_jax.experiments.reproduction.store import Store, Training
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.types import Model

SUBSETS = ("lowest", "random", "highest")


@dataclass(frozen=True)
class ErrorBarriers(Experiment):
    """Final training error barrier on three subsets against the epoch at which children are spawned."""

    task: Task
    spawn_epochs: tuple[float, ...]
    score: ScoreAt
    subset_size: int = 1000
    parents: int = 2
    children: int = 2
    """Spawned from each parent at each epoch; they differ in the order of the data and the augmentation."""
    num_points: int = 11
    """Points on the path, the ends among them; the paper's cheap form is 3."""
    batch_statistics: BatchStatistics = "interpolated"
    """BatchNorm between the ends: running statistics interpolated, or re-estimated on the train set."""
    threshold: float = 0.02
    """A barrier below it counts as connected (Frankle et al.)."""
    score_seeds: int = 10

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Trains parents and children to the end and walks the paths between them."""
        steps = [store.step(self.task, epoch) for epoch in self.spawn_epochs]
        if sorted(set(steps)) != steps:
            raise InputError(f"spawn_epochs must ascend, each a step of its own; got steps {steps}")
        rows = self._rows(store)
        errors = self._errors(store, steps, rows)
        drawn: dict[str, tuple[str, Literal["chord", "mean"]]] = {
            "parent and child, above the chord": ("parent", "chord"),
            "parent and child, above the mean of the ends": ("parent", "mean"),
        }
        if self.children > 1:
            drawn["pairs of children, above the chord"] = ("pair", "chord")
        heights = {
            title: {s: [np.asarray(barrier_height(e, ends=ends)) for e in errors[kind, s]] for s in SUBSETS}
            for title, (kind, ends) in drawn.items()
        }
        chord = heights["parent and child, above the chord"]
        onset = {s: self._onset(steps, chord[s]) for s in SUBSETS}
        statistics = f" BatchNorm statistics {self.batch_statistics}." if self._has_state(store) else ""
        return Outcome(
            title="Final training error barrier",
            note=f"Error rate on {len(rows['lowest']):,} un-augmented training examples each, "
            f"{self.num_points} points on the path; parents: {self.parents}, children of each at every "
            f"epoch: {self.children}, bands show the 16th to 84th percentile; training ends at epoch "
            f"{store.last_epoch(self.task):g}." + statistics,
            chart={"kind": "lines", "panels": [self._panel(*one) for one in heights.items()]},
            claims=self._claims(chord, onset),
            facts={
                "onset_epoch": onset,
                "threshold": self.threshold,
                "batch_statistics": self.batch_statistics,
            },
        )

    def _panel(self, title: str, heights: dict[str, list[np.ndarray]]) -> dict[str, Any]:
        lines = [series(s, self.spawn_epochs, heights[s], label=self._label(s)) for s in SUBSETS]
        x_label = "epoch at which the child is spawned"
        return lines_panel(title, x_label, "training error barrier", lines, percent=True)

    def _label(self, subset: str) -> str:
        return subset if subset == "random" else f"{subset} {self.score.score.label}"

    def _rows(self, store: Store) -> dict[str, np.ndarray]:
        scores = store.mean_scores(self.task, [self.score], self.score_seeds)[self.score]
        order = np.argsort(scores, kind="stable")
        size = min(self.subset_size, len(order) // 3)
        random = np.flatnonzero(store.random_masks(self.task, size / len(order), 1)[0])
        rows = {"lowest": order[:size], "random": random, "highest": order[-size:]}
        return {name: np.sort(values) for name, values in rows.items()}

    def _errors(
        self, store: Store, steps: Sequence[int], rows: dict[str, np.ndarray]
    ) -> dict[tuple[str, str], list[np.ndarray]]:
        """Error rates float32 `[pair p]` along the paths by (kind, subset), for each step of a spawn."""
        end = store.setup(self.task).num_steps
        found: defaultdict[tuple[str, str, int], list[np.ndarray]] = defaultdict(list)
        total = self.parents * (end + self.children * sum(end - step for step in steps))
        with Progress(f"children of {self.task.name}", total=total) as progress:
            for parent in range(self.parents):
                start = Training(self.task, "score", parent)
                for step in steps:
                    children = [
                        Training(self.task, "child", child, parent=(parent, step))
                        for child in range(self.children)
                    ]
                    pairs = [("parent", start, child) for child in children]
                    for kind, one, other in pairs + [("pair", *two) for two in combinations(children, 2)]:
                        for s, values in self._path(store, one, other, rows).items():
                            found[kind, s, step].append(values.astype(np.float32))
                        progress.update(end - step if kind == "parent" else 0)
                progress.update(end)
        return {key[:2]: [np.stack(found[*key[:2], step]) for step in steps] for key in found}

    def _path(
        self, store: Store, one: Training, other: Training, rows: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        end = store.setup(self.task).num_steps

        def compute() -> dict[str, np.ndarray]:
            together = np.unique(np.concatenate(list(rows.values())))
            correct = path_correct(
                store.setup(self.task).model,
                store.state(one, end).variables,
                store.state(other, end).variables,
                store.setup(self.task).splits.train,
                num_points=self.num_points,
                rows=together,
                batch_statistics=self.batch_statistics,
            )
            inside = {name: np.searchsorted(together, values) for name, values in rows.items()}
            return {name: 1 - correct[:, places].mean(axis=1) for name, places in inside.items()}

        facts = {
            "ends": [store.facts(one), store.facts(other)],
            "rows": {name: values.tolist() for name, values in rows.items()},
            "points": self.num_points,
            "batch_statistics": self.batch_statistics if self._has_state(store) else None,
        }
        return store.memo("path_errors", facts, compute)

    def _has_state(self, store: Store) -> bool:
        setup = store.setup(self.task)
        return _has_running_statistics(setup.model, setup.splits.train.image_shape)

    def _onset(self, steps: Sequence[int], heights: list[np.ndarray]) -> float | None:
        onset = connectivity_onset(steps, [float(h.mean()) for h in heights], threshold=self.threshold)
        return None if onset is None else self.spawn_epochs[steps.index(onset)]

    def _claims(
        self, heights: dict[str, list[np.ndarray]], onset: dict[str, float | None]
    ) -> tuple[Claim, ...]:
        # Never is later than any epoch; twice the same says nothing.
        when = {subset: np.inf if epoch is None else epoch for subset, epoch in onset.items()}
        low_at, high_at = when["lowest"], when["highest"]
        text = "; ".join(
            f"{self._label(s)}: {'never' if onset[s] is None else f'epoch {onset[s]:g}'}" for s in SUBSETS
        )
        # Children of one parent, and epochs, are no independent samples: one number for each parent.
        high, low = (
            np.stack(heights[s]).reshape(len(heights[s]), self.parents, -1).mean(axis=(0, 2))
            for s in ("highest", "lowest")
        )
        return (
            Claim(
                f"the barrier on the {self._label('lowest')} falls to about 0 earlier than on the highest",
                "seen in the figure",
                f"below {100 * self.threshold:g} % from: {text}",
                "yes" if low_at < high_at else "no" if low_at > high_at else "unclear",
                self._evidence("epoch from which the barrier is low"),
            ),
            Claim(
                "hard examples keep the barrier high",
                "seen in the figure",
                f"mean barrier {100 * high.mean():.1f} % on the highest, {100 * low.mean():.1f} % on the "
                f"{self._label('lowest')}",
                Comparison.of(high, low).is_above(),
                self._evidence("mean barrier"),
            ),
        )

    def _evidence(self, measure: str) -> Evidence:
        spawned = ", ".join(f"{epoch:g}" for epoch in self.spawn_epochs)
        ranking = scored(self.task, self.score, self.score_seeds).what
        parts = tuple(
            Part(self.task, f"{self.children} children of epochs {spawned} on the {self.subset_size} {which}")
            for which in (f"lowest by {ranking}", f"highest by {ranking}")
        )
        return Evidence(measure, parts, self.parents, self.score_seeds)


@functools.cache
def _has_running_statistics(model: Model, shape: tuple[int, int, int]) -> bool:
    """Whether there is something that could be interpolated in two ways."""
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), shape))
    return bool(jax.tree.leaves(variables.model_state))
