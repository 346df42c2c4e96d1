"""Passes over a dataset: a function of a batch applied to all examples, in compiled chunks that fit."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.checks.calls import calling
from diet_jax.checks.values import check_count, check_function, check_pytree
from diet_jax.data.augment import normalize
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.devices.batching import auto_batch_size, chunk_budget, map_examples
from diet_jax.devices.defaults import default_chunks_per_call
from diet_jax.devices.free_memory import memory_to_plan_with
from diet_jax.devices.memory import BatchPlan, fit_batch, halving, resident_bytes
from diet_jax.devices.mesh import batch_parts, fetch, over_parts, replicate, replicated_shape
from diet_jax.devices.vmap_rules import in_turn
from diet_jax.errors import InputError
from diet_jax.types import AnyVariables, Examples, Model, ScoreFn, init_variables

BatchSize = int | Literal["auto"]

# Inputs of one compiled call.
CALL_BYTES = 2**26

SMALLER_CHUNKS = "choose a smaller model, or free memory that other processes hold"


def score_dataset(
    score_fn: ScoreFn, variables: AnyVariables, dataset: Dataset, *, batch_size: BatchSize = "auto"
) -> np.ndarray:
    """Scores every example of a dataset on un-augmented, normalised inputs.

    Bring one `score_fn` object and use it again: it is compiled once for each object and shape. The last
    call is filled up with copies. On a CPU each batch is one call; on accelerators a call does up to 32, one
    after the other. The result does not depend on the batch size beyond rounding.

    Args:
        score_fn: `(variables, inputs, labels) -> float32 [b]`, such as
            `functools.partial(dj.el2n, model.predict)`.
        variables: of one model.
        dataset: any split.
        batch_size: examples per batch; "auto" takes as many as are fast and fit: the compiled program's
            memory is compared with what is free. Where memory runs out all the same, the batch is halved
            with a warning and the scoring goes on.

    Returns:
        `[n]` of the dtype that `score_fn` returns, float32 unless the network is float64; row i belongs to
        example i.

    Raises:
        InputError: a batch size below 1, memory that does not suffice for one example at a time, or a
            function that returns something else than one number for each example.

    Example:
        >>> import functools, jax, diet_jax as dj
        >>> test = dj.load_dataset("digits").test
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> variables = model.init(jax.random.key(0), test.image_shape)
        >>> dj.score_dataset(functools.partial(dj.el2n, model.predict), variables, test).shape
        (719,)
    """
    check_function(score_fn, "score_fn", "(variables, inputs, labels) -> float [b]")
    check_pytree(variables, "variables")
    check_dataset(dataset)
    check_batch_size(batch_size)
    return map_dataset(_of_examples(score_fn), variables, dataset, batch_size=batch_size)


@functools.lru_cache(maxsize=64)
def _of_examples(score_fn: ScoreFn) -> ScoreFn:
    """The function with its result looked at: one object for each function, so that it is compiled once."""

    def score(variables: Any, inputs: Any, labels: Any) -> Any:
        with calling("score_fn"):
            values = score_fn(variables, inputs, labels)
        if getattr(values, "shape", None) != labels.shape:
            got = getattr(values, "shape", type(values).__name__)
            raise InputError(
                f"score_fn must return float [b], one per example; got {got} for a batch of {len(labels)}"
            )
        return values

    return score


def check_batch_size(batch_size: Any) -> None:
    """Raises InputError unless it is a number of examples, or "auto"."""
    if isinstance(batch_size, str) and batch_size == "auto":
        return
    try:
        check_count(batch_size, "batch_size", most=2**63)
    except InputError as error:
        raise InputError(f"batch_size must be an integer of at least 1 or 'auto': {error}") from None


def map_dataset(
    fn: Callable[..., Any], variables: AnyVariables, dataset: Dataset, *, batch_size: BatchSize = "auto"
) -> Any:
    """Applies `fn(variables, inputs, labels)` to normalised batches and joins the results as NumPy arrays."""
    return next(map_ranges(fn, variables, dataset, [(0, len(dataset))], batch_size=batch_size))


def map_ranges(
    fn: Callable[..., Any],
    variables: AnyVariables,
    dataset: Dataset,
    ranges: Sequence[tuple[int, int]],
    *,
    batch_size: BatchSize = "auto",
    longest: int | None = None,
) -> Iterator[Any]:
    """Yields `fn(variables, inputs, labels)` of the rows of each range, as NumPy arrays.

    All calls have one shape, which follows from the batch size and `longest` alone: whichever ranges are
    asked for, a row's result comes from the same program. Inputs are read ahead; at no time more than a
    few calls' inputs are in memory. Where memory runs out, the calls are halved with a warning, and what is
    done is kept.

    Args:
        fn: returns a pytree of arrays `[b ...]`; bring one object and use it again.
        variables: of one model.
        dataset: any split, in memory or on disk.
        ranges: first row and last row (exclusive) of each.
        batch_size: examples per batch; "auto" takes as many as are fast and fit.
        longest: rows of the longest range that there can be; by default the whole dataset.

    Yields:
        The results of one range, joined.

    Raises:
        InputError: a batch size below 1, or memory that does not suffice for one example at a time.
    """
    if not ranges:
        return
    longest = len(dataset) if longest is None else longest
    stats, variables = _stats(dataset), replicate(variables)
    check_batch_size(batch_size)
    if batch_size == "auto":
        batch_size = chunk_plan(fn, variables, dataset, longest=longest).batch_size
    batch, per_call = _call_shape(batch_size, longest, dataset)
    chunks = per_call // batch
    inputs: Iterator[np.ndarray] = iter(())
    expected: tuple[int, int] | None = None

    def run(start: int, stop: int, number: int, size: int) -> Any:
        nonlocal inputs, expected
        if expected != (start, size):  # The first call, or the first one of a smaller size.
            left = [(start, stop), *ranges[number + 1 :]]
            starts = [(at, end) for first, end in left for at in range(first, end, size)]
            inputs = dataset.read_batches([_rows(at, end, size) for at, end in starts])
        rows = _rows(start, stop, size)
        arrays = replicate((next(inputs), dataset.labels[rows], *stats))
        following = [start + size] if start + size < stop else [first for first, _ in ranges[number + 1 :]]
        expected = (following[0], size) if following else None
        return fetch(mapped_batches(variables, *arrays, fn=fn, batch_size=_parted(size / chunks)))

    size = per_call
    for number, (first, stop) in enumerate(ranges):
        parts = halving(
            lambda at, size: run(first + at, stop, number, size),  # noqa: B023
            stop - first,
            size,
            what="examples",
            remedy=SMALLER_CHUNKS,
        )
        size = expected[1] if expected is not None else size
        trimmed = [jax.tree.map(lambda a: a[:taken], part) for taken, part in parts]  # noqa: B023
        yield jax.tree.map(lambda *arrays: np.concatenate(arrays), *trimmed)


def chunk_plan(
    fn: Callable[..., Any], variables: AnyVariables, dataset: Dataset, *, longest: int | None = None
) -> BatchPlan:
    """Returns how many examples `map_ranges` takes at a time: the most within budget whose program fits.

    The program is compiled for the check, and is the one that `map_ranges` then runs.

    Args:
        fn: `(variables, inputs, labels) -> pytree` of arrays `[b ...]`.
        variables: of one model, or their shapes.
        dataset: any split.
        longest: see `map_ranges`.

    Returns:
        The batch size, with the bytes of its program and what was free.
    """
    longest = len(dataset) if longest is None else longest
    variables = jax.tree.map(_as_on_device, variables)
    leaves, structure = jax.tree.flatten(variables)
    shapes = tuple((leaf.shape, jnp.dtype(leaf.dtype)) for leaf in leaves)
    candidate = _candidate(fn, structure, shapes, dataset.spec, chunk_budget())

    def compile_at(size: int) -> Any:
        batch, per_call = _call_shape(size, longest, dataset)
        inputs = replicated_shape((per_call, *dataset.shape), dataset.inputs.dtype)
        labels = replicated_shape((per_call,), dataset.labels.dtype)
        stats = (replicated_shape(values.shape, values.dtype) for values in _stats(dataset))
        return mapped_batches.lower(variables, inputs, labels, *stats, fn=fn, batch_size=batch).compile()

    return fit_batch(
        compile_at,
        min(candidate, longest),
        limit=memory_to_plan_with(),
        resident=resident_bytes(variables),
    )


@functools.lru_cache(maxsize=64)
def _candidate(
    fn: Callable[..., Any], structure: Any, shapes: tuple[Any, ...], spec: Any, budget: int
) -> int:
    variables = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    one = jax.ShapeDtypeStruct((1, *spec.shape), spec.dtype), jax.ShapeDtypeStruct((1,), "int32")
    return auto_batch_size(fn, *one, shared=(variables,), budget=budget)


def _as_on_device(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else replicated_shape(leaf.shape, leaf.dtype)


def _call_shape(batch_size: int, longest: int, dataset: Dataset) -> tuple[int, int]:
    """Examples of each batch and of each call, which does some batches one after the other."""
    fitting = max(1, CALL_BYTES // (math.prod(dataset.shape) * dataset.inputs.dtype.itemsize))
    batch = _parted(min(batch_size, longest, fitting))
    batches = math.ceil(longest / batch)
    most = max(1, min(default_chunks_per_call(), fitting // batch))
    # As few calls as can be, and all of one length: the last one has hardly more to fill up than a batch.
    return batch, batch * math.ceil(batches / math.ceil(batches / most))


def _parted(size: float) -> int:
    """A batch of at least this size of which every device that shares it has the same share."""
    return batch_parts() * math.ceil(size / batch_parts())


def _rows(start: int, stop: int, size: int) -> np.ndarray:
    """The rows of a call, filled up with copies of the last one."""
    return np.arange(start, start + size).clip(max=stop - 1)


def _stats(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    mean, std = (np.asarray(values, np.float32) for values in dataset.normalization)
    return mean, std


def map_examples_of(
    fn: Callable[..., Any], variables: AnyVariables, examples: Examples, *, batch_size: int
) -> Any:
    """Applies `fn(variables, inputs, labels)` to all examples inside one program: `map_dataset` traced.

    Networks that are batched by `vmap` take their turns: a batch of examples fills the device by itself.
    """

    def on_one_device(shared: Any, inputs: jax.Array, labels: jax.Array) -> Any:
        variables, mean, std = shared
        return fn(variables, normalize(inputs, mean, std), labels)

    def whole(variables: AnyVariables, examples: Examples) -> Any:
        def batch(inputs: jax.Array, labels: jax.Array) -> Any:
            return over_parts(on_one_device, (variables, examples.mean, examples.std), inputs, labels)

        return map_examples(batch, examples.inputs, examples.labels, batch_size=batch_size)

    return in_turn(whole)(variables, examples)


def model_batch_size(fn: Callable[..., Any], model: Model, dataset: Dataset) -> int:
    """Returns the batch size to try for `fn(variables, inputs, labels)`; nothing is compiled or run."""
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0), dataset.spec))
    return auto_batch_size(fn, *batch_shapes(dataset), shared=(variables,), budget=chunk_budget())


def batch_shapes(dataset: Dataset) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Returns the shapes of normalised inputs and labels, for tracing without data."""
    return (
        jax.ShapeDtypeStruct((len(dataset), *dataset.shape), dataset.spec.dtype),
        jax.ShapeDtypeStruct((len(dataset),), "int32"),
    )


@functools.partial(jax.jit, static_argnames=("fn", "batch_size"))
def mapped_batches(
    variables: Any, inputs: Any, labels: Any, mean: Any, std: Any, *, fn: Callable[..., Any], batch_size: int
) -> Any:
    """`map_examples_of` the stored inputs of one call, compiled."""
    return map_examples_of(fn, variables, Examples(inputs, labels, mean, std), batch_size=batch_size)
