"""Final accuracy after pruning, against the score's epoch (Figure 1, row 1) and the fraction (row 2)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.results import FULL, RANDOM
from diet_jax.analysis.statistics import Comparison
from diet_jax.experiments.reproduction.evidence import Evidence, at_random, everything, kept_by
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import (
    TEST_ACCURACY,
    Claim,
    Outcome,
    Published,
    accuracy_panel,
    against,
    percent,
    pruning_note,
    series,
    with_published,
)
from diet_jax.experiments.reproduction.store import Store, tie_key
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.selection.masks import num_kept
from diet_jax.selection.ranks import keep_highest


@dataclass(frozen=True)
class AccuracyByEpoch(Experiment):
    """Keeps one fraction by scores taken at several epochs."""

    task: Task
    fraction: float
    epochs: tuple[float, ...]
    names: tuple[str, ...] = ("forgetting", "el2n", "grand")
    score_seeds: int = 10
    retrain_seeds: int = 4

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Scores at every epoch, prunes and retrains."""
        task = self.task
        wanted = [ScoreAt(name, epoch) for name in self.names for epoch in self.epochs]
        # Nothing was presented yet at initialisation: scores of training dynamics are undefined.
        wanted = [at for at in wanted if at.epoch > 0 or at.score.reads != "dynamics"]
        scores = store.mean_scores(task, wanted, self.score_seeds)
        masks = {FULL: None, **_selections(store, task, scores, self.fraction, self.retrain_seeds)}
        accuracy = store.accuracies(task, masks, self.retrain_seeds)
        panels = [self._panel(self.epochs, accuracy)]
        if self.epochs[0] == 0:
            # Scores of untrained networks prune so badly that nothing else could be told apart.
            panels = [self._panel(self.epochs[1:], accuracy), panels[0]]
            panels[1]["title"] = f"{task.name}: with epoch 0"
        kept = num_kept(len(store.setup(task).splits.train), self.fraction)
        lacking = [label for label in masks if label not in accuracy]
        return Outcome(
            title=f"Accuracy against the epoch of the score; {kept:,} examples kept",
            note=pruning_note(self.score_seeds, self.retrain_seeds, lacking),
            chart={"kind": "lines", "panels": [*with_published(panels[0], published), *panels[1:]]},
            claims=self._claims(accuracy, published),
        )

    def _panel(self, epochs: Sequence[float], accuracy: dict[str, np.ndarray]) -> dict[str, Any]:
        lines = [
            series(name, epochs, [accuracy.get(ScoreAt(name, epoch).label) for epoch in epochs])
            for name in self.names
        ]
        title = f"{self.task.name}: keep {self.fraction:g}"
        return accuracy_panel(title, "epoch at which examples are scored", lines, accuracy)

    def _claims(self, accuracy: dict[str, np.ndarray], published: Published | None) -> tuple[Claim, ...]:
        last = _claimed([ScoreAt(name, max(self.epochs)) for name in self.names])
        random = accuracy.get(RANDOM)
        if last is None or last.label not in accuracy or random is None:
            return ()
        claims = _keep_claims(
            self, last, self.fraction, accuracy[last.label], accuracy[FULL], random, published
        )
        for early in (ScoreAt(name, 0.0) for name in self.names):
            if early.score.reads == "gradients" and early.label in accuracy:
                gain = Comparison.of(accuracy[early.label], random)
                text = f"{early.score.label} at initialisation does not beat random (Kirsch 2023)"
                ours = f"{percent(accuracy[early.label])} against random {percent(random)}, difference "
                theirs = "92.19 against random 93.54 (Kirsch 2023, CIFAR-10, keep 0.5)"
                parts = (
                    kept_by(self.task, self.fraction, early, self.score_seeds),
                    at_random(self.task, self.fraction),
                )
                evidence = Evidence(TEST_ACCURACY, parts, self.retrain_seeds, self.score_seeds)
                claims.append(Claim(text, theirs, ours + gain.text(), (-gain).is_no_loss(), evidence))
        return tuple(claims)


@dataclass(frozen=True)
class AccuracyByFraction(Experiment):
    """Keeps several fractions by each of several scores."""

    task: Task
    fractions: tuple[float, ...]
    """Kept, not pruned."""
    scores: tuple[ScoreAt, ...]
    claim_fraction: float = 0.5
    """The keep fraction at which nothing should be lost."""
    score_seeds: int = 10
    retrain_seeds: int = 4

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Scores once, prunes to every fraction and retrains."""
        panel, accuracy, lacking = self.curves(store)
        return Outcome(
            title="Accuracy against the fraction pruned",
            note=pruning_note(self.score_seeds, self.retrain_seeds, lacking),
            chart={"kind": "lines", "panels": with_published(panel, published)},
            claims=tuple(self.claims(accuracy, published)),
        )

    def curves(self, store: Store) -> tuple[dict[str, Any], dict[Any, np.ndarray], list[str]]:
        """Returns the panel, accuracies `[s]` by (label, keep fraction), and what has no point."""
        task, seeds = self.task, self.retrain_seeds
        scores = store.mean_scores(task, self.scores, self.score_seeds)
        masks: dict[Any, np.ndarray | None] = {FULL: None}
        for fraction in self.fractions:
            kept = _selections(store, task, scores, fraction, seeds)
            masks |= {(label, fraction): mask for label, mask in kept.items()}
        accuracy = store.accuracies(task, masks, seeds)
        descending = sorted(self.fractions, reverse=True)
        pruned = [1 - fraction for fraction in descending]
        lines = [
            series(name, pruned, [accuracy.get((label, fraction)) for fraction in descending], label=label)
            for name, label in [(RANDOM, RANDOM), *((at.name, at.label) for at in self.scores)]
        ]
        panel = accuracy_panel(task.name, "fraction pruned (1 − keep fraction)", lines, accuracy)
        return panel, accuracy, [f"{key[0]} {key[1]:g}" for key in masks if key not in accuracy]

    def claims(self, accuracy: dict[Any, np.ndarray], published: Published | None) -> list[Claim]:
        """Judges the first score of the logits at one keep fraction against everything and against random."""
        at, fraction = _claimed(self.scores), self.claim_fraction
        if at is None or (at.label, fraction) not in accuracy or (RANDOM, fraction) not in accuracy:
            return []
        kept, random = accuracy[at.label, fraction], accuracy[RANDOM, fraction]
        return _keep_claims(self, at, fraction, kept, accuracy[FULL], random, published, 1 - fraction)


@dataclass(frozen=True)
class AccuracyByNetwork(Experiment):
    """The same curves for several networks, each pruned by its own scores."""

    tasks: tuple[Task, ...]
    fractions: tuple[float, ...]
    scores: tuple[ScoreAt, ...]
    claim_fraction: float = 0.5
    score_seeds: int = 10
    retrain_seeds: int = 4

    def all_tasks(self) -> tuple[Task, ...]:
        """Returns every task."""
        return self.tasks

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Runs every network's curves."""
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)[1:]}
        panels, claims, lacking = [], [], []
        for task in self.tasks:
            figure = AccuracyByFraction(task, **settings)
            panel, accuracy, missing = figure.curves(store)
            panels.append(panel)
            lacking += [f"{task.name}: {name}" for name in missing]
            for claim in figure.claims(accuracy, None):
                claims.append(dataclasses.replace(claim, claim=f"{task.name}: {claim.claim}"))
        return Outcome(
            title="Accuracy against the fraction pruned, by network",
            note=pruning_note(self.score_seeds, self.retrain_seeds, lacking),
            chart={"kind": "lines", "panels": [*panels[:-1], *with_published(panels[-1], published)]},
            claims=tuple(claims),
        )


def _selections(
    store: Store, task: Task, scores: dict[ScoreAt, np.ndarray], fraction: float, seeds: int
) -> dict[str, np.ndarray]:
    """Masks by label: random ones `[s n]`, and the highest of each score `[n]`."""
    key = tie_key(task)
    kept = {at.label: keep_highest(values, fraction, key=key) for at, values in scores.items()}
    return {RANDOM: store.random_masks(task, fraction, seeds), **kept}


def _claimed(scores: Sequence[ScoreAt]) -> ScoreAt | None:
    """The score that the paper's claims are about, EL2N, or the user's own that stands in its place."""
    return next((at for at in scores if at.score.reads == "logits"), None)


def _keep_claims(
    figure: AccuracyByEpoch | AccuracyByFraction,
    at: ScoreAt,
    fraction: float,
    kept: np.ndarray,
    full: np.ndarray,
    random: np.ndarray,
    published: Published | None,
    place: float | None = None,
) -> list[Claim]:
    """Compares accuracies of what a score keeps with everything and with random, as published at a place."""
    claims = []
    seeds = figure.retrain_seeds, figure.score_seeds
    mine = kept_by(figure.task, fraction, at, figure.score_seeds)
    for name, other, part, text in (
        (FULL, full, everything(figure.task), "loses no accuracy"),
        (RANDOM, random, at_random(figure.task, fraction), "beats a random subset"),
    ):
        gain = Comparison.of(kept, other)
        said = [published.value(one, place) for one in (at.name, name)] if published else []
        known = [percent(value) for value in said if value is not None]
        theirs = " against ".join(known) if len(known) == 2 else ""
        holds = gain.is_no_loss() if name == FULL else gain.is_above()
        evidence = Evidence(TEST_ACCURACY, (mine, part), *seeds)
        text = f"keep {fraction:g} by {at.label} {text}"
        claims.append(Claim(text, theirs, against(kept, other, name), holds, evidence))
    return claims
