"""The host loop of training: compiled calls over many steps, one program however often called."""

import functools
import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from diet_jax.checks.calls import calling
from diet_jax.checks.rows import checked_mask
from diet_jax.checks.values import check_count, check_key, check_type
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.devices.defaults import default_steps_per_call, training_has_convolution
from diet_jax.devices.mesh import copied, fetch, replicate
from diet_jax.errors import InputError, counted
from diet_jax.models.adapters import check_model
from diet_jax.scores.dynamics import FORGETTING_FOLD
from diet_jax.scores.score import Fold
from diet_jax.selection.masks import kept_indices
from diet_jax.training.compiled import CompiledProgram
from diet_jax.training.divergence import Divergence, first_bad
from diet_jax.training.dynamic_pruning.methods import check_candidates, rows_per_step
from diet_jax.training.epoch_ends import end_epoch, ends_epoch, with_ends_of_epochs
from diet_jax.training.recipe import TrainConfig, check_augment, steps_per_epoch, total_steps
from diet_jax.training.step import (
    Program,
    StepMetrics,
    TrainState,
    advance_in_one_program,
    batch_rows,
    init_state,
    pruned_steps,
    run_keys,
    train_step,
    train_steps,
)
from diet_jax.types import Examples, Mask, Model, PRNGKey, Rows, init_variables, params_of

# Where a call does one step, the batches are still drawn for many steps at once: sorting is not free.
ROWS_PER_CALL = 500
# What the parts of a state belong to.
_WHOSE = {"variables": "model", "opt_state": "optimizer (config.optimizer)", "dynamics": "dataset"}

_init = CompiledProgram(init_state, static=("spec", "num_examples"))
_rows = jax.jit(batch_rows, static_argnames=("num_steps", "batch_size"))
one_step = CompiledProgram(train_step, donate="state")
_end_epoch = CompiledProgram(end_epoch, donate="state")
many_steps = CompiledProgram(train_steps, static=("length",), donate="state")
_pruned_steps = CompiledProgram(pruned_steps, static=("length",), donate="state")


def check_keep(dataset: Dataset, keep: Mask | None, config: TrainConfig) -> np.ndarray:
    """Returns the rows to train on after checking that a training on them makes sense.

    Args:
        dataset: the full train split.
        keep: bool `[n]`, True = train on it; None keeps everything.
        config: for its batch size.

    Returns:
        int32 `[k]`, ascending.

    Raises:
        InputError: the mask has the wrong length or dtype, or keeps fewer examples than a batch. A class
            without examples is none: the network has its logit, which is never the label.
    """
    check_dataset(dataset)
    check_type(config, "config", TrainConfig, "a dj.TrainConfig")
    check_augment(config, dataset.kind)
    count = len(dataset)
    mask = np.ones(count, bool) if keep is None else checked_mask(keep, count, of=dataset.name)
    rows = kept_indices(mask, int(np.count_nonzero(mask)))
    steps_per_epoch(len(rows), config.batch_size)
    check_candidates(config, len(rows))
    return rows


def check_training(model: Model, dataset: Dataset) -> None:
    """Raises InputError unless it is a dataset, and a model with a logit for each of its classes."""
    check_dataset(dataset)
    check_classes(model, dataset.spec, dataset.num_classes)


def check_classes(model: Model, spec: jax.ShapeDtypeStruct, num_classes: int) -> None:
    """Raises InputError unless it is a model with a logit for each class of a dataset; nothing is run."""
    check_model(model)
    _check_logits(model, spec, num_classes)


@functools.lru_cache(maxsize=64)
def _check_logits(model: Model, spec: jax.ShapeDtypeStruct, num_classes: int) -> None:
    with calling("the model"):
        variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0), spec))
        logits = jax.eval_shape(model.predict, variables, jax.ShapeDtypeStruct((1, *spec.shape), spec.dtype))
    if logits.shape[-1] < num_classes:
        raise InputError(
            f"the model has {counted(logits.shape[-1], 'logit')} but the dataset "
            f"{counted(num_classes, 'class')}; "
            f"give it at least {num_classes} outputs"
        )


def check_optimizer(program: Program, spec: jax.ShapeDtypeStruct) -> None:
    """Raises InputError unless the optimiser's update fits the model's parameters; nothing is run."""

    def update(params: Any) -> Any:
        state = program.optimizer.init(params)
        about = {"value": jnp.float32(0), "grad": params, "value_fn": lambda params: jnp.float32(0)}
        updates, new = program.optimizer.update(params, state, params, **about)
        return params, updates, state, new

    params = jax.eval_shape(lambda: init_variables(program.model, jax.random.key(0), spec)).params
    try:
        before, updates, state, new = jax.eval_shape(update, params)
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"optimizer: its update fails ({type(error).__name__}: {reason}); expected a transformation of "
            f"gradients that needs no more than them, the parameters and the loss"
        ) from error
    for what, old, now in (("updates", before, updates), ("state", state, new)):
        shapes = [
            (jax.tree.structure(tree), [leaf.shape for leaf in jax.tree.leaves(tree)]) for tree in (old, now)
        ]
        if shapes[0] != shapes[1]:
            raise InputError(f"optimizer: its {what} after an update do not have the shapes of before")


def program_of(
    model: Model,
    dataset: Dataset,
    config: TrainConfig,
    *,
    num_kept: int | None = None,
    folds: tuple[Fold, ...] = (FORGETTING_FOLD,),
) -> Program:
    """Returns the program of a training on `num_kept` examples of a dataset, by default all."""
    measures = any(fold.measure is not None for fold in folds)
    kept = len(dataset) if num_kept is None else num_kept
    # Else trainings on other numbers of examples would be other programs.
    epoch_steps = steps_per_epoch(kept, rows_per_step(config)) if measures else None
    num_steps = total_steps(config, len(dataset), num_kept)
    return Program(model, config, num_steps, folds, epoch_steps=epoch_steps)


def start(key: PRNGKey, dataset: Dataset, *, program: Program) -> TrainState:
    """Returns the state at step 0, compiled; the state owns its buffers, the key stays the caller's."""
    key_data = jnp.array(jax.random.key_data(key), copy=True)
    own_key = replicate(jax.random.wrap_key_data(key_data, impl=jax.random.key_impl(key)))
    return _init(own_key, dataset.spec, len(dataset), program=program)


def put_examples(dataset: Dataset) -> Examples:
    """Returns a dataset's arrays on the default device, or whole on each device of the current mesh."""
    mean, std = (np.asarray(values, np.float32) for values in dataset.normalization)
    # Images on disk have no array, and say so here.
    return Examples(*replicate((np.asarray(dataset.inputs), dataset.labels, mean, std)))


def train_between(
    state: TrainState,
    examples: Examples,
    kept: Rows,
    stops: Iterable[int],
    *,
    program: Program,
) -> Iterator[tuple[TrainState, StepMetrics]]:
    """Trains on from a state and yields at each stop.

    The state given, and each state yielded, is used up by the next step: copy what must outlive it.
    Where the calls are cut makes no difference to the numbers.

    Args:
        state: where to go on from.
        examples: all rows of the dataset, on the device.
        kept: int `[k]`, the rows to train on.
        stops: steps to yield at, ascending, none before the state's own step; asked for one by one.
        program: of the training; `config.steps_per_call` updates run in one compiled call.

    Yields:
        The state at each stop, and the metrics of the steps since the last one.
    """
    config, num_steps = program.config, program.num_steps
    per_call = steps_per_call(program, examples.spec)
    order_key, kept = run_keys(state.key).order, jnp.asarray(kept)
    examples = replicate(examples)
    step = int(state.step)
    for stop in stops:
        if not step <= stop <= num_steps:
            raise InputError(f"stops must ascend from step {step} to at most {num_steps}, got {stop}")
        metrics: list[StepMetrics] = []
        drawn = per_call if per_call > 1 or program.draws_itself else ROWS_PER_CALL
        for end in with_ends_of_epochs(program, step, stop):
            for count in call_lengths(end - step, drawn):
                if program.draws_itself:
                    state, new = _pruned_steps(state, examples, kept, length=count, program=program)
                    metrics.append(new)
                    step += count
                    continue
                rows = _rows(order_key, kept, step, num_steps=drawn, batch_size=rows_per_step(config))
                if per_call > 1:
                    state, new = many_steps(state, examples, rows, length=count, program=program)
                    metrics.append(new)
                else:
                    for batch in fetch(rows)[:count]:
                        state, new = one_step(state, examples, batch, program=program)
                        metrics.append(new)
                step += count
            if ends_epoch(program, step):
                state = _end_epoch(state, examples, program=program)
        yield state, _joined(metrics)


def train(
    key: PRNGKey,
    model: Model,
    dataset: Dataset,
    *,
    keep: Mask | None = None,
    config: TrainConfig,
    num_updates: int | None = None,
) -> tuple[TrainState, StepMetrics]:
    """Trains one network from scratch and returns its final state and history.

    One key drives three independent streams: initialisation, data order, augmentation (`run_keys`). Called
    with a concrete key it runs compiled calls of `config.steps_per_call` steps; under `jit`, `vmap` or
    `over_seeds` all steps become one loop in the caller's program. On a mesh (`make_mesh`) the devices share
    each batch; BatchNorm uses the statistics of the whole batch.

    Args:
        key: of the run.
        model: what is trained.
        dataset: the full train split.
        keep: bool `[n]`, True = train on it; by default everything.
        config: how. A pruned training does as many steps as a full one unless `config.budget` says
            otherwise.
        num_updates: stop early, after so many updates of the schedule; by default at its end.

    Returns:
        The state, and the loss and accuracy of each step's batch before its update, float32 `[t]`. A training
        that diverges is warned of.

    Raises:
        InputError: the mask has the wrong length or keeps fewer examples than a batch, or
            `num_updates` is beyond the schedule.

    Paper: section 3 and appendix B.

    Example:
        >>> import jax, diet_jax as dj
        >>> train = dj.load_dataset("digits").train
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> config = dj.TrainConfig(epochs=1, batch_size=32, augment="none")
        >>> state, history = dj.train(jax.random.key(0), model, train, config=config)
        >>> int(state.step), history.loss.shape
        (33, (33,))
    """
    check_key(key)
    check_training(model, dataset)
    kept = check_keep(dataset, keep, config)
    program = program_of(model, dataset, config, num_kept=len(kept))
    stop = check_updates(num_updates, program.num_steps)
    if isinstance(key, Tracer):
        state = init_state(key, dataset.spec, len(dataset), program=program)
        return advance_in_one_program(state, dataset.examples(), kept, num_updates=stop, program=program)
    state = start(key, dataset, program=program)
    return _warned(
        *next(train_between(state, put_examples(dataset), kept, [stop], program=program)), program, len(kept)
    )


def train_from(
    state: TrainState,
    model: Model,
    dataset: Dataset,
    *,
    keep: Mask | None = None,
    config: TrainConfig,
    num_updates: int | None = None,
) -> tuple[TrainState, StepMetrics]:
    """Trains on from a state, such as a spawned child's, and leaves that state as it is.

    Where the training was cut makes no difference: to the same key, model, data and config belong the same
    numbers.

    Args:
        state: of `train`, `train_from` or `spawn`.
        model: what is trained.
        dataset: the full train split.
        keep: bool `[n]`, train on these only; by default everything.
        config: the whole training, whose schedule goes on at the state's step.
        num_updates: stop at this step, counted from the beginning of the training; by default at its end.

    Returns:
        The state, and loss and accuracy of the steps done now, float32 `[t]`.

    Raises:
        InputError: a mask that does not fit, or a stop before the state's own step.

    Example:
        >>> import jax, diet_jax as dj
        >>> train = dj.load_dataset("digits").train
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> config = dj.TrainConfig(epochs=1, batch_size=32, augment="none")
        >>> parent, _ = dj.train(jax.random.key(0), model, train, config=config, num_updates=10)
        >>> child, history = dj.train_from(dj.spawn(parent, jax.random.key(1)), model, train, config=config)
        >>> int(child.step), history.loss.shape
        (33, (23,))
    """
    check_type(state, "state", TrainState, "a TrainState, of train or spawn")
    check_training(model, dataset)
    kept = check_keep(dataset, keep, config)
    program = program_of(model, dataset, config, num_kept=len(kept))
    stop = check_updates(num_updates, program.num_steps)
    _check_state(state, dataset, program)
    # Training uses up the buffers of the state that it goes on from.
    own = replicate(copied(state))
    return _warned(
        *next(train_between(own, put_examples(dataset), kept, [stop], program=program)), program, len(kept)
    )


def _check_state(state: TrainState, dataset: Dataset, program: Program) -> None:
    """Raises InputError unless a state is one of this training; nothing is run."""
    made = functools.partial(init_state, spec=dataset.spec, num_examples=len(dataset), program=program)
    like = jax.eval_shape(made, state.key)
    for name, whose in _WHOSE.items():
        shapes = [
            jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), getattr(of, name))
            for of in (state, like)
        ]
        if shapes[0] != shapes[1]:
            raise InputError(f"state is of another {whose}: its {name} have other names, shapes or dtypes")


def _warned(
    state: TrainState, history: StepMetrics, program: Program, num_kept: int
) -> tuple[TrainState, StepMetrics]:
    """Warns where the training diverged; returns the first two as they are."""
    step, what, first = int(state.step), "", first_bad(history.loss)
    if first is not None:
        step, what = step - len(history.loss) + first + 1, f"loss {history.loss[first]}"
    elif not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fetch(params_of(state.variables)))):
        # By the last update, which no loss shows.
        what = "parameters not finite"
    if what:
        where = Divergence(step, step / steps_per_epoch(num_kept, program.config.batch_size), what)
        warnings.warn(f"the training diverged: {where}; lower the learning rate", stacklevel=3)
    return state, history


def steps_per_call(program: Program, spec: jax.ShapeDtypeStruct) -> int:
    """Returns how many updates one compiled call does: as configured, or the backend's default."""
    # What is configured comes first: a linearised model cannot be asked for its convolutions.
    return program.config.steps_per_call or default_steps_per_call(
        training_has_convolution(program.model, spec)
    )


def check_updates(num_updates: int | None, num_steps: int, name: str = "num_updates") -> int:
    """Returns the step to stop at: the end of the schedule unless the argument names an earlier one."""
    if num_updates is None:
        return num_steps
    if not 0 <= check_count(num_updates, name, least=-math.inf, most=math.inf) <= num_steps:
        raise InputError(
            f"{name} must lie between 0 and the {num_steps} steps of the training, got {num_updates}"
        )
    return num_updates


def call_lengths(num_updates: int, most: int) -> list[int]:
    """Returns how many updates each compiled call does: equally many if that makes few more calls.

    Every length is compiled for itself.

    Example:
        >>> call_lengths(390, 100), call_lengths(33, 100), call_lengths(227, 100)
        ([78, 78, 78, 78, 78], [33], [100, 100, 27])
    """
    length = next(d for d in range(max(1, min(num_updates, most)), 0, -1) if num_updates % d == 0)
    if 2 * length > min(num_updates, most):
        return [length] * (num_updates // length)
    left = num_updates % most
    return [most] * (num_updates // most) + ([left] if left else [])


def _joined(metrics: list[StepMetrics]) -> StepMetrics:
    if not metrics:
        return StepMetrics(np.zeros(0, np.float32), np.zeros(0, np.float32))  # type: ignore[arg-type]
    parts = [jax.tree.map(np.atleast_1d, fetch(m)) for m in metrics]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
