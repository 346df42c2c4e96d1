"""GraNd at initialisation: what version 1 of the paper reported, and what it had measured."""

from dataclasses import dataclass

from diet_jax.analysis.results import RANDOM
from diet_jax.analysis.statistics import Comparison, spearman
from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.accuracy import AccuracyByFraction
from diet_jax.experiments.reproduction.evidence import Evidence, at_random, kept_by, scored
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.outcome import (
    RANK_CORRELATION,
    TEST_ACCURACY,
    Claim,
    Outcome,
    Published,
    against,
    pruning_note,
)
from diet_jax.experiments.reproduction.store import Store
from diet_jax.experiments.reproduction.task import ScoreAt, Task

STORY = """\
Version 1 of the paper said that GraNd prunes well at initialisation, before any training. The networks it
had scored were not untrained: up to Flax 0.3.3, restore_checkpoint(dir, target, step) tested "if step:", so
step 0 counted as no step at all, and the latest checkpoint of the finished training was returned without a
word. "GraNd at initialisation" was GraNd of a trained network. Version 2 withdrew the claim.

The figure draws both: GraNd of the untrained network, which on the paper's networks is little more than the
norm of the input, and GraNd of the last checkpoint, which the old code read under the name of step 0.
Checkpoints of diet_jax hold their own step, and one that is missing is an error; that line was drawn by
asking for the last step."""


@dataclass(frozen=True)
class GrandAtInit(Experiment):
    """GraNd at step 0, the input norm, random, EL2N later, and GraNd of the last checkpoint, side by side."""

    task: Task
    fractions: tuple[float, ...]
    el2n_epoch: float
    claim_fraction: float = 0.5
    score_seeds: int = 10
    retrain_seeds: int = 4

    def run(self, store: Store, published: Published | None) -> Outcome:
        """Scores at step 0, later and at the last step; prunes and retrains."""
        task, kept = self.task, self.claim_fraction
        if kept not in self.fractions:
            raise InputError(f"claim_fraction {kept:g} must be one of the fractions {self.fractions}")
        initial, last = ScoreAt("grand", 0.0), ScoreAt("grand", store.last_epoch(task))
        el2n, norm = ScoreAt("el2n", self.el2n_epoch), ScoreAt("input_norm")
        wanted, seeds = (el2n, initial, last, norm), (self.score_seeds, self.retrain_seeds)
        panel, accuracy, lacking = AccuracyByFraction(task, self.fractions, wanted, kept, *seeds).curves(
            store
        )
        names = {
            initial.label: ("grand_at_init", "GraNd at step 0"),
            last.label: ("grand", 'GraNd of the last checkpoint ("step 0" of 2021)'),
            norm.label: ("input_norm", "norm of the input"),
        }
        for line in panel["series"]:
            line["name"], line["label"] = names.get(line["label"], (line["name"], line["label"]))
        scores = store.mean_scores(task, wanted, self.score_seeds)
        to_norm, to_el2n = (spearman(scores[initial], scores[other]) for other in (norm, el2n))
        ranked = tuple(scored(task, at, self.score_seeds) for at in (norm, initial))
        claims = [
            Claim(
                "GraNd at initialisation ranks as the norm of the input does",
                "rank correlation .963 (Kirsch 2023); -.022 with EL2N@20",
                f"rank correlation {to_norm:.3f}; {to_el2n:.3f} with {el2n.label}",
                "yes" if to_norm > 0.5 else "no",
                Evidence(RANK_CORRELATION, ranked, self.score_seeds),
            )
        ]
        random = accuracy.get((RANDOM, kept))
        for score, text, theirs in (
            (initial, "at step 0 is no better than random", "92.19 against 93.54 (Kirsch 2023)"),
            (
                last,
                "of the last checkpoint is better than random",
                '95.1 against 93.4 (version 1, "at initialisation")',
            ),
        ):
            values = accuracy.get((score.label, kept))
            if values is not None and random is not None:
                gain = Comparison.of(values, random)
                holds = gain.is_above() if score == last else (-gain).is_no_loss()
                parts = kept_by(task, kept, score, self.score_seeds), at_random(task, kept)
                evidence = Evidence(TEST_ACCURACY, parts, self.retrain_seeds, self.score_seeds)
                text = f"keep {kept:g} by GraNd {text}"
                claims.append(Claim(text, theirs, against(values, random), holds, evidence))
        return Outcome(
            title="GraNd at initialisation, and what was taken for it",
            note=pruning_note(*seeds, lacking),
            chart={"kind": "lines", "panels": [panel]},
            claims=tuple(claims),
            facts={"story": STORY},
        )
