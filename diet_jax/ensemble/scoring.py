"""Scoring an ensemble: initialise, train to a step and score every example, for every seed."""

import dataclasses
import functools
import itertools
import math
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from diet_jax.checks.rows import checked_mask
from diet_jax.checks.values import check_count, check_key
from diet_jax.data.dataset import Dataset
from diet_jax.devices.deadline import NEVER, Deadline
from diet_jax.devices.defaults import How
from diet_jax.devices.mesh import fetch, replicate
from diet_jax.ensemble.over_seeds import AnyHow, over_seeds, resolve_how, run_seeds
from diet_jax.ensemble.score_passes import passes_of
from diet_jax.ensemble.shards import score_streamed
from diet_jax.ensemble.whole_dataset import finished, score_of_all
from diet_jax.errors import InputError
from diet_jax.options.identity import is_of_package
from diet_jax.scores.dynamics import FORGETTING
from diet_jax.scores.score import SCORES, Score, checked_values, folds_of, resolve_scores
from diet_jax.training.compiled import CompiledProgram
from diet_jax.training.divergence import bad_losses, warn_of
from diet_jax.training.dynamic_pruning.methods import rows_per_step
from diet_jax.training.epoch_ends import end_epoch
from diet_jax.training.loop import (
    check_keep,
    check_training,
    check_updates,
    program_of,
    put_examples,
    start,
    train_between,
)
from diet_jax.training.passes import (
    BatchSize,
    check_batch_size,
    map_dataset,
    map_examples_of,
    model_batch_size,
)
from diet_jax.training.recipe import TrainConfig, epoch_to_step, steps_per_epoch
from diet_jax.training.step import (
    Program,
    StepMetrics,
    TrainState,
    batch_rows,
    ends_of_epochs,
    init_state,
    pruned_steps,
    run_keys,
    train_steps,
)
from diet_jax.types import AnyArray, Array, Examples, Model, PRNGKey, PRNGKeys, Variables


class EnsembleScores(NamedTuple):
    """What `score_ensemble` returns: arrays with a leading seed axis."""

    scores: dict[str, np.ndarray]
    """float32 `[s n]` by score name, or `[p s n]` for a tuple of `p` steps; high means hard."""
    variables: Variables
    """Stacked variables at the (last) scoring step."""
    history: StepMetrics
    """Loss and accuracy of every step's batch, float32 `[s t]`."""

    @property
    def diverged(self) -> dict[int, str]:
        """The seeds with a loss that is NaN or infinite, and at which step the first one is.

        The last update may have done it, which no loss shows: then one of the library's scores is NaN for
        all examples. Their scores are NaN from there on: leave them out of means, see `ScoreFile.from_seeds`.
        """
        last = f"all scores nan at step {self.history.loss.shape[1]:,}"
        return dict.fromkeys(_undefined(self.scores), last) | bad_losses(self.history.loss)


def score_ensemble(
    keys: PRNGKeys,
    model: Model,
    dataset: Dataset,
    *,
    config: TrainConfig,
    step: int | tuple[int, ...] | None = None,
    epoch: float | tuple[float, ...] | None = None,
    names: Sequence[str | Score] = ("el2n", "grand"),
    keep: Any = None,
    how: AnyHow = "auto",
    batch_size: BatchSize = "auto",
) -> EnsembleScores:
    """Trains one network for each key up to a step or epoch and scores every example with each.

    Initialisation, training, GraNd, EL2N and the fold of training dynamics of all seeds are one compiled
    program, except with `how="loop"`, where the seeds run one after the other through compiled steps. The
    result is that of one seed at a time. Average over the seed axis for the paper's scores.

    The dataset goes to the device, or to each device of the current mesh, once; the scores come back once,
    whole in every process.

    Args:
        keys: keys `[s]`, one for each seed; see `seed_keys`.
        model: what is trained.
        dataset: the full train split, with the labels to score by.
        config: the whole training, of which the first `step` updates are done.
        step: score after so many updates; 0 scores at initialisation. A tuple, ascending, scores at each of
            its steps in one pass through the training.
        epoch: the same in passes over the full dataset, in the place of `step`: 5 of 1078 examples in batches
            of 32 is step 165, whatever is kept (`epoch_to_step`, `steps_per_epoch`).
        names: names of registered scores (`SCORES.names()`), or `Score` objects of your own.
        keep: bool `[n]`, train on these only; all examples are scored, but scores of training dynamics are
            NaN elsewhere.
        how: see `over_seeds`.
        batch_size: examples per scoring chunk; "auto" bounds the memory of the intermediate arrays.

    Returns:
        Scores float32 `[s n]` by name, or `[p s n]` for a tuple of `p` steps; stacked variables at the last
        step; history `[s t]` up to it. Seeds that diverge train on to the end, and their scores are NaN: a
        warning says so, `.diverged` names them.

    Raises:
        InputError: an unknown score, both step and epoch or none, a step beyond the training, steps that do
            not ascend, a mask that does not fit, or "mesh" without a mesh.

    Paper: section 3; scores are means over 10 seeds.

    Example:
        >>> import diet_jax as dj
        >>> train = dj.load_dataset("digits").train
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> config = dj.TrainConfig(epochs=10, batch_size=32, augment="none")
        >>> result = dj.score_ensemble(dj.seed_keys(0, "score", 2), model, train, config=config, epoch=1)
        >>> result.scores["el2n"].shape
        (2, 1078)
    """
    scores = resolve_scores(names)
    check_key(keys, "keys", several=True)
    check_training(model, dataset)
    kept = check_keep(dataset, keep, config)
    keep = None if keep is None else checked_mask(keep, len(dataset))
    program = program_of(model, dataset, config, num_kept=len(kept), folds=all_folds(scores))
    steps = _asked_steps(step, epoch, dataset, program)
    chosen = resolve_how(how, model, dataset)
    program = dataclasses.replace(program, side_by_side=chosen == "vmap")
    sizes = score_batch_sizes(scores, model, dataset, batch_size)
    examples = put_examples(dataset)

    def one(key: PRNGKey) -> tuple[dict[str, np.ndarray], Variables, StepMetrics]:
        state, at_steps, parts = start(key, dataset, program=program), [], []
        for reached, part in train_between(state, examples, kept, steps, program=program):
            state = reached
            at_steps.append(
                score_state(state, model, dataset, scores=scores, batch_size=batch_size, keep=keep)
            )
            parts.append(part)
        joined = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
        return jax.tree.map(lambda *arrays: np.stack(arrays), *at_steps), fetch(state.variables), joined

    found, variables, history = run_seeds(
        score_program,
        keys,
        examples,
        kept,
        how=chosen,
        one=one,
        program=program,
        steps=steps,
        batch_sizes=sizes,
    )
    found, history = fetch((found, history))
    # In the order of `names`: a program returns dicts sorted.
    by_step = {score.name: np.swapaxes(found[score.name], 0, 1) for score in scores}
    if not isinstance(step, tuple) and not isinstance(epoch, tuple):
        by_step = {name: values[0] for name, values in by_step.items()}
    result = EnsembleScores(by_step, replicate(variables), history)
    so = "their scores are NaN from there on: result.diverged names them, leave them out of means"
    warn_of(result.diverged, history.loss, steps_per_epoch(len(dataset), config.batch_size), so)
    return result


def _undefined(scores: Mapping[str, np.ndarray]) -> list[int]:
    """The seeds that a trained network's score, one of the library's own, is NaN for all examples by."""
    seeds: set[int] = set()
    for name in {*scores} & {*SCORES.names()}:
        score, values = SCORES.find(name), scores[name]
        if score.of_examples and score.needs_training and is_of_package(score.build):
            last = values[-1] if values.ndim == 3 else values
            seeds.update(np.flatnonzero(np.isnan(last).all(axis=-1)).tolist())
    return sorted(seeds)


def all_folds(scores: Sequence[Score]) -> tuple[Any, ...]:
    """Returns the folds of a training that some scores need, beside the one that every training has."""
    return folds_of((FORGETTING, *scores))


def score_one_seed(
    key: PRNGKey,
    examples: Examples,
    kept: Int[AnyArray, "k"],
    *,
    program: Program,
    steps: tuple[int, ...],
    batch_sizes: tuple[tuple[Score, int], ...],
) -> tuple[dict[str, Array], Variables, StepMetrics]:
    """Initialises, trains and scores all examples at each step: the program that `score_ensemble` compiles.

    Training and scoring are compiled once, however many steps there are.

    Args:
        key: of the run.
        examples: all rows of the dataset, on the device.
        kept: int `[k]`, the rows to train on; all rows are scored.
        program: of the training.
        steps: score after so many updates, ascending.
        batch_sizes: pairs (score, examples per chunk).

    Returns:
        Scores float32 `[p n]` by name, the variables at the last of the `p` steps, the metrics of all steps.
    """
    state = init_state(key, examples.spec, len(examples.labels), program=program)
    counts = np.diff((0, *steps)).astype(np.int32)
    # The stretches between scorings differ in length: each is so many blocks of one length. So is an epoch
    # where folds measure at its end.
    epoch_steps = ends_of_epochs(program)
    block_length = int(np.gcd.reduce(np.append(counts, epoch_steps)))
    size = rows_per_step(program.config)
    rows = batch_rows(run_keys(key).order, kept, 0, num_steps=steps[-1], batch_size=size)
    keep = jnp.zeros(len(examples.labels), bool).at[kept].set(True)

    sizes = dict(batch_sizes)

    def scored(state: TrainState) -> dict[str, Array]:
        found = {}
        for each in passes_of(sizes, program.model):
            first, variables = each.scores[0], state.variables
            if first.measure is None:
                values = map_examples_of(each.fn, variables, examples, batch_size=sizes[first])
            else:
                values = score_of_all(first, program.model, variables, examples, batch_size=sizes[first])
            found |= {score.name: value for score, value in each.by_score(values)}
        for score in sizes:
            if score.name not in found:
                found[score.name] = score_from_state(score, state, len(keep), keep)
        return found

    def stretch(
        carry: tuple[TrainState, StepMetrics], bounds: tuple[Array, Array]
    ) -> tuple[tuple[TrainState, StepMetrics], dict[str, Array]]:
        first, num_blocks = bounds

        def block(index: Array, carry: tuple[TrainState, StepMetrics]) -> tuple[TrainState, StepMetrics]:
            (state, history), at = carry, first + index * block_length
            if program.draws_itself:
                state, new = pruned_steps(state, examples, kept, length=block_length, program=program)
            else:
                batches = jax.lax.dynamic_slice_in_dim(rows, at, block_length)
                state, new = train_steps(state, examples, batches, program=program)
            if epoch_steps:  # Known to all seeds alike: under `vmap` only one of the branches runs, too.
                measure = functools.partial(end_epoch, program=program)
                is_end = (at + block_length) % epoch_steps == 0
                state = jax.lax.cond(is_end, measure, lambda state, _: state, state, examples)
            history = jax.tree.map(
                lambda all_, part: jax.lax.dynamic_update_slice_in_dim(all_, part, at, 0), history, new
            )
            return state, history

        if steps[-1]:
            carry = jax.lax.fori_loop(0, 1 if (counts == block_length).all() else num_blocks, block, carry)
        state, history = carry
        return (state, history), scored(state)

    empty = StepMetrics(*(jnp.zeros(len(rows), jnp.float32) for _ in StepMetrics._fields))
    bounds = jnp.asarray((0, *steps[:-1]), jnp.int32), jnp.asarray(counts // max(1, block_length))
    (state, history), scores = jax.lax.scan(stretch, (state, empty), bounds)
    return scores, state.variables, history


def score_from_state(score: Score, state: TrainState, num_examples: int, keep: Any) -> Array:
    """Returns a score float32 `[n]` that needs no pass over the examples.

    Args:
        score: of training dynamics, or of nothing.
        state: of one seed.
        num_examples: rows of the dataset.
        keep: bool `[n]`, the rows that were trained on; None for all.
    """
    if score.fold is None:
        return checked_values(
            score.function()(run_keys(state.key).score, num_examples), num_examples, score.name
        )
    keep = jnp.ones(num_examples, bool) if keep is None else jnp.asarray(keep)
    values = score.function()(state.dynamics[score.fold.name], keep)
    # Nothing is known of examples that were not trained on, whatever a score says of them.
    return jnp.where(keep, checked_values(values, num_examples, score.name), jnp.nan)


def score_state(
    state: TrainState,
    model: Model,
    dataset: Dataset,
    *,
    scores: Sequence[Score],
    batch_size: BatchSize = "auto",
    keep: Any = None,
    shards: Path | None = None,
    deadline: Deadline = NEVER,
) -> dict[str, np.ndarray]:
    """Scores every example with one trained state, batch by batch.

    Args:
        state: of one seed, with the folds that the scores need.
        model: what was trained.
        dataset: the full train split.
        scores: which.
        batch_size: examples per batch.
        keep: bool `[n]`, the rows that were trained on; by default all.
        shards: folder of shard files, for datasets larger than memory: one pass for all scores, which goes on
            where it was stopped. Shards of another state of the same training are computed again.
        deadline: nothing is begun after it; a pass that has shards stops between two of them.

    Returns:
        float32 `[n]` by name.

    Raises:
        OutOfTime: the deadline has come.
    """
    on_examples = tuple(score for score in scores if score.on_batches(model) is not None)
    found = {}
    if shards is not None and on_examples:
        found = score_streamed(
            model,
            state.variables,
            dataset,
            names=on_examples,
            folder=shards,
            batch_size=batch_size,
            replace=True,
            deadline=deadline,
        )
    for each in passes_of(scores if shards is None else (), model):
        with deadline.whole(f"scoring by {each.name}"):
            values = map_dataset(each.fn, state.variables, dataset, batch_size=batch_size)
            for score, value in each.by_score(values):
                found[score.name] = finished(score, model, state.variables, dataset, value)
    for score in scores:
        if score.name not in found:
            found[score.name] = np.asarray(fetch(score_from_state(score, state, len(dataset), keep)))
    return {score.name: found[score.name] for score in scores}


def score_batch_sizes(
    scores: Sequence[Score], model: Model, dataset: Dataset, batch_size: BatchSize = "auto"
) -> tuple[tuple[Score, int], ...]:
    """Returns pairs (score, examples per chunk); "auto" bounds the memory of the intermediate arrays."""
    check_batch_size(batch_size)
    sizes = dict.fromkeys(scores, len(dataset))
    for each in passes_of(scores, model):
        size = model_batch_size(each.fn, model, dataset) if batch_size == "auto" else batch_size
        sizes |= dict.fromkeys(each.scores, size)
    return tuple(sizes.items())


def _asked_steps(step: Any, epoch: Any, dataset: Dataset, program: Program) -> tuple[int, ...]:
    if (step is None) == (epoch is None):
        raise InputError(f"give either step or epoch, got step={step} and epoch={epoch}")
    if epoch is None:
        return _checked_steps(step, program.num_steps)
    per_epoch = steps_per_epoch(len(dataset), program.config.batch_size)
    asked = epoch if isinstance(epoch, tuple) else (epoch,)
    if not all(isinstance(one, numbers.Real) and not isinstance(one, bool) for one in asked):
        raise InputError(f"epoch must be a number, or a tuple of them, got {epoch!r}")
    try:
        return _checked_steps(tuple(epoch_to_step(one, per_epoch) for one in asked), program.num_steps)
    except InputError as error:
        raise InputError(f"epoch={epoch}, of {per_epoch} steps each: {error}") from error


def _checked_steps(step: int | tuple[int, ...], num_steps: int) -> tuple[int, ...]:
    try:
        asked = tuple(
            check_count(one, "step", least=-math.inf, most=math.inf)
            for one in (step if isinstance(step, tuple) else (step,))
        )
    except InputError as error:
        raise InputError(f"step must be an integer, or a tuple of them, got {step!r}") from error
    steps = tuple(check_updates(one, num_steps, "step") for one in asked)
    if not steps or any(one >= other for one, other in itertools.pairwise(steps)):
        raise InputError(f"step must be a number, or several in ascending order; got {step}")
    return steps


@functools.partial(CompiledProgram, static=("steps", "batch_sizes", "how"))
def score_program(keys: Any, examples: Examples, kept: Any, *, how: How, **static: Any) -> Any:
    """`score_one_seed` for many seeds, compiled."""
    return over_seeds(functools.partial(score_one_seed, **static), how=how)(keys, examples, kept)
