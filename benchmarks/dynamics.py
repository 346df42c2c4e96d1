"""What scores of training dynamics cost: the time of a training that folds them over that of one alone.

Command: python benchmarks/dynamics.py [--json PATH]
Floor:   the same training with what every training has, forgetting alone.

Timed is `score_ensemble` at the end of the training, compiled before, on synthetic images, with all
registered scores of the training's own pass; beside them those of logits at the end, of a clean pass after
every epoch, and of gradients after every epoch. Counted is processor time of all threads: other work disturbs
it least.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro
from measure import interleaved, report, rows
from workloads import workload

import diet_jax as dj
from diet_jax.ensemble.over_seeds import AnyHow

ALONE = "training alone"
OWN = tuple(score.name for score in dj.SCORES if score.fold is not None and score.fold.measure is None)
AT_END = tuple(score.name for score in dj.SCORES if score.reads == "logits")
CLEAN = tuple(score.name for score in dj.SCORES if score.fold is not None and score.fold.of_logits)
GRADIENTS = tuple(
    score.name
    for score in dj.SCORES
    if score.fold is not None and score.fold.measure is not None and not score.fold.of_logits
)


@dataclass(frozen=True)
class Options:
    """Time of training with scores of training dynamics, over training alone."""

    workloads: tuple[str, ...] = ("small_cnn, 28x28", "mlp, 28x28")
    """Network and images."""
    num_train: int = 6_000
    """Synthetic images; an epoch passes over them once."""
    epochs: int = 10
    """Length of the training."""
    batch_size: int = 128
    """Examples of a step."""
    seeds: int = 1
    """Networks."""
    how: AnyHow = "auto"
    """How seeds are batched."""
    rounds: int = 5
    """Calls of each after the first."""
    json: Path | None = None
    """Where to write the numbers."""


def main(options: Options) -> None:
    table: list[dict[str, Any]] = []
    for name in options.workloads:
        table += measure(options, name)
    report(
        "Scores of training dynamics: time over training alone",
        table,
        unit="s",
        notes=["Seconds are processor time of all threads."],
        path=options.json,
        columns={"scores": ("scores", ",.0f")},
        extra={
            "scores": {"training pass": OWN, "at end": AT_END, "clean pass": CLEAN, "gradients": GRADIENTS}
        },
    )


def measure(options: Options, name: str) -> list[dict[str, Any]]:
    """Times a training alone, with scores of its own pass, and with others beside them."""
    steps = options.epochs * (options.num_train // options.batch_size)
    work = workload(name, steps=steps, batch_size=options.batch_size, num_train=options.num_train)
    keys = dj.seed_keys(0, "score", options.seeds)

    def run(names: tuple[str, ...]) -> None:
        options_of = {"config": work.config, "step": steps, "names": names, "how": options.how}
        jax.block_until_ready(dj.score_ensemble(keys, work.model, work.train, **options_of).variables)

    sets = {
        ALONE: ("forgetting",),
        f"{len(OWN)} scores of the training pass": OWN,
        **{
            f"and {len(names)} {what}": (*OWN, *names)
            for names, what in (
                (AT_END, "of logits at the end"),
                (CLEAN, "of clean passes"),
                (GRADIENTS, "of gradients after every epoch"),
            )
        },
    }
    variants = {what: lambda n=n: run(n) for what, n in sets.items()}
    timings = interleaved(variants, options.rounds, timer=processor_seconds)
    found = rows(name, timings, ALONE)
    for row, names in zip(found, sets.values(), strict=True):
        row["scores"] = len(names)
    return found


def processor_seconds(fn: Callable[[], Any]) -> float:
    """Returns the processor time of one call, of all threads of this process."""
    begin = time.process_time()
    fn()
    return time.process_time() - begin


if __name__ == "__main__":
    main(tyro.cli(Options))
