"""Final accuracy after pruning, against the score's epoch (Figure 1, row 1) and the fraction (row 2)."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.results import FULL, RANDOM
from diet_jax.analysis.statistics import Comparison
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import (
    Claim,
    Outcome,
    Published,
    lacking_note,
    level,
    percent,
    seeds_note,
    series,
    with_published,
)
from diet_jax.experiments.reproduction.store import Store, highest, random_masks
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.selection.masks import num_kept


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
        task, count = self.task, len(store.setup(self.task).splits.train)
        wanted = [ScoreAt(name, epoch) for name in self.names for epoch in self.epochs]
        # Nothing was presented yet at initialisation: scores of training dynamics are undefined.
        wanted = [at for at in wanted if at.epoch > 0 or at.score.reads != "dynamics"]
        scores = store.mean_scores(task, wanted, self.score_seeds)
        masks: dict[str, np.ndarray | None] = {
            FULL: None,
            RANDOM: random_masks(task, count, self.fraction, self.retrain_seeds),
        }
        masks |= {at.label: highest(task, scores[at], self.fraction) for at in wanted}
        masks, without_class = store.trainable(task, masks)
        accuracy = store.accuracies(task, masks, self.retrain_seeds)
        panels = [self._panel(self.epochs, accuracy)]
        if self.epochs[0] == 0:
            # Scores of untrained networks prune so badly that nothing else could be told apart.
            panels = [self._panel(self.epochs[1:], accuracy), panels[0]]
            panels[1]["title"] = f"{task.name}: with epoch 0"
        return Outcome(
            title="Accuracy against the epoch of the score; "
            f"{num_kept(count, self.fraction):,} examples kept",
            note=seeds_note(self.score_seeds, self.retrain_seeds) + lacking_note(without_class),
            chart={"kind": "lines", "panels": [*with_published(panels[0], published), *panels[1:]]},
            claims=self._claims(accuracy, published),
        )

    def _panel(self, epochs: Sequence[float], accuracy: dict[str, np.ndarray]) -> dict[str, Any]:
        lines = []
        for name in self.names:
            values = [accuracy.get(ScoreAt(name, epoch).label) for epoch in epochs]
            lines.append(series(name, epochs, values))
        return {
            "title": f"{self.task.name}: keep {self.fraction:g}",
            "x_label": "epoch at which examples are scored",
            "y_label": "final test accuracy",
            "percent": True,
            "series": lines,
            "levels": [level(name, accuracy[name]) for name in (FULL, RANDOM) if name in accuracy],
        }

    def _claims(self, accuracy: dict[str, np.ndarray], published: Published | None) -> tuple[Claim, ...]:
        last = _claimed([ScoreAt(name, max(self.epochs)) for name in self.names])
        random = accuracy.get(RANDOM)
        if last is None or last.label not in accuracy or random is None:
            return ()
        published = published or Published("")
        points = dict(published.series.get(last.name, ()))
        said = {**published.levels, **({last.name: points[max(points)]} if points else {})}
        claims = _keep_claims(last, self.fraction, accuracy[last.label], accuracy[FULL], random, said)
        for early in (ScoreAt(name, 0.0) for name in self.names):
            if early.score.reads == "gradients" and early.label in accuracy:
                gain = Comparison.of(accuracy[early.label], random)
                text = f"{early.score.label} at initialisation does not beat random (Kirsch 2023)"
                ours = f"{percent(accuracy[early.label])} against random {percent(random)}, difference "
                theirs = "92.19 against random 93.54 (Kirsch 2023, CIFAR-10, keep 0.5)"
                claims.append(Claim(text, theirs, ours + gain.text(), (-gain).is_no_loss()))
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
        panel, accuracy, left_out = fraction_panel(
            store, self.task, self.scores, self.fractions, self.score_seeds, self.retrain_seeds
        )
        return Outcome(
            title="Accuracy against the fraction pruned",
            note=seeds_note(self.score_seeds, self.retrain_seeds) + lacking_note(left_out),
            chart={"kind": "lines", "panels": with_published(panel, published)},
            claims=fraction_claims(accuracy, self.scores, self.claim_fraction, published),
        )


@dataclass(frozen=True)
class AccuracyByNetwork(Experiment):
    """The same curves for several networks, each pruned by its own scores."""

    tasks: tuple[Task, ...]
    fractions: tuple[float, ...]
    scores: tuple[ScoreAt, ...]
    claim_fraction: float = 0.5
    score_seeds: int = 10
    retrain_seeds: int = 4

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Runs every network's curves."""
        panels, claims, left_out = [], [], []
        for task in self.tasks:
            panel, accuracy, missing = fraction_panel(
                store, task, self.scores, self.fractions, self.score_seeds, self.retrain_seeds
            )
            panels.append(panel)
            left_out += [f"{task.name}: {name}" for name in missing]
            for claim in fraction_claims(accuracy, self.scores, self.claim_fraction, None):
                claims.append(dataclasses.replace(claim, claim=f"{task.name}: {claim.claim}"))
        if published is not None:
            panels.append(with_published(panels[-1], published)[1])
        return Outcome(
            title="Accuracy against the fraction pruned, by network",
            note=seeds_note(self.score_seeds, self.retrain_seeds) + lacking_note(left_out),
            chart={"kind": "lines", "panels": panels},
            claims=tuple(claims),
        )


def fraction_panel(
    store: Store,
    task: Task,
    wanted: Sequence[ScoreAt],
    fractions: Sequence[float],
    score_seeds: int,
    retrain_seeds: int,
) -> tuple[dict[str, Any], dict[tuple[str, float], np.ndarray], list[str]]:
    """Returns the panel of one network, accuracies `[s]` by (label, keep fraction), and what has no point."""
    count = len(store.setup(task).splits.train)
    scores = store.mean_scores(task, wanted, score_seeds)
    masks: dict[str, np.ndarray | None] = {FULL: None}
    keys = {FULL: (FULL, 1.0)}
    for fraction in fractions:
        masks[f"{RANDOM} {fraction:g}"] = random_masks(task, count, fraction, retrain_seeds)
        keys[f"{RANDOM} {fraction:g}"] = (RANDOM, fraction)
        for at in wanted:
            masks[f"{at.label} {fraction:g}"] = highest(task, scores[at], fraction)
            keys[f"{at.label} {fraction:g}"] = (at.label, fraction)
    masks, left_out = store.trainable(task, masks)
    accuracy = {keys[k]: values for k, values in store.accuracies(task, masks, retrain_seeds).items()}
    pruned = [1 - fraction for fraction in sorted(fractions, reverse=True)]
    lines = []
    for name, label in [(RANDOM, RANDOM), *((at.name, at.label) for at in wanted)]:
        values = [accuracy.get((label, fraction)) for fraction in sorted(fractions, reverse=True)]
        lines.append(series(name, pruned, values, label=label))
    panel = {
        "title": task.name,
        "x_label": "fraction pruned (1 − keep fraction)",
        "y_label": "final test accuracy",
        "percent": True,
        "series": lines,
        "levels": [level(FULL, accuracy[FULL, 1.0])],
    }
    return panel, accuracy, left_out


def fraction_claims(
    accuracy: dict[tuple[str, float], np.ndarray],
    wanted: Sequence[ScoreAt],
    fraction: float,
    published: Published | None,
) -> tuple[Claim, ...]:
    """Judges the first score of the logits at one keep fraction against everything and against random."""
    at = _claimed(wanted)
    if at is None or (at.label, fraction) not in accuracy or (RANDOM, fraction) not in accuracy:
        return ()
    published = published or Published("")
    said, place = dict(published.levels), round(1 - fraction, 6)
    for name in (at.name, RANDOM):
        points = {round(x, 6): y for x, y in published.series.get(name, ())}
        if place in points:
            said[name] = points[place]
    kept, full, random = accuracy[at.label, fraction], accuracy[FULL, 1.0], accuracy[RANDOM, fraction]
    return tuple(_keep_claims(at, fraction, kept, full, random, said))


def _claimed(scores: Sequence[ScoreAt]) -> ScoreAt | None:
    """The score that the paper's claims are about, EL2N, or the user's own that stands in its place."""
    return next((at for at in scores if at.score.reads == "logits"), None)


def _keep_claims(
    at: ScoreAt,
    fraction: float,
    kept: np.ndarray,
    full: np.ndarray,
    random: np.ndarray,
    said: Mapping[str, float],
) -> list[Claim]:
    """Compares accuracies of what a score keeps with everything and with random; `said` by their names."""
    claims = []
    for name, other, text in ((FULL, full, "loses no accuracy"), (RANDOM, random, "beats a random subset")):
        gain = Comparison.of(kept, other)
        ours = f"{percent(kept)} against {percent(other)} ({name}), difference {gain.text()}"
        known = at.name in said and name in said
        theirs = f"{100 * said[at.name]:.2f} against {100 * said[name]:.2f}" if known else ""
        holds = gain.is_no_loss() if name == FULL else gain.is_above()
        claims.append(Claim(f"keep {fraction:g} by {at.label} {text}", theirs, ours, holds))
    return claims
