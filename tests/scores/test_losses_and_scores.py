"""EL2N and GraNd against NumPy, closed forms and loops over single examples."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.errors import InputError

RNG = np.random.default_rng(3)
IMAGES = jnp.asarray(RNG.normal(size=(9, 8, 8, 2)), jnp.float32)
NOTHING = dj.Variables({}, {})
LABELS = jnp.asarray(RNG.integers(0, 3, 9), jnp.int32)


class LinearSoftmax(nn.Module):
    use_bias: bool = True

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, use_bias=self.use_bias)(x.reshape(len(x), -1))


def gives(logits):
    """A model with these logits, whatever the images."""
    return lambda variables, images: logits


def numpy_softmax(logits):
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def norm_of_leaves(tree) -> float:
    return np.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in jax.tree.leaves(tree)))


def numpy_error(logits, labels):
    return numpy_softmax(logits) - np.eye(logits.shape[-1])[np.asarray(labels)]


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_cross_entropy_and_error_vector_equal_numpy(scale):
    logits = jnp.asarray(scale * RNG.normal(size=(20, 5)), jnp.float32)
    labels = jnp.asarray(RNG.integers(0, 5, 20), jnp.int32)
    shifted = np.asarray(logits, np.float64) - np.asarray(logits, np.float64).max(-1, keepdims=True)
    expected = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(20), np.asarray(labels)]
    np.testing.assert_allclose(dj.cross_entropy(logits, labels), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dj.error_vector(logits, labels), numpy_error(logits, labels), atol=1e-6)


def test_cross_entropy_stays_finite_for_huge_logits():
    losses = dj.cross_entropy(jnp.array([[1000.0, 0.0], [1000.0, 0.0]]), jnp.array([0, 1]))
    np.testing.assert_allclose(losses, [0, 1000])


@pytest.mark.parametrize("lead", [5.0, 17.0, 40.0, 70.0])
def test_losses_and_errors_of_well_fitted_examples_keep_their_digits(lead):
    """As `1 - p` the error of a certain example would be 0 or a few units of rounding."""
    logits = jnp.array([[lead, 0.0, 1.0], [-1.0, lead, 0.5]], jnp.float32)
    labels = jnp.array([0, 1])
    wide = np.asarray(logits, np.float64)
    others = np.array([[0.0, 1.0], [-1.0, 0.5]])
    odds = np.exp(others).sum(1) / np.exp(lead)
    np.testing.assert_allclose(dj.cross_entropy(logits, labels), np.log1p(odds), rtol=2e-5)
    expected = np.exp(wide - lead) / (1 + odds)[:, None]
    expected[[0, 1], [0, 1]] = -odds / (1 + odds)
    np.testing.assert_allclose(dj.error_vector(logits, labels), expected, rtol=2e-5)
    by_grad = jax.grad(lambda x: dj.cross_entropy(x, labels).sum())(logits)
    np.testing.assert_allclose(by_grad, expected, rtol=2e-5)
    el2n = dj.el2n(gives(logits), NOTHING, IMAGES[:2], labels)
    np.testing.assert_allclose(el2n, np.sqrt((expected**2).sum(1)), rtol=2e-5)


@pytest.mark.parametrize("offset", [1e4, 1e5, 1e30])
def test_a_common_offset_of_the_logits_changes_nothing(offset):
    logits = jnp.array([[0.0, 0.0, 0.0], [0.0, 0.5, -1.0]], jnp.float32) + jnp.float32(offset)
    wide = np.asarray(logits, np.float64)
    expected = np.log(np.exp(wide - wide[:, :1]).sum(1))
    np.testing.assert_allclose(dj.cross_entropy(logits, jnp.array([0, 0])), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.int16])
def test_labels_of_any_integer_type_among_many_classes(dtype, unchecked_types):
    logits = jnp.asarray(RNG.normal(size=(2, 300)), jnp.float32)
    labels = jnp.array([3, 100])
    for function in (dj.cross_entropy, dj.error_vector):
        # A program of its own for each type of the labels: equal up to rounding.
        expected = function(logits, labels)
        np.testing.assert_allclose(function(logits, labels.astype(dtype)), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_gives_nan(label):
    logits, labels = jnp.ones((1, 3)), jnp.array([label])
    assert np.isnan(dj.cross_entropy(logits, labels)).all()
    assert np.isnan(dj.error_vector(logits, labels)).any()


def test_a_single_class_has_no_loss():
    logits, labels = jnp.ones((2, 1)), jnp.zeros(2, jnp.int32)
    assert dj.cross_entropy(logits, labels).tolist() == [0, 0]
    assert jax.grad(lambda x: dj.cross_entropy(x, labels).sum())(logits).tolist() == [[0], [0]]


def test_masked_logits_are_fine():
    logits = jnp.array([[0.0, -jnp.inf, 1.0]])
    expected = np.log1p(np.exp(1.0))
    np.testing.assert_allclose(dj.cross_entropy(logits, jnp.array([0])), [expected], rtol=1e-6)
    gradient = jax.grad(lambda x: dj.cross_entropy(x, jnp.array([0])).sum())(logits)
    np.testing.assert_allclose(gradient, [[-0.7310586, 0, 0.7310586]], rtol=1e-6)


BAD_LABELS = {
    "a column": jnp.zeros((4, 1), jnp.int32),
    "floats": jnp.zeros(4),
    "one for all": jnp.zeros(1, jnp.int32),
    "a scalar": jnp.int32(0),
}


@pytest.mark.parametrize("function", [dj.cross_entropy, dj.error_vector])
@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_that_would_broadcast_are_refused(function, case, unchecked_types):
    with pytest.raises(InputError, match="one integer for each row"):
        function(jnp.zeros((4, 3)), BAD_LABELS[case])
    with pytest.raises(InputError, match="labels must"):
        dj.el2n(gives(jnp.zeros((4, 3))), NOTHING, IMAGES[:4], BAD_LABELS[case])


def test_error_vector_is_the_gradient_of_the_loss_in_the_logits():
    logits = jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32)
    labels = jnp.array([0, 1, 2, 3, 0, 1])
    gradient = jax.grad(lambda x: dj.cross_entropy(x, labels).sum())(logits)
    np.testing.assert_allclose(dj.error_vector(logits, labels), gradient, atol=1e-6)


def test_el2n_equals_a_numpy_loop(conv_model, conv_variables):
    scores = dj.el2n(conv_model.predict, conv_variables, IMAGES, LABELS)
    logits = conv_model.predict(conv_variables, IMAGES)
    errors = numpy_error(logits, LABELS)
    np.testing.assert_allclose(scores, [np.sqrt((e * e).sum()) for e in errors], rtol=1e-5)


@pytest.mark.parametrize(("label", "expected"), [(0, 0.0), (1, np.sqrt(2))])
def test_el2n_of_certain_predictions_is_0_or_root_2(label, expected):
    scores = dj.el2n(gives(jnp.array([[500.0, 0.0]])), NOTHING, IMAGES[:1], jnp.array([label]))
    np.testing.assert_allclose(scores, [expected], rtol=1e-6)


def test_el2n_lies_between_0_and_root_2():
    logits = jnp.asarray(RNG.normal(size=(2000, 4)) * RNG.uniform(0, 60, (2000, 1)), jnp.float32)
    labels = jnp.asarray(RNG.integers(0, 4, 2000), jnp.int32)
    scores = np.asarray(dj.el2n(gives(logits), NOTHING, jnp.zeros((2000, 1, 1, 1)), labels))
    assert scores.min() >= 0
    assert scores.max() <= np.sqrt(2) + 1e-6
    assert scores.max() > 1.41


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("score", [dj.grand, dj.grand_vmap])
def test_grand_of_a_linear_softmax_has_a_closed_form(score, use_bias):
    """GraNd = EL2N · √(|x|² + 1), without the 1 if there is no bias."""
    model = dj.from_linen(LinearSoftmax(use_bias))
    variables = model.init(jax.random.key(1), (8, 8, 2))
    squared = (np.asarray(IMAGES, np.float64) ** 2).sum((1, 2, 3))
    el2n = np.linalg.norm(numpy_error(model.predict(variables, IMAGES), LABELS), axis=-1)
    expected = el2n * np.sqrt(squared + use_bias)
    np.testing.assert_allclose(score(model.predict, variables, IMAGES, LABELS), expected, rtol=1e-5)
    last = dj.grand_last_layer(model.features, variables, IMAGES, LABELS)
    np.testing.assert_allclose(last, expected, rtol=1e-5)


def test_grand_of_certain_examples_does_not_underflow():
    """Down to 1e-30, where the squares of the gradients are zero in float32."""
    model = dj.from_linen(LinearSoftmax())
    variables = model.init(jax.random.key(1), (8, 8, 2))
    kernel = jnp.zeros((128, 3)).at[0, 0].set(1.0)
    variables = dj.Variables({"Dense_0": {"kernel": kernel, "bias": jnp.zeros(3)}}, variables.model_state)
    leads = np.array([5.0, 20.0, 45.0, 70.0])
    images = jnp.zeros((4, 8, 8, 2)).at[:, 0, 0, 0].set(jnp.asarray(leads, jnp.float32))
    scores = jax.jit(dj.grand, static_argnums=0)(model.predict, variables, images, jnp.zeros(4, jnp.int32))
    wrong = np.exp(-leads) / (1 + 2 * np.exp(-leads))
    np.testing.assert_allclose(scores, np.sqrt(6) * wrong * np.sqrt(leads**2 + 1), rtol=2e-5)


def single_gradients(model, variables):
    """The gradient of one example's loss after the other, without vmap."""

    @jax.jit
    @jax.grad
    def gradient(params, image, label):
        logits = model.predict(dj.Variables(params, variables.model_state), image[None])[0]
        return jax.nn.logsumexp(logits) - logits[label]

    return [gradient(variables.params, image, label) for image, label in zip(IMAGES, LABELS, strict=True)]


def test_grand_equals_a_loop_over_single_gradients(conv_model, conv_variables):
    expected = [norm_of_leaves(g) for g in single_gradients(conv_model, conv_variables)]
    for score in (dj.grand, dj.grand_vmap):
        scores = jax.jit(score, static_argnums=0)(conv_model.predict, conv_variables, IMAGES, LABELS)
        np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_grand_equals_the_logit_gradient_form(conv_model, conv_variables):
    """Equation 4: the norm of the sum over classes k of (p_k - y_k) · the gradient of logit k."""

    def logits(params):
        return conv_model.predict(conv_variables._replace(params=params), IMAGES)

    errors = numpy_error(logits(conv_variables.params), LABELS)
    jacobian = jax.jit(jax.jacrev(logits))(conv_variables.params)  # leaves [b c ...]
    weighted = jax.tree.map(lambda psi: np.einsum("bk,bk...->b...", errors, np.asarray(psi)), jacobian)
    expected = [norm_of_leaves(jax.tree.map(lambda g: g[i], weighted)) for i in range(len(LABELS))]  # noqa: B023
    scores = dj.grand(conv_model.predict, conv_variables, IMAGES, LABELS)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_grand_last_layer_is_the_gradient_in_the_last_dense_alone(conv_model, conv_variables):
    gradients = single_gradients(conv_model, conv_variables)
    scores = dj.grand_last_layer(conv_model.features, conv_variables, IMAGES, LABELS)
    np.testing.assert_allclose(scores, [norm_of_leaves(g["Dense_0"]) for g in gradients], rtol=1e-4)
    # The other layers have gradients too, so the last layer's part is strictly smaller.
    grand = np.asarray(dj.grand(conv_model.predict, conv_variables, IMAGES, LABELS))
    assert (grand > np.asarray(scores)).all()


def test_scores_do_not_depend_on_the_rest_of_the_batch(conv_model, conv_variables):
    order = RNG.permutation(len(LABELS))
    for score, fn in [
        (dj.el2n, conv_model.predict),
        (dj.grand, conv_model.predict),
        (dj.grand_last_layer, conv_model.features),
    ]:
        score = jax.jit(score, static_argnums=0)
        all_at_once = score(fn, conv_variables, IMAGES, LABELS)
        permuted = score(fn, conv_variables, IMAGES[order], LABELS[order])
        np.testing.assert_allclose(permuted, all_at_once[order], rtol=1e-5)
        alone = score(fn, conv_variables, IMAGES[:1], LABELS[:1])
        np.testing.assert_allclose(alone, all_at_once[:1], rtol=1e-5)


def test_score_dataset_equals_one_direct_call_for_every_batch_size(conv_model, conv_variables, train_split):
    score_fn = functools.partial(dj.grand, conv_model.predict)
    stats = [np.asarray(v, np.float32) for v in train_split.normalization]
    images = jnp.asarray((train_split.images.astype(np.float32) - stats[0]) / stats[1])
    expected = jax.jit(score_fn)(conv_variables, images, jnp.asarray(train_split.labels))
    count = len(train_split)
    for batch_size in (1, 7, count - 1, count, count + 5, "auto"):
        scores = dj.score_dataset(score_fn, conv_variables, train_split, batch_size=batch_size)
        assert scores.shape == (count,)
        np.testing.assert_allclose(scores, expected, rtol=1e-4, err_msg=str(batch_size))


@pytest.mark.parametrize("chunks_per_call", [1, 3, 32])
def test_chunks_in_one_call_give_the_same_scores(
    conv_model, conv_variables, train_split, monkeypatch, chunks_per_call
):
    """On accelerators many chunks are one call, and all calls are of one shape: one program."""
    shapes = []

    def score(variables, images, labels):
        shapes.append(images.shape)
        return dj.el2n(conv_model.predict, variables, images, labels)

    expected = dj.score_dataset(
        functools.partial(dj.el2n, conv_model.predict), conv_variables, train_split, batch_size=50
    )
    monkeypatch.setattr("diet_jax.training.passes.default_chunks_per_call", lambda: chunks_per_call)
    scores = dj.score_dataset(score, conv_variables, train_split, batch_size=7)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert shapes == [(7, 8, 8, 2)]


def test_score_dataset_refuses_batches_of_nothing(conv_model, conv_variables, train_split):
    with pytest.raises(InputError, match="batch_size must be an integer of at least 1"):
        dj.score_dataset(
            functools.partial(dj.el2n, conv_model.predict), conv_variables, train_split, batch_size=0
        )


def test_a_bfloat16_model_gives_nearly_the_same_scores(conv_model, conv_variables):
    half = dj.from_linen(conv_model.module.clone(dtype=jnp.bfloat16))
    for score in (dj.el2n, dj.grand):
        score = jax.jit(score, static_argnums=0)
        full = np.asarray(score(conv_model.predict, conv_variables, IMAGES, LABELS))
        with jax.numpy_dtype_promotion("standard"):  # Flax's BatchNorm mixes dtypes.
            low = score(half.predict, conv_variables, IMAGES, LABELS)
        assert low.dtype == jnp.float32
        # Eight bits of mantissa, a handful of layers.
        np.testing.assert_allclose(low, full, rtol=0.05, atol=0.02)
        assert np.abs(np.asarray(low) - full).max() > 0
