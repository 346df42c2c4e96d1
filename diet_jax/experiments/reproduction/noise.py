"""What wrong labels do to scores (E.2), and how well scores find them."""

from dataclasses import dataclass

import numpy as np

from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import Claim, Outcome, Published, networks
from diet_jax.experiments.reproduction.store import Store
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.selection.detection import detection_quality

NUM_BINS = 40


@dataclass(frozen=True)
class NoiseDistributions(Experiment):
    """Scores of clean and corrupted examples, and of the same examples before and after."""

    task: Task
    """With label noise; the same without it gives the scores before."""
    score: ScoreAt
    score_seeds: int = 10

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Scores the task with and without its noise."""
        after = store.mean_scores(self.task, [self.score], self.score_seeds)[self.score]
        clean = self.task.clean()
        before = store.mean_scores(clean, [self.score], self.score_seeds)[self.score]
        changed = store.setup(self.task).changed
        if not changed.any() or not np.isfinite([after.max(), before.max()]).all():
            raise InputError(
                f"distributions need wrong labels and finite scores; {int(changed.sum())} labels differ, and "
                f"the highest {self.score.label} is {max(after.max(), before.max()):g}"
            )
        edges = np.linspace(0.0, max(after.max(), before.max()), NUM_BINS + 1)

        def group(name: str, label: str, values: np.ndarray) -> dict[str, object]:
            return {"name": name, "label": label, "counts": np.histogram(values, edges)[0].tolist()}

        common = {"x_label": self.score.label, "edges": edges.tolist()}
        panels = [
            {
                "title": "trained on the noisy labels",
                **common,
                "groups": [
                    group("clean", f"{int((~changed).sum()):,} clean labels", after[~changed]),
                    group("corrupted", f"{int(changed.sum()):,} wrong labels", after[changed]),
                ],
            },
            {
                "title": "the examples whose labels were changed",
                **common,
                "groups": [
                    group("before", "before, in clean training", before[changed]),
                    group("after", "after, in noisy training", after[changed]),
                ],
            },
        ]
        rank = (np.argsort(np.argsort(after)) + 0.5) / len(after)
        rank_before = (np.argsort(np.argsort(before)) + 0.5) / len(before)
        claim = Claim(
            "wrong labels move examples into the high tail of the score",
            "seen in the figure",
            f"mean rank of the changed examples {rank_before[changed].mean():.3f} before, "
            f"{rank[changed].mean():.3f} after (0 lowest, 1 highest)",
            "yes" if rank[changed].mean() > max(0.75, rank_before[changed].mean()) else "no",
        )
        return Outcome(
            title=f"{self.task.name}: {self.score.label}, {changed.mean():.1%} of the labels wrong",
            note=f"Scores averaged over {networks(self.score_seeds)}.",
            chart={"kind": "distributions", "panels": panels},
            claims=(claim,),
            facts={"changed_share": float(changed.mean())},
        )


@dataclass(frozen=True)
class NoiseDetection(Experiment):
    """How well each score finds the examples whose labels were changed."""

    task: Task
    scores: tuple[ScoreAt, ...]
    score_seeds: int = 10

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Scores the noisy task and compares the ranking with the truth."""
        changed = store.setup(self.task).changed
        scores = store.mean_scores(self.task, self.scores, self.score_seeds)
        quality = {at: detection_quality(scores[at], changed) for at in self.scores}
        measures = {
            "ROC AUC": [quality[at].roc_auc for at in self.scores],
            "average precision": [quality[at].average_precision for at in self.scores],
            "precision at the noise share": [quality[at].precision_at_share for at in self.scores],
        }
        panel = {
            "title": f"{self.task.name}: {changed.mean():.1%} of the labels wrong",
            "y_label": "quality of detection",
            "percent": False,
            "groups": [at.label for at in self.scores],
            "series": [{"name": n, "label": n, "values": v, "errors": None} for n, v in measures.items()],
        }
        claims = [
            Claim(
                f"{at.label} finds injected noise: ROC AUC above 0.9",
                "",
                f"{quality[at].roc_auc:.3f}, average precision {quality[at].average_precision:.3f}",
                "yes" if quality[at].roc_auc > 0.9 else "no",
            )
            for at in self.scores
            if at.score.reads == "logits"
        ]
        return Outcome(
            title="Finding wrong labels by score",
            note=f"Scores averaged over {networks(self.score_seeds)} trained on the noisy labels; "
            f"{int(changed.sum()):,} of {len(changed):,} labels are wrong.",
            chart={"kind": "bars", "panels": [panel]},
            claims=tuple(claims),
            facts={at.label: quality[at]._asdict() for at in self.scores},
        )
