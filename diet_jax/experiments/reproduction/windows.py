"""Accuracy against the offset of a window of ranks, clean and noisy (Figure 2, E.1, E.3), and its tuning."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.results import FULL, RANDOM
from diet_jax.analysis.statistics import Comparison
from diet_jax.errors import InputError
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
from diet_jax.experiments.reproduction.store import Store, random_masks, window
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.selection.masks import num_kept
from diet_jax.selection.window_tuning import best_window, held_out
from diet_jax.training.seeds import seed_keys


@dataclass(frozen=True)
class Windows(Experiment):
    """Slides a window of one size over the ranks of one score."""

    task: Task
    fraction: float
    offsets: tuple[float, ...]
    """Shares of the lowest-scored examples that are left out; the last should be 1 − fraction, the top."""
    score: ScoreAt
    score_seeds: int = 10
    retrain_seeds: int = 4
    tune: bool = False
    """Also choose the offset on a held-out part of the train set, with the labels that it has."""
    top_is_best: bool = False
    """Whether the paper found the top window to be as good as any (E.1, clean) and not another (Figure 2)."""
    held_out: float = 0.1
    """Share of the train set that tuning holds out."""

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Scores once and retrains on every window."""
        task, at = self.task, self.score
        count = len(store.setup(task).splits.train)
        scores = store.mean_scores(task, [at], self.score_seeds)[at]
        masks: dict[str, np.ndarray | None] = {
            FULL: None,
            RANDOM: random_masks(task, count, self.fraction, self.retrain_seeds),
        }
        names = {offset: f"{offset:g}" for offset in self.offsets}
        masks |= {names[o]: window(task, scores, self.fraction, o) for o in self.offsets}
        usable, left_out = store.trainable(task, masks)
        accuracy = store.accuracies(task, usable, self.retrain_seeds)
        panel = {
            "title": f"{task.name}: {self._labels(store)}, {at.label}",
            "x_label": "offset: share of the lowest scores that is left out",
            "y_label": "final accuracy",
            "percent": True,
            "series": [series(at.name, self.offsets, [accuracy.get(names[o]) for o in self.offsets])],
            "levels": [level(name, accuracy[name]) for name in (FULL, RANDOM) if name in accuracy],
        }
        if len(accuracy) - (RANDOM in accuracy) < 2:
            raise InputError(
                f"every window of {self.fraction:g} lacks a class of {task.name}; keep a larger fraction"
            )
        facts: dict[str, Any] = {"changed_share": float(store.setup(task).changed.mean())}
        if self.tune:
            facts["tuned"] = self._tuned(store, scores, accuracy)
            panel["series"].append(self._tuning_line(facts["tuned"]))
        return Outcome(
            title=f"Accuracy against the window's offset; {num_kept(count, self.fraction):,} examples kept",
            note=seeds_note(self.score_seeds, self.retrain_seeds) + lacking_note(left_out),
            chart={"kind": "lines", "panels": with_published(panel, published)},
            claims=self._claims(accuracy, names, published, facts),
            facts=facts,
        )

    def _labels(self, store: Store) -> str:
        changed = store.setup(self.task).changed.mean()
        return f"{changed:.1%} of the labels wrong" if changed else "clean labels"

    def _claims(
        self,
        accuracy: dict[str, np.ndarray],
        names: dict[float, str],
        published: Published | None,
        facts: dict[str, Any],
    ) -> tuple[Claim, ...]:
        drawn = [offset for offset in self.offsets if names[offset] in accuracy]
        top = max(self.offsets)
        if top not in drawn:
            return ()
        best = max(drawn, key=lambda offset: accuracy[names[offset]].mean())
        gain = Comparison.of(accuracy[names[best]], accuracy[names[top]])
        to_full = Comparison.of(accuracy[names[best]], accuracy[FULL])
        said = dict(published.series.get(self.score.name, ())) if published else {}
        where = max(said, key=lambda x: said[x]) if said else None
        ours = (
            f"offset {best:g}: {percent(accuracy[names[best]])}, the top window (offset {top:g}) "
            f"{percent(accuracy[names[top]])}, difference {gain.text()}"
        )
        theirs = "" if where is None else f"offset {where:g}: {100 * said[where]:.1f}, the top window "
        theirs += f"{100 * said[max(said)]:.1f}" if said else ""
        if self.top_is_best:
            text = f"keeping {self.fraction:g}, the top window is as good as any"
            claims = [Claim(text, theirs or "the penalty disappears", ours, (-gain).is_no_loss())]
        else:
            not_top = "no" if best == top else gain.is_above()
            claims = [Claim("the best window is not the top one", theirs, ours, not_top)]
        if facts["changed_share"]:
            claims.append(
                Claim(
                    "with wrong labels the best window beats training on everything",
                    f"{100 * said[where]:.1f} against {100 * published.levels[FULL]:.1f}"
                    if where is not None and published and FULL in published.levels
                    else "",
                    f"{percent(accuracy[names[best]])} against {percent(accuracy[FULL])}, difference "
                    f"{to_full.text()}",
                    to_full.is_above(),
                )
            )
        if "tuned" in facts:
            tuned = facts["tuned"]["offset"]
            lost = Comparison.of(accuracy[names[tuned]], accuracy[names[best]])
            claims.append(
                Claim(
                    "an offset chosen on held-out train examples, by their labels, is as good as the best",
                    "suggested, not measured",
                    f"chose offset {tuned:g}: {percent(accuracy[names[tuned]])}, difference {lost.text()}",
                    lost.is_no_loss(),
                )
            )
        return tuple(claims)

    def _tuned(self, store: Store, scores: np.ndarray, accuracy: dict[str, np.ndarray]) -> dict[str, Any]:
        """Chooses the offset without test split and without clean labels."""
        task, labels = self.task, store.setup(self.task).splits.train.labels
        out = held_out(seed_keys(task.seed, "held_out", 1)[0], labels, self.held_out)
        offsets = [offset for offset in self.offsets if f"{offset:g}" in accuracy]
        masks: dict[str, np.ndarray | None] = {
            f"{offset:g}": window(task, scores, self.fraction, offset) & ~out for offset in offsets
        }
        masks, left_out = store.trainable(task, masks)
        offsets = [offset for offset in offsets if f"{offset:g}" not in left_out]
        if not masks:
            raise InputError(f"without the held-out examples every window lacks a class of {task.name}")
        predicted = store.predictions(task, masks, self.retrain_seeds, split="train")
        correct = np.stack([(predicted[name][:, out] == labels[out]).mean(axis=1) for name in masks])
        chosen = best_window(correct)
        return {
            "offset": offsets[chosen.best],
            "offsets": offsets,
            "held_out_examples": int(out.sum()),
            "held_out_accuracy": correct.tolist(),
        }

    def _tuning_line(self, tuned: dict[str, Any]) -> dict[str, Any]:
        label = "of other networks, on held-out train examples by their labels"
        return series("held_out", tuned["offsets"], tuned["held_out_accuracy"], label=label)
