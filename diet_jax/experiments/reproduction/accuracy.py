"""Final accuracy after pruning, against the score's epoch (Figure 1, row 1) and the fraction (row 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.results import FULL, RANDOM
from diet_jax.analysis.statistics import Comparison
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
from diet_jax.experiments.reproduction.task import AnalysisScore, ScoreAt, Task
from diet_jax.selection.masks import num_kept


@dataclass(frozen=True)
class AccuracyByEpoch:
    """Keeps one fraction by scores taken at several epochs."""

    task: Task
    fraction: float
    epochs: tuple[float, ...]
    names: tuple[AnalysisScore, ...] = ("forgetting", "el2n", "grand")
    score_seeds: int = 10
    retrain_seeds: int = 4

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Scores at every epoch, prunes and retrains."""
        task, count = self.task, len(store.setup(self.task).splits.train)
        wanted = [
            ScoreAt(name, epoch) for name in self.names for epoch in self.epochs if _exists(name, epoch)
        ]
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
        last = ScoreAt("el2n", max(self.epochs))
        note = seeds_note(self.score_seeds, self.retrain_seeds)
        note += lacking_note(without_class)
        return Outcome(
            title="Accuracy against the epoch of the score; "
            f"{num_kept(count, self.fraction):,} examples kept",
            note=note,
            chart={"kind": "lines", "panels": [*with_published(panels[0], published), *panels[1:]]},
            claims=self._claims(accuracy, published, last) if {last.label, RANDOM} <= accuracy.keys() else (),
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

    def _claims(
        self, accuracy: dict[str, np.ndarray], published: Published | None, last: ScoreAt
    ) -> tuple[Claim, ...]:
        kept, share = accuracy[last.label], f"keep {self.fraction:g} by {last.label}"
        to_full, to_random = Comparison.of(kept, accuracy[FULL]), Comparison.of(kept, accuracy[RANDOM])
        said = dict(published.series.get("el2n", ())) if published else {}
        values = {**(published.levels if published else {}), "el2n": said.get(max(said, default=0.0))}
        claims = [
            _versus(f"{share} loses no accuracy", kept, accuracy[FULL], values, FULL, to_full.is_no_loss()),
            _versus(
                f"{share} beats a random subset", kept, accuracy[RANDOM], values, RANDOM, to_random.is_above()
            ),
        ]
        early = ScoreAt("grand", 0.0)
        if early.label in accuracy:
            worse = Comparison.of(accuracy[RANDOM], accuracy[early.label])
            claims.append(
                Claim(
                    "GraNd at initialisation does not beat random (Kirsch 2023)",
                    "92.19 against random 93.54 (Kirsch 2023, CIFAR-10, keep 0.5)",
                    f"{percent(accuracy[early.label])} against random {percent(accuracy[RANDOM])}, "
                    f"difference {(-worse).text()}",
                    worse.is_no_loss(),
                )
            )
        return tuple(claims)


@dataclass(frozen=True)
class AccuracyByFraction:
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
        note = seeds_note(self.score_seeds, self.retrain_seeds)
        note += lacking_note(left_out)
        return Outcome(
            title="Accuracy against the fraction pruned",
            note=note,
            chart={"kind": "lines", "panels": with_published(panel, published)},
            claims=fraction_claims(accuracy, self.scores, self.claim_fraction, published),
        )


@dataclass(frozen=True)
class AccuracyByNetwork:
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
                about = f"{task.name}: {claim.claim}"
                claims.append(Claim(about, claim.published, claim.ours, claim.holds))
        note = seeds_note(self.score_seeds, self.retrain_seeds)
        note += lacking_note(left_out)
        if published is not None:
            panels.append(with_published(panels[-1], published)[1])
        return Outcome(
            title="Accuracy against the fraction pruned, by network",
            note=note,
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
    """Judges EL2N at one keep fraction against everything and against random."""
    el2n = next((at for at in wanted if at.name == "el2n"), None)
    if el2n is None or (el2n.label, fraction) not in accuracy or (RANDOM, fraction) not in accuracy:
        return ()
    kept, full, random = (
        accuracy[el2n.label, fraction],
        accuracy[FULL, 1.0],
        accuracy[RANDOM, fraction],
    )
    values: dict[str, float | None] = dict(published.levels) if published else {}
    for name in ("el2n", RANDOM) if published else ():
        points = {round(x, 6): y for x, y in published.series.get(name, ())}  # type: ignore[union-attr]
        values[name] = points.get(round(1 - fraction, 6))
    share = f"keep {fraction:g} by {el2n.label}"
    return (
        _versus(
            f"{share} loses no accuracy", kept, full, values, FULL, Comparison.of(kept, full).is_no_loss()
        ),
        _versus(
            f"{share} beats a random subset",
            kept,
            random,
            values,
            RANDOM,
            Comparison.of(kept, random).is_above(),
        ),
    )


def _versus(text: str, kept: Any, other: Any, published: Any, name: str, holds: Any) -> Claim:
    ours = (
        f"{percent(kept)} against {percent(other)} ({name}), difference {Comparison.of(kept, other).text()}"
    )
    said, base = published.get("el2n"), published.get(name)
    theirs = "" if said is None or base is None else f"{100 * said:.2f} against {100 * base:.2f}"
    return Claim(text, theirs, ours, holds)


def _exists(name: str, epoch: float) -> bool:
    # Nothing was presented yet: forgetting is undefined at initialisation.
    return name != "forgetting" or epoch > 0
