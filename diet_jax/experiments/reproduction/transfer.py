"""Scores of one network or recipe, used to prune the training of another (D.2 and the camera-ready)."""

from dataclasses import dataclass

import numpy as np

from diet_jax.analysis.results import RANDOM
from diet_jax.analysis.statistics import Comparison
from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.evidence import Evidence, Part, at_random, kept_by
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import (
    TEST_ACCURACY,
    Claim,
    Outcome,
    Published,
    matrix_panel,
    networks,
)
from diet_jax.experiments.reproduction.store import Store, tie_key
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.selection.ranks import keep_highest


@dataclass(frozen=True)
class Transfer(Experiment):
    """Every task trained on what every task's scores keep, against random subsets."""

    tasks: tuple[tuple[str, Task], ...]
    """Names and tasks; all have the same data."""
    score: ScoreAt
    fraction: float
    score_seeds: int = 10
    retrain_seeds: int = 4

    def all_tasks(self) -> tuple[Task, ...]:
        """Returns every task."""
        return tuple(task for _, task in self.tasks)

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Scores with every task and retrains every task on each of the masks."""
        if len(self.tasks) < 2:
            raise InputError(f"a transfer needs at least 2 tasks, got {len(self.tasks)}")
        prints = {store.setup(task).splits.train.fingerprint for _, task in self.tasks}
        if len(prints) > 1:
            raise InputError("tasks of a transfer must have the same data, cut and noise; they differ")
        masks: dict[str, np.ndarray | None] = {}
        for name, task in self.tasks:
            scores = store.mean_scores(task, [self.score], self.score_seeds)[self.score]
            masks[name] = keep_highest(scores, self.fraction, key=tie_key(task))
        gains: dict[tuple[str, str], Comparison] = {}
        own_loss: dict[tuple[str, str], Comparison] = {}
        for name, task in self.tasks:
            kept = {**masks, RANDOM: store.random_masks(task, self.fraction, self.retrain_seeds)}
            lacking = kept.keys() - store.trainable(task, kept)
            if lacking:
                raise InputError(
                    f"what the scores of {', '.join(sorted(lacking))} keep lacks a class; keep more than "
                    f"{self.fraction:g}"
                )
            accuracy = store.accuracies(task, kept, self.retrain_seeds)
            for scorer in masks:
                gains[name, scorer] = Comparison.of(accuracy[scorer], accuracy[RANDOM])
                if scorer != name:
                    own_loss[name, scorer] = Comparison.of(accuracy[scorer], accuracy[name])
        names = [name for name, _ in self.tasks]
        values = [[100 * gains[name, scorer].mean for scorer in names] for name in names]
        panel = matrix_panel(
            f"{self.tasks[0][1].data.name}: keep {self.fraction:g} by {self.score.label}",
            [f"train {name}" for name in names],
            [f"scores of {name}" for name in names],
            values,
            max(0.1, float(np.abs(values).max())),
            format="+.2f",
            value_label="test accuracy − random subset, points",
        )
        others = list(own_loss)
        better = [key for key in others if gains[key].is_above() == "yes"]
        worst = min(own_loss, key=lambda key: own_loss[key].mean)
        gained = [100 * gains[key].mean for key in others]
        claim = Claim(
            "scores transfer: another network's or recipe's ranking beats random",
            "transfers across architectures and hyperparameters",
            f"better than random beyond its error in {len(better)} of {len(others)} pairs, gains "
            f"{min(gained):+.2f} to {max(gained):+.2f} points; most lost against own scores: "
            f"{own_loss[worst].text()} (train {worst[0]}, scores of {worst[1]})",
            "yes" if len(better) == len(others) else "no" if not better else "unclear",
            Evidence(TEST_ACCURACY, self._parts(), self.retrain_seeds, self.score_seeds),
        )
        return Outcome(
            title="Transfer of scores: gain over a random subset",
            note=f"Scores averaged over {networks(self.score_seeds)}, final test accuracy of "
            f"{networks(self.retrain_seeds)}.",
            chart={"kind": "matrix", "panels": [panel]},
            claims=(claim,),
            facts={"standard_errors": {f"{a} by {b}": c.error for (a, b), c in gains.items()}},
        )

    def _parts(self) -> tuple[Part, ...]:
        """Every task trained on random subsets and on what its own and every other task's scores keep."""
        tasks = self.all_tasks()
        how = self.fraction, self.score, self.score_seeds
        by_scores = (kept_by(task, *how, by=by) for task in tasks for by in tasks)
        return (*(at_random(task, self.fraction) for task in tasks), *by_scores)
