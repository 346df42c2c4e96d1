"""What wrong labels do to scores (E.2), and how well scores find them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.evidence import Evidence, scored
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

        def panel(title: str, *groups: tuple[str, str, np.ndarray]) -> dict[str, Any]:
            counted = [
                {"name": name, "label": label, "counts": np.histogram(values, edges)[0].tolist()}
                for name, label, values in groups
            ]
            return {"title": title, "x_label": self.score.label, "edges": edges.tolist(), "groups": counted}

        panels = [
            panel(
                "trained on the noisy labels",
                ("clean", f"{int((~changed).sum()):,} clean labels", after[~changed]),
                ("corrupted", f"{int(changed.sum()):,} wrong labels", after[changed]),
            ),
            panel(
                "the examples whose labels were changed",
                ("before", "before, in clean training", before[changed]),
                ("after", "after, in noisy training", after[changed]),
            ),
        ]
        ranks = ((np.argsort(np.argsort(values)) + 0.5) / len(values) for values in (before, after))
        rank_before, rank = (values[changed].mean() for values in ranks)
        parts = tuple(scored(task, self.score, self.score_seeds) for task in (clean, self.task))
        claim = Claim(
            "wrong labels move examples into the high tail of the score",
            "seen in the figure",
            f"mean rank of the changed examples {rank_before:.3f} before, {rank:.3f} "
            "after (0 lowest, 1 highest)",
            "yes" if rank > max(0.75, rank_before) else "no",
            Evidence("rank of the changed examples", parts, self.score_seeds),
        )
        return Outcome(
            title=f"{self.score.label}, {changed.mean():.1%} of the labels wrong",
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
            "ROC AUC": "roc_auc",
            "average precision": "average_precision",
            "precision at the noise share": "precision_at_share",
        }
        bars = {name: [getattr(quality[at], of) for at in self.scores] for name, of in measures.items()}
        panel = {
            "title": f"{self.task.name}: {changed.mean():.1%} of the labels wrong",
            "y_label": "quality of detection",
            "percent": False,
            "groups": [at.label for at in self.scores],
            "series": [{"name": n, "label": n, "values": v, "errors": None} for n, v in bars.items()],
        }
        claims = [
            Claim(
                f"{at.label} finds injected noise: ROC AUC above 0.9",
                "",
                f"{quality[at].roc_auc:.3f}, average precision {quality[at].average_precision:.3f}",
                "yes" if quality[at].roc_auc > 0.9 else "no",
                Evidence(
                    "detection of wrong labels", (scored(self.task, at, self.score_seeds),), self.score_seeds
                ),
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
