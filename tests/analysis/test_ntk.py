"""The tangent kernel against closed forms and whole Jacobians; linearised training against regression."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import diet_jax as dj
from diet_jax.analysis import ntk
from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.models.linearized import LinearizedModel, linearize
from diet_jax.training.step import init_state, train_step

RNG = np.random.default_rng(5)
IMAGES = jnp.asarray(RNG.normal(size=(17, 8, 8, 2)), jnp.float32)
FEW, OTHERS = IMAGES[:7], IMAGES[7:12]
KEY = jax.random.key(3)
NUM_CLASSES = 3


def spectrum(size: int, seed: int) -> np.ndarray:
    """A random positive definite matrix, float64."""
    factor = np.random.default_rng(seed).normal(size=(size, size))
    return factor @ factor.T


def numpy_distance(gram, other) -> float:
    gram, other = np.asarray(gram, np.float64), np.asarray(other, np.float64)
    return 1 - (gram * other).sum() / np.sqrt((gram**2).sum() * (other**2).sum())


def whole_jacobian(model, variables, images) -> np.ndarray:
    """Rows (image, class), columns parameters, float64."""
    flat, unravel = ravel_pytree(variables.params)

    @jax.jit
    def jacobian(flat):
        return jax.jacrev(lambda flat: model.predict(variables._replace(params=unravel(flat)), images))(flat)

    return np.asarray(jacobian(flat), np.float64).reshape(-1, flat.size)


def row_bytes(variables) -> int:
    return 4 * sum(leaf.size for leaf in jax.tree.leaves(variables.params))


@pytest.fixture(scope="module")
def later_variables(conv_variables):
    """The same network some training later."""
    leaves, structure = jax.tree.flatten(conv_variables.params)
    rng = np.random.default_rng(8)
    moved = [leaf + 0.3 * jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) for leaf in leaves]
    return conv_variables._replace(params=jax.tree.unflatten(structure, moved))


@pytest.fixture(scope="module")
def mlp():
    model = dj.create_model("mlp", num_classes=NUM_CLASSES, widths=[64])
    return model, jax.jit(model.init, static_argnums=1)(KEY, (8, 8, 2))


@pytest.fixture(scope="module")
def linear():
    model = dj.from_linen(nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(NUM_CLASSES)]))
    return model, jax.jit(model.init, static_argnums=1)(KEY, (8, 8, 2))


def with_bias(images) -> np.ndarray:
    images = np.asarray(images, np.float64).reshape(len(images), -1)
    return np.concatenate([images, np.ones((len(images), 1))], axis=1)


def test_the_kernel_of_a_linear_model_is_that_of_its_inputs(linear):
    model, variables = linear
    inputs = with_bias(FEW)
    expected = np.kron(inputs @ inputs.T, np.eye(NUM_CLASSES))
    np.testing.assert_allclose(ntk.logit_gram(model.predict, variables, FEW), expected, rtol=1e-5, atol=1e-4)


# Single logits, two of three logits, blocks of one, three and twelve images, and all at once.
@pytest.mark.parametrize(
    "rows", [3, *(pytest.param(rows, marks=pytest.mark.slow) for rows in (6, 9, 48)), 15, 10**6]
)
def test_blocks_of_any_size_give_the_product_of_jacobians(conv_model, conv_variables, rows):
    images = IMAGES if rows >= 15 else FEW
    jacobian = whole_jacobian(conv_model, conv_variables, images)
    block_bytes = rows * row_bytes(conv_variables)
    gram = ntk.logit_gram(conv_model.predict, conv_variables, images, block_bytes=block_bytes)
    np.testing.assert_allclose(gram, jacobian @ jacobian.T, rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(gram, gram.T)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [6, 12, 10**6])
def test_a_rectangular_kernel(conv_model, conv_variables, rows):
    jacobian = whole_jacobian(conv_model, conv_variables, IMAGES)
    expected = (jacobian @ jacobian.T)[:21, 21:36]
    block_bytes = rows * row_bytes(conv_variables)
    gram = functools.partial(ntk.logit_gram, conv_model.predict, conv_variables, block_bytes=block_bytes)
    np.testing.assert_allclose(gram(FEW, OTHERS), expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(gram(OTHERS, np.asarray(FEW)), expected.T, rtol=2e-5, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "images"), [(15, (FEW,)), (6, (FEW[:4], OTHERS))])
def test_the_loop_on_the_device_is_the_loop_on_the_host(conv_model, conv_variables, rows, images):
    block_bytes = rows * row_bytes(conv_variables)
    gram = functools.partial(ntk.logit_gram, conv_model.predict, block_bytes=block_bytes)
    expected = gram(conv_variables, *images)
    np.testing.assert_allclose(jax.jit(gram)(conv_variables, *images), expected, rtol=1e-5, atol=1e-5)


def test_an_mlp(mlp):
    model, variables = mlp
    jacobian = whole_jacobian(model, variables, FEW)
    gram = ntk.logit_gram(model.predict, variables, FEW, block_bytes=12 * row_bytes(variables))
    np.testing.assert_allclose(gram, jacobian @ jacobian.T, rtol=1e-5, atol=1e-4)


def test_memory_stays_within_the_budget(mlp):
    model, variables = mlp
    images = jnp.tile(FEW, (10, 1, 1, 1))
    row, rows = row_bytes(variables), len(images) * NUM_CLASSES
    budget = 30 * row

    def temporary(fn):
        return jax.jit(fn).lower(variables, images).compile().memory_analysis().temp_size_in_bytes

    def naive(variables, images):
        jacobian = jax.jacrev(lambda p: model.predict(variables._replace(params=p), images))(variables.params)
        flat = [leaf.reshape(rows, -1) for leaf in jax.tree.leaves(jacobian)]
        return sum(leaf @ leaf.T for leaf in flat)

    blocks = temporary(functools.partial(ntk.logit_gram, model.predict, block_bytes=budget))
    # Besides the rows there is the kernel itself, and a copy or two.
    assert 0.5 * budget < blocks < budget + 4 * 4 * rows**2
    assert temporary(naive) > rows * row > 4 * blocks


def test_on_the_host_no_more_rows_are_kept_than_fit(conv_model, conv_variables, monkeypatch):
    sizes = []

    def noting(gram, left, right, row, column):
        sizes.append(len(left[0]) + 2 * len(right[0]) * (left is not right))
        return gram

    monkeypatch.setattr(ntk.gram, "_put_products", noting)
    for rows in (5, 9, 16, 48):
        block_bytes = rows * row_bytes(conv_variables)
        ntk.logit_gram(
            conv_model.predict, conv_variables, IMAGES if rows == 48 else FEW, block_bytes=block_bytes
        )
        assert max(sizes) <= rows
        sizes.clear()


def test_more_blocks_are_no_longer_program(conv_model, conv_variables):
    block_bytes = 12 * row_bytes(conv_variables)

    def lines(images):
        gram = functools.partial(ntk.logit_gram, conv_model.predict, block_bytes=block_bytes)
        return str(jax.make_jaxpr(gram)(conv_variables, images)).count("\n")

    assert lines(IMAGES) == lines(jnp.tile(IMAGES, (20, 1, 1, 1)))


def test_products_are_in_full_precision(mlp):
    model, variables = mlp
    program = str(jax.make_jaxpr(functools.partial(ntk.logit_gram, model.predict))(variables, FEW))
    assert program.count("Precision.HIGHEST") >= len(jax.tree.leaves(variables.params))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES[:0]}, "at least one image"),
        ({"other": jnp.zeros((2, 4, 4, 2))}, "of one shape"),
        ({"block_bytes": 1000}, "block_bytes must be at least 1620, three rows"),
    ],
)
def test_bad_input_of_the_gram(conv_model, conv_variables, changes, message):
    arguments = {"images": FEW, **changes}
    with pytest.raises(InputError, match=message):
        ntk.logit_gram(conv_model.predict, conv_variables, **arguments)


def test_kernel_distance_equals_numpy():
    one, two = spectrum(9, 0), spectrum(9, 1)
    distance = ntk.kernel_distance(np.float32(one), np.float32(two))
    assert float(distance) == pytest.approx(numpy_distance(one, two), rel=1e-5)
    assert 0 < distance < 1


@pytest.mark.parametrize("scale", [1e-25, 0.3, 1, 7e25])
def test_the_scale_of_a_kernel_is_no_distance(scale):
    gram = spectrum(9, 0)
    assert 0 <= ntk.kernel_distance(np.float32(gram), np.float32(scale * gram)) < 1e-12
    assert ntk.kernel_velocity(np.float32(gram), np.float32(scale * gram), duration=0.4) < 1e-12


def test_small_distances_keep_their_digits():
    one = np.float32(spectrum(30, 0))
    two = np.float32(one + 5e-4 * spectrum(30, 1))
    exact = numpy_distance(one, two)
    assert exact < 2e-7
    assert float(ntk.kernel_distance(one, two)) == pytest.approx(exact, rel=1e-2)


def test_orthogonal_kernels_have_distance_one():
    assert float(ntk.kernel_distance(np.diag([1.0, 0]), np.diag([0, 2.0]))) == pytest.approx(1)


def test_distances_of_a_stack():
    grams = np.float32([spectrum(5, seed) for seed in range(3)])
    distances = jax.jit(jax.vmap(ntk.kernel_distance, (0, None)))(grams, grams[0])
    np.testing.assert_allclose(distances, [numpy_distance(g, grams[0]) for g in grams], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [0, np.nan])
def test_a_kernel_without_direction_has_no_distance(bad):
    gram = np.float32(spectrum(3, 0))
    assert np.isnan(ntk.kernel_distance(gram, np.full_like(gram, bad)))
    assert np.isnan(ntk.kernel_distance(np.full_like(gram, bad), gram))


@pytest.mark.usefixtures("unchecked_types")
def test_kernels_of_other_examples_are_an_error():
    with pytest.raises(InputError, match=r"shape \(3, 3\); got \(4, 4\)"):
        ntk.kernel_distance(jnp.eye(3), jnp.eye(4))


def test_velocity_is_distance_over_time():
    one, two = np.float32(spectrum(6, 0)), np.float32(spectrum(6, 1))
    velocity = ntk.kernel_velocity(one, two, duration=0.4)
    assert float(velocity) == pytest.approx(2.5 * numpy_distance(one, two), rel=1e-5)
    for duration in (0, -1.0, float("nan")):
        with pytest.raises(InputError, match="duration must be above 0"):
            ntk.kernel_velocity(one, two, duration=duration)


@pytest.mark.parametrize(("ridge", "from_network"), [(1e-3, False), (0.3, True)])
def test_kernel_regression_of_a_linear_model_is_ridge_regression(linear, ridge, from_network):
    model, variables = linear
    inputs, test_inputs = with_bias(IMAGES), with_bias(OTHERS + 1)
    targets = RNG.normal(size=(len(IMAGES), NUM_CLASSES))
    weights = np.zeros((inputs.shape[1], NUM_CLASSES))
    logits = {}
    if from_network:
        dense = next(iter(variables.params.values()))
        weights = np.concatenate([np.asarray(dense["kernel"]), np.asarray(dense["bias"])[None]])
        logits = {
            "logits": model.predict(variables, IMAGES),
            "test_logits": model.predict(variables, OTHERS + 1),
        }
    penalty = ridge * np.mean(np.sum(inputs**2, axis=1)) * np.eye(inputs.shape[1])
    step = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ (targets - inputs @ weights))
    gram = ntk.logit_gram(model.predict, variables, IMAGES)
    test_gram = ntk.logit_gram(model.predict, variables, OTHERS + 1, IMAGES)
    predicted = ntk.kernel_regression(gram, np.float32(targets), test_gram, ridge=ridge, **logits)
    np.testing.assert_allclose(predicted, test_inputs @ (weights + step), atol=2e-4)


def test_kernel_regression_without_ridge_goes_through_the_targets():
    gram = np.float32(spectrum(6, 0) + np.eye(6))
    targets = np.float32(RNG.normal(size=(2, 3)))
    np.testing.assert_allclose(ntk.kernel_regression(gram, targets, gram, ridge=0), targets, atol=1e-4)
    assert np.isnan(ntk.kernel_regression(-gram, targets, gram, ridge=0)).all()


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gram": jnp.eye(5)}, r"a gram of shape \(6, 6\)"),
        ({"test_gram": jnp.ones((3, 5))}, "a test_gram of 6 columns"),
        ({"test_gram": jnp.ones((4, 6))}, "3 rows for each test image"),
        ({"ridge": -1.0}, "ridge must be at least 0"),
        ({"logits": jnp.ones((2, 3))}, "given together"),
        ({"logits": jnp.ones((2, 3)), "test_logits": jnp.ones((2, 3))}, r"shapes \(2, 3\) and \(1, 3\)"),
    ],
)
def test_bad_input_of_kernel_regression(changes, message):
    arguments = {"gram": jnp.eye(6), "targets": jnp.ones((2, 3)), "test_gram": jnp.ones((3, 6)), "ridge": 0.0}
    with pytest.raises(InputError, match=message):
        ntk.kernel_regression(**{**arguments, **changes})


def test_the_estimated_kernel_is_unbiased_and_knows_its_error(conv_model, conv_variables):
    images, runs, directions = FEW[:3], 60, 100
    jacobian = whole_jacobian(conv_model, conv_variables, images)
    exact = jacobian @ jacobian.T
    estimate = functools.partial(
        ntk.estimate_logit_gram, predict_fn=conv_model.predict, num_projections=directions
    )
    many = jax.jit(jax.vmap(lambda key: estimate(key, variables=conv_variables, images=images)))
    grams, errors = (np.asarray(part, np.float64) for part in many(jax.random.split(KEY, runs)))
    # The mean over runs has an error of its own; entries are many, so 5 of them.
    assert np.max(np.abs(grams.mean(0) - exact) / (grams.std(0, ddof=1) / np.sqrt(runs))) < 5
    within = np.mean(np.abs(grams - exact) < 2 * errors, axis=(1, 2))
    # The share within two errors is 95.4 % for a normal distribution; runs are independent.
    assert abs(within.mean() - 0.954) < 4 * within.std(ddof=1) / np.sqrt(runs) + 0.01
    assert np.median(errors.mean(0) / grams.std(0, ddof=1)) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
def test_the_estimated_distance_is_unbiased_and_knows_its_error(conv_model, conv_variables, later_variables):
    runs = 100
    states = (conv_variables, later_variables)
    jacobians = [whole_jacobian(conv_model, state, FEW) for state in states]
    exact = numpy_distance(*(jacobian @ jacobian.T for jacobian in jacobians))
    assert exact > 0.01

    @jax.jit
    @jax.vmap
    def many(key):
        return ntk.estimate_kernel_distance(key, conv_model.predict, *states, FEW, num_projections=100)

    distances, errors = (np.asarray(part, np.float64) for part in many(jax.random.split(KEY, runs)))
    spread = distances.std(ddof=1)
    # A ratio of unbiased estimates: its own bias is of the order of its variance.
    assert abs(distances.mean() - exact) < 4 * spread / np.sqrt(runs) + spread**2 / exact
    # The variance over 100 runs is itself known to about √(2/99) = 14 %.
    assert np.mean(errors**2) / spread**2 == pytest.approx(1, abs=4 * np.sqrt(2 / (runs - 1)))
    assert np.mean(np.abs(distances - exact) < 3 * errors) > 0.9


def test_equal_weights_have_no_estimated_distance(conv_model, conv_variables):
    states = (conv_variables, conv_variables)
    estimate = ntk.estimate_kernel_distance(KEY, conv_model.predict, *states, FEW, num_projections=6)
    assert abs(estimate.distance) < 1e-6
    assert estimate.standard_error < 1e-6


def test_passes_of_a_few_images_are_the_same_estimate(conv_model, conv_variables, monkeypatch):
    estimate = functools.partial(ntk.estimate_logit_gram, predict_fn=conv_model.predict, num_projections=4)
    expected = estimate(KEY, variables=conv_variables, images=FEW)
    monkeypatch.setattr(ntk.estimates, "MOST_IMAGES_PER_PASS", 3)
    for result in (
        estimate(KEY, variables=conv_variables, images=FEW),
        jax.jit(lambda v, x: estimate(KEY, variables=v, images=x))(conv_variables, FEW),
    ):
        np.testing.assert_allclose(result.gram, expected.gram, rtol=1e-5, atol=1e-5)


def test_too_few_projections_are_an_error(conv_model, conv_variables):
    with pytest.raises(InputError, match="num_projections must be at least 2, got 1"):
        ntk.estimate_logit_gram(KEY, conv_model.predict, conv_variables, FEW, num_projections=1)
    states = (conv_variables, conv_variables)
    with pytest.raises(InputError, match="at least 4, got 3"):
        ntk.estimate_kernel_distance(KEY, conv_model.predict, *states, FEW, num_projections=3)
    with pytest.raises(InputError, match="at least one image"):
        ntk.estimate_logit_gram(KEY, conv_model.predict, conv_variables, FEW[:0], num_projections=9)


def moved(variables, step, by=1.0):
    params = jax.tree.map(lambda w, d: w + jnp.float32(by) * d, variables.params, step)
    return variables._replace(params=params)


@pytest.fixture(scope="module")
def step(conv_variables, later_variables):
    return jax.tree.map(jnp.subtract, later_variables.params, conv_variables.params)


def test_a_linearised_model_is_the_network_at_the_origin_and_linear(conv_model, conv_variables, step):
    model, variables = linearize(conv_model, conv_variables)
    predict = jax.jit(model.predict)
    at_origin = conv_model.predict(conv_variables, FEW)
    # The tangent's programs compute it along with a slope of zero: equal up to rounding.
    np.testing.assert_allclose(model.predict(variables, FEW), at_origin, rtol=1e-5, atol=1e-6)
    jacobian = whole_jacobian(conv_model, conv_variables, FEW)
    change = (jacobian @ np.asarray(ravel_pytree(step)[0], np.float64)).reshape(7, 3)
    for by in (-2.0, 1.0, 1000.0):
        expected = at_origin + by * change
        np.testing.assert_allclose(predict(moved(variables, step, by), FEW), expected, rtol=1e-4, atol=1e-4)


def test_its_slope_is_the_networks_finite_difference(conv_model, conv_variables, step):
    model, variables = linearize(conv_model, conv_variables)
    predict = jax.jit(conv_model.predict)
    small = 1e-3
    ahead, behind = (predict(moved(conv_variables, step, by), FEW) for by in (small, -small))
    slope = model.predict(moved(variables, step), FEW) - model.predict(variables, FEW)
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * small), rtol=5e-3, atol=5e-3)


def test_the_mode_makes_no_difference_to_a_linearised_model(conv_model, conv_variables, step):
    model, variables = linearize(conv_model, conv_variables)
    variables = moved(variables, step)
    expected = model.predict(variables, FEW)
    for train in (False, True):
        logits, state = model.apply(variables, FEW, train=train)
        np.testing.assert_array_equal(logits, expected)
        assert state is variables.model_state


def test_linearised_models_of_equal_networks_are_equal(conv_model, conv_variables):
    model, _ = linearize(conv_model, conv_variables)
    assert isinstance(model, dj.Model)
    assert model == LinearizedModel(dj.from_linen(conv_model.module.clone()))
    assert hash(model) == hash(LinearizedModel(conv_model))
    assert model != LinearizedModel(dj.create_model("mlp", num_classes=3))
    with pytest.raises(InputError, match="linearize"):
        model.init(KEY, (8, 8, 2))


def test_a_training_step_moves_only_the_parameters(conv_model, conv_variables):
    model, variables = linearize(conv_model, conv_variables)
    pixels = RNG.integers(0, 256, (6, 8, 8, 2)).astype(np.uint8)
    data = Dataset.from_arrays(pixels, np.arange(6) % 3)
    config = dj.TrainConfig(
        batch_size=6, steps=4, augment="none", momentum=0, nesterov=False, weight_decay=0, decay_at=()
    )
    program = dj.Program(conv_model, config, 4)
    fresh = init_state(KEY, jax.ShapeDtypeStruct((8, 8, 2), "float32"), 6, program=program)
    state = fresh._replace(variables=variables)
    update = jax.jit(train_step, static_argnames="program", donate_argnames="state")
    linear = dj.Program(model, config, 4)
    examples = data.examples()
    images = dj.normalize(examples.images, examples.mean, examples.std)
    jacobian = whole_jacobian(conv_model, conv_variables, images)
    params, _ = ravel_pytree(conv_variables.params)
    start, flat = np.asarray(conv_model.predict(conv_variables, images), np.float64), np.zeros(params.size)
    for _ in range(4):
        state, metrics = update(state, examples, jnp.arange(6), program=linear)
        logits = start + (jacobian @ flat).reshape(6, 3)
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        losses = -np.log(chances[np.arange(6), data.labels])
        assert float(metrics.loss) == pytest.approx(losses.mean(), rel=1e-4)
        flat -= config.learning_rate * jacobian.T @ (chances - np.eye(3)[data.labels]).ravel() / 6
    moved_by = ravel_pytree(state.variables.params)[0] - params
    np.testing.assert_allclose(moved_by, flat, rtol=1e-3, atol=1e-4)
    # Donating the state left the caller's arrays alone, and the origin where it was.
    jax.tree.map(np.testing.assert_array_equal, state.variables.model_state["origin"], conv_variables)


@pytest.mark.slow
@pytest.mark.parametrize("ridge", [0, 0.05])
def test_linearised_descent_on_squared_error_ends_at_kernel_regression(conv_model, conv_variables, ridge):
    train, test = IMAGES[:3], IMAGES[3:6]
    model, variables = linearize(conv_model, conv_variables)
    targets = jnp.asarray(np.eye(3) - 1 / 3, jnp.float32)
    gram = ntk.logit_gram(conv_model.predict, conv_variables, train)
    penalty = ridge * jnp.mean(jnp.diagonal(gram))
    rate = 1 / (jnp.linalg.norm(gram, 2) + penalty)

    def loss(params):
        error = model.predict(variables._replace(params=params), train) - targets
        step = ravel_pytree(jax.tree.map(jnp.subtract, params, conv_variables.params))[0]
        return (jnp.sum(error**2) + penalty * jnp.sum(step**2)) / 2

    @jax.jit
    def descend(params):
        def body(_, params):
            return jax.tree.map(lambda w, g: w - rate * g, params, jax.grad(loss)(params))

        return jax.lax.fori_loop(0, 3000, body, params)

    trained = variables._replace(params=descend(variables.params))
    expected = ntk.kernel_regression(
        gram,
        targets,
        ntk.logit_gram(conv_model.predict, conv_variables, test, train),
        ridge=ridge,
        logits=conv_model.predict(conv_variables, train),
        test_logits=conv_model.predict(conv_variables, test),
    )
    np.testing.assert_allclose(model.predict(trained, test), expected, atol=2e-3)
    assert jnp.max(jnp.abs(expected - conv_model.predict(conv_variables, test))) > 0.1
