"""How to batch seeds: seconds for scoring and for retraining an ensemble with each `how`.

Command: python benchmarks/ensemble.py [--json PATH]
Floor:   how="loop", the seeds one after the other through compiled steps.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import tyro
from measure import interleaved, report, rows
from workloads import Workload, workload

import diet_jax as dj
from diet_jax.ensemble import AnyHow


@dataclass(frozen=True)
class Case:
    """One network, and how long its ensemble trains."""

    name: str
    seeds: int
    score_step: int
    retrain_steps: int
    hows: tuple[AnyHow, ...]
    """Which ways to compare; the first is the floor."""


# Few seeds where they are unrolled, for compiling takes so much longer with each.
CASES = (
    Case("mlp, digits", 10, 165, 330, ("loop", "map", "vmap")),
    Case("mlp, digits", 2, 165, 330, ("loop", "unroll")),
    Case("small_cnn, 28x28", 4, 10, 10, ("loop", "map", "vmap")),
    Case("small_cnn, 28x28", 2, 10, 10, ("loop", "unroll")),
)


@dataclass(frozen=True)
class Options:
    """Seconds for scoring (train to the step, EL2N, GraNd) and for retraining, by how seeds are batched."""

    rounds: int = 3
    """Calls of each after the first."""
    json: Path | None = None
    """Where to write the numbers."""


def score(case: Case, work: Workload, how: AnyHow) -> Any:
    keys = dj.seed_keys(0, "score", case.seeds)
    result = dj.score_ensemble(
        keys, work.model, work.train, config=work.config, step=case.score_step, how=how
    )
    return jax.block_until_ready(result)


def retrain(case: Case, work: Workload, how: AnyHow) -> Any:
    keys = dj.seed_keys(0, "retrain", case.seeds)
    config = replace(work.config, steps=case.retrain_steps)
    return jax.block_until_ready(
        dj.train_ensemble(keys, work.model, work.train, work.test, config=config, how=how)
    )


def main(options: Options) -> None:
    table = []
    for case in CASES:
        # Scoring trains the beginning of a longer training.
        work = workload(case.name, steps=8 * case.score_step)
        tasks = {
            f"score, {case.score_step} steps": score,
            f"retrain, {case.retrain_steps} steps": retrain,
        }
        for task, fn in tasks.items():
            # Else a first call would find the programs of the case before it.
            jax.clear_caches()
            variants = {how: partial(fn, case, work, how) for how in case.hows}
            timings = interleaved(variants, options.rounds)
            table += rows(f"{case.name}, {case.seeds} seeds: {task}", timings, case.hows[0])
    report("Ensembles: how seeds are batched", table, unit="s", path=options.json)


if __name__ == "__main__":
    main(tyro.cli(Options))
