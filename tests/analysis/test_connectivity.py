"""Linear mode connectivity against NumPy, closed forms and one example at a time; children of a training."""

import contextlib
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.analysis.connectivity.barriers import (
    error_barrier,
    pairwise_barriers,
    path_correct,
    reestimate_statistics,
)
from diet_jax.analysis.connectivity.paths import barrier_height, connectivity_onset, interpolate, spawn
from diet_jax.errors import InputError
from diet_jax.scores.inputs import input_norm
from diet_jax.training.loop import start, train_between
from diet_jax.training.step import batch_rows

KEY = jax.random.key(3)
CONFIG = dj.TrainConfig(steps=9, batch_size=8, steps_per_call=3)


@dataclasses.dataclass(frozen=True)
class TwoUnits:
    """Two hidden relu units on one pixel: `logits = [0, relu(w₁x) + relu(w₂x) − 1]`."""

    def init(self, key, image_shape):
        return dj.Variables({"w": jnp.ones(2)}, {})

    def predict(self, variables, images):
        hidden = jax.nn.relu(images.reshape(-1, 1) * variables.params["w"].reshape(1, 2))
        second = hidden.sum(axis=1, keepdims=True) - 1
        return jnp.concatenate([jnp.zeros_like(second), second], axis=1)

    def apply(self, variables, images, *, train):
        return self.predict(variables, images), {}


def magnitudes() -> dj.Dataset:
    """Class 1 where |x| > 1: 3 of 8 examples, which `TwoUnits` classifies without error."""
    x = np.array([0.5, -0.5, 2, -2, 0.25, 2, -0.1, 0.9], np.float32)
    unit = dj.Normalization((0.0,), (1.0,))
    labels = (np.abs(x) > 1).astype(np.int32)
    return dj.Dataset.from_arrays(x.reshape(8, 1, 1, 1), labels, normalization=unit)


def units(*weights: float) -> dj.Variables:
    return dj.Variables({"w": jnp.array(weights, jnp.float32)}, {})


@pytest.fixture(scope="module")
def ends(conv_variables):
    """Two networks that share nothing, statistics included."""
    rng = np.random.default_rng(5)
    other = jax.tree.map(
        lambda a: jnp.asarray(rng.permutation(np.asarray(a).ravel()).reshape(a.shape) + 0.1), conv_variables
    )
    return conv_variables, other


@contextlib.contextmanager
def compilations():
    """Collects the names of the programs that are compiled inside."""
    names = []

    def note(event: str, duration: float, **facts) -> None:
        if "backend_compile" in event:
            names.append(facts.get("fun_name", "unnamed"))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = (jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v for v in (x, y))
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


# The straight line


@pytest.mark.parametrize("jit", [False, True])
def test_the_ends_of_the_line_are_the_networks_to_the_bit(jit):
    rng = np.random.default_rng(0)
    first = np.concatenate([[-0.0, 0.0, 1e-40, 3e38], rng.normal(size=500)]).astype(np.float32)
    last = np.concatenate([[0.0, -0.0, -5.0, -3e38], 1e4 * rng.normal(size=500)]).astype(np.float32)
    count = {"seen": jnp.int32(7)}
    a, b = (dj.Variables({"w": jnp.asarray(w)}, count) for w in (first, last))
    between = jax.jit(interpolate) if jit else interpolate
    assert_same_bits(between(a, b, 0.0), a)
    assert_same_bits(between(a, b, 1.0), b)
    assert_same_bits(between(a, a, 0.3), a)


def test_points_of_the_line_are_weighted_means_of_parameters_and_statistics(ends):
    for weight in (0.3, jnp.float32(0.3)):
        point = jax.jit(interpolate)(*ends, weight)
        expected = jax.tree.map(lambda a, b: 0.7 * np.asarray(a) + 0.3 * np.asarray(b), *ends)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), point, expected)
    half = interpolate(*ends, 0.5).model_state["batch_stats"]["BatchNorm_0"]["var"]
    means = [np.asarray(end.model_state["batch_stats"]["BatchNorm_0"]["var"]) for end in ends]
    np.testing.assert_allclose(half, (means[0] + means[1]) / 2, rtol=1e-6)


def test_half_precision_stays_half_precision():
    a, b = (dj.Variables({"w": jnp.full(2, v, jnp.bfloat16)}, {}) for v in (1.0, 3.0))
    point = interpolate(a, b, 0.25).params["w"]
    assert point.dtype == jnp.bfloat16
    assert point.tolist() == [1.5, 1.5]


def test_vmap_over_weights():
    line = jax.vmap(interpolate, (None, None, 0))(units(0, 4), units(2, 0), jnp.array([0.0, 0.5, 1.0]))
    assert line.params["w"].tolist() == [[0, 4], [1, 2], [2, 0]]


def test_networks_that_differ_in_shape_are_refused(conv_model, conv_variables, train_split):
    class Pair(NamedTuple):
        w: object

    a = dj.Variables({"w": jnp.ones(2)}, {"n": jnp.int32(1)})
    cases = [
        (dj.Variables({"w": jnp.ones(2)}, {}), "model_state.n is in variables only"),
        (a._replace(params={"w": jnp.ones(2), "v": jnp.ones(1)}), "params.v is in other only"),
        (
            a._replace(params={"w": jnp.ones(3)}),
            r"params.w is float32 \(2,\) in variables but float32 \(3,\)",
        ),
        (a._replace(params={"w": jnp.ones(2, jnp.int32)}), "params.w is float32 .* but int32"),
        (a._replace(model_state={"n": jnp.int32(2)}), "model_state.n is int32 and differs"),
    ]
    for other, message in cases:
        with pytest.raises(InputError, match=message):
            interpolate(a, other, 0.5)
    # Only the names count, so that networks from different sources meet.
    assert interpolate(a, a._replace(params=Pair(jnp.zeros(2))), 0.5).params["w"].tolist() == [0.5, 0.5]
    wide = jax.tree.map(lambda leaf: jnp.ones((*leaf.shape, 2)), conv_variables)
    with pytest.raises(InputError, match=r"params.BatchNorm_0.bias is float32 \(4,\)"):
        path_correct(conv_model, conv_variables, wide, train_split)
    with pytest.raises(InputError, match=r"model_state.n is int32 and differs"):
        path_correct(TwoUnits(), a, cases[-1][0], magnitudes())


# Heights


def test_chord_and_mean_in_closed_form():
    a = np.linspace(0, 1, 5)
    curve = np.array([0.1, 0.5, 0.4, 0.9, 0.3])
    chord = max(curve[i] - (1 - a[i]) * 0.1 - a[i] * 0.3 for i in range(5))
    assert chord == pytest.approx(0.65)
    np.testing.assert_allclose(barrier_height(jnp.asarray(curve)), chord, rtol=1e-6)
    np.testing.assert_allclose(barrier_height(jnp.asarray(curve), ends="mean"), 0.9 - 0.2, rtol=1e-6)
    # Where the ends differ the highest point need not be the same.
    steep = jnp.array([0.0, 0.4, 0.6, 0.8, 0.9])
    np.testing.assert_allclose(barrier_height(steep), 0.4 - 0.9 / 4, rtol=1e-5)
    np.testing.assert_allclose(barrier_height(steep, ends="mean"), 0.9 - 0.45, rtol=1e-5)


@pytest.mark.parametrize("points", [3, 4, 11, 30])
def test_curves_that_stay_below_the_chord_have_no_barrier(points):
    a = np.linspace(0, 1, points)
    rng = np.random.default_rng(points)
    convex = [rng.uniform(0.1, 3) * (a - rng.uniform(-1, 2)) ** 2 for _ in range(20)]
    heights = barrier_height(jnp.asarray(np.array(convex), jnp.float32))
    assert (np.asarray(heights) == 0).all()
    assert float(barrier_height(jnp.full(points, 0.1))) == 0
    # The chord never counts against a path, whatever rounding does at the ends.
    random = rng.uniform(size=(200, 1)) * np.ones(points) + rng.uniform(size=(200, 1)) * a
    heights = np.asarray(barrier_height(jnp.asarray(random, jnp.float32)))
    assert (heights >= 0).all()
    assert heights.max() < 1e-6


def test_the_loss_of_a_convex_problem_has_no_barrier():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    first, last = rng.normal(size=(2, 3, 2))
    losses = [
        dj.cross_entropy(jnp.asarray(x @ ((1 - a) * first + a * last)), jnp.asarray(y)).mean()
        for a in np.linspace(0, 1, 7)
    ]
    assert float(barrier_height(jnp.array(losses))) == 0
    assert float(barrier_height(-jnp.array(losses))) > 0.01


def test_leading_axes_vmap_and_jit():
    curves = np.random.default_rng(2).uniform(size=(2, 3, 6)).astype(np.float32)
    for ends in ("chord", "mean"):
        one_by_one = [[float(barrier_height(c, ends=ends)) for c in row] for row in curves]
        np.testing.assert_allclose(barrier_height(curves, ends=ends), one_by_one, rtol=1e-6)
        mapped = jax.jit(jax.vmap(lambda row: barrier_height(row, ends=ends)))(curves)  # noqa: B023
        np.testing.assert_allclose(mapped, one_by_one, rtol=1e-6)
        reverse = barrier_height(curves[..., ::-1], ends=ends)
        np.testing.assert_allclose(reverse, one_by_one, rtol=1e-5)
    assert np.isnan(barrier_height(jnp.array([0.0, jnp.nan, 0.0])))


def test_heights_refuse_what_they_cannot_take(unchecked_types):
    with pytest.raises(InputError, match="3 points or more"):
        barrier_height(jnp.zeros(2))
    with pytest.raises(InputError, match="ends must be one of chord, mean"):
        barrier_height(jnp.zeros(3), ends="max")


# Networks


def test_hidden_units_that_swap_places_put_a_known_barrier_between_equal_functions():
    """At `a` both units are `±(1 − 2a)x`, so that class 1 (|x| = 2) is found where |1 − 2a| > 1/2."""
    data, first, last = magnitudes(), units(1, -1), units(-1, 1)
    correct = path_correct(TwoUnits(), first, last, data, num_points=11)
    a = np.linspace(0, 1, 11)
    expected = (data.labels == 0)[None] | (np.abs(1 - 2 * a) > 0.5)[:, None]
    np.testing.assert_array_equal(correct, expected)
    assert error_barrier(TwoUnits(), first, last, data) == pytest.approx(3 / 8)
    assert error_barrier(TwoUnits(), first, last, data, rows=np.flatnonzero(data.labels)) == 1
    assert error_barrier(TwoUnits(), first, last, data, rows=np.array([0, 2]), num_points=3) == 0.5
    # A dead end calls everything class 0, and so does the path from a = 1/2 on: of 4 points the third.
    dead = units(0, 0)
    heights = [error_barrier(TwoUnits(), first, dead, data, num_points=4, ends=e) for e in ("chord", "mean")]
    np.testing.assert_allclose(heights, [3 / 8 * (1 - 2 / 3), 3 / 16], rtol=1e-6)


def test_a_network_has_no_barrier_to_itself(conv_model, conv_variables, train_split):
    for ends in ("chord", "mean"):
        height = error_barrier(conv_model, conv_variables, conv_variables, train_split, ends=ends)
        assert type(height) is float
        assert height == 0


def test_all_pairs():
    networks = [units(1, -1), units(-1, 1), units(1, -1)]
    heights = pairwise_barriers(TwoUnits(), networks, magnitudes(), num_points=5)
    np.testing.assert_allclose(heights, np.array([[0, 3, 0], [3, 0, 3], [0, 3, 0]]) / 8, rtol=1e-6)
    rows = np.flatnonzero(magnitudes().labels == 0)
    assert (pairwise_barriers(TwoUnits(), networks, magnitudes(), rows=rows) == 0).all()


def test_examples_on_the_path_equal_one_at_a_time(conv_model, ends, train_split):
    rows = np.array([41, 3, 17, 0, 49, 22, 8])
    correct = path_correct(conv_model, *ends, train_split, num_points=5, rows=rows, batch_size=3)
    assert correct.dtype == bool
    predict = jax.jit(conv_model.predict)
    mean, std = (np.array(v, np.float32) for v in train_split.normalization)
    for i, a in enumerate(np.linspace(0, 1, 5)):
        point = jax.tree.map(lambda x, y: (1 - a) * np.asarray(x) + a * np.asarray(y), *ends)  # noqa: B023
        for j, row in enumerate(rows):
            image = jnp.asarray((train_split.images[row] - mean) / std)
            label = int(jnp.argmax(predict(jax.tree.map(jnp.float32, point), image[None])))
            assert correct[i, j] == (label == train_split.labels[row])
    assert 0 < correct.mean() < 1
    whole = path_correct(conv_model, *ends, train_split, num_points=5)
    assert whole.shape == (5, 50)
    np.testing.assert_array_equal(whole[:, rows], correct)


def test_all_points_and_all_pairs_run_one_program(conv_model, ends, train_split):
    # No other test has batches of this size; the line itself may be compiled already.
    with compilations() as names:
        path_correct(conv_model, *ends, train_split, num_points=3, batch_size=13)
    assert set(names) - {"jit(_interpolated)"} == {"jit(mapped_batches)"}
    assert len(names) == len(set(names))
    with compilations() as names:
        path_correct(conv_model, *ends[::-1], train_split, num_points=9, batch_size=13)
        path_correct(conv_model, *ends, train_split, num_points=4, rows=np.arange(20), batch_size=13)
    assert names == []


def test_paths_refuse_what_they_cannot_take(conv_model, ends, train_split, unchecked_types):
    def path(**options):
        return path_correct(conv_model, *ends, train_split, **options)

    with pytest.raises(InputError, match="num_points must be at least 3"):
        path(num_points=2)
    with pytest.raises(
        InputError, match="batch_statistics must be one of interpolated, reestimated, got 'batch'"
    ):
        path(batch_statistics="batch")
    for rows in ([0, 50], [-1], [4, 4]):
        with pytest.raises(InputError, match="rows must be distinct, from 0 to 49"):
            path(rows=np.array(rows))
    for rows in (np.ones(49, bool), np.zeros(50, bool), np.zeros(0, int), np.zeros((2, 2), int)):
        with pytest.raises(InputError, match="rows must be integers, at least one"):
            path(rows=rows)


# BatchNorm


def batch_statistics_by_hand(variables, images):
    """Mean and biased variance of a 3x3 convolution of stride 4 on 8x8 images, which needs no padding."""
    kernel, bias = (np.asarray(variables.params["Conv_0"][k], np.float64) for k in ("kernel", "bias"))
    patches = [images[:, i : i + 3, j : j + 3] for i in (0, 4) for j in (0, 4)]
    out = np.concatenate([np.einsum("bhwi,hwio->bo", patch, kernel) + bias for patch in patches])
    return out.mean(axis=0), out.var(axis=0)


@pytest.mark.parametrize(("rows", "num_batches", "batch_size"), [(None, 4, 16), ([3, 44, 20, 7, 31], 5, 128)])
def test_statistics_measured_anew_equal_the_batches_by_hand(
    rows, num_batches, batch_size, conv_model, conv_variables, train_split
):
    kept = np.arange(50, dtype=np.int32) if rows is None else np.array(rows, np.int32)
    result = reestimate_statistics(
        conv_model,
        conv_variables,
        train_split,
        rows=None if rows is None else kept,
        num_batches=num_batches,
        batch_size=batch_size,
    )
    assert_same_bits(result.params, conv_variables.params)
    size = min(batch_size, len(kept))
    order = jax.jit(batch_rows, static_argnames=("num_steps", "batch_size"))(
        jax.random.key(0), kept, 0, num_steps=num_batches, batch_size=size
    )
    assert set(np.asarray(order).ravel()) <= set(kept.tolist())
    norm = train_split.normalization
    images = (train_split.images - np.array(norm.mean)) / np.array(norm.std)
    running = jax.tree.map(np.float64, conv_variables.model_state["batch_stats"]["BatchNorm_0"])
    for batch in np.asarray(order):
        mean, var = batch_statistics_by_hand(conv_variables, images[batch])
        running = {"mean": 0.9 * running["mean"] + 0.1 * mean, "var": 0.9 * running["var"] + 0.1 * var}
    found = result.model_state["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], running["mean"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["var"], running["var"], rtol=1e-4, atol=1e-5)


def test_old_statistics_are_forgotten_as_the_running_average_forgets(conv_model, conv_variables, train_split):
    """With every row in every batch the batch statistics are one number, so that only the old ones remain."""
    norm = train_split.normalization
    images = (train_split.images - np.array(norm.mean)) / np.array(norm.std)
    mean, _ = batch_statistics_by_hand(conv_variables, images)
    old = np.asarray(conv_variables.model_state["batch_stats"]["BatchNorm_0"]["mean"])
    for batches in (2, 100):
        result = reestimate_statistics(conv_model, conv_variables, train_split, num_batches=batches)
        found = np.asarray(result.model_state["batch_stats"]["BatchNorm_0"]["mean"])
        np.testing.assert_allclose(found, mean + 0.9**batches * (old - mean), rtol=1e-4, atol=2e-5)
    with compilations() as names:
        reestimate_statistics(conv_model, conv_variables, train_split, num_batches=100)
    assert names == []


def test_statistics_of_a_dataset_sorted_by_class_are_those_of_all_classes(conv_model, conv_variables):
    """The last batches in stored order would hold the bright class alone."""
    labels = np.repeat([0, 1], 32)
    images = np.zeros((64, 8, 8, 2), np.uint8) + (200 * labels).astype(np.uint8).reshape(-1, 1, 1, 1)
    data = dj.Dataset.from_arrays(images, labels)
    result = reestimate_statistics(conv_model, conv_variables, data, batch_size=8)
    norm = data.normalization
    pixels = (images - np.array(norm.mean)) / np.array(norm.std)
    mean, var = batch_statistics_by_hand(conv_variables, pixels)
    found = np.asarray(result.model_state["batch_stats"]["BatchNorm_0"]["mean"])
    assert (np.abs(found - mean) < 0.3 * np.sqrt(var)).all()


@pytest.mark.parametrize("elsewhere", [pytest.param(False, marks=pytest.mark.slow), True])
def test_points_with_statistics_measured_anew(elsewhere, conv_model, ends, train_split, test_split):
    negative = dj.Dataset.from_arrays(
        255 - train_split.images, train_split.labels, normalization=test_split.normalization
    )
    options = {"num_points": 3, "rows": np.arange(22, -1, -1)}
    anew = {"batch_statistics": "reestimated", "statistics_dataset": negative if elsewhere else None}
    found = path_correct(conv_model, *ends, test_split, **options, **anew)
    assert found.shape == (3, 23)
    mean, std = (np.array(v, np.float32) for v in test_split.normalization)
    images = jnp.asarray((test_split.images - mean) / std)
    predict = jax.jit(conv_model.predict)
    for i, a in enumerate((0, 0.5, 1)):
        point = reestimate_statistics(
            conv_model, interpolate(*ends, a), negative if elsewhere else test_split
        )
        expected = np.asarray(jnp.argmax(predict(point, images), axis=-1)) == test_split.labels
        np.testing.assert_array_equal(found[i, ::-1], expected)
    assert (path_correct(conv_model, *ends, test_split, **options) != found).any()
    other = anew | {"statistics_dataset": None if elsewhere else negative}
    assert (path_correct(conv_model, *ends, test_split, **options, **other) != found).any()
    errors = jnp.asarray(1 - found.mean(axis=1), jnp.float32)
    height = error_barrier(conv_model, *ends, test_split, ends="mean", **options, **anew)
    np.testing.assert_allclose(height, barrier_height(errors, ends="mean"), atol=1e-6)


def test_models_without_statistics_stay_as_they_are():
    variables = units(1, -1)
    assert reestimate_statistics(TwoUnits(), variables, magnitudes()) is variables
    for options in ({"num_batches": 0}, {"batch_size": 0}):
        with pytest.raises(InputError, match="at least 1"):
            reestimate_statistics(TwoUnits(), variables, magnitudes(), **options)
    with pytest.raises(InputError, match="rows must be distinct"):
        reestimate_statistics(TwoUnits(), variables, magnitudes(), rows=np.array([8]))


# Onset


@pytest.mark.parametrize(
    ("barriers", "onset"),
    [
        ([0.3, 0.1, 0.01, 0.0], 200),
        ([0.3, 0.01, 0.2, 0.0], 300),
        ([0.0, 0.0, 0.0, 0.0], 0),
        ([0.3, 0.0, 0.0, 0.02], None),
        ([0.3, np.nan, 0.0, 0.0], 200),
        ([0.3, 0.3, 0.3, np.nan], None),
    ],
)
def test_onset_is_the_step_after_the_last_barrier(barriers, onset):
    steps = [0, 100, 200, 300]
    assert connectivity_onset(steps, barriers) == onset
    assert connectivity_onset(steps, np.array(barriers, np.float32)) == onset


def test_onset_options_and_errors():
    assert connectivity_onset([0, 5], [0.3, 0.1], threshold=0.2) == 5
    assert connectivity_onset([], []) is None
    for steps, barriers in (([0, 1], [0.0]), ([1, 1], [0.0, 0.0]), ([2, 1], [0.0, 0.0])):
        with pytest.raises(InputError, match="spawn_steps must ascend"):
            connectivity_onset(steps, barriers)


# Children


def run(state, stop, model, dataset):
    kept = np.arange(len(dataset), dtype=np.int32)
    steps = train_between(
        state, dataset.examples(), kept, [stop], program=dj.Program(model, CONFIG, CONFIG.steps)
    )
    return next(steps)[0]


@pytest.fixture
def parent(conv_model, train_split):
    state = start(KEY, train_split, program=dj.Program(conv_model, CONFIG, 9))
    return run(state, 4, conv_model, train_split)


@pytest.mark.slow
def test_a_child_with_the_key_of_its_parent_is_its_parent(parent, conv_model, train_split):
    child = spawn(parent, parent.key)
    assert_same_bits(child, parent)
    child = run(child, 9, conv_model, train_split)
    parent = run(parent, 9, conv_model, train_split)
    assert_same_bits(child, parent)
    # And the parent went where it would have gone without a child.
    alone = run(
        start(KEY, train_split, program=dj.Program(conv_model, CONFIG, 9)), 9, conv_model, train_split
    )
    assert_same_bits(alone, parent)


@pytest.mark.slow
def test_training_a_child_leaves_its_parent_and_its_key_alone(parent, conv_model, train_split):
    key = jax.random.key(77)
    before = jax.tree.map(np.array, parent._replace(key=jax.random.key_data(parent.key)))
    child = spawn(parent, key)
    np.testing.assert_array_equal(jax.random.key_data(child.key), jax.random.key_data(key))
    assert_same_bits(child._replace(key=parent.key), parent)
    trained = run(child, 9, conv_model, train_split)
    assert_same_bits(jax.tree.map(np.array, parent._replace(key=jax.random.key_data(parent.key))), before)
    assert jax.random.key_data(key).shape == (2,)
    # Another order of the data: the child goes elsewhere, through the rest of the same schedule.
    parent = run(parent, 9, conv_model, train_split)
    assert int(trained.step) == int(parent.step) == 9
    apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), trained.variables, parent.variables)
    assert max(jax.tree.leaves(apart)) > 1e-3


def test_training_a_parent_leaves_its_child_alone(parent, conv_model, train_split):
    child = spawn(parent, parent.key)
    finished = run(parent, 9, conv_model, train_split)
    assert int(child.step) == 4
    assert_same_bits(run(child, 9, conv_model, train_split), finished)


# The norm of the input


def test_input_norm_is_the_norm_of_the_normalised_image(train_split, conv_variables):
    norms = dj.score_dataset(input_norm, conv_variables, train_split, batch_size=16)
    mean, std = (np.array(v) for v in train_split.normalization)
    pixels = (train_split.images.astype(np.float64) - mean) / std
    np.testing.assert_allclose(norms, np.sqrt((pixels**2).sum(axis=(1, 2, 3))), rtol=1e-6)
    assert norms.dtype == np.float32
    half = input_norm(dj.Variables({}, {}), jnp.full((1, 100, 100, 1), 200, jnp.float16), jnp.array([0]))
    assert half.tolist() == [20000.0]


def test_rows_may_be_a_mask(conv_model, ends, train_split):
    mask = np.zeros(50, bool)
    mask[[3, 10, 44]] = True
    chosen = path_correct(conv_model, *ends, train_split, num_points=3, rows=mask)
    np.testing.assert_array_equal(
        chosen, path_correct(conv_model, *ends, train_split, num_points=3, rows=np.array([3, 10, 44]))
    )


def test_training_on_from_a_state_is_the_training_that_was_not_cut(conv_model, train_split):
    whole, history = dj.train(KEY, conv_model, train_split, config=CONFIG)
    first, _ = dj.train(KEY, conv_model, train_split, config=CONFIG, num_updates=4)
    for _ in range(2):  # The state given is not used up.
        last, rest = dj.train_from(first, conv_model, train_split, config=CONFIG)
        for one, other in zip(jax.tree.leaves(last.variables), jax.tree.leaves(whole.variables), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(rest.loss, history.loss[4:])
    child, _ = dj.train_from(spawn(first, jax.random.key(9)), conv_model, train_split, config=CONFIG)
    assert not np.array_equal(jax.tree.leaves(child.variables)[0], jax.tree.leaves(whole.variables)[0])
    with pytest.raises(InputError, match="ascend from step 9 to at most 9, got 4"):
        dj.train_from(whole, conv_model, train_split, config=CONFIG, num_updates=4)


def test_counts_of_errors_have_barriers_too():
    assert barrier_height(np.array([0, 1, 1])) == 0.5
    assert barrier_height(np.array([[0, 3, 1, 2, 4]])).tolist() == [2.0]
