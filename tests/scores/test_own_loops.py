"""What loops of one's own bring: plain parameters, NumPy arrays, logits of other frameworks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.errors import InputError

RNG = np.random.default_rng(5)
PARAMS = {"in": RNG.normal(size=(4, 6)).astype(np.float32), "out": RNG.normal(size=(6, 3)).astype(np.float32)}
INPUTS = RNG.normal(size=(7, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, 7)
KEY = jax.random.key(0)


def predict(params, inputs):
    return jnp.tanh(inputs @ params["in"]) @ params["out"]


def predict_variables(variables, inputs):
    return predict(variables.params, inputs)


def label_free(predict_fn, variables, inputs):
    center = dj.logit_sum_gradient(predict_fn, variables, inputs)
    return dj.label_free_score(predict_fn, variables, inputs, center)


def last_layer(predict_fn, variables, inputs, labels):
    def features(variables, inputs):
        params = variables.params if isinstance(variables, dj.Variables) else variables
        return predict_fn(variables, inputs), jnp.tanh(inputs @ params["in"]), False

    return dj.grand_last_layer(features, variables, inputs, labels)


def distance(predict_fn, variables, inputs):
    later = jax.tree.map(lambda leaf: 1.5 * jnp.tanh(leaf), variables)
    return dj.estimate_kernel_distance(KEY, predict_fn, variables, later, inputs, num_projections=6)


def velocity(predict_fn, variables, inputs):
    later = jax.tree.map(lambda leaf: 1.5 * jnp.tanh(leaf), variables)
    grams = (dj.logit_gram(predict_fn, at, inputs) for at in (variables, later))
    return dj.kernel_velocity(*grams, duration=1.0)


ALL = {
    **{f.__name__: (f, True) for f in (dj.el2n, dj.grand, dj.grand_vmap, last_layer, dj.diagnose_el2n)},
    **{f.__name__: (f, False) for f in (dj.logit_grad_norms, dj.logit_grad_gram, dj.logit_sum_gradient)},
    **{f.__name__: (f, False) for f in (label_free, dj.logit_gram, distance, velocity)},
    "estimate_logit_gram": (functools.partial(dj.estimate_logit_gram, KEY, num_projections=6), False),
}


@pytest.mark.parametrize("name", ALL)
def test_plain_parameters_give_what_variables_give(name):
    function, takes_labels = ALL[name]
    batch = (INPUTS, LABELS) if takes_labels else (INPUTS,)
    plain = function(predict, PARAMS, *batch)
    expected = function(predict_variables, dj.Variables(PARAMS, {}), *batch)
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all()
        assert np.ptp(one) > 0 or one.ndim == 0


def test_all_of_plain_parameters_is_differentiated():
    def loss(params, one, label):
        return dj.cross_entropy(predict(params, one[None]), label[None])[0]

    gradients = [jax.grad(loss)(PARAMS, INPUTS[row], LABELS[row]) for row in range(7)]
    norms = [np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(g))) for g in gradients]
    for score in (dj.grand, dj.grand_vmap, jax.jit(dj.grand, static_argnums=0)):
        np.testing.assert_allclose(score(predict, PARAMS, INPUTS, LABELS), norms, rtol=1e-5)
    dataset = dj.Dataset.from_arrays(INPUTS, LABELS, normalization=dj.Normalization((), ()))
    whole = dj.score_dataset(functools.partial(dj.grand, predict), PARAMS, dataset, batch_size=3)
    np.testing.assert_allclose(whole, norms, rtol=1e-5)


def test_collections_of_flax_as_they_come_are_refused():
    collections = {"params": PARAMS, "batch_stats": {"mean": jnp.zeros(3)}}
    for score in (dj.grand, dj.grand_vmap):
        with pytest.raises(InputError, match=r"holds params and batch_stats.*dj\.Variables"):
            score(lambda v, x: predict(v["params"], x), collections, INPUTS, LABELS)
    # Alone they are parameters like any others.
    alone = dj.grand(lambda v, x: predict(v["params"], x), {"params": PARAMS}, INPUTS, LABELS)
    np.testing.assert_array_equal(alone, dj.grand(predict, PARAMS, INPUTS, LABELS))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_el2n_of_logits_from_elsewhere(dtype):
    logits = (3 * RNG.normal(size=(9, 4))).astype(dtype)
    labels = RNG.integers(0, 4, 9)
    powers = np.exp(logits.astype(np.float64))
    probability = powers / powers.sum(axis=1, keepdims=True)
    error = probability - np.eye(4)[labels]
    np.testing.assert_allclose(dj.error_vector(logits, labels), error, rtol=1e-4, atol=1e-7)
    el2n = dj.error_norm(dj.error_vector(logits, labels))
    np.testing.assert_allclose(el2n, np.linalg.norm(error, axis=1), rtol=1e-4)
    np.testing.assert_allclose(dj.error_norm(error), np.linalg.norm(error, axis=1), rtol=1e-5)
    losses = -np.log(probability[range(9), labels])
    np.testing.assert_allclose(dj.cross_entropy(logits, labels), losses, rtol=1e-4, atol=1e-6)


def test_forgetting_of_a_loop_in_numpy():
    """Presentations in batches and the matrix of them give what a count by hand gives."""
    correct = RNG.random((6, 10)) < 0.5
    correct[:, 3] = False
    state = dj.init_forgetting(10)
    for epoch in correct:
        for rows in np.split(RNG.permutation(10), 2):
            state = dj.update_forgetting(state, rows, epoch[rows])
    expected = [(column[:-1] & ~column[1:]).sum() if column.any() else 6 for column in correct.T]
    np.testing.assert_array_equal(dj.forgetting_scores(state, never_learned=6), expected)
    np.testing.assert_array_equal(dj.forgetting_scores(correct, never_learned=6), expected)


def test_a_mask_of_ones_own_is_bound_to_its_dataset(train_split, tmp_path, unchecked_types):
    keep = np.isin(np.arange(len(train_split)), [4, 2, 40])
    file = dj.KeepFile.from_mask(keep, train_split, provenance={"method": "by hand"})
    file.save(tmp_path / "keep.npz")
    loaded = dj.KeepFile.load(tmp_path / "keep.npz", dataset=train_split)
    np.testing.assert_array_equal(np.flatnonzero(loaded.keep), [2, 4, 40])
    assert loaded.provenance == {"method": "by hand"}
    assert loaded.dataset == f"{train_split.name}/train"
    for wrong in (keep[1:], keep.astype(int), [2, 4, 40], keep[None, None]):
        with pytest.raises(InputError, match="must be a boolean vector with one entry for each of the 50"):
            dj.KeepFile.from_mask(wrong, train_split)
