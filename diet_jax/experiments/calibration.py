"""What the programs of a run take on this machine: compiled once each, and run for some seconds."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.devices.defaults import default_steps_per_call, training_has_convolution
from diet_jax.devices.free_memory import free_bytes
from diet_jax.devices.memory import temporary_bytes
from diet_jax.devices.mesh import replicate
from diet_jax.devices.progress import say
from diet_jax.ensemble import passes
from diet_jax.ensemble.over_seeds import over_seeds
from diet_jax.ensemble.retraining import prediction_function, train_program
from diet_jax.ensemble.scoring import score_batch_sizes, score_function, score_program
from diet_jax.experiments.setup import Setup
from diet_jax.training import loop
from diet_jax.training.seeds import seed_keys
from diet_jax.training.step import batch_rows, init_state, run_keys, train_steps

# A larger data set is calibrated on its first rows.
SHARE_OF_MEMORY = 0.25
ROWS_OF_LARGE = 1024
# Of the seconds for running; the scores and the test split share the rest.
SHARE_OF_TRAINING = 0.5
# Chunks of examples that are scored for the calibration, if time allows.
MOST_CHUNKS = 32


class Costs(NamedTuple):
    """Times in seconds and memory in bytes, of one network."""

    start: float
    """Initialising it and drawing its first batches."""
    step: float
    """One training step."""
    example: dict[str, float]
    """One example, by score name, and for "test" its prediction."""
    compile: dict[str, float]
    """Compiling a program, by what it does."""
    temporaries: dict[str, int]
    """Intermediate arrays, by program."""


def measure(setup: Setup, *, seconds: float) -> Costs:
    """Compiles the programs of a run and runs them for about so many seconds.

    Args:
        setup: config, data and model.
        seconds: of running; compiling comes on top.

    Returns:
        The costs of one network when seeds are batched as the config says.
    """
    say(f"planning: compiling the programs of the run and running them for {seconds:g} s")
    costs = Costs(0.0, 0.0, {}, {}, {})
    train, test = (_at_hand(split, setup.config.train.batch_size) for split in setup.splits)
    names = [name for name in setup.config.score.names if name != "forgetting"]
    share = seconds * (1 - SHARE_OF_TRAINING) / (len(names) + 1)
    retrain_how = setup.how(setup.config.retrain.how)
    if retrain_how == "loop":
        costs = _one_by_one(setup, train, costs, seconds * SHARE_OF_TRAINING)
    else:
        costs = _together(setup, train, test, costs, seconds * SHARE_OF_TRAINING)
    for name in names:
        say(f"planning: {name}")
        _score(setup, train, name, setup.how(setup.config.score.how), costs, share)
    if setup.how(setup.config.score.how) != "loop":
        _compile_scoring(setup, train, costs)
    elif retrain_how != "loop":
        start_costs = _one_by_one(setup, train, Costs(0.0, 0.0, {}, {}, {}), 0.0)
        costs.compile.update(start_costs.compile)
    _score(setup, test, "test", retrain_how, costs, share)
    return costs


def _at_hand(dataset: Dataset, batch_size: int) -> Dataset:
    """A dataset in memory: itself, or its first rows if it is too large or read from disk."""
    count = len(dataset)
    large = count * int(np.prod(dataset.image_shape)) * dataset.images.dtype.itemsize
    if large <= SHARE_OF_MEMORY * free_bytes() and not dataset.streamed:
        return dataset
    rows = np.arange(min(count, max(ROWS_OF_LARGE, batch_size)))
    fields: Any = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(Dataset)}
    images = np.ascontiguousarray(dataset.images[rows])
    some: Any = {"images": images, "labels": dataset.labels[rows], "ids": dataset.ids[rows]}
    return Dataset(**{**fields, **some})


def _one_by_one(setup: Setup, train: Dataset, costs: Costs, seconds: float) -> Costs:
    """Costs of trainings that run step by step, by running one."""
    model, config = setup.model, setup.config.train
    static: Any = {"model": model, "config": config, "num_steps": setup.num_steps}
    key = seed_keys(setup.config.seed, "score", 1)[0]
    kept = jnp.arange(len(train))
    examples = loop.put_examples(train)

    def begin() -> Any:
        return jax.block_until_ready(loop.start(key, model, train, config=config, num_steps=setup.num_steps))

    first_start, _ = _timed(begin)
    start, state = _timed(begin)
    per_call = config.steps_per_call or default_steps_per_call(
        training_has_convolution(model, train.image_shape)
    )
    drawn = per_call if per_call > 1 else loop.ROWS_PER_CALL

    def draw() -> np.ndarray:
        order = run_keys(key).order
        return np.asarray(loop._rows(order, kept, 0, num_steps=drawn, batch_size=config.batch_size))

    first_draw, rows = _timed(draw)
    again, _ = _timed(draw)
    began = time.monotonic()
    if per_call > 1:
        lowered = loop.many_steps.lower(state, examples, jnp.asarray(rows), 1, **static)
    else:
        lowered = loop.one_step.lower(state, examples, rows[0], **static)
    compiled = lowered.compile()
    costs.compile["train"] = time.monotonic() - began
    costs.compile["initialise"] = max(first_start - start, 0.0)
    costs.compile["draw batches"] = max(first_draw - again, 0.0)
    costs.temporaries["train"] = temporary_bytes(compiled)

    def run(steps: int) -> None:
        nonlocal state
        if int(state.step) + steps > setup.num_steps:
            state = begin()
        stop = min(int(state.step) + steps, setup.num_steps)
        reached = loop.train_between(state, examples, kept, [stop], **static)
        state, _ = jax.block_until_ready(next(reached))

    per_step = _per_unit(run, per_call, seconds, most=setup.num_steps) if seconds else 0.0
    return costs._replace(start=start, step=per_step)


def _together(setup: Setup, train: Dataset, test: Dataset, costs: Costs, seconds: float) -> Costs:
    """Costs of trainings that share a program, by running one like it that does fewer steps."""
    config, how = setup.config, setup.how(setup.config.retrain.how)
    static: Any = {"model": setup.model, "config": config.train, "num_steps": setup.num_steps}
    keys = seed_keys(config.seed, "retrain", config.retrain.num_seeds)
    kept = np.arange(len(train), dtype=np.int32)
    num_steps = setup.num_steps
    examples = loop.put_examples(train)
    began = time.monotonic()
    fn = prediction_function(setup.model)
    compiled = train_program.lower(
        replicate((keys, np.stack([kept] * len(keys)))),
        examples,
        loop.put_examples(test),
        **static,
        batch_size=passes.model_batch_size(fn, setup.model, test),
        how=how,
    ).compile()
    costs.compile["retrain an ensemble"] = time.monotonic() - began
    costs.temporaries["retrain an ensemble"] = temporary_bytes(compiled)

    def one(key: Any, examples: Any, kept: Any, count: Any) -> Any:
        state = init_state(key, examples.image_shape, len(examples.labels), **static)
        order, size = run_keys(key).order, config.train.batch_size
        rows = batch_rows(order, kept, 0, num_steps=num_steps, batch_size=size)
        return train_steps(state, examples, rows, count, **static)

    program = jax.jit(over_seeds(one, how=how))

    def run(steps: int) -> None:
        jax.block_until_ready(program(*replicate((keys, examples, kept)), np.int32(steps)))

    run(0)
    start, _ = _timed(lambda: run(0))

    per_step = _per_unit(run, 1, seconds, most=num_steps, overhead=start)
    return costs._replace(start=start / len(keys), step=per_step / len(keys))


def _compile_scoring(setup: Setup, train: Dataset, costs: Costs) -> None:
    config = setup.config
    keys = seed_keys(config.seed, "score", config.score.num_seeds)
    kept = np.arange(len(train), dtype=np.int32)
    began = time.monotonic()
    compiled = score_program.lower(
        *replicate((keys, loop.put_examples(train), kept)),
        model=setup.model,
        config=config.train,
        num_steps=setup.num_steps,
        steps=(setup.score_step,),
        batch_sizes=score_batch_sizes(config.score.names, setup.model, train, config.score.batch_size),
        never_learned=config.score.never_learned,
        how=setup.how(config.score.how),
    ).compile()
    costs.compile["score an ensemble"] = time.monotonic() - began
    costs.temporaries["score an ensemble"] = temporary_bytes(compiled)


def _score(setup: Setup, dataset: Dataset, name: str, how: Any, costs: Costs, seconds: float) -> None:
    """Time per example of a score, or of the predictions for the test split."""
    model, asked = setup.model, setup.config.score.batch_size
    fn = prediction_function(model) if name == "test" else score_function(name, model)
    key = seed_keys(setup.config.seed, "score", 1)[0]
    # Compiled: uncompiled, a large network takes its time.
    variables = jax.jit(model.init, static_argnums=1)(key, dataset.image_shape)
    began = time.monotonic()
    plan = passes.chunk_plan(fn, variables, dataset)
    size = plan.batch_size if name == "test" or asked == "auto" else asked
    if how == "loop":
        program = "judge" if name == "test" else f"score by {name}"
        costs.compile[program] = time.monotonic() - began
        costs.temporaries[program] = plan.needed

    per_call = size * passes.default_chunks_per_call()
    most = min(MOST_CHUNKS, max(1, len(dataset) // per_call))

    def run(calls: int) -> None:
        rows = np.arange(min(calls * per_call, len(dataset)))
        part = dataclasses.replace(
            dataset, images=dataset.images[rows], labels=dataset.labels[rows], ids=dataset.ids[rows]
        )
        passes.map_dataset(fn, variables, part, batch_size=size)

    costs.example[name] = _per_unit(run, 1, seconds, most=most) / min(per_call, len(dataset))


def _per_unit(
    run: Callable[[int], None], unit: int, seconds: float, *, most: int, overhead: float = 0.0
) -> float:
    """Seconds per unit of `run(units)`, from a second call that takes about so many seconds."""
    unit = min(unit, most)
    run(unit)  # What is compiled, or fetched for the first time.
    one = max(_timed(lambda: run(unit))[0] - overhead, 1e-9)
    units = unit * int(min(max(seconds / one, 1), max(most // unit, 1)))
    if units == unit:
        return one / unit
    return max(_timed(lambda: run(units))[0] - overhead, 1e-9) / units


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    result = call()
    return time.monotonic() - began, result
