"""What a run will take: operations, time, programs, memory and disk, before anything of it is done."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from diet_jax.analysis.results import RS2
from diet_jax.data.dataset import Dataset, Splits
from diet_jax.data.kinds import Normalization
from diet_jax.data.published import PAPER_NORMALIZATIONS, PUBLISHED
from diet_jax.devices.free_memory import free_bytes
from diet_jax.devices.mesh import SEED, axis_size, batch_parts
from diet_jax.devices.processes import together
from diet_jax.devices.progress import say
from diet_jax.ensemble.over_seeds import seeds_at_once
from diet_jax.ensemble.retraining import prediction_function
from diet_jax.ensemble.score_passes import passes_of
from diet_jax.ensemble.scoring import score_batch_sizes
from diet_jax.errors import NotHereError, counted
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.costs import Cost, Rate, cost_of, measured_rate, nbytes, state_shapes, step_cost
from diet_jax.experiments.devices import config_mesh
from diet_jax.experiments.own import NOTHING, Own
from diet_jax.experiments.row_costs import reads_network
from diet_jax.experiments.setup import Setup, prepare
from diet_jax.scores.score import Score
from diet_jax.selection.masks import num_kept
from diet_jax.training.epoch_ends import measuring
from diet_jax.training.passes import batch_shapes, model_batch_size
from diet_jax.training.step import ends_of_epochs


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
    """Estimated from the operations, on all devices."""
    temporaries: int
    """Bytes of intermediate arrays of the networks that a device works on at once, as traced."""


class RunPlan(NamedTuple):
    """What `plan_run` found."""

    stages: tuple[Stage, ...]
    rate: Rate
    """Of one device: what the seconds come from."""
    one_training: float
    """Floating-point operations of one training on everything."""
    programs: dict[str, int]
    """How many programs will be compiled, by what they do."""
    memory: dict[str, int]
    """Bytes on each device at the run's largest, by what they hold, as if nothing was split over devices."""
    free: int
    """Bytes that are free on a device here and now."""
    checkpoints: int
    """How many training states are saved."""
    checkpoint_bytes: int
    """Of each, before compression."""
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Estimated time of all stages."""
        return sum(stage.seconds for stage in self.stages)


def plan_run(config: RunConfig, own: Own = NOTHING, *, tflops: float | None = None) -> RunPlan:
    """Plans a run of `diet-jax run` without doing or writing any of it.

    Args:
        config: of the run.
        own: what takes part in place of what the config would name.
        tflops: 10^12 floating-point operations per second that each device is taken to do; by default a short
            training step is compiled here and timed. If given, nothing is compiled or run.

    Returns:
        The plan.

    Raises:
        InputError: what `run_prune` would refuse in config or data.
    """
    setup, notes = together(lambda: setup_to_plan(config, own))
    config = setup.config
    step, state = step_cost(setup), state_shapes(setup)
    if tflops is None:
        say("planning: compiling and timing a training step")
        rate = measured_rate(setup, step)
        # Measured: 0.3 (GraNd) to 0.7 with a small network, 0.8 to 1.4 with ResNet18.
        notes.append(
            "scores and predictions are reckoned at this rate too; on CPUs theirs was 0.3 to 1.4 times it"
        )
    else:
        rate = Rate(tflops * 1e12, "as given")
        notes.append(
            f"programs, chunks of scores and memory are those of this machine ({jax.default_backend()})"
        )
    with config_mesh(config):
        devices = axis_size(SEED) * batch_parts()
        if devices > 1:
            notes.append(
                f"{devices} devices are taken to share the work without loss, and to split no memory"
            )
        done = tuple(stages(setup, step, rate))
        return RunPlan(
            stages=done,
            rate=rate,
            one_training=setup.num_steps * step.flops,
            programs=count_programs(setup),
            memory=memory_of(setup, done),
            free=free_bytes(),
            checkpoints=count_checkpoints(setup),
            checkpoint_bytes=nbytes(state),
            notes=tuple(notes),
        )


def setup_to_plan(config: RunConfig, own: Own = NOTHING) -> tuple[Setup, list[str]]:
    """Returns data and model of a config, zeros for data that is not on disk but of known size, and notes."""
    notes = []
    if config.data.streaming:
        notes.append("images are read from disk while training and scoring; the times are without reading")
    try:
        return prepare(config, own), notes
    except NotHereError:
        name = config.data.name.removeprefix("tfds:")
        if name not in PUBLISHED:
            raise
    side, sizes = config.data.image_size, PUBLISHED[name]
    shape = sizes.image_shape if side is None else (side, side, sizes.image_shape[2])
    gray = (127.5,) * shape[2]

    def zeros(split: str, count: int) -> Dataset:
        return Dataset(
            # One image stands for all: it takes no memory to speak of.
            inputs=np.broadcast_to(np.zeros((1, *shape), np.uint8), (count, *shape)),
            labels=(np.arange(count) % sizes.num_classes).astype(np.int32),
            ids=np.arange(count),
            num_classes=sizes.num_classes,
            class_names=tuple(str(c) for c in range(sizes.num_classes)),
            name=name,
            split=split,
            normalization=PAPER_NORMALIZATIONS.get(name, Normalization(gray, gray)),
            id_source="row numbers",
            fingerprint="not on disk",
        )

    train = zeros("train", min(sizes.train, config.data.num_train or sizes.train))
    splits = Splits(train, zeros(sizes.test_split, sizes.test))
    notes.append(f"{name} is not on disk; sizes as published, zeros in place of its images")
    if config.data.label_noise or config.data.labels is not None:
        notes.append("labels of a file and noise are not looked at without the data; they cost nothing")
    return prepare(config, own, splits=splits), notes


def trainings(setup: Setup) -> Iterator[tuple[str, int, int, int]]:
    """Yields (name, networks, examples kept, steps) of each group of retrainings."""
    config, count = setup.config, len(setup.splits.train)
    yield "everything", config.retrain.num_seeds, count, setup.num_steps
    # By each rule and score, or by all together, and at random.
    selections = 1 + len(setup.groups) + setup.has_balanced
    for fraction in sorted(setup.fractions):
        kept, steps = num_kept(count, fraction), setup.steps_at(fraction)
        yield f"keep {fraction:g}", config.retrain.num_seeds * selections, kept, steps
        if setup.has_rs2(fraction):
            yield f"{RS2}, keep {fraction:g}", config.retrain.num_seeds, count, steps


def stages(setup: Setup, step: Cost, rate: Rate) -> Iterator[Stage]:
    """Yields the stages of a run, given the cost of a training step and what a device does per second."""
    config, model, (train, test) = setup.config, setup.model, setup.splits
    scoring, retraining, variables = config.score, config.retrain, state_shapes(setup).variables

    def stage(
        section: Any, name: str, networks: int, each: str, calls: float, cost: Cost, *, at_once: int = 1
    ) -> Stage:
        how, seeds = setup.how(section.how), section.num_seeds
        # Networks that the devices of the mesh train side by side take the time of one.
        side_by_side = how == "mesh" and networks >= seeds
        one_by_one = math.ceil(seeds / axis_size(SEED)) / seeds if side_by_side else 1.0
        flops = networks * calls * cost.flops
        seconds = flops * one_by_one / batch_parts() / rate.flops_per_second
        return Stage(name, networks, each, flops, seconds, at_once * cost.temporaries)

    def examples(section: Any, name: str, networks: int, fn: Any, dataset: Dataset, size: int) -> Stage:
        count = len(dataset)
        images = jax.ShapeDtypeStruct((min(size, count), *dataset.shape), dataset.spec.dtype)
        cost = cost_of(fn, variables, images, jax.ShapeDtypeStruct(images.shape[:1], "int32"))
        return stage(section, name, networks, f"{count:,} examples", count / images.shape[0], cost)

    name, seeds = f"scoring: train to epoch {scoring.epoch:g}", scoring.num_seeds
    at_once = seeds_at_once(setup.how(scoring.how), seeds)
    steps = setup.score_step
    yield stage(scoring, name, seeds, counted(steps, "step"), steps, step, at_once=at_once)
    program = setup.program()
    if ends := ends_of_epochs(program):
        fn = measuring(program)
        size = model_batch_size(fn, model, train)
        each = "scoring: measure at the end of every epoch"
        yield examples(scoring, each, seeds * (steps // ends), fn, train, size)
    # Other scores of training dynamics are counted while training.
    sizes = dict(score_batch_sizes(setup.scores, model, train, scoring.batch_size))
    for each in passes_of(setup.scores, model):
        yield examples(scoring, f"scoring: {each.name}", seeds, each.fn, train, sizes[each.scores[0]])
    if any(reads_network(rule) for rule in config.select.rules):
        what = "selecting: train one scoring network again"
        yield stage(scoring, what, 1, counted(setup.score_step, "step"), setup.score_step, step)
        judge, what = prediction_function(model), "selecting: features or errors of classes"
        yield examples(scoring, what, 1, judge, train, model_batch_size(judge, model, train))
    at_once = seeds_at_once(setup.how(retraining.how), retraining.num_seeds)
    for name, networks, _, steps in trainings(setup):
        what = f"retraining: {name}"
        yield stage(retraining, what, networks, counted(steps, "step"), steps, step, at_once=at_once)
    networks, judge = sum(group[1] for group in trainings(setup)), prediction_function(model)
    size = model_batch_size(judge, model, test)
    yield examples(retraining, "retraining: judge", networks, judge, test, size)


def count_programs(setup: Setup) -> dict[str, int]:
    """Returns how many programs a run compiles, by what they do, beside what is done in passing.

    Smaller batches where memory is short come on top.
    """
    config = setup.config
    kinds = {(count, kept) for _, _, kept, count in trainings(setup)}
    scores_in_loop, retrains_in_loop = (setup.how(s.how) == "loop" for s in (config.score, config.retrain))
    # Scoring trains on everything.
    alone = kinds if retrains_in_loop else {(setup.num_steps, len(setup.splits.train))}
    reads = any(reads_network(rule) for rule in config.select.rules)
    programs = {}
    if retrains_in_loop or scores_in_loop or reads:
        lengths = len({count for count, _ in alone})
        programs = {"initialise": lengths, "draw batches": len({kept for _, kept in alone}), "train": lengths}
    if scores_in_loop:
        names = [each.name for each in passes_of(setup.scores, setup.model)]
        # Images that are read from disk are read once for all scores.
        parts = [", ".join(names)] if config.data.streaming and names else names
        programs |= {f"score by {name}": 1 for name in parts}
    else:
        programs["score an ensemble"] = 1
    programs |= {"measure what rules read": 1} if reads else {}
    return programs | ({"judge": 1} if retrains_in_loop else {"retrain an ensemble": len(kinds)})


def memory_of(setup: Setup, done: tuple[Stage, ...]) -> dict[str, int]:
    """Returns the bytes on a device of a run with these stages, by what they hold."""
    config, (train, test), state = setup.config, setup.splits, state_shapes(setup)
    sections = config.score, config.retrain
    networks = max(seeds_at_once(setup.how(section.how), section.num_seeds) for section in sections)
    at_once = f" of {networks} networks at once" if networks > 1 else ""
    if config.data.streaming:  # The batch at work and the next one.
        resident = 2 * config.train.batch_size
    else:  # Where networks train one by one, the test split comes in chunks.
        resident = len(train) + (0 if setup.how(config.retrain.how) == "loop" else len(test))
    measured = [_measured_bytes(score, setup) for score in setup.scores if score.measure is not None]
    of_all = {"what scores measure of all examples": max(measured)} if measured else {}
    return {
        f"parameters{at_once}": networks * nbytes(state.variables),
        f"optimiser state{at_once}": networks * nbytes(state.opt_state),
        f"training dynamics{at_once}": networks * nbytes(state.dynamics),
        # Labels are int32.
        "dataset": resident * (math.prod(train.shape) * train.inputs.dtype.itemsize + 4),
        **of_all,
        "intermediate arrays of the largest stage": max(stage.temporaries for stage in done),
    }


def _measured_bytes(score: Score, setup: Setup) -> int:
    """Bytes of a measure's values of all examples: networks take turns, so that there is one such array."""
    fn, shapes = score.on_batches(setup.model), batch_shapes(setup.splits.train)
    return nbytes(jax.eval_shape(fn, state_shapes(setup).variables, *shapes)) if fn else 0


def count_checkpoints(setup: Setup) -> int:
    """Returns how many training states a run saves."""
    saved = setup.checkpoint_steps
    early = sum(step <= setup.score_step for step in saved) * setup.config.score.num_seeds
    return early + sum(
        networks * sum(step <= count for step in saved) for _, networks, _, count in trainings(setup)
    )
