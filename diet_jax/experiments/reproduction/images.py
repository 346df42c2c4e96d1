"""The images with the lowest and highest scores of every class (appendix C)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import Outcome, Published, networks
from diet_jax.experiments.reproduction.store import Store
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.plotting import draw_examples
from diet_jax.scores.file import ScoreFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ExampleImages(Experiment):
    """The easiest and hardest images of each class by one score."""

    task: Task
    score: ScoreAt
    score_seeds: int = 10

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Scores, and names the lowest and the highest two of each class; the picture shows more."""
        train = store.setup(self.task).splits.train
        scores = store.mean_scores(self.task, [self.score], self.score_seeds)[self.score]
        by_class = {}
        for label, name in enumerate(train.class_names):
            rows = np.flatnonzero(train.labels == label)
            rows = rows[np.argsort(scores[rows], kind="stable")]
            ids = [str(i) for i in train.ids[rows]]
            by_class[name] = {"lowest": ids[:2], "highest": ids[:-3:-1]}
        return Outcome(
            title=f"Easiest and hardest images by {self.score.label}",
            note=f"Scores averaged over {networks(self.score_seeds)}.",
            chart={"kind": "images", "ids": by_class},
        )

    def draw(self, store: Store, result: Mapping[str, Any]) -> "Figure":
        """Draws the images themselves."""
        train = store.setup(self.task).splits.train
        per_seed = store.scores(self.task, [self.score], self.score_seeds)[self.score]
        step = store.step(self.task, self.score.epoch)
        return draw_examples(train, ScoreFile.from_seeds(self.score.name, per_seed, train, step=step))
