"""How fast the tangent kernel moves on easy and hard examples (Figure 3)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.ntk import kernel_velocity, logit_gram
from diet_jax.analysis.statistics import Comparison, spearman
from diet_jax.data.augment import normalized_images
from diet_jax.data.dataset import fingerprint
from diet_jax.devices.progress import Progress
from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.evidence import Evidence, Part
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import Claim, Outcome, Published, lines_panel, networks, series
from diet_jax.experiments.reproduction.store import Store, Training
from diet_jax.experiments.reproduction.task import ScoreAt, Task


@dataclass(frozen=True)
class KernelVelocity(Experiment):
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
        task = self.task
        changed = store.setup(task).changed
        firsts, velocities = self._measured(store, task)
        lines = [
            series(f"epoch {epoch:g}", firsts, values, label=f"epoch {epoch:g}", order=epoch)
            for epoch, values in velocities.items()
        ]
        title = f"{task.name}: " + (f"{changed.mean():.1%} wrong labels" if changed.any() else "clean")
        x_label = "start of the group, examples sorted by EL2N"
        panel = lines_panel(title, x_label, "kernel velocity per epoch", lines)
        if changed.any():
            claim = self._noise_claim(velocities, self._measured(store, task.clean())[1])
        else:
            claim = self._clean_claim(velocities)
        return Outcome(
            title=f"Kernel velocity of {self.group_size} examples with neighbouring EL2N",
            note=f"1 − cosine of the tangent kernels at epoch t and t + {self.duration:g}, per epoch; EL2N "
            f"of epoch t is the mean of {networks(self.score_seeds)}, the velocity that of "
            f"{networks(self.velocity_seeds)}.",
            chart={"kind": "lines", "panels": [panel]},
            claims=(claim,),
            facts={"changed_share": float(changed.mean())},
        )

    def _measured(self, store: Store, task: Task) -> tuple[list[int], dict[float, np.ndarray]]:
        """Ranks at which the groups start, and velocities `[group seed]` by epoch."""
        count = len(store.setup(task).splits.train)
        if not 1 <= self.group_size <= count or self.num_groups < 3:
            raise InputError(
                f"groups of {self.group_size} examples need at least as many in {task.name}, which has "
                f"{count}, and num_groups must be at least 3, for two show no trend; got {self.num_groups}"
            )
        firsts = np.linspace(0, count - self.group_size, self.num_groups).round().astype(int).tolist()
        wanted = [ScoreAt("el2n", epoch) for epoch in self.epochs]
        scores = store.mean_scores(task, wanted, self.score_seeds)
        velocities = {}
        total = len(self.epochs) * self.velocity_seeds * self.num_groups
        with Progress(f"kernels of {task.name}", total=total) as progress:
            for at in wanted:
                order = np.argsort(scores[at], kind="stable")
                values = np.empty((len(firsts), self.velocity_seeds))
                for (group, seed), _ in np.ndenumerate(values):
                    rows = np.sort(order[firsts[group] :][: self.group_size])
                    values[group, seed] = self._velocity(store, Training(task, "score", seed), at.epoch, rows)
                    progress.update(1)
                velocities[at.epoch] = values
        return firsts, velocities

    def _velocity(self, store: Store, training: Training, epoch: float, rows: np.ndarray) -> float:
        task = training.task
        steps = [store.step(task, epoch), store.step(task, epoch + self.duration)]

        def compute() -> dict[str, Any]:
            images = normalized_images(store.setup(task).splits.train, rows)
            predict = store.setup(task).model.predict
            grams = [logit_gram(predict, store.state(training, s).variables, images) for s in steps]
            return {"velocity": kernel_velocity(*grams, duration=self.duration)}

        facts = {
            "of": store.facts(training),
            "steps": steps,
            "rows": fingerprint(rows),
            "duration": self.duration,
        }
        return float(store.memo("kernel_velocity", facts, compute)["velocity"])

    def _clean_claim(self, velocities: dict[float, np.ndarray]) -> Claim:
        means = {epoch: values.mean(axis=1) for epoch, values in velocities.items()}
        ranks = {epoch: spearman(np.arange(len(v)), v) for epoch, v in means.items()}
        text = ", ".join(f"{r:.2f} at epoch {epoch:g}" for epoch, r in ranks.items())
        low = ", ".join(f"{v[-1] / max(v[0], 1e-12):.1f}" for v in means.values())
        top = ", ".join(f"{v[-1] / v.max():.2f}" for v in means.values())
        return Claim(
            "the velocity rises with EL2N on clean labels, at every epoch",
            "seen in the figure",
            f"rank correlation of group and velocity {text} (0.8 or more counts); highest over lowest "
            f"group {low}, highest over fastest {top}: below 1 the very highest do not take part",
            "yes" if all(r >= 0.8 for r in ranks.values()) else "no",
            self._evidence(self.task),
        )

    def _noise_claim(self, noisy: dict[float, np.ndarray], clean: dict[float, np.ndarray]) -> Claim:
        """Compares the drop at the top with the one that clean labels show."""
        # By epoch and seed: the velocity of the top group over that of the fastest.
        with_noise, without = (
            np.array([v[-1] / v.max(axis=0) for v in of.values()]) for of in (noisy, clean)
        )
        text = "; ".join(
            f"{ours.mean():.2f} at epoch {epoch:g}, {theirs.mean():.2f} with clean labels"
            for epoch, ours, theirs in zip(noisy, with_noise, without, strict=True)
        )
        return Claim(
            "with wrong labels the velocity of the highest scores drops, more than with clean ones",
            "collapses (seen in the figure)",
            f"velocity of the top group over that of the fastest: {text}",
            Comparison.of(without.mean(axis=0), with_noise.mean(axis=0)).is_above(),
            self._evidence(self.task, self.task.clean()),
        )

    def _evidence(self, *tasks: Task) -> Evidence:
        epochs = ", ".join(f"{epoch:g}" for epoch in self.epochs)
        what = (
            f"{self.num_groups} groups of {self.group_size} by el2n of {self.score_seeds}, epochs {epochs}, "
            f"over {self.duration:g}"
        )
        parts = tuple(Part(task, what) for task in tasks)
        return Evidence("kernel velocity", parts, self.velocity_seeds, self.score_seeds)
