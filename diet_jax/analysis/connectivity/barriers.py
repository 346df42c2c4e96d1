"""Error barriers: the error rate along the line between two networks, on the examples of a dataset."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import numpy as np
from jaxtyping import Bool, Float

from diet_jax.analysis.connectivity.paths import Ends, barrier_height, interpolate, leaves_of_one_network
from diet_jax.checks.rows import checked_rows
from diet_jax.checks.values import check_choice, check_count, check_pytree, check_type
from diet_jax.data.augment import normalize
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.devices.mesh import fetch, replicate, split_batch
from diet_jax.models.adapters import check_model
from diet_jax.per_example.losses import predicted_classes
from diet_jax.training.passes import BatchSize, map_dataset
from diet_jax.training.step import batch_rows
from diet_jax.types import THREEFRY, Array, Mask, Model, PRNGKey, Rows, Variables, apply_in_training

BatchStatistics = Literal["interpolated", "reestimated"]
# Of points and of batches; each is a pass.
MOST_PASSES = 10**5


def reestimate_statistics(
    model: Model,
    variables: Variables,
    dataset: Dataset,
    *,
    rows: Rows | Mask | None = None,
    num_batches: int = 100,
    batch_size: int = 128,
) -> Variables:
    """Returns the variables with BatchNorm's running statistics measured anew at these parameters.

    Folds train-mode forward passes over un-augmented batches, in one fixed shuffled order; the parameters
    stay. A running average forgets: the old statistics, wrong between two networks, count for
    `decay ** num_batches` (3e-5 for a decay of 0.9). The program is compiled once per model and shape.

    Args:
        model: the network.
        variables: its variables.
        dataset: usually the train split.
        rows: int `[k]` or a mask bool `[n]`, the rows to measure on; by default all.
        num_batches: train-mode forward passes, over the rows again where they do not suffice.
        batch_size: examples per batch, at most the number of rows.

    Returns:
        The variables; as they are if the model has no state.

    Raises:
        InputError: fewer than one batch or example per batch, or rows that are not distinct rows of the
            dataset.

    Paper: not said there how interpolated networks get their statistics.

    Example:
        >>> import jax, diet_jax as dj
        >>> train = dj.load_dataset("digits").train
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> variables = model.init(jax.random.key(0), train.image_shape)
        >>> reestimate_statistics(model, variables, train) is variables  # It has no BatchNorm.
        True
    """
    _check_network(model, dataset, variables)
    check_count(num_batches, "num_batches", most=MOST_PASSES)
    check_count(batch_size, "batch_size")
    kept = checked_rows(np.arange(len(dataset)) if rows is None else rows, len(dataset))
    if not jax.tree.leaves(variables.model_state):
        return variables
    size = min(batch_size, len(kept))
    # In stored order a dataset sorted by class would give the statistics of its last classes.
    batches = _batches(jax.random.key(0, impl=THREEFRY), kept, 0, num_steps=num_batches, batch_size=size)
    stats = tuple(np.asarray(values, np.float32) for values in dataset.normalization)
    variables = replicate(variables)
    for number, batch in enumerate(fetch(batches)):
        inputs, key = dataset.inputs[batch], jax.random.fold_in(jax.random.key(1, impl=THREEFRY), number)
        state = _next_model_state(variables, inputs, *stats, key, model=model)
        variables = Variables(variables.params, state)
    return variables


def path_correct(
    model: Model,
    variables: Variables,
    other: Variables,
    dataset: Dataset,
    *,
    num_points: int = 11,
    rows: Rows | Mask | None = None,
    batch_statistics: BatchStatistics = "interpolated",
    statistics_dataset: Dataset | None = None,
    batch_size: BatchSize = "auto",
) -> Bool[np.ndarray, "p k"]:
    """Returns which examples the networks between two networks classify correctly.

    One pass over the rows for each point, in eval mode on un-augmented inputs; the error of any subset of
    the rows is the mean of its columns. Every point runs the same compiled program.

    Args:
        model: the network.
        variables: at point 0.
        other: at the last point.
        dataset: any split.
        num_points: `p`, evenly spaced, ends included.
        rows: int `[k]`, distinct rows of the dataset in the order of the columns, or a mask bool `[n]`; by
            default all.
        batch_statistics: "interpolated" takes BatchNorm's running statistics from the line too;
            "reestimated" measures them anew at each point, the ends included (`reestimate_statistics`).
        statistics_dataset: what is measured on; by default `dataset`, all rows.
        batch_size: examples per call; "auto" bounds the memory of the intermediate arrays.

    Returns:
        bool `[p k]`.

    Raises:
        InputError: networks of different shapes, fewer than three points, rows that are not distinct rows
            of the dataset, or an unknown `batch_statistics`.

    Paper: equation 5; the error `R_S` of a subset S is `1 − correct[:, S].mean(1)`.

    Example:
        >>> import jax, diet_jax as dj
        >>> test = dj.load_dataset("digits").test
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> ends = (model.init(jax.random.key(seed), test.image_shape) for seed in (0, 1))
        >>> path_correct(model, *ends, test, num_points=3).shape
        (3, 719)
    """
    _check_network(model, dataset, variables, other)
    check_count(num_points, "num_points", least=3, most=MOST_PASSES)
    check_choice(batch_statistics, "batch_statistics", get_args(BatchStatistics))
    if statistics_dataset is not None:
        check_dataset(statistics_dataset, "statistics_dataset")
    leaves_of_one_network(variables, other)  # Under jit the values of integers cannot be compared.
    measured_on = dataset if statistics_dataset is None else statistics_dataset
    evaluated = dataset if rows is None else dataset.take(rows)
    fn = _correctness(model)
    variables, other = replicate((variables, other))
    correct = []
    for weight in np.linspace(0, 1, num_points):
        point = _interpolated(variables, other, float(weight))
        if batch_statistics == "reestimated":
            point = reestimate_statistics(model, point, measured_on)
        correct.append(map_dataset(fn, point, evaluated, batch_size=batch_size))
    return np.stack(correct)


def error_barrier(
    model: Model,
    variables: Variables,
    other: Variables,
    dataset: Dataset,
    *,
    rows: Rows | Mask | None = None,
    num_points: int = 11,
    ends: Ends = "chord",
    batch_statistics: BatchStatistics = "interpolated",
    statistics_dataset: Dataset | None = None,
) -> float:
    """Returns the error barrier between two networks: `barrier_height` of the errors on the path.

    Args:
        model: the network.
        variables: one end.
        other: the other end.
        dataset: the train split in the paper.
        rows: int `[k]` or a mask bool `[n]`, the subset S; by default all rows.
        num_points: evenly spaced, ends included; the paper also takes the middle alone, which is 3.
        ends: what is subtracted; see `barrier_height`.
        batch_statistics: see `path_correct`.
        statistics_dataset: see `path_correct`.

    Returns:
        A share of examples; 0 for connected networks, by the chord never below.

    Raises:
        InputError: as `path_correct` and `barrier_height`.

    Paper: equation 5, figure 4.

    Example:
        >>> import jax, diet_jax as dj
        >>> test = dj.load_dataset("digits").test
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> variables = model.init(jax.random.key(0), test.image_shape)
        >>> error_barrier(model, variables, variables, test, num_points=3)
        0.0
    """
    check_choice(ends, "ends", get_args(Ends))
    correct = path_correct(
        model,
        variables,
        other,
        dataset,
        num_points=num_points,
        rows=rows,
        batch_statistics=batch_statistics,
        statistics_dataset=statistics_dataset,
    )
    errors = np.asarray(np.mean(~correct, axis=1), np.float32)
    return float(barrier_height(errors, ends=ends))


def pairwise_barriers(
    model: Model, networks: Sequence[Variables], dataset: Dataset, **options: Any
) -> Float[np.ndarray, "m m"]:
    """Returns the error barriers between all pairs of networks, such as the children of one parent.

    Args:
        model: what all of them are variables of.
        networks: `m` variables.
        dataset: see `error_barrier`.
        **options: of `error_barrier`, the same for all pairs.

    Returns:
        float64 `[m m]`, symmetric, with a diagonal of zeros.

    Paper: equation 6 takes the mean over pairs of parent and child.

    Example:
        >>> import jax, diet_jax as dj
        >>> test = dj.load_dataset("digits").test
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> networks = [model.init(jax.random.key(seed), test.image_shape) for seed in (0, 1)]
        >>> pairwise_barriers(model, networks, test, num_points=3).shape
        (2, 2)
    """
    check_type(networks, "networks", (list, tuple), "a list of variables")
    _check_network(model, dataset, *networks)
    heights = np.zeros((len(networks), len(networks)))
    for i, j in itertools.combinations(range(len(networks)), 2):
        heights[i, j] = heights[j, i] = error_barrier(model, networks[i], networks[j], dataset, **options)
    return heights


def _check_network(model: Any, dataset: Any, *networks: Any) -> None:
    check_model(model)
    check_dataset(dataset)
    for variables in networks:
        check_type(variables, "variables", Variables, "dj.Variables, as model.init returns them")
        check_pytree(variables, "variables")


_batches = jax.jit(batch_rows, static_argnames=("num_steps", "batch_size"))


@jax.jit
def _interpolated(variables: Variables, other: Variables, weight: Any) -> Variables:
    return interpolate(variables, other, weight)


@functools.partial(jax.jit, static_argnames="model")
def _next_model_state(
    variables: Variables, inputs: Any, mean: Any, std: Any, key: PRNGKey, *, model: Model
) -> Any:
    return apply_in_training(model, variables, split_batch(normalize(inputs, mean, std)), key)[1]


@functools.lru_cache(maxsize=64)
def _correctness(model: Model) -> Callable[..., Array]:
    """The same function object for the same model, so that compiled programs are found again."""

    def correct(variables: Variables, inputs: Array, labels: Array) -> Array:
        return predicted_classes(model.predict(variables, inputs)) == labels

    return correct
