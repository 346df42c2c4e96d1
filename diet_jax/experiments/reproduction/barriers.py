"""Error barriers between a network and children spawned from it, on easy and hard examples (Figure 4)."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import jax
import numpy as np

from diet_jax.analysis.connectivity.barriers import BatchStatistics, path_correct
from diet_jax.analysis.connectivity.paths import barrier_height, connectivity_onset
from diet_jax.analysis.statistics import Comparison
from diet_jax.devices.progress import Progress
from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import Claim, Outcome, Published, series
from diet_jax.experiments.reproduction.store import Store, Training, random_masks
from diet_jax.experiments.reproduction.task import ScoreAt, Task

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
        errors = self._errors(store)
        chord = {s: self._heights(errors["parent", s], "chord") for s in SUBSETS}
        mean = {s: self._heights(errors["parent", s], "mean") for s in SUBSETS}
        pairs = {s: self._heights(errors["pair", s], "chord") for s in SUBSETS} if self.children > 1 else None
        panels = [
            self._panel("parent and child, above the chord", chord),
            self._panel("parent and child, above the mean of the ends", mean),
        ]
        if pairs:
            panels.append(self._panel("pairs of children, above the chord", pairs))
        onset = {s: self._onset(store, chord[s]) for s in SUBSETS}
        size = len(self._rows(store)["lowest"])
        setup = store.setup(self.task)
        statistics = f" BatchNorm statistics {self.batch_statistics}." if self._has_state(store) else ""
        return Outcome(
            title=f"Final training error barrier; {self.task.name}",
            note=f"Error rate on {size:,} un-augmented training examples each, {self.num_points} points on "
            f"the path; parents: {self.parents}, children of each at every epoch: {self.children}, bands "
            f"show the 16th to 84th percentile; training ends at epoch {setup.num_steps / setup.per_epoch:g}."
            + statistics,
            chart={"kind": "lines", "panels": panels},
            claims=self._claims(chord, onset),
            facts={
                "onset_epoch": onset,
                "threshold": self.threshold,
                "batch_statistics": self.batch_statistics,
            },
        )

    def _panel(self, title: str, heights: dict[str, list[np.ndarray]]) -> dict[str, Any]:
        lines = [series(s, self.spawn_epochs, heights[s], label=self._label(s)) for s in SUBSETS]
        return {
            "title": title,
            "x_label": "epoch at which the child is spawned",
            "y_label": "training error barrier",
            "percent": True,
            "series": lines,
            "levels": [],
        }

    def _label(self, subset: str) -> str:
        return subset if subset == "random" else f"{subset} {self.score.score.label}"

    def _rows(self, store: Store) -> dict[str, np.ndarray]:
        scores = store.mean_scores(self.task, [self.score], self.score_seeds)[self.score]
        order = np.argsort(scores, kind="stable")
        size = min(self.subset_size, len(order) // 3)
        random = np.flatnonzero(random_masks(self.task, len(order), size / len(order), 1)[0])
        rows = {"lowest": order[:size], "random": random, "highest": order[-size:]}
        return {name: np.sort(values) for name, values in rows.items()}

    def _errors(self, store: Store) -> dict[tuple[str, str], list[list[np.ndarray]]]:
        """Error rates `[p]` along every path, by (kind, subset), for each spawn epoch and pair."""
        rows = self._rows(store)
        end = store.setup(self.task).num_steps
        steps = [store.step(self.task, epoch) for epoch in self.spawn_epochs]
        found: dict[tuple[str, str], list[list[np.ndarray]]] = {
            (kind, s): [[] for _ in steps] for kind in ("parent", "pair") for s in SUBSETS
        }
        total = self.parents * (end + self.children * sum(end - step for step in steps))
        with Progress(f"children of {self.task.name}", total=total) as progress:
            for parent in range(self.parents):
                start = Training(self.task, "score", parent)
                for place, step in enumerate(steps):
                    children = [
                        Training(self.task, "child", child, parent=(parent, step))
                        for child in range(self.children)
                    ]
                    for child in children:
                        for s, values in self._path(store, start, child, rows).items():
                            found["parent", s][place].append(values)
                        progress.update(end - step)
                    for one, other in combinations(children, 2):
                        for s, values in self._path(store, one, other, rows).items():
                            found["pair", s][place].append(values)
                progress.update(end)
        return found

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
        # A model without running statistics has nothing that could be interpolated in two ways.
        setup = store.setup(self.task)
        shape = setup.splits.train.image_shape
        variables = jax.eval_shape(lambda: setup.model.init(jax.random.key(0), shape))
        return bool(jax.tree.leaves(variables.model_state))

    def _heights(self, errors: list[list[np.ndarray]], ends: Any) -> list[np.ndarray]:
        return [np.asarray(barrier_height(np.stack(paths).astype(np.float32), ends=ends)) for paths in errors]

    def _onset(self, store: Store, heights: list[np.ndarray]) -> float | None:
        steps = [store.step(self.task, epoch) for epoch in self.spawn_epochs]
        onset = connectivity_onset(steps, [float(h.mean()) for h in heights], threshold=self.threshold)
        return None if onset is None else self.spawn_epochs[steps.index(onset)]

    def _claims(
        self, heights: dict[str, list[np.ndarray]], onset: dict[str, float | None]
    ) -> tuple[Claim, ...]:
        def when(subset: str) -> float:
            epoch = onset[subset]
            return np.inf if epoch is None else epoch

        # Never is later than any epoch; twice the same says nothing.
        earlier = np.sign(when("lowest") - when("highest")) if when("lowest") != when("highest") else 0
        text = "; ".join(
            f"{self._label(s)}: {'never' if onset[s] is None else f'epoch {onset[s]:g}'}" for s in SUBSETS
        )
        low = np.mean([h.mean() for h in heights["lowest"]])
        high = np.mean([h.mean() for h in heights["highest"]])
        # Children of one parent, and epochs, are no independent samples: one number for each parent.
        by_parent = {
            s: np.mean(np.stack(heights[s]).reshape(len(heights[s]), self.parents, -1), axis=(0, 2))
            for s in ("highest", "lowest")
        }
        gap = Comparison.of(by_parent["highest"], by_parent["lowest"])
        return (
            Claim(
                f"the barrier on the {self._label('lowest')} falls to about 0 earlier than on the highest",
                "seen in the figure",
                f"below {100 * self.threshold:g} % from: {text}",
                "yes" if earlier < 0 else "no" if earlier > 0 else "unclear",
            ),
            Claim(
                "hard examples keep the barrier high",
                "seen in the figure",
                f"mean barrier {100 * high:.1f} % on the highest, {100 * low:.1f} % on the "
                f"{self._label('lowest')}",
                gap.is_above(),
            ),
        )
