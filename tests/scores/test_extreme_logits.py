"""Losses and scores at logits that saturate: the limits that float64 has, and no NaN on the way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.scores.score import SCORES

CLASSES = 4
ROWS = {
    "all equal": np.zeros(CLASSES),
    "all equal and large": np.full(CLASSES, 1e4),
    "one-hot": np.eye(CLASSES)[1],
    "certain": 1e4 * np.eye(CLASSES)[1],
    "certain, below 0": -1e4 * np.eye(CLASSES)[1],
    "between two": np.array([1e4, 1e4, -1e4, 0]),
    "huge": 1e30 * np.array([1, -1, 0, 1]),
    "small": 1e-30 * np.arange(CLASSES),
    "rising": np.array([0, 30, 60, 90.0]),
}
LARGEST = {"float32": 1e30, "bfloat16": 1e30, "float16": 6e4}


def given(dtype):
    """Every row with every label: logits as the dtype holds them in float64, and labels."""
    logits = np.repeat(np.stack(list(ROWS.values())), CLASSES, axis=0).clip(-LARGEST[dtype], LARGEST[dtype])
    labels = np.tile(np.arange(CLASSES), len(ROWS)).astype(np.int32)
    return np.asarray(jnp.asarray(logits, jnp.float32).astype(dtype), np.float64), labels


def limits(logits, labels):
    """Losses and error vectors in float64, from how far the other classes together are ahead of the label."""
    rows = np.arange(len(labels))
    ahead = logits - logits[rows, labels][:, None]
    ahead[rows, labels] = -np.inf
    lead = np.logaddexp.reduce(ahead, axis=1)
    wrong = np.exp(-np.logaddexp(0, -lead))
    shares = np.exp(ahead - ahead.max(axis=1, keepdims=True))
    error = wrong[:, None] * shares / shares.sum(axis=1, keepdims=True)
    error[rows, labels] = -wrong
    return np.logaddexp(0, lead), error


@pytest.fixture(params=list(LARGEST))
def case(request):
    logits, labels = given(request.param)
    return jnp.asarray(logits, request.param), labels, *limits(logits, labels)


def test_losses_have_their_limits(case):
    logits, labels, loss, error = case
    with jax.debug_nans(True):
        found = jax.jit(dj.cross_entropy)(logits, labels), jax.jit(dj.error_vector)(logits, labels)
        norm = dj.error_norm(found[1])
    np.testing.assert_allclose(found[0], loss, rtol=1e-5, atol=1e-38)
    np.testing.assert_allclose(found[1], error, rtol=1e-5, atol=1e-37)
    np.testing.assert_allclose(norm, np.linalg.norm(error, axis=1), rtol=1e-5, atol=1e-37)


def test_their_gradient_is_the_error_vector(case):
    logits, labels, _, error = case
    with jax.debug_nans(True):
        gradient = jax.grad(lambda z: jnp.sum(dj.cross_entropy(z, labels)))(logits.astype(jnp.float32))
    np.testing.assert_allclose(gradient, error, rtol=1e-5, atol=1e-37)


# Of a linear network: the gradient in the weights is the outer product of the input and the error vector.
OF_ERROR = ("el2n", "grand", "grand_last_layer")


def test_every_score_of_the_registry_has_its_limit(case):
    """Row i of the weights is the logits of example i, whose input is the i-th unit vector."""
    logits, labels, _, error = case
    inputs = jnp.eye(len(labels))

    def features(variables, inputs):
        return (inputs @ variables.params).astype(logits.dtype), inputs, False

    model = dj.from_functions(
        lambda key, shape: dj.Variables(jnp.zeros((*shape, CLASSES)), {}),
        lambda params, inputs: inputs @ params,
        features=features,
    )
    variables = dj.Variables(logits.astype(jnp.float32), {})
    for score in SCORES:
        if not score.of_examples:
            continue
        with jax.debug_nans(True):
            found = jax.jit(score.function(model))(variables, inputs, labels)
        assert np.isfinite(found).all(), score.name
        if score.name in OF_ERROR:
            np.testing.assert_allclose(found, np.linalg.norm(error, axis=1), rtol=1e-5, atol=1e-37)
    own = jax.jit(dj.grand_vmap, static_argnums=0)(model.predict, variables, inputs, labels)
    # Squares of gradients below 1e-19 underflow, as it says.
    np.testing.assert_allclose(own, np.linalg.norm(error, axis=1), rtol=1e-5, atol=1e-17)
