"""Retraining an ensemble on what a selection keeps, and judging it on the test split."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from diet_jax.checks.arrays import plain_array
from diet_jax.checks.values import check_key
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.devices.deadline import NEVER, Deadline
from diet_jax.devices.defaults import How
from diet_jax.devices.mesh import fetch, replicate
from diet_jax.ensemble.over_seeds import AnyHow, count_seeds, over_seeds, resolve_how, run_seeds
from diet_jax.ensemble.shards import JUDGED, score_streamed
from diet_jax.errors import InputError, counted
from diet_jax.training.compiled import CompiledProgram
from diet_jax.training.divergence import bad_losses, warn_of
from diet_jax.training.dynamic_pruning.method import STATE
from diet_jax.training.loop import check_keep, check_training, program_of, put_examples, start, train_between
from diet_jax.training.passes import map_dataset, map_examples_of, model_batch_size
from diet_jax.training.recipe import TrainConfig, steps_per_epoch
from diet_jax.training.step import Program, StepMetrics, advance_in_one_program, init_state, predictions
from diet_jax.types import AnyArray, Array, Examples, Model, PRNGKey, PRNGKeys, Variables


class EnsembleTraining(NamedTuple):
    """What `train_ensemble` returns: arrays with a leading seed axis."""

    predicted: np.ndarray
    """int32 `[s m]`, the class that each final network gives each test example."""
    loss: np.ndarray
    """float32 `[s m]`, cross-entropy of each test example in nats."""
    variables: Variables
    """Stacked final variables."""
    history: StepMetrics
    """Loss and accuracy of every step's batch, float32 `[s t]`."""
    pruning: Any = None
    """What dynamic pruning remembers, stacked, see `share_left_out` and `last_subset`; None without any."""

    @property
    def diverged(self) -> dict[int, str]:
        """The seeds with a loss that is NaN or infinite, or NaN on the test split, and where.

        What they predict means nothing: leave them out of means.
        """
        counts = np.isnan(self.loss).sum(axis=1)
        at_end = {
            seed: f"loss nan for {counts[seed]:,} of {self.loss.shape[1]:,} test examples"
            for seed in np.flatnonzero(counts).tolist()
        }
        return at_end | bad_losses(self.history.loss)


def train_ensemble(
    keys: PRNGKeys,
    model: Model,
    dataset: Dataset,
    test: Dataset,
    *,
    config: TrainConfig,
    keep: Any = None,
    how: AnyHow = "auto",
) -> EnsembleTraining:
    """Trains one network for each key from scratch and judges each on the test split at its last step.

    Args:
        keys: keys `[s]`, disjoint from the scoring keys; see `seed_keys`.
        model: what is trained.
        dataset: the full train split.
        test: the split to judge on.
        config: the training; see `TrainConfig.budget` for the steps of pruned ones.
        keep: bool `[n]` for all seeds or `[s n]` for each its own, all keeping equally many; by default
            everything.
        how: see `over_seeds`.

    Returns:
        Predicted classes and losses `[s m]` on the test split, stacked variables, history `[s t]`, and what
        dynamic pruning remembers. Seeds that diverge train on to the end, their losses are NaN and their
        classes mean nothing: a warning says so, `.diverged` names them.

    Raises:
        InputError: a mask that does not fit, masks that keep different numbers, or a test split that is
            normalised in another way than the train split.

    Paper: section 3; the final accuracy, not the best one.

    Example:
        >>> import diet_jax as dj
        >>> train, test = dj.load_dataset("digits")
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> config = dj.TrainConfig(epochs=5, batch_size=32, augment="none")
        >>> result = dj.train_ensemble(dj.seed_keys(0, "retrain", 2), model, train, test, config=config)
        >>> bool((result.predicted == test.labels).mean() > 0.8)
        True
    """
    check_key(keys, "keys", several=True)
    check_training(model, dataset)
    check_dataset(test, "test")
    if test.normalization != dataset.normalization:
        raise InputError(
            f"test and dataset are normalised differently: {_difference(test, dataset)}; build the test "
            f"split with normalization=train.normalization"
        )
    masks = _mask_per_seed(keep, count_seeds(keys), len(dataset))
    kept = [check_keep(dataset, mask, config) for mask in masks]
    if len({len(rows) for rows in kept}) > 1:
        raise InputError(
            f"every seed's keep mask must keep equally many examples, got {[len(r) for r in kept]}"
        )
    program = program_of(model, dataset, config, num_kept=len(kept[0]))
    chosen = resolve_how(how, model, dataset)
    program = dataclasses.replace(program, side_by_side=chosen == "vmap")
    size = model_batch_size(prediction_function(model), model, test)
    examples = put_examples(dataset)

    def one(seeded: tuple[PRNGKey, np.ndarray]) -> tuple[np.ndarray, np.ndarray, Variables, StepMetrics, Any]:
        key, rows = seeded
        state = start(key, dataset, program=program)
        state, history = next(train_between(state, examples, rows, [program.num_steps], program=program))
        own = fetch(state.dynamics.get(STATE))
        return (*predict_dataset(model, state.variables, test), fetch(state.variables), history, own)

    predicted, loss, variables, history, own = run_seeds(
        train_program,
        (keys, np.stack(kept)),
        examples,
        put_examples(test) if chosen != "loop" else None,
        how=chosen,
        one=one,
        program=program,
        batch_size=size,
    )
    predicted, loss, history, own = fetch((predicted, loss, history, own))
    result = EnsembleTraining(predicted, loss, replicate(variables), history, own)
    so = "what they predict means nothing: result.diverged names them, leave them out of means"
    warn_of(result.diverged, history.loss, steps_per_epoch(len(kept[0]), config.batch_size), so)
    return result


def train_one_seed(
    seeded: tuple[PRNGKey, Int[AnyArray, "k"]],
    examples: Examples,
    test: Examples,
    *,
    program: Program,
    batch_size: int,
) -> tuple[Array, Array, Variables, StepMetrics, Any]:
    """Trains one network on its kept rows and predicts the test split: what `train_ensemble` compiles."""
    key, kept = seeded
    state = init_state(key, examples.spec, len(examples.labels), program=program)
    state, history = advance_in_one_program(
        state, examples, kept, num_updates=program.num_steps, program=program
    )
    fn = prediction_function(program.model)
    predicted, loss = map_examples_of(fn, state.variables, test, batch_size=batch_size)
    return predicted, loss, state.variables, history, state.dynamics.get(STATE)


def predict_dataset(
    model: Model,
    variables: Variables,
    dataset: Dataset,
    *,
    shards: Path | None = None,
    deadline: Deadline = NEVER,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the predicted class int32 `[n]` and the loss float32 `[n]` of every example, in eval mode.

    Args:
        model: what was trained.
        variables: of one network.
        dataset: any split.
        shards: folder of shard files, for datasets larger than memory; see `score_state`.
        deadline: as of `score_state`.
    """
    if shards is None:
        with deadline.whole(f"predicting {len(dataset)}"):
            return map_dataset(prediction_function(model), variables, dataset)
    found = score_streamed(
        model, variables, dataset, names=JUDGED, folder=shards, replace=True, deadline=deadline
    )
    return found["predicted"], found["loss"]


@functools.lru_cache(maxsize=64)
def prediction_function(model: Model) -> Callable[..., Any]:
    """Returns `(variables, inputs, labels) -> (predicted, loss)`; the same object for the same model."""
    return functools.partial(predictions, model.predict)


@functools.partial(CompiledProgram, static=("batch_size", "how"))
def train_program(seeded: Any, examples: Examples, test: Examples, *, how: How, **static: Any) -> Any:
    """`train_one_seed` for many seeds, compiled."""
    return over_seeds(functools.partial(train_one_seed, **static), how=how)(seeded, examples, test)


def _difference(test: Dataset, dataset: Dataset) -> str:
    """Says where the normalisation of two datasets differs first."""
    name = "mean" if test.normalization.mean != dataset.normalization.mean else "std"
    ours, theirs = (getattr(split.normalization, name) for split in (test, dataset))
    if len(ours) != len(theirs):
        return f"test has {counted(len(ours), name)}, dataset {len(theirs)}"
    differ = [place for place, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    return (
        f"{len(differ)} of {counted(len(ours), name)} differ, the first is {ours[differ[0]]:.6g} of test and "
        f"{theirs[differ[0]]:.6g} of dataset"
    )


def _mask_per_seed(keep: Any, num_seeds: int, num_examples: int) -> np.ndarray:
    masks = np.ones(num_examples, bool) if keep is None else plain_array(keep, "keep")
    if masks.ndim == 1:
        masks = np.broadcast_to(masks, (num_seeds, *masks.shape))
    if masks.shape != (num_seeds, num_examples):
        raise InputError(
            f"keep must have shape ({num_examples},) or ({num_seeds}, {num_examples}), one entry per example "
            f"(and seed), got {masks.shape}"
        )
    return masks
