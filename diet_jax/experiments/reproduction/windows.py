"""Accuracy against the offset of a window of ranks, clean and noisy (Figure 2, E.1, E.3), and its tuning."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.results import FULL, RANDOM
from diet_jax.analysis.statistics import Comparison
from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.evidence import Evidence, Part, everything, kept_by
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
from diet_jax.selection.ranks import keep_window
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
        task, at, seeds = self.task, self.score, self.retrain_seeds
        setup = store.setup(task)
        scores = store.mean_scores(task, [at], self.score_seeds)[at]
        windows = {o: keep_window(scores, self.fraction, offset=o, key=tie_key(task)) for o in self.offsets}
        masks = {FULL: None, RANDOM: store.random_masks(task, self.fraction, seeds), **windows}
        accuracy = store.accuracies(task, masks, seeds)
        if not accuracy.keys() & windows.keys():
            raise InputError(
                f"every window of {self.fraction:g} lacks a class of {task.name}; keep a larger fraction"
            )
        changed = float(setup.changed.mean())
        labels = f"{changed:.1%} of the labels wrong" if changed else "clean labels"
        lines = [series(at.name, self.offsets, [accuracy.get(o) for o in self.offsets])]
        facts: dict[str, Any] = {"changed_share": changed}
        if self.tune:
            drawn = {o: window for o, window in windows.items() if o in accuracy}
            facts["tuned"] = tuned = self._tuned(store, drawn)
            label = "of other networks, on held-out train examples by their labels"
            lines.append(series("held_out", tuned["offsets"], tuned["held_out_accuracy"], label=label))
        x_label = "offset: share of the lowest scores that is left out"
        title = f"{task.name}: {labels}, {at.label}"
        panel = accuracy_panel(title, x_label, lines, accuracy, "final accuracy")
        kept = num_kept(len(setup.splits.train), self.fraction)
        lacking = [f"{name:g}" if name in windows else name for name in masks if name not in accuracy]
        return Outcome(
            title=f"Accuracy against the window's offset; {kept:,} examples kept",
            note=pruning_note(self.score_seeds, seeds, lacking),
            chart={"kind": "lines", "panels": with_published(panel, published)},
            claims=self._claims(accuracy, published or Published(""), facts),
            facts=facts,
        )

    def _claims(
        self, accuracy: dict[Any, np.ndarray], published: Published, facts: dict[str, Any]
    ) -> tuple[Claim, ...]:
        top = max(self.offsets)
        drawn = [offset for offset in self.offsets if offset in accuracy]
        if top not in drawn or len(drawn) < 2:
            return ()
        best = max(drawn, key=lambda offset: accuracy[offset].mean())
        # Nothing is compared with itself: where the top window is the best, the best of the others stands
        # against it.
        rival = self._best_beside(top, drawn, accuracy)
        gain = Comparison.of(accuracy[rival], accuracy[top])
        said = dict(published.series.get(self.score.name, ()))
        where = max(said, key=lambda x: said[x], default=None)
        ours = (
            f"offset {rival:g}: {percent(accuracy[rival])}, the top window (offset {top:g}) "
            f"{percent(accuracy[top])}, difference {gain.text()}"
        )
        theirs = ""
        if where is not None:
            theirs = f"offset {where:g}: {100 * said[where]:.1f}, the top window {100 * said[max(said)]:.1f}"
        if self.top_is_best:
            text = f"keeping {self.fraction:g}, the top window is as good as any"
            theirs, holds = theirs or "the penalty disappears", (-gain).is_no_loss()
        else:
            text, holds = "the best window is not the top one", gain.is_above()
        claims = [Claim(text, theirs, ours, holds, self._evidence(self._part(rival), self._part(top)))]
        if facts["changed_share"]:
            text = "with wrong labels the best window beats training on everything"
            theirs = ""
            if where is not None and FULL in published.levels:
                theirs = f"{100 * said[where]:.1f} against {100 * published.levels[FULL]:.1f}"
            holds = Comparison.of(accuracy[best], accuracy[FULL]).is_above()
            evidence = self._evidence(self._part(best), everything(self.task))
            claims.append(Claim(text, theirs, against(accuracy[best], accuracy[FULL]), holds, evidence))
        if "tuned" in facts:
            tuned = facts["tuned"]["offset"]
            other = self._best_beside(tuned, drawn, accuracy)
            lost = Comparison.of(accuracy[tuned], accuracy[other])
            text = "an offset chosen on held-out train examples, by their labels, is as good as the best"
            ours = f"chose offset {tuned:g}: {percent(accuracy[tuned])}, difference {lost.text()}"
            ours += " to the next best" if tuned == best else ""
            evidence = self._evidence(self._part(tuned), self._part(other), of=" of the chosen offset")
            claims.append(Claim(text, "suggested, not measured", ours, lost.is_no_loss(), evidence))
        return tuple(claims)

    def _best_beside(self, offset: float, drawn: Sequence[float], accuracy: dict[Any, np.ndarray]) -> float:
        """The best of the other windows."""
        return max((o for o in drawn if o != offset), key=lambda o: accuracy[o].mean())

    def _part(self, offset: float) -> Part:
        return kept_by(self.task, self.fraction, self.score, self.score_seeds, offset=offset)

    def _evidence(self, *parts: Part, of: str = "") -> Evidence:
        return Evidence(TEST_ACCURACY + of, parts, self.retrain_seeds, self.score_seeds)

    def _tuned(self, store: Store, windows: dict[float, np.ndarray]) -> dict[str, Any]:
        """Chooses the offset without test split and without clean labels."""
        task, labels = self.task, store.setup(self.task).splits.train.labels
        out = held_out(seed_keys(task.seed, "held_out", 1)[0], labels, self.held_out)
        masks = {offset: window & ~out for offset, window in windows.items()}
        predicted = store.predictions(task, masks, self.retrain_seeds, split="train")
        if not predicted:
            raise InputError(f"without the held-out examples every window lacks a class of {task.name}")
        correct = np.stack([(p[:, out] == labels[out]).mean(axis=1) for p in predicted.values()])
        offsets = list(predicted)
        return {
            "offset": offsets[best_window(correct).best],
            "offsets": offsets,
            "held_out_examples": int(out.sum()),
            "held_out_accuracy": correct.tolist(),
        }
