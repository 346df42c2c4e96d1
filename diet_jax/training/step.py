"""Training one network as pure functions of its state; `train` in loop.py calls them."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Int

from diet_jax.devices.mesh import hold_whole, split_batch, split_params
from diet_jax.devices.vmap_rules import value_and_grad
from diet_jax.errors import InputError
from diet_jax.per_example.losses import cross_entropy, predicted_classes
from diet_jax.scores.dynamics import FORGETTING_FOLD
from diet_jax.scores.score import Fold, takes
from diet_jax.training.dynamic_pruning.method import STATE, DynamicPruning, OrderingPruning
from diet_jax.training.dynamic_pruning.methods import make_method, rows_per_step
from diet_jax.training.optimizers import has_own_rate
from diet_jax.training.recipe import TrainConfig, make_optimizer, prepare_batch, steps_per_epoch
from diet_jax.types import (
    THREEFRY,
    Array,
    Examples,
    Inputs,
    Labels,
    Model,
    PredictFn,
    PRNGKey,
    Rows,
    ScoreArray,
    Variables,
    apply_in_training,
    init_variables,
)


@dataclass(frozen=True)
class Program:
    """What the compiled programs of a training depend on beside their arrays: their one static argument."""

    model: Model
    """What is trained."""
    config: TrainConfig
    """How."""
    num_steps: int
    """Length of the whole training, which the learning-rate schedule needs."""
    folds: tuple[Fold, ...] = (FORGETTING_FOLD,)
    """What is remembered of every example for scores of training dynamics."""
    side_by_side: bool = False
    """Whether many networks train under `vmap`: their gradients are then taken by a rule of their own, which
    cannot be differentiated again and takes no values of an outer `vmap` that a model closes over."""
    epoch_steps: int | None = None
    """Steps of an epoch, at whose end folds that measure are updated; 0 leaves them as they begin."""
    pruning: DynamicPruning | None = field(init=False, default=None)
    """The config's dynamic pruning for a training of this length, if it has any."""

    def __post_init__(self) -> None:
        measured = [fold.name for fold in self.folds if fold.measure is not None]
        if measured and self.epoch_steps is None:
            raise InputError(
                f"{measured[0]} is measured at the end of every epoch: give the program epoch_steps, the "
                f"steps of an epoch (steps_per_epoch), or 0 to measure nothing"
            )
        rated = [fold.name for fold in self.folds if fold.measure is not None and takes(fold.update, "rate")]
        if rated and self.epoch_steps and has_own_rate(self.config.optimizer):
            raise InputError(
                f"{rated[0]} needs the learning rate of every epoch, and train.optimizer has one of its own; "
                f"give the optimiser as a function of the rate"
            )
        object.__setattr__(self, "pruning", make_method(self.config, self.num_steps))
        if measured and self.epoch_steps and self.draws_itself:
            raise InputError(
                f"{measured[0]} is measured at the end of every epoch, and with train.dynamic "
                f"{self.config.dynamic} epochs differ in length; score by networks trained without it"
            )

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformationExtraArgs:
        """The config's optimiser for a training of this length."""
        return make_optimizer(self.config, self.num_steps)

    @property
    def draws_itself(self) -> bool:
        """Whether its batches are drawn by the dynamic pruning as it goes: by `pruned_steps` alone."""
        return isinstance(self.pruning, OrderingPruning)


class RunKeys(NamedTuple):
    """The independent streams of one run."""

    init: PRNGKey
    order: PRNGKey
    augment: PRNGKey
    score: PRNGKey
    """Of scores that draw random numbers."""
    model: PRNGKey
    """Of what is random in a model in train mode, such as dropout."""
    prune: PRNGKey
    """Of what dynamic pruning leaves out."""


class TrainState(NamedTuple):
    """All that an exact resume needs. With a leading seed axis on every leaf it holds an ensemble.

    `step` counts the updates done; `key` is the run's key, from which everything random at every step
    follows; `dynamics` holds, by the name of its fold, what is remembered of all rows of the dataset, and as
    "pruning" what dynamic pruning remembers.
    """

    step: Array
    variables: Variables
    opt_state: Any
    key: Array
    dynamics: dict[str, Any]


class StepMetrics(NamedTuple):
    """Loss and accuracy of each step's own batch, before its update: float32 `[t]`."""

    loss: Array
    accuracy: Array


def run_keys(key: PRNGKey) -> RunKeys:
    """Splits one run's key into its named streams: initialisation, data order, augmentation, scores, model,
    pruning.

    The streams are Threefry's whatever the kind of the key: numbers of the others ("rbg") depend on what
    `vmap` draws beside them, so that an epoch would be another one after a restart, and a seed among seeds.

    Example:
        >>> import jax
        >>> run_keys(jax.random.key(0))._fields
        ('init', 'order', 'augment', 'score', 'model', 'prune')
    """
    if jax.random.key_impl(key) != THREEFRY:
        # A key of "rbg" is one of Threefry twice: a seed's training is the same.
        key = jax.random.wrap_key_data(jax.random.key_data(key)[..., :2], impl=THREEFRY)
    return RunKeys(*(jax.random.fold_in(key, stream) for stream in range(len(RunKeys._fields))))


def batch_rows(
    key: PRNGKey, kept: Rows, first_step: Any, *, num_steps: int, batch_size: int
) -> Int[Array, "t b"]:
    """Returns the rows of the batches of steps `first_step .. first_step + num_steps - 1`.

    Every epoch is a fresh permutation of the kept rows, cut into full batches. The rows of a step depend
    on the key and the step alone, so any step can be asked for at any time.

    Args:
        key: of the data order.
        kept: int `[k]`, the rows to train on.
        first_step: counted from 0.
        num_steps: how many steps.
        batch_size: rows per step.

    Returns:
        int32 `[num_steps batch_size]`.

    Raises:
        InputError: fewer rows than one batch.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> rows = batch_rows(jax.random.key(0), jnp.arange(6), 0, num_steps=3, batch_size=2)
        >>> sorted(rows.ravel().tolist())
        [0, 1, 2, 3, 4, 5]
    """
    per_epoch = steps_per_epoch(len(kept), batch_size)
    # As many epochs as the steps can touch when the first one is the last of its epoch.
    num_epochs = (num_steps + 2 * per_epoch - 2) // per_epoch
    epochs = first_step // per_epoch + jnp.arange(num_epochs, dtype=jnp.int32)
    kept = jnp.asarray(kept)

    def order(epoch: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(key, epoch), kept)[: per_epoch * batch_size]

    batches = jax.vmap(order)(epochs).reshape(num_epochs * per_epoch, batch_size)
    return jax.lax.dynamic_slice_in_dim(batches, first_step % per_epoch, num_steps).astype(jnp.int32)


def init_state(
    key: PRNGKey,
    spec: jax.ShapeDtypeStruct,
    num_examples: int,
    *,
    program: Program,
) -> TrainState:
    """Returns the state at step 0.

    Args:
        key: of the run.
        spec: shape and dtype of one example, as the model takes it.
        num_examples: rows of the whole dataset, also when training on a subset.
        program: of the training.
    """
    params, model_state = init_variables(program.model, run_keys(key).init, spec)
    params = split_params(params)
    dynamics = {}
    for fold in program.folds:
        options: dict[str, Any] = {"spec": spec} if takes(fold.init, "spec") else {}
        if takes(fold.init, "num_classes"):
            one = jax.ShapeDtypeStruct((1, *spec.shape), spec.dtype)
            predict, variables = program.model.predict, Variables(params, model_state)
            options["num_classes"] = jax.eval_shape(predict, variables, one).shape[-1]
        dynamics[fold.name] = fold.init(num_examples, **options)
    if program.pruning is not None:
        dynamics[STATE] = program.pruning.init(num_examples)
    return TrainState(
        step=jnp.int32(0),
        variables=Variables(params, hold_whole(model_state)),
        opt_state=split_params(jax.tree.map(_as_later, program.optimizer.init(params))),
        key=key,
        dynamics=hold_whole(dynamics),
    )


def _as_later(leaf: Any) -> Array:
    """A leaf of a fresh optimiser state as it is after an update or from a checkpoint: of no weak type."""
    leaf = jnp.asarray(leaf)
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    return leaf if is_key else jnp.asarray(leaf, leaf.dtype)


def train_step(
    state: TrainState,
    examples: Examples,
    rows: Int[Array, "b"],
    *,
    program: Program,
) -> tuple[TrainState, StepMetrics]:
    """Does one optimiser update on the examples in `rows`, and folds the training dynamics.

    Args:
        state: before the update.
        examples: all rows of the dataset, on the device.
        rows: int `[b]`, this step's batch.
        program: of the training.

    Returns:
        The state after the update; loss and accuracy of the batch before it.

    Raises:
        InputError: the augmentation works on images that are read from disk only.
    """
    if program.config.augment == "resized_crop":
        raise InputError(
            "augment resized_crop cuts images as they are read from disk: load the dataset with "
            "load_streamed (--data.streaming), or choose crop_flip, crop or none"
        )
    batch = Examples(examples.inputs[rows], examples.labels[rows], examples.mean, examples.std)
    return train_on_batch(state, batch, rows, program=program)


def train_on_batch(
    state: TrainState,
    batch: Examples,
    rows: Int[Array, "b"],
    *,
    program: Program,
) -> tuple[TrainState, StepMetrics]:
    """Does one optimiser update on a batch that is at hand: `train_step` after its lookup.

    Args:
        state: before the update.
        batch: the stored inputs and labels of this step.
        rows: int `[b]`, which examples of the dataset they are; for batch-hardest all candidates.
        program: of the training.

    Returns:
        The state after the update; loss (weighted as the update's) and accuracy of the batch before it.
    """
    key = jax.random.fold_in(run_keys(state.key).augment, state.step)
    inputs, labels = split_batch(
        (prepare_batch(program.config, key, batch.inputs, batch.mean, batch.std), batch.labels)
    )
    params, model_state = state.variables
    own, weights = state.dynamics.get(STATE), ()
    if (method := program.pruning) is not None:
        own, chosen = method.choose(own, program.model, state.variables, inputs, labels, rows)
        if chosen is not None:
            inputs, labels = split_batch((inputs[chosen], labels[chosen]))
            rows = rows[chosen]
        weighted = method.weights(own, rows)
        weights = () if weighted is None else (weighted,)
    model_key = jax.random.fold_in(run_keys(state.key).model, state.step)

    def loss_fn(
        params: Any, model_state: Any, inputs: Inputs, labels: Labels, key: PRNGKey, *weights: Array
    ) -> tuple[Array, tuple[Array, Any]]:
        logits, new_model_state = apply_in_training(
            program.model, Variables(params, model_state), inputs, key
        )
        losses = cross_entropy(logits, labels)
        for weight in weights:
            losses = weight.astype(losses.dtype) * losses
        return losses.mean(), (logits, new_model_state)

    rule = value_and_grad if program.side_by_side else functools.partial(jax.value_and_grad, has_aux=True)
    differentiated = rule(loss_fn)
    arguments = (model_state, inputs, labels, model_key, *weights)
    (loss, (logits, model_state)), gradients = differentiated(params, *arguments)
    updates, opt_state = program.optimizer.update(
        gradients,
        state.opt_state,
        params,
        value=loss,
        grad=gradients,
        value_fn=lambda params: loss_fn(params, *arguments)[0],
    )
    correct = predicted_classes(logits) == labels
    # Those that measure wait for the end of the epoch.
    dynamics = state.dynamics | {
        fold.name: fold.update(state.dynamics[fold.name], rows, logits, labels)
        for fold in program.folds
        if fold.measure is None
    }
    if method is not None:
        dynamics[STATE] = method.observe(own, rows, cross_entropy(logits, labels))
    # Every state is split as the one before, so that it can take the place of that in memory.
    new_state = TrainState(
        step=state.step + 1,
        variables=Variables(split_params(optax.apply_updates(params, updates)), hold_whole(model_state)),
        opt_state=split_params(opt_state),
        key=state.key,
        dynamics=hold_whole(dynamics),
    )
    return new_state, StepMetrics(loss, jnp.mean(correct.astype(jnp.float32)))


def train_steps(
    state: TrainState,
    examples: Examples,
    rows: Int[Array, "t b"],
    *,
    program: Program,
    length: int | None = None,
) -> tuple[TrainState, StepMetrics]:
    """Does the first `length` of `t` updates in one loop on the device.

    The compiler knows the length: an accelerator then needs no word from the host between updates.

    Args:
        state: before the first update.
        examples: all rows of the dataset, on the device.
        rows: int `[t b]`, one batch per step.
        program: of the training.
        length: how many of them, at most `t`; by default all.

    Returns:
        The state after the last update; metrics `[length]`.
    """
    rows = rows[:length]
    step = functools.partial(train_step, program=program)
    return _loop(lambda state, i: step(state, examples, rows[i]), state, len(rows))


def pruned_steps(
    state: TrainState, examples: Examples, kept: Rows, *, program: Program, length: int
) -> tuple[TrainState, StepMetrics]:
    """Does so many updates in one loop on the device, on batches that the dynamic pruning draws itself.

    Args:
        state: before the first update.
        examples: all rows of the dataset, on the device.
        kept: int `[k]`, the rows to train on.
        program: of the training, with a method that draws the batches.
        length: how many updates.

    Returns:
        The state after the last update; metrics `[length]`.
    """
    method = program.pruning
    assert isinstance(method, OrderingPruning)

    def step(state: TrainState, _: Array) -> tuple[TrainState, StepMetrics]:
        keys, own = run_keys(state.key), state.dynamics[STATE]
        own, rows = method.next_rows(own, state.step, keys.order, keys.prune, kept)
        state = state._replace(dynamics=state.dynamics | {STATE: own})
        return train_step(state, examples, rows, program=program)

    return _loop(step, state, length)


def _loop(
    step: Callable[[TrainState, Array], tuple[TrainState, StepMetrics]], state: TrainState, length: int
) -> tuple[TrainState, StepMetrics]:
    def body(i: Array, carry: tuple[TrainState, StepMetrics]) -> tuple[TrainState, StepMetrics]:
        state, metrics = carry
        state, new = step(state, i)
        return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), metrics, new)

    empty = StepMetrics(*(jnp.zeros(length, jnp.float32) for _ in StepMetrics._fields))
    if not length:  # The loop's body would index arrays without entries, even if it never runs.
        return state, empty
    return jax.lax.fori_loop(0, length, body, (state, empty))


def advance_in_one_program(
    state: TrainState,
    examples: Examples,
    kept: Rows,
    *,
    num_updates: int,
    program: Program,
) -> tuple[TrainState, StepMetrics]:
    """Does the next `num_updates` updates of a training in one loop: the form that `jit` and `vmap` take.

    Folds that measure examples at the end of an epoch need to be told where it is, see `score_one_seed`.

    Args:
        state: where to go on from.
        examples: all rows of the dataset, on the device.
        kept: int `[k]`, the rows to train on.
        num_updates: updates to do now.
        program: of the training.

    Returns:
        The state after the last update; metrics `[num_updates]`.
    """
    if ends_of_epochs(program):
        raise InputError("folds that measure at the end of every epoch are updated by train_between only")
    if program.draws_itself:
        return pruned_steps(state, examples, kept, program=program, length=num_updates)
    rows = batch_rows(
        run_keys(state.key).order,
        kept,
        state.step,
        num_steps=num_updates,
        batch_size=rows_per_step(program.config),
    )
    return train_steps(state, examples, rows, program=program)


def ends_of_epochs(program: Program) -> int:
    """Returns after how many steps each a fold measures all examples, see `epoch_ends.py`; 0 for never."""
    measures = any(fold.measure is not None for fold in program.folds)
    return (program.epoch_steps or 0) if measures else 0


def predictions(
    predict_fn: PredictFn, variables: Variables, inputs: Inputs, labels: Labels
) -> tuple[Int[Array, "b"], ScoreArray]:
    """Returns the predicted class and the cross-entropy of each example, in eval mode.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`.
        variables: of one model.
        inputs: `[b ...]`, normalised.
        labels: int `[b]`.

    Returns:
        int32 `[b]` predicted classes, float32 `[b]` losses in nats.
    """
    logits = predict_fn(variables, inputs)
    return predicted_classes(logits), cross_entropy(logits, labels)
