"""What a run will take: programs, operations, memory, disk and time, before anything of it is done."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from diet_jax.data.dataset import Dataset
from diet_jax.devices.free_memory import free_bytes
from diet_jax.devices.mesh import SEED, axis_size
from diet_jax.ensemble import passes
from diet_jax.ensemble.retraining import prediction_function
from diet_jax.ensemble.scoring import score_function
from diet_jax.experiments.calibration import Costs, measure
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.devices import config_mesh
from diet_jax.experiments.operations import example_flops, example_shapes, nbytes, state_shapes, step_flops
from diet_jax.experiments.plan_data import kept_sizes, setup_to_plan
from diet_jax.experiments.setup import Setup
from diet_jax.training.recipe import total_steps


class Stage(NamedTuple):
    """One part of a run."""

    name: str
    networks: int
    """How many networks do it."""
    each: str
    """What each of them does, in words."""
    flops: float
    """Floating-point operations of all of them."""
    seconds: float
    """Estimated from the calibration, without compiling."""


class Memory(NamedTuple):
    """Bytes on each device."""

    parameters: int
    """Of one network, with BatchNorm's statistics."""
    optimizer: int
    """Optimiser state of one network."""
    networks: int
    """How many networks are trained at once."""
    dataset: int
    """What stays on the device of the dataset's splits."""
    temporaries: int
    """Intermediate arrays of the largest program."""
    limit: int
    """What is free."""

    @property
    def total(self) -> int:
        """Bytes that the run takes at its largest."""
        own = self.networks * (self.parameters + self.optimizer)
        return own + self.dataset + self.temporaries


class RunPlan(NamedTuple):
    """What `plan_run` found."""

    stages: tuple[Stage, ...]
    programs: dict[str, int]
    """How many programs are compiled, by what they do."""
    compile_seconds: float
    """Estimated time of compiling them."""
    one_training: float
    """Floating-point operations of one training on everything."""
    memory: Memory
    checkpoints: int
    """How many training states are saved."""
    checkpoint_bytes: int
    """Of each, before compression."""
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Estimated time of all stages and of compiling."""
        return sum(stage.seconds for stage in self.stages) + self.compile_seconds


# How long programs may run, about.
CALIBRATION_SECONDS = 10.0


def plan_run(config: RunConfig, *, seconds: float | None = None) -> RunPlan:
    """Plans a run of `diet-jax run` without doing or writing any of it.

    Its programs are compiled, and run for some seconds on the data.

    Args:
        config: of the run.
        seconds: how long programs may run for the calibration, about; by default ten.

    Returns:
        The plan.

    Raises:
        InputError: what `run_prune` would refuse in config or data.
    """
    setup, notes = setup_to_plan(config)
    with config_mesh(config):
        free = free_bytes()
        seconds = CALIBRATION_SECONDS if seconds is None else seconds
        costs, programs, state = measure(setup, seconds=seconds), count_programs(setup), state_shapes(setup)
        return RunPlan(
            stages=tuple(stages(setup, costs)),
            programs=programs,
            compile_seconds=sum(count * costs.compile[name] for name, count in programs.items()),
            one_training=setup.num_steps * step_flops(setup),
            memory=_memory(setup, costs, state, free),
            checkpoints=count_checkpoints(setup),
            checkpoint_bytes=nbytes(state),
            notes=notes,
        )


def trainings(setup: Setup) -> Iterator[tuple[str, int, int, int]]:
    """Yields (name, networks, examples kept, steps) of each group of retrainings."""
    config, count = setup.config, len(setup.splits.train)
    yield "everything", config.retrain.num_seeds, count, total_steps(config.train, count)
    for fraction, num in kept_sizes(setup):
        # By each score, and at random.
        networks = config.retrain.num_seeds * (len(config.score.names) + 1)
        yield f"keep {fraction:g}", networks, num, total_steps(config.train, count, num)


def stages(setup: Setup, costs: Costs) -> Iterator[Stage]:
    """Yields the stages of a run with their operations and estimated times."""
    config, (train, test) = setup.config, setup.splits
    seeds, per_step = config.score.num_seeds, step_flops(setup)
    yield Stage(
        f"scoring: train to epoch {config.score.epoch:g}",
        seeds,
        f"{setup.score_step:,} steps",
        seeds * setup.score_step * per_step,
        seeds * (costs.start + setup.score_step * costs.step),
    )
    for name in config.score.names:
        if name == "forgetting":
            continue  # It is counted while training.
        flops = example_flops(score_function(name, setup.model), setup, train)
        yield Stage(
            f"scoring: {name}",
            seeds,
            f"{len(train):,} examples",
            seeds * len(train) * flops,
            seeds * len(train) * costs.example[name],
        )
    for name, networks, _, steps in trainings(setup):
        yield Stage(
            f"retraining: {name}",
            networks,
            f"{steps:,} steps",
            networks * steps * per_step,
            networks * (costs.start + steps * costs.step),
        )
    networks = sum(group[1] for group in trainings(setup))
    flops = example_flops(prediction_function(setup.model), setup, test)
    yield Stage(
        "retraining: judge on the test split",
        networks,
        f"{len(test):,} examples",
        networks * len(test) * flops,
        networks * len(test) * costs.example["test"],
    )


def count_programs(setup: Setup) -> dict[str, int]:
    """Returns how many programs a run compiles, by what they do; each is compiled once."""
    config, (train, test) = setup.config, setup.splits
    kinds = {(steps, num) for _, _, num, steps in trainings(setup)}
    names = [name for name in config.score.names if name != "forgetting"]
    programs = {}
    lengths = {(setup.num_steps, len(train)), *kinds}
    one_by_one = [setup.how(section.how) == "loop" for section in (config.score, config.retrain)]
    if any(one_by_one):
        trained = lengths if one_by_one[1] else {(setup.num_steps, len(train))}
        programs |= {
            "initialise": len({steps for steps, _ in trained}),
            "draw batches": len({num for _, num in trained}),
            "train": len({steps for steps, _ in trained}),
        }
    if one_by_one[0]:
        programs |= {f"score by {name}": _num_shapes(setup, name, train) for name in names}
    else:
        programs["score an ensemble"] = 1
    if one_by_one[1]:
        programs["judge"] = _num_shapes(setup, "test", test)
    else:
        programs["retrain an ensemble"] = len(kinds)
    return programs


def _num_shapes(setup: Setup, name: str, dataset: Dataset) -> int:
    """Programs of one score: a shorter last call is another one."""
    fn = prediction_function(setup.model) if name == "test" else score_function(name, setup.model)
    asked = setup.config.score.batch_size if name != "test" else "auto"
    variables = state_shapes(setup).variables
    size = passes.chunk_plan(fn, variables, dataset).batch_size if asked == "auto" else asked
    chunks, count = passes.default_chunks_per_call(), len(dataset)
    per_call = min(size, count) * chunks
    calls = range(0, count, per_call)
    return len({len(passes._call_rows(first, per_call, chunks, count)[0]) for first in calls})


def _memory(setup: Setup, costs: Costs, state: Any, limit: int) -> Memory:
    config, (train, test) = setup.config, setup.splits
    sections = (config.score, config.retrain)
    hows = [setup.how(section.how) for section in sections]
    at_once = [_at_once(how, s.num_seeds) for s, how in zip(sections, hows, strict=True)]
    on_device = nbytes(example_shapes(train))
    if config.data.streaming:  # The batch at work and the next one.
        on_device = 2 * config.train.batch_size * on_device // len(train)
    elif hows[1] != "loop":  # Else the test split comes chunk by chunk.
        on_device += nbytes(example_shapes(test))
    return Memory(
        parameters=nbytes(state.variables),
        optimizer=nbytes(state.opt_state),
        networks=max(at_once),
        dataset=on_device,
        temporaries=max(costs.temporaries.values()),
        limit=limit,
    )


def _at_once(how: str, num_seeds: int) -> int:
    """Networks that one device trains at the same time."""
    if how == "mesh":
        per_device = -(-num_seeds // axis_size(SEED))
        return per_device if jax.default_backend() != "cpu" else 1
    return num_seeds if how == "vmap" else 1


def count_checkpoints(setup: Setup) -> int:
    """Returns how many training states a run saves."""
    saved = setup.checkpoint_steps
    early = sum(step <= setup.score_step for step in saved) * setup.config.score.num_seeds
    return early + sum(
        networks * sum(step <= steps for step in saved) for _, networks, _, steps in trainings(setup)
    )
