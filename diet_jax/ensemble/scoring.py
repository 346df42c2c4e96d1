"""Scoring an ensemble: initialise, train to a step and score every example, for every seed."""

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Key

from diet_jax.data.dataset import Dataset
from diet_jax.devices.defaults import How
from diet_jax.devices.free_memory import memory_to_plan_with
from diet_jax.devices.memory import run_seeds
from diet_jax.devices.mesh import SEED, axis_size, fetch, replicate
from diet_jax.ensemble.over_seeds import AnyHow, count_seeds, over_seeds, resolve_how
from diet_jax.ensemble.passes import BatchSize, map_dataset, map_examples_of, model_batch_size
from diet_jax.errors import InputError
from diet_jax.scores.dynamics import forgetting_scores
from diet_jax.scores.gradients import grand, grand_last_layer
from diet_jax.scores.logits import el2n
from diet_jax.training.loop import (
    check_classes,
    check_keep,
    check_updates,
    put_examples,
    start,
    train_between,
)
from diet_jax.training.recipe import TrainConfig, total_steps
from diet_jax.training.step import StepMetrics, TrainState, batch_rows, init_state, run_keys, train_steps
from diet_jax.types import AnyArray, Array, Examples, Model, PRNGKey, ScoreFn, Variables

ScoreName = Literal["el2n", "grand", "grand_last_layer", "forgetting"]
SCORE_NAMES: tuple[ScoreName, ...] = ("el2n", "grand", "grand_last_layer", "forgetting")


class EnsembleScores(NamedTuple):
    """What `score_ensemble` returns: arrays with a leading seed axis."""

    scores: dict[str, np.ndarray]
    """float32 `[s n]` by score name, or `[p s n]` for a tuple of `p` steps; high means hard."""
    variables: Variables
    """Stacked variables at the (last) scoring step."""
    history: StepMetrics
    """Loss and accuracy of every step's batch, float32 `[s t]`."""


@functools.lru_cache(maxsize=64)
def score_function(name: str, model: Model) -> ScoreFn:
    """Returns `(variables, images, labels) -> float32 [b]` for a score that a model's variables define.

    The same object for the same name and model, so that compiled programs are found again.
    """
    if name == "el2n":
        return functools.partial(el2n, model.predict)
    if name == "grand":
        return functools.partial(grand, model.predict)
    if name == "grand_last_layer":
        features = getattr(model, "features", None)
        if features is None:
            raise InputError("grand_last_layer needs a model with `features`; see from_linen")
        return functools.partial(grand_last_layer, features)
    raise InputError(f"score names are {', '.join(SCORE_NAMES)}; got {name!r}")


def score_one_seed(
    key: PRNGKey,
    examples: Examples,
    kept: Int[AnyArray, "k"],
    *,
    model: Model,
    config: TrainConfig,
    num_steps: int,
    steps: tuple[int, ...],
    batch_sizes: tuple[tuple[str, int], ...],
    never_learned: float,
) -> tuple[dict[str, Array], Variables, StepMetrics]:
    """Initialises, trains and scores all examples at each step: the program that `score_ensemble` compiles.

    Training and scoring are compiled once, however many steps there are.

    Args:
        key: of the run.
        examples: all rows of the dataset, on the device.
        kept: int `[k]`, the rows to train on; all rows are scored.
        model: what is trained.
        config: how.
        num_steps: length of the whole training, which the schedule needs.
        steps: score after so many updates, ascending.
        batch_sizes: pairs (score name, examples per chunk).
        never_learned: forgetting score of rows that were never correct.

    Returns:
        Scores float32 `[p n]` by name, the variables at the last of the `p` steps, the metrics of all steps.
    """
    static: Any = {"model": model, "config": config, "num_steps": num_steps}
    state = init_state(key, examples.image_shape, len(examples.labels), **static)
    counts = np.diff((0, *steps)).astype(np.int32)
    longest = int(counts.max())
    # Every stretch of training has the rows of the longest one, and does as many updates as it should.
    rows = batch_rows(
        run_keys(key).order, kept, 0, num_steps=steps[-1] + longest, batch_size=config.batch_size
    )

    def stretch(
        carry: tuple[TrainState, StepMetrics], bounds: tuple[Array, Array]
    ) -> tuple[tuple[TrainState, StepMetrics], dict[str, Array]]:
        (state, history), (first, count) = carry, bounds
        batches = jax.lax.dynamic_slice_in_dim(rows, first, longest)
        state, new = train_steps(state, examples, batches, count, **static)
        # What a stretch leaves empty, the next one fills.
        history = jax.tree.map(
            lambda all_, part: jax.lax.dynamic_update_slice_in_dim(all_, part, first, 0), history, new
        )
        scores = _scores_inside(
            state, examples, kept, model=model, batch_sizes=batch_sizes, never_learned=never_learned
        )
        return (state, history), scores

    empty = StepMetrics(*(jnp.zeros(len(rows), jnp.float32) for _ in StepMetrics._fields))
    bounds = jnp.asarray((0, *steps[:-1]), jnp.int32), jnp.asarray(counts)
    (state, history), scores = jax.lax.scan(stretch, (state, empty), bounds)
    return scores, state.variables, jax.tree.map(lambda values: values[: steps[-1]], history)


def _scores_inside(
    state: TrainState,
    examples: Examples,
    kept: Int[AnyArray, "k"],
    *,
    model: Model,
    batch_sizes: tuple[tuple[str, int], ...],
    never_learned: float,
) -> dict[str, Array]:
    """`score_state` inside a program."""
    scores = {}
    for name, batch_size in batch_sizes:
        if name == "forgetting":
            keep = jnp.zeros(len(examples.labels), bool).at[kept].set(True)
            scores[name] = forgetting_scores(state.forgetting, never_learned=never_learned, keep=keep)
        else:
            score_fn = score_function(name, model)
            scores[name] = map_examples_of(score_fn, state.variables, examples, batch_size=batch_size)
    return scores


def score_batch_sizes(
    names: Sequence[str],
    model: Model,
    dataset: Dataset,
    batch_size: BatchSize = "auto",
    *,
    at_once: int = 1,
) -> tuple[tuple[str, int], ...]:
    """Returns pairs (score name, examples per chunk); "auto" bounds the memory of `at_once` networks."""
    if batch_size != "auto" and batch_size < 1:
        raise InputError(f"batch_size must be at least 1 or 'auto', got {batch_size}")

    def size(name: str) -> int:
        if name == "forgetting":
            return len(dataset)
        score_fn = score_function(name, model)
        if batch_size != "auto":
            return batch_size
        return model_batch_size(score_fn, model, dataset, at_once=at_once)

    return tuple((name, size(name)) for name in names)


def score_ensemble(
    keys: Key[Array, "s"],
    model: Model,
    dataset: Dataset,
    *,
    config: TrainConfig,
    step: int | tuple[int, ...],
    names: tuple[ScoreName, ...] = ("el2n", "grand"),
    keep: Any = None,
    how: AnyHow = "auto",
    batch_size: BatchSize = "auto",
    never_learned: float = float("inf"),
) -> EnsembleScores:
    """Trains one network for each key up to `step` and scores every example with each.

    Initialisation, training, GraNd, EL2N and the forgetting fold of all seeds are one compiled program,
    except with `how="loop"`, where the seeds run one after the other through compiled steps. The result
    is that of one seed at a time. Average over the seed axis for the paper's scores.

    The dataset goes to the device, or to each device of the current mesh, once; the scores come back once,
    whole in every process.

    Args:
        keys: typed keys `[s]`, one for each seed; see `seed_keys`.
        model: what is trained.
        dataset: the full train split, with the labels to score by.
        config: the whole training, of which the first `step` updates are done.
        step: score after so many updates; 0 scores at initialisation. A tuple, ascending, scores at each of
            its steps in one pass through the training.
        names: of "el2n", "grand", "grand_last_layer" and "forgetting".
        keep: bool `[n]`, train on these only; all examples are scored, but forgetting is NaN elsewhere.
        how: see `over_seeds`.
        batch_size: examples per scoring chunk; "auto" bounds the memory of the intermediate arrays.
        never_learned: forgetting score of examples that were never correct.

    Returns:
        Scores float32 `[s n]` by name, or `[p s n]` for a tuple of `p` steps; stacked variables at the last
        step; history `[s t]` up to it.

    Raises:
        InputError: an unknown score, a step beyond the training, steps that do not ascend, a mask that does
            not fit, or "mesh" without a mesh.

    Paper: section 3; scores are means over 10 seeds.

    Example:
        >>> import diet_jax as dj
        >>> train = dj.load_dataset("digits").train
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> config = dj.TrainConfig(epochs=10, batch_size=32, augment="none")
        >>> result = dj.score_ensemble(dj.seed_keys(0, "score", 2), model, train, config=config, step=33)
        >>> result.scores["el2n"].shape
        (2, 1078)
    """
    num_seeds = count_seeds(keys)
    check_classes(model, dataset.image_shape, dataset.num_classes)
    keep = None if keep is None else np.asarray(keep)
    kept = check_keep(dataset, keep, config)
    num_steps = total_steps(config, len(dataset), len(kept))
    steps = _checked_steps(step, num_steps)
    chosen = resolve_how(how, model, dataset)
    # Seeds that one device runs side by side share its memory.
    at_once = num_seeds if chosen == "vmap" else 1
    if chosen == "mesh" and jax.default_backend() != "cpu":
        at_once = math.ceil(num_seeds / axis_size(SEED))
    sizes = score_batch_sizes(names, model, dataset, batch_size, at_once=at_once)
    static: Any = {"model": model, "config": config, "num_steps": num_steps}
    if chosen == "loop":
        examples, results = put_examples(dataset), []
        for key in keys:
            state = start(key, model, dataset, config=config, num_steps=num_steps)
            at_steps, parts = [], []
            for reached, part in train_between(state, examples, kept, steps, **static):
                scored = score_state(
                    reached,
                    model,
                    dataset,
                    names=names,
                    batch_size=batch_size,
                    keep=keep,
                    never_learned=never_learned,
                )
                at_steps.append(scored)
                parts.append(part)
                variables = reached.variables
            history = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
            scores = jax.tree.map(lambda *arrays: np.stack(arrays), *at_steps)
            results.append((scores, fetch(variables), history))
        scores, variables, history = jax.tree.map(lambda *leaves: np.stack(leaves), *results)
        variables = replicate(variables)
    else:
        scores, variables, history = run_seeds(
            _score_program,
            *replicate((keys, put_examples(dataset), kept)),
            limit=memory_to_plan_with(),
            **static,
            batch_sizes=sizes,
            never_learned=never_learned,
            steps=steps,
            how=chosen,
        )
        scores, history = fetch((scores, history))
    # In the order of `names`: a program returns dicts sorted.
    by_step = {name: np.swapaxes(scores[name], 0, 1) for name in names}
    if not isinstance(step, tuple):
        by_step = {name: values[0] for name, values in by_step.items()}
    return EnsembleScores(by_step, variables, history)


def _checked_steps(step: int | tuple[int, ...], num_steps: int) -> tuple[int, ...]:
    try:
        asked = tuple(map(operator.index, step if isinstance(step, tuple) else (step,)))
    except TypeError as error:
        raise InputError(f"step must be an integer, or a tuple of them, got {step!r}") from error
    steps = tuple(check_updates(one, num_steps) for one in asked)
    if not steps or any(one >= other for one, other in itertools.pairwise(steps)):
        raise InputError(f"step must be a number, or several in ascending order; got {step}")
    return steps


def score_state(
    state: TrainState,
    model: Model,
    dataset: Dataset,
    *,
    names: Sequence[str],
    batch_size: BatchSize,
    keep: Any,
    never_learned: float,
) -> dict[str, np.ndarray]:
    """Scores every example with one trained state, chunk by chunk; forgetting is read off the state."""
    scores = {}
    for name in names:
        if name == "forgetting":
            values = forgetting_scores(state.forgetting, never_learned=never_learned, keep=keep)
            scores[name] = np.asarray(values)
        else:
            score_fn = score_function(name, model)
            scores[name] = map_dataset(score_fn, state.variables, dataset, batch_size=batch_size)
    return scores


@functools.partial(
    jax.jit,
    static_argnames=("model", "config", "num_steps", "steps", "batch_sizes", "never_learned", "how"),
)
def _score_program(keys: Any, examples: Examples, kept: Any, *, how: How, **static: Any) -> Any:
    return over_seeds(functools.partial(score_one_seed, **static), how=how)(keys, examples, kept)
