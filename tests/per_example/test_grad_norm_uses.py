"""What is made of per-example gradient norms: explanations, clipping, and scores of the logits' gradients."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.errors import InputError
from diet_jax.scores.logit_gradients import EL2NDiagnosis

RNG = np.random.default_rng(11)
COUNT, CLASSES = 6, 3
IMAGES = jnp.asarray(RNG.normal(size=(COUNT, 8, 8, 2)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, CLASSES, COUNT), jnp.int32)


def flat(tree: Any, axes: int) -> np.ndarray:
    """All leaves in one float64 array, after their first axes."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(*leaf.shape[:axes], -1) for leaf in leaves], -1)


# Explanations.


def shapes_of(name: str, shape: tuple[int, ...], **options: Any) -> tuple[Any, ...]:
    """A loss and the shapes of what it takes: there are no numbers that anything could be run on."""
    model = dj.create_model(name, num_classes=10, **options)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), shape))
    batch = jax.ShapeDtypeStruct((4, *shape), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32)

    def loss(params, state, image, label):
        return dj.example_loss(model.predict, state)(params, image, label)

    return loss, variables, batch


def explained(name: str, shape: tuple[int, ...], **options: Any) -> Any:
    loss, (params, state), batch = shapes_of(name, shape, **options)
    states = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((4, *leaf.shape), leaf.dtype), state)
    return params, dj.explain(loss, params, states, *batch)


def paths_of(params: Any) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def test_explain_resnet18():
    """The real width, from shapes alone; the state is passed per example to be a shape too."""
    params, explanation = explained("resnet18", (32, 32, 3))
    by_name = {leaf.name: leaf for leaf in explanation.leaves}
    assert list(by_name) == paths_of(params)
    assert [leaf.shape for leaf in explanation.leaves] == [leaf.shape for leaf in jax.tree.leaves(params)]
    for name, leaf in by_name.items():
        if "Conv_" in name:
            assert leaf.form in ("offset", "pixel", "patch gram", "patch product"), leaf
            assert leaf.gradient_multiply_adds > 0
        elif name == "Dense_0/kernel":
            assert (leaf.form, leaf.multiply_adds, leaf.bytes) == ("outer", 512 + 10, 4 * (512 + 10))
            assert (leaf.gradient_multiply_adds, leaf.gradient_bytes) == (5120, 4 * 5120)
        else:
            assert leaf.form == "gradient", leaf
    # Large maps want another form than small ones.
    assert by_name["Conv_0/kernel"].form == "offset"
    assert by_name["ResidualBlock_7/Conv_1/kernel"].form == "pixel"


def test_the_text_of_an_explanation():
    params, explanation = explained("mlp", (8, 8, 1), widths=(16, 8))
    lines = str(explanation).splitlines()
    assert len(lines) == 2 + len(paths_of(params)) + 1
    for path, line in zip(paths_of(params), lines[2:-1], strict=True):
        assert line.split()[0] == path
        assert line.split()[2] == ("outer" if path.endswith("kernel") else "gradient")
    assert "3 of 6 gradients are formed: 2.69% of all numbers" in lines[-1]


def test_explain_names_loops_lookups_and_what_is_selected():
    def loss(params, tokens):
        x = params["table"][tokens]
        x = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, params["layers"])[0]
        return jnp.square(x @ params["out"]).sum() + params["scale"] * jnp.square(params["out"]).sum()

    shapes = {"table": (50, 8), "layers": (3, 8, 8), "out": (8, 2), "scale": ()}
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    tokens = jax.ShapeDtypeStruct((4, 5), jnp.int32)
    forms = {leaf.name: leaf for leaf in dj.explain(loss, params, tokens).leaves}
    assert forms["table"].form == "rows"
    assert forms["layers"].form in ("gram", "product")
    assert forms["layers"].why.startswith("in each of 3 steps of a loop")
    assert forms["layers"].gradient_multiply_adds == 3 * 5 * 8 * 8
    assert forms["out"].form == forms["scale"].form == "gradient"
    assert forms["out"].why.startswith("a sum with a part from ")
    (only,) = dj.explain(loss, params, tokens, select=lambda path: path == "table").leaves
    assert dataclasses.astuple(only)[:2] == ("table", (50, 8))


# Clipping.


@pytest.mark.parametrize("max_norm", [0.5, 3, 1e3])
def test_clipping_factors_equal_a_loop(max_norm):
    norms = np.array([0.0, 0.1, 0.5, 0.7, 3.0, 20.0, np.inf, 999.0, 2000.0], np.float32)
    factors = dj.clipping_factors(jnp.asarray(norms), max_norm)
    expected = [1.0 if norm <= max_norm else max_norm / norm for norm in norms.astype(np.float64)]
    np.testing.assert_allclose(factors, expected, rtol=1e-6)
    assert np.isnan(dj.clipping_factors(jnp.array([np.nan, 1.0]), max_norm)).tolist() == [True, False]


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan")])
def test_a_bound_that_is_not_above_0_is_refused(max_norm):
    with pytest.raises(InputError, match="max_norm must be above 0, got"):
        dj.clipping_factors(jnp.ones(2), max_norm)


def test_weighted_losses_have_the_sum_of_clipped_gradients(conv_model, conv_variables):
    params = conv_variables.params
    loss = dj.example_loss(conv_model.predict, conv_variables.model_state)
    norms = jax.jit(lambda v: dj.grand(conv_model.predict, v, IMAGES, LABELS))(conv_variables)
    bound = float(np.median(norms))
    factors = dj.clipping_factors(norms, bound)

    def weighted(params):
        return jnp.sum(factors * jax.vmap(loss, (None, 0, 0))(params, IMAGES, LABELS))

    each = flat(jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))(params, IMAGES, LABELS), 1)
    lengths = np.linalg.norm(each, axis=1, keepdims=True)
    clipped = each * np.minimum(1, bound / lengths)
    assert (lengths > bound).any()
    np.testing.assert_allclose(flat(jax.jit(jax.grad(weighted))(params), 0), clipped.sum(0), atol=1e-5)


# Gradients of logits.


@pytest.fixture(scope="module")
def psi(conv_model, conv_variables):
    """Every logit's gradient in NumPy: float64 `[b c p]`."""

    def logits(params):
        return conv_model.predict(conv_variables._replace(params=params), IMAGES)

    return flat(jax.jit(jax.jacrev(logits))(conv_variables.params), 2)


@pytest.fixture(scope="module")
def errors(conv_model, conv_variables):
    logits = np.asarray(conv_model.predict(conv_variables, IMAGES), np.float64)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True) - np.eye(CLASSES)[np.asarray(LABELS)]


def test_logit_gradients_equal_jacrev(conv_model, conv_variables, psi):
    def both(images):
        norms = dj.logit_grad_norms(conv_model.predict, conv_variables, images)
        return norms, dj.logit_grad_gram(conv_model.predict, conv_variables, images)

    norms, gram = jax.jit(both)(IMAGES)
    lengths = np.linalg.norm(psi, axis=2)
    np.testing.assert_allclose(norms, lengths, rtol=1e-5)
    atol = 1e-5 * (lengths.max() ** 2)
    np.testing.assert_allclose(gram, np.einsum("bkp,blp->bkl", psi, psi), rtol=1e-5, atol=atol)
    np.testing.assert_array_equal(gram, np.swapaxes(gram, 1, 2))
    np.testing.assert_allclose(np.diagonal(gram, axis1=1, axis2=2), np.square(norms), rtol=1e-6)


def test_each_step_of_the_diagnosis(conv_model, conv_variables, psi, errors):
    diagnose = jax.jit(lambda *args: dj.diagnose_el2n(conv_model.predict, conv_variables, *args))
    diagnosis = diagnose(IMAGES, LABELS)
    lengths = np.linalg.norm(psi, axis=2)
    el2n = np.linalg.norm(errors, axis=1)
    cosines = np.einsum("bkp,blp->bkl", psi, psi) / (lengths[:, :, None] * lengths[:, None])
    different = ~np.eye(CLASSES, dtype=bool)
    expected = EL2NDiagnosis(
        grand=np.linalg.norm(np.einsum("bk,bkp->bp", errors, psi), axis=1),
        orthogonal=np.linalg.norm(errors * lengths, axis=1),
        equal=el2n * np.sqrt(np.mean(lengths**2, axis=1)),
        el2n=el2n,
        cosine=np.sqrt([np.mean(np.square(cosine[different])) for cosine in cosines]),
    )
    for name, got, want in zip(EL2NDiagnosis._fields, diagnosis, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, err_msg=name)
    grand = jax.jit(lambda v: dj.grand(conv_model.predict, v, IMAGES, LABELS))(conv_variables)
    np.testing.assert_allclose(diagnosis.grand, grand, rtol=1e-4)
    np.testing.assert_allclose(
        diagnosis.el2n, dj.el2n(conv_model.predict, conv_variables, IMAGES, LABELS), rtol=1e-6
    )


def linear(variables: dj.Variables, images: jax.Array) -> jax.Array:
    """Logit k's gradient is the image in column k of the kernel: orthogonal, and as long for every class."""
    return images.reshape(len(images), -1) @ variables.params["kernel"]


def diagnose_linear(images: jax.Array) -> EL2NDiagnosis:
    return jax.jit(lambda images: dj.diagnose_el2n(linear, KERNEL, images, LABELS))(images)


KERNEL = dj.Variables({"kernel": jnp.asarray(RNG.normal(size=(128, CLASSES)), jnp.float32)}, {})


def test_agreement_is_perfect_where_the_assumptions_hold():
    lengths = np.sqrt(np.square(np.asarray(IMAGES)).sum((1, 2, 3), keepdims=True))
    diagnosis = diagnose_linear(IMAGES / lengths)
    np.testing.assert_allclose(diagnosis.grand, diagnosis.el2n, rtol=1e-5)
    agreement = dj.el2n_agreement(diagnosis)
    assert agreement.count == COUNT
    np.testing.assert_allclose(agreement[2:5], 1)
    np.testing.assert_allclose([agreement.cosine, *agreement[5:]], 0, atol=1e-5)


def test_agreement_blames_the_step_that_fails():
    """Images of other lengths: only "as long for every example" fails, by the spread of the lengths."""
    scales = np.exp(RNG.normal(size=(COUNT, 1, 1, 1)))
    images = IMAGES / np.sqrt(np.square(np.asarray(IMAGES)).sum((1, 2, 3), keepdims=True))
    agreement = dj.el2n_agreement(diagnose_linear(images * jnp.float32(scales)))
    np.testing.assert_allclose([agreement.spread_orthogonal, agreement.spread_equal], 0, atol=1e-5)
    np.testing.assert_allclose(agreement.spread_el2n, np.std(np.log(scales)), rtol=1e-4)
    np.testing.assert_allclose([agreement.orthogonal, agreement.equal], 1)
    assert agreement.el2n < 1


def test_agreement_of_given_columns():
    grand = np.array([1.0, 2.0, 3.0, 4.0])
    columns = [grand, 2 * grand, grand[::-1] * 2, np.array([1.0, 2.0, 4.0, 3.0]), np.full(4, 0.5)]
    agreement = dj.el2n_agreement(EL2NDiagnosis(*(jnp.float32(column) for column in columns)))
    np.testing.assert_allclose(agreement[:5], [4, 0.5, 1, -1, 0.8])
    logs = np.log(np.array(columns[:4]))
    np.testing.assert_allclose(agreement[5:], np.std(-np.diff(logs, axis=0), axis=1), atol=1e-6)
    assert "EL2N against GraNd on 4 examples: rank correlation 0.800" in str(agreement)
    with pytest.raises(InputError, match="at least 3 examples, got 2"):
        dj.el2n_agreement(EL2NDiagnosis(*(jnp.ones(2) for _ in range(5))))


def test_label_free_score_is_the_distance_to_the_mean(conv_model, conv_variables, psi):
    """No label is an argument, and none is needed to recompute it."""
    sums = psi.sum(1)
    mean = dj.logit_sum_gradient(conv_model.predict, conv_variables, IMAGES)
    np.testing.assert_allclose(flat(mean, 0), sums.mean(0), rtol=1e-4, atol=1e-5)
    score = jax.jit(lambda center: dj.label_free_score(conv_model.predict, conv_variables, IMAGES, center))
    np.testing.assert_allclose(score(mean), np.linalg.norm(sums - sums.mean(0), axis=1), rtol=1e-4)
    zero = jax.tree.map(jnp.zeros_like, mean)
    np.testing.assert_allclose(score(zero), np.linalg.norm(sums, axis=1), rtol=1e-5)


def test_the_label_free_score_of_the_centre_itself_is_0():
    one = IMAGES[:1]
    center = dj.logit_sum_gradient(linear, KERNEL, one)
    length = float(np.sqrt(CLASSES) * np.linalg.norm(np.asarray(one)))
    assert float(dj.label_free_score(linear, KERNEL, one, center)[0]) < 1e-3 * length
