"""How many steps a compiled call should do: milliseconds for each training step.

Command: python benchmarks/steps_per_call.py [--json PATH]
Floor:   one step per call.
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

# Steps of the training that is timed, initialisation included; few where the slowest takes long.
STEPS = {
    ("mlp, digits", None): 400,
    ("small_cnn, digits", "lax"): 200,
    ("small_cnn, digits", "matmul"): 200,
    ("small_cnn, 28x28", "lax"): 20,
    ("small_cnn, 28x28", "matmul"): 100,
}


@dataclass(frozen=True)
class Options:
    """Milliseconds per training step, by steps per compiled call."""

    steps_per_call: tuple[int, ...] = (1, 10, 100)
    """Which to compare; the first is the floor."""
    rounds: int = 5
    """Trainings of each after the first."""
    json: Path | None = None
    """Where to write the numbers."""


def train(work: Workload, steps_per_call: int) -> Any:
    config = replace(work.config, steps_per_call=steps_per_call)
    return jax.block_until_ready(dj.train(jax.random.key(0), work.model, work.train, config=config))


def main(options: Options) -> None:
    table = []
    for (name, form), steps in STEPS.items():
        work = workload(name, steps=steps, **({} if form is None else {"convolution": form}))
        variants = {str(count): partial(train, work, count) for count in options.steps_per_call}
        timings = interleaved(variants, options.rounds)
        convolution = "" if form is None else f", convolution {form}"
        what = f"{name}{convolution}, {steps} steps of batch {work.config.batch_size}"
        table += rows(what, timings, str(options.steps_per_call[0]), divide_by=steps)
    report("Time of a training step, by steps per call", table, unit="ms", path=options.json)


if __name__ == "__main__":
    main(tyro.cli(Options))
