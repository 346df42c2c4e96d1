"""The host loop: compiled calls over many steps or many examples, one program each however often called."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from diet_jax.augment import normalize
from diet_jax.backend import default_chunks_per_call, default_steps_per_call, training_has_convolution
from diet_jax.batching import auto_batch_size, chunk_budget, map_examples
from diet_jax.data import Dataset
from diet_jax.device_memory import memory_to_plan_with
from diet_jax.errors import InputError
from diet_jax.memory import BatchPlan, fit_batch, halving, resident_bytes
from diet_jax.pruning import kept_indices
from diet_jax.recipe import TrainConfig, steps_per_epoch, total_steps
from diet_jax.sharding import batch_parts, fetch, over_parts, replicate, replicated_shape
from diet_jax.training import (
    StepMetrics,
    TrainState,
    advance_in_one_program,
    batch_rows,
    init_state,
    run_keys,
    train_step,
    train_steps,
)
from diet_jax.types import Examples, Mask, Model, PRNGKey, Rows, ScoreFn, Variables

BatchSize = int | Literal["auto"]

SMALLER_CHUNKS = "choose a smaller model, or free memory that other processes hold"

# Where a call does one step, the batches are still drawn for many steps at once: sorting is not free.
ROWS_PER_CALL = 500

_STATIC = ("model", "config", "num_steps")
_init = jax.jit(init_state, static_argnames=(*_STATIC, "image_shape", "num_examples"))
_rows = jax.jit(batch_rows, static_argnames=("num_steps", "batch_size"))
_one_step = jax.jit(train_step, static_argnames=_STATIC, donate_argnames="state")
_many_steps = jax.jit(train_steps, static_argnames=_STATIC, donate_argnames="state")


def check_keep(dataset: Dataset, keep: Mask | None, config: TrainConfig) -> np.ndarray:
    """Returns the rows to train on after checking that a training on them makes sense.

    Args:
        dataset: the full train split.
        keep: bool `[n]`, True = train on it; None keeps everything.
        config: for its batch size.

    Returns:
        int32 `[k]`, ascending.

    Raises:
        InputError: the mask has the wrong length or dtype, keeps fewer examples than a batch, or leaves a
            class without examples.
    """
    mask = np.ones(len(dataset), bool) if keep is None else np.asarray(keep)
    if mask.shape != (len(dataset),):
        raise InputError(
            f"keep must have one entry for each of the {len(dataset)} examples of {dataset.name}, "
            f"got shape {mask.shape}; use the mask that belongs to this dataset"
        )
    rows = kept_indices(mask, int(np.count_nonzero(mask)))
    steps_per_epoch(len(rows), config.batch_size)
    counts = np.bincount(dataset.labels[rows], minlength=dataset.num_classes)
    if not counts.all():
        empty = [dataset.class_names[c] for c in np.flatnonzero(counts == 0)]
        raise InputError(
            f"{len(empty)} of {dataset.num_classes} classes have no example to train on "
            f"({', '.join(empty[:5])}{', ...' if len(empty) > 5 else ''}); keep more examples"
        )
    return rows


@functools.lru_cache(maxsize=64)
def check_classes(model: Model, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Raises InputError unless a model has a logit for each class of a dataset; nothing is run."""
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), image_shape))
    logits = jax.eval_shape(model.predict, variables, jax.ShapeDtypeStruct((1, *image_shape), "float32"))
    if logits.shape[-1] < num_classes:
        raise InputError(
            f"the model has {logits.shape[-1]} logits but the dataset {num_classes} classes; "
            f"create it with num_classes={num_classes}"
        )


def start(key: PRNGKey, model: Model, dataset: Dataset, *, config: TrainConfig, num_steps: int) -> TrainState:
    """Returns the state at step 0, compiled; the state owns its buffers, the key stays the caller's."""
    key_data = jnp.array(jax.random.key_data(key), copy=True)
    own_key = replicate(jax.random.wrap_key_data(key_data, impl=jax.random.key_impl(key)))
    return _init(own_key, dataset.image_shape, len(dataset), model=model, config=config, num_steps=num_steps)


def put_examples(dataset: Dataset) -> Examples:
    """Returns a dataset's arrays on the default device, or whole on each device of the current mesh."""
    mean, std = (np.asarray(values, np.float32) for values in dataset.normalization)
    # Images on disk have no array, and say so here.
    return Examples(*replicate((np.asarray(dataset.images), dataset.labels, mean, std)))


def train_between(
    state: TrainState,
    examples: Examples,
    kept: Rows,
    stops: Sequence[int],
    *,
    model: Model,
    config: TrainConfig,
    num_steps: int,
) -> Iterator[tuple[TrainState, StepMetrics]]:
    """Trains on from a state and yields at each stop.

    The state given, and each state yielded, is used up by the next step: copy what must outlive it.
    Where the calls are cut makes no difference to the numbers.

    Args:
        state: where to go on from.
        examples: all rows of the dataset, on the device.
        kept: int `[k]`, the rows to train on.
        stops: steps to yield at, ascending, none before the state's own step.
        model: what is trained.
        config: how; `steps_per_call` updates run in one compiled call.
        num_steps: length of the whole training.

    Yields:
        The state at each stop, and the metrics of the steps since the last one.
    """
    image_shape = examples.image_shape
    per_call = config.steps_per_call or default_steps_per_call(training_has_convolution(model, image_shape))
    order_key, kept = run_keys(state.key).order, jnp.asarray(kept)
    examples = replicate(examples)
    step = int(state.step)
    for stop in stops:
        if not step <= stop <= num_steps:
            raise InputError(f"stops must ascend from step {step} to at most {num_steps}, got {stop}")
        metrics: list[tuple[StepMetrics, int]] = []
        while step < stop:
            drawn = per_call if per_call > 1 else ROWS_PER_CALL
            rows = _rows(order_key, kept, step, num_steps=drawn, batch_size=config.batch_size)
            count = min(drawn, stop - step)
            if per_call > 1:
                state, new = _many_steps(
                    state, examples, rows, count, model=model, config=config, num_steps=num_steps
                )
                metrics.append((new, count))
            else:
                for batch in fetch(rows)[:count]:
                    state, new = _one_step(
                        state, examples, batch, model=model, config=config, num_steps=num_steps
                    )
                    metrics.append((new, 1))
            step += count
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
        The state, and the loss and accuracy of each step's batch before its update, float32 `[t]`.

    Raises:
        InputError: the mask has the wrong length, keeps fewer examples than a batch or empties a class, or
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
    check_classes(model, dataset.image_shape, dataset.num_classes)
    kept = check_keep(dataset, keep, config)
    num_steps = total_steps(config, len(dataset), len(kept))
    stop = check_updates(num_updates, num_steps)
    if isinstance(key, Tracer):
        static: Any = {"model": model, "config": config, "num_steps": num_steps}
        state = init_state(key, dataset.image_shape, len(dataset), **static)
        return advance_in_one_program(state, dataset.examples(), kept, num_updates=stop, **static)
    examples = put_examples(dataset)
    state = start(key, model, dataset, config=config, num_steps=num_steps)
    steps = train_between(state, examples, kept, [stop], model=model, config=config, num_steps=num_steps)
    return next(steps)


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
    kept = check_keep(dataset, keep, config)
    num_steps = total_steps(config, len(dataset), len(kept))
    stop = check_updates(num_updates, num_steps)
    # Training uses up the buffers of the state that it goes on from.
    own = replicate(jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state))
    steps = train_between(
        own, put_examples(dataset), kept, [stop], model=model, config=config, num_steps=num_steps
    )
    return next(steps)


def check_updates(num_updates: int | None, num_steps: int) -> int:
    """Returns the step to stop at: the end of the schedule unless `num_updates` names an earlier one."""
    if num_updates is None:
        return num_steps
    if not 0 <= num_updates <= num_steps:
        raise InputError(
            f"num_updates must lie between 0 and the {num_steps} steps of the training, got {num_updates}"
        )
    return num_updates


def score_dataset(
    score_fn: ScoreFn, variables: Variables, dataset: Dataset, *, batch_size: BatchSize = "auto"
) -> np.ndarray:
    """Scores every example of a dataset on un-augmented, normalised images.

    Bring one `score_fn` object and use it again: it is compiled once for each object and shape. The last
    batch is filled up with copies. On a CPU each batch is one call; on accelerators a call does up to 32, one
    after the other, and a shorter last call is compiled once more. The result does not depend on the batch
    size beyond rounding.

    Args:
        score_fn: `(variables, images, labels) -> float32 [b]`, such as
            `functools.partial(dj.el2n, model.predict)`.
        variables: of one model.
        dataset: any split.
        batch_size: examples per batch; "auto" takes as many as are fast and fit: the compiled program's
            memory is compared with what is free. Where memory runs out all the same, the batch is halved
            with a warning and the scoring goes on.

    Returns:
        float32 `[n]`, row i belongs to example i.

    Raises:
        InputError: a batch size below 1, or memory that does not suffice for one example at a time.

    Example:
        >>> import functools, jax, diet_jax as dj
        >>> test = dj.load_dataset("digits").test
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> variables = model.init(jax.random.key(0), test.image_shape)
        >>> dj.score_dataset(functools.partial(dj.el2n, model.predict), variables, test).shape
        (719,)
    """
    return map_dataset(score_fn, variables, dataset, batch_size=batch_size)


def map_dataset(
    fn: Callable[..., Any], variables: Variables, dataset: Dataset, *, batch_size: BatchSize = "auto"
) -> Any:
    """Applies `fn(variables, images, labels)` to normalised batches and joins the results as NumPy arrays."""
    count = len(dataset)
    stats = _stats(dataset)
    variables = replicate(variables)
    if batch_size == "auto":
        batch_size = chunk_plan(fn, variables, dataset).batch_size
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size must be an integer of at least 1 or 'auto', got {batch_size!r}")
    chunks = default_chunks_per_call()
    images: Iterator[np.ndarray] = iter(())
    expected: tuple[int, int] | None = None

    def run(first: int, size: int) -> Any:
        nonlocal images, expected
        if expected != (first, size):  # The first call, or the first one of a smaller size.
            starts = range(first, count, size)
            images = dataset.read_batches([_call_rows(at, size, chunks, count)[0] for at in starts])
        rows, batch = _call_rows(first, size, chunks, count)
        arrays = replicate((next(images), dataset.labels[rows], *stats))
        expected = (first + size, size)
        return fetch(_mapped(variables, *arrays, fn=fn, batch_size=batch))

    parts = halving(run, count, min(batch_size, count) * chunks, what="examples", remedy=SMALLER_CHUNKS)
    trimmed = [jax.tree.map(lambda a: a[:size], part) for size, part in parts]  # noqa: B023
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *trimmed)


def chunk_plan(fn: Callable[..., Any], variables: Variables, dataset: Dataset) -> BatchPlan:
    """Returns how many examples `map_dataset` takes at a time: the most within budget whose program fits.

    The program is compiled for the check, and is the one that `map_dataset` then runs.

    Args:
        fn: `(variables, images, labels) -> pytree` of arrays `[b ...]`.
        variables: of one model, or their shapes.
        dataset: any split.

    Returns:
        The batch size, with the bytes of its program and what was free.
    """
    variables = jax.tree.map(_as_on_device, variables)
    leaves, structure = jax.tree.flatten(variables)
    shapes = tuple((leaf.shape, jnp.dtype(leaf.dtype)) for leaf in leaves)
    candidate = _candidate(fn, structure, shapes, dataset.image_shape, chunk_budget())
    chunks, count = default_chunks_per_call(), len(dataset)

    def compile_at(size: int) -> Any:
        rows, batch = _call_rows(0, size * chunks, chunks, count)
        images = replicated_shape((len(rows), *dataset.image_shape), dataset.images.dtype)
        labels = replicated_shape((len(rows),), dataset.labels.dtype)
        stats = (replicated_shape(values.shape, values.dtype) for values in _stats(dataset))
        return _mapped.lower(variables, images, labels, *stats, fn=fn, batch_size=batch).compile()

    return fit_batch(
        compile_at,
        min(candidate, count),
        limit=memory_to_plan_with(),
        resident=resident_bytes(variables),
    )


@functools.lru_cache(maxsize=64)
def _candidate(
    fn: Callable[..., Any], structure: Any, shapes: tuple[Any, ...], image_shape: Any, budget: int
) -> int:
    variables = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    one = jax.ShapeDtypeStruct((1, *image_shape), "float32"), jax.ShapeDtypeStruct((1,), "int32")
    return auto_batch_size(fn, *one, shared=(variables,), budget=budget)


def _as_on_device(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else replicated_shape(leaf.shape, leaf.dtype)


def _call_rows(first: int, size: int, chunks: int, count: int) -> tuple[np.ndarray, int]:
    """The rows of a call that takes `size` from `first` on, whole batches of them, and the batch size."""
    # Every device that shares a batch has the same share of it.
    batch = batch_parts() * math.ceil(size / chunks / batch_parts())
    filled = first + batch * math.ceil((count - first) / batch)
    return np.arange(first, min(first + size, filled)).clip(max=count - 1), batch


def _stats(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    mean, std = (np.asarray(values, np.float32) for values in dataset.normalization)
    return mean, std


def map_examples_of(
    fn: Callable[..., Any], variables: Variables, examples: Examples, *, batch_size: int
) -> Any:
    """Applies `fn(variables, images, labels)` to all examples inside one program: `map_dataset` traced."""

    def on_one_device(shared: Any, images: jax.Array, labels: jax.Array) -> Any:
        variables, mean, std = shared
        return fn(variables, normalize(images, mean, std), labels)

    def batch(images: jax.Array, labels: jax.Array) -> Any:
        return over_parts(on_one_device, (variables, examples.mean, examples.std), images, labels)

    return map_examples(batch, examples.images, examples.labels, batch_size=batch_size)


def model_batch_size(fn: Callable[..., Any], model: Model, dataset: Dataset, *, at_once: int = 1) -> int:
    """Returns the batch size to try for `fn(variables, images, labels)` on `at_once` networks together.

    Nothing is compiled or run.
    """
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), dataset.image_shape))
    budget = chunk_budget() // at_once
    return auto_batch_size(fn, *batch_shapes(dataset), shared=(variables,), budget=budget)


def batch_shapes(dataset: Dataset) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Returns the shapes of normalised images and labels, for tracing without data."""
    return (
        jax.ShapeDtypeStruct((len(dataset), *dataset.image_shape), "float32"),
        jax.ShapeDtypeStruct((len(dataset),), "int32"),
    )


@functools.partial(jax.jit, static_argnames=("fn", "batch_size"))
def _mapped(
    variables: Any, images: Any, labels: Any, mean: Any, std: Any, *, fn: Callable[..., Any], batch_size: int
) -> Any:
    return map_examples_of(fn, variables, Examples(images, labels, mean, std), batch_size=batch_size)


def _joined(metrics: list[tuple[StepMetrics, int]]) -> StepMetrics:
    if not metrics:
        return StepMetrics(np.zeros(0, np.float32), np.zeros(0, np.float32))  # type: ignore[arg-type]
    parts = [jax.tree.map(lambda m: np.atleast_1d(fetch(m))[:count], m) for m, count in metrics]  # noqa: B023
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
