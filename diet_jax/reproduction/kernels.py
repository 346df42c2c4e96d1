"""How fast the tangent kernel moves on easy and hard examples (Figure 3)."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from diet_jax.augment import normalize
from diet_jax.data import Dataset, fingerprint
from diet_jax.ntk import kernel_velocity, logit_gram
from diet_jax.progress import Progress
from diet_jax.reproduction.outcome import Claim, Outcome, Published, series, spearman
from diet_jax.reproduction.store import Store, Training
from diet_jax.reproduction.task import ScoreAt, Task


@dataclass(frozen=True)
class KernelVelocity:
    """Velocity of the kernel of groups of examples that are neighbours by EL2N."""

    task: Task
    epochs: tuple[float, ...]
    """Each gives a line: order by EL2N at t, velocity between t and t + duration."""
    num_groups: int
    group_size: int = 100
    duration: float = 1.0
    """In epochs: 1 in the paper, 0.4 in Fort et al."""
    score_seeds: int = 10
    velocity_seeds: int = 2

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Orders the examples at every epoch and measures each group's kernel there and after `duration`."""
        task, train = self.task, store.setup(self.task).splits.train
        firsts = np.linspace(0, len(train) - self.group_size, self.num_groups).round().astype(int)
        wanted = [ScoreAt("el2n", epoch) for epoch in self.epochs]
        scores = store.mean_scores(task, wanted, self.score_seeds)
        total = len(self.epochs) * self.velocity_seeds * self.num_groups
        lines, velocities = [], {}
        with Progress(f"kernels of {task.name}", total=total) as progress:
            for at in wanted:
                order = np.argsort(scores[at], kind="stable")
                groups = [np.sort(order[first : first + self.group_size]) for first in firsts]
                values = [self._velocities(store, at.epoch, rows, progress) for rows in groups]
                velocities[at.epoch] = np.array(values)
                label = f"epoch {at.epoch:g}"
                lines.append(series(label, firsts.tolist(), values, label=label, order=at.epoch))
        changed = store.setup(task).changed
        panel = {
            "title": f"{task.name}: " + (f"{changed.mean():.1%} wrong labels" if changed.any() else "clean"),
            "x_label": "start of the group, examples sorted by EL2N",
            "y_label": "kernel velocity per epoch",
            "series": lines,
            "levels": [],
        }
        return Outcome(
            title=f"Kernel velocity of {self.group_size} examples with neighbouring EL2N",
            note=f"1 − cosine of the tangent kernels at epoch t and t + {self.duration:g}, per epoch; "
            f"EL2N of epoch t averaged over {self.score_seeds} networks, velocity over "
            f"{self.velocity_seeds}.",
            chart={"kind": "lines", "panels": [panel]},
            claims=self._claims(velocities, bool(changed.any())),
            facts={"changed_share": float(changed.mean())},
        )

    def _velocities(self, store: Store, epoch: float, rows: np.ndarray, progress: Progress) -> list[float]:
        values = []
        for seed in range(self.velocity_seeds):
            values.append(self._velocity(store, Training(self.task, "score", seed), epoch, rows))
            progress.update(1)
        return values

    def _velocity(self, store: Store, training: Training, epoch: float, rows: np.ndarray) -> float:
        steps = [store.step(self.task, epoch), store.step(self.task, epoch + self.duration)]

        def compute() -> dict[str, Any]:
            predict = store.setup(self.task).model.predict
            train = store.setup(self.task).splits.train
            images = normalized_images(train, rows)
            grams = [logit_gram(predict, store.state(training, s).variables, images) for s in steps]
            return {"velocity": kernel_velocity(*grams, duration=self.duration)}

        facts = {
            "of": store.facts(training),
            "steps": steps,
            "rows": fingerprint(rows),
            "duration": self.duration,
        }
        return float(store.memo("kernel_velocity", facts, compute)["velocity"])

    def _claims(self, velocities: dict[float, np.ndarray], noisy: bool) -> tuple[Claim, ...]:
        means = {epoch: values.mean(axis=1) for epoch, values in velocities.items()}
        if noisy:
            ratio = {epoch: v[-1] / v.max() for epoch, v in means.items()}
            text = ", ".join(f"{r:.2f} at epoch {epoch:g}" for epoch, r in ratio.items())
            return (
                Claim(
                    "with wrong labels the velocity drops for the highest scores",
                    "collapses (seen in the figure)",
                    f"velocity of the top group over that of the fastest one: {text} (below 0.9 counts)",
                    "yes" if all(r < 0.9 for r in ratio.values()) else "no",
                ),
            )
        top = ", ".join(f"{v[-1] / v.max():.2f}" for v in means.values())
        ranks = {e: spearman(np.arange(len(v)), v) for e, v in means.items()}
        text = ", ".join(f"{r:.2f} at epoch {epoch:g}" for epoch, r in ranks.items())
        ratio_text = ", ".join(f"{v[-1] / max(v[0], 1e-12):.1f}" for v in means.values())
        return (
            Claim(
                "the velocity rises with EL2N on clean labels, at every epoch",
                "seen in the figure",
                f"rank correlation of group and velocity {text} (above 0.8 counts); highest over lowest "
                f"group {ratio_text}, highest over fastest {top}",
                "yes" if all(r > 0.8 for r in ranks.values()) else "no",
            ),
        )


def normalized_images(dataset: Dataset, rows: np.ndarray) -> Any:
    """Returns the images of some rows as networks see them."""
    mean, std = (np.asarray(values, np.float32) for values in dataset.normalization)
    return normalize(jnp.asarray(dataset.images[rows]), jnp.asarray(mean), jnp.asarray(std))
