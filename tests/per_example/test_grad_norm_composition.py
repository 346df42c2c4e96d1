"""Per-example gradient norms under other transformations, in other dtypes, and what they refuse."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.errors import InputError

REPOSITORY = Path(__file__).parents[2]
RNG = np.random.default_rng(7)
COUNT = 5
IMAGES = jnp.asarray(RNG.normal(size=(COUNT, 8, 8, 2)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, 3, COUNT), jnp.int32)
TOKENS = jnp.asarray(RNG.integers(0, 9, (COUNT, 6)), jnp.int32)


def weights(*shape: int, dtype: Any = jnp.float32) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape) * np.prod(shape[:-1]) ** -0.5, dtype)


# A lookup, a convolution, a loop over stacked layers, a checkpoint and a tied table: most rules at once.
PARAMS = {
    "table": weights(9, 4),
    "conv": {"kernel": weights(3, 4, 4), "bias": weights(4)},
    "layers": weights(3, 4, 4),
    "out": weights(4, 4),
}


def loss(params: Any, tokens: jax.Array) -> jax.Array:
    x = params["table"][tokens]
    kernel, bias = params["conv"]["kernel"], params["conv"]["bias"]
    numbers = ("NWC", "WIO", "NWC")
    x = jnp.tanh(jax.lax.conv_general_dilated(x[None], kernel, (1,), "SAME", dimension_numbers=numbers)[0])
    x = x + bias[None]
    step = jax.checkpoint(lambda x, w: (x + jnp.tanh(x @ w), None))
    x = jax.lax.scan(step, x, params["layers"])[0]
    logits = (x @ params["out"]) @ params["table"].T
    return dj.cross_entropy(logits[:-1], tokens[1:]).mean()


def gradients(loss: Any, params: Any, *batch: Any) -> Any:
    return jax.jit(jax.vmap(jax.grad(loss), (None, *(0 for _ in batch))))(params, *batch)


def norms_of(tree: Any) -> np.ndarray:
    """Norms over all but the first axis of all leaves, in NumPy and float64."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.sqrt(sum((leaf.reshape(len(leaf), -1) ** 2).sum(1) for leaf in leaves))


def expected_norms(loss: Any, params: Any, *batch: Any) -> np.ndarray:
    return norms_of(gradients(loss, params, *batch))


@pytest.fixture(scope="module")
def expected():
    return expected_norms(loss, PARAMS, TOKENS)


def norms(params: Any, *batch: Any) -> jax.Array:
    return dj.per_example_grad_norms(loss)(params, *batch)


@pytest.mark.slow
def test_under_jit_and_eagerly(expected):
    eager, jitted = norms(PARAMS, TOKENS), jax.jit(norms)(PARAMS, TOKENS)
    np.testing.assert_allclose(eager, expected, rtol=1e-5)
    np.testing.assert_allclose(jitted, expected, rtol=1e-5)
    assert jitted.dtype == eager.dtype == jnp.float32


@pytest.mark.slow
def test_vmap_over_stacked_params_is_one_seed_after_the_other():
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.1 * leaf, -leaf]), PARAMS)
    together = jax.jit(jax.vmap(norms, (0, None)))(stacked, TOKENS)
    looped = jax.jit(lambda p: jax.lax.map(lambda one: norms(one, TOKENS), p))(stacked)
    for seed in range(3):
        alone = expected_norms(loss, dj.take_seed(stacked, seed), TOKENS)
        np.testing.assert_allclose(together[seed], alone, rtol=1e-5)
        np.testing.assert_allclose(looped[seed], alone, rtol=1e-5)


def test_inside_a_loop_over_batches_and_of_a_checkpointed_loss(expected):
    batches = jnp.stack([TOKENS, TOKENS[::-1]])
    checkpointed = dj.per_example_grad_norms(jax.checkpoint(loss))
    both = jax.jit(lambda b: jax.lax.map(lambda tokens: checkpointed(PARAMS, tokens), b))(batches)
    np.testing.assert_allclose(both, [expected, expected[::-1]], rtol=1e-5)


@pytest.mark.slow
def test_the_norms_can_be_differentiated(expected):
    """By the tokens' weights in the loss, which are floats of the batch, and by the parameters."""
    scales = jnp.linspace(0.5, 2, COUNT)
    scaled = dj.per_example_grad_norms(lambda params, tokens, scale: scale * loss(params, tokens))
    derivative = jax.jit(jax.grad(lambda s: scaled(PARAMS, TOKENS, s).sum()))(scales)
    np.testing.assert_allclose(derivative, expected, rtol=1e-4)

    def reference(params):
        each = jax.vmap(jax.grad(loss), (None, 0))(params, TOKENS)
        flat = [leaf.reshape(COUNT, -1) for leaf in jax.tree.leaves(each)]
        return jnp.linalg.norm(jnp.concatenate(flat, 1), axis=1).sum()

    got = jax.jit(jax.grad(lambda p: norms(p, TOKENS).sum()))(PARAMS)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(jax.jit(jax.grad(reference))(PARAMS)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_a_loss_that_differentiates_itself():
    """A gradient penalty: each kernel's gradient is a sum of products of several kinds."""

    def penalized(params, x, y):
        def output(x):
            return jnp.tanh(jnp.tanh(x @ params["a"]) @ params["b"]).sum()

        return jnp.square(output(x) - y) + jnp.square(jax.grad(output)(x)).sum()

    params = {"a": weights(6, 5), "b": weights(5, 3)}
    batch = (weights(COUNT, 4, 6), weights(COUNT))
    got = jax.jit(dj.per_example_grad_norms(penalized))(params, *batch)
    np.testing.assert_allclose(got, expected_norms(penalized, params, *batch), rtol=1e-5)


def test_two_parameters_used_as_one():
    """Gradients that are the same variable of the program, in a loop and out of it."""

    def shared(params, x):
        w = params["a"] + params["b"]
        x = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]
        return jnp.square(x @ (params["c"] - params["d"])).sum()

    params = {"a": weights(3, 4, 4), "b": weights(3, 4, 4), "c": weights(4, 2), "d": weights(4, 2)}
    x = weights(COUNT, 5, 4)
    got = jax.jit(dj.per_example_grad_norms(shared, per_leaf=True))(params, x)
    for name, gradient in gradients(shared, params, x).items():
        np.testing.assert_allclose(got[name], norms_of(gradient), rtol=1e-5)


def test_closing_over_traced_arrays(conv_model, conv_variables):
    grand = jax.jit(lambda variables: dj.grand(conv_model.predict, variables, IMAGES, LABELS))
    loss = dj.example_loss(conv_model.predict, conv_variables.model_state)
    expected = expected_norms(loss, conv_variables.params, IMAGES, LABELS)
    np.testing.assert_allclose(grand(conv_variables), expected, rtol=1e-5)


def test_control_flow_and_constants_that_are_not_differentiated():
    """Branches and unbounded loops have no rule: their gradients are formed; what precedes them is kept."""

    def branching(params, x):
        x = jax.nn.relu(x)  # Not differentiated: keeps its custom derivative in the program.
        x = jax.lax.cond(x.sum() > 2, lambda x: x @ params["a"], lambda x: x @ params["b"], x)
        x = jax.lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ params["b"]), x)
        return jnp.square(x).sum() + params["c"] * x[0, 0]

    params = {"a": weights(4, 4), "b": weights(4, 4), "c": jnp.float32(0.3)}
    x = weights(COUNT, 2, 4)
    got = jax.jit(dj.per_example_grad_norms(branching))(params, x)
    np.testing.assert_allclose(got, expected_norms(branching, params, x), rtol=1e-5)


SHARDED = """
import sys
sys.path.insert(0, {tests!r})
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import diet_jax as dj
import test_grad_norm_composition as t

assert jax.device_count() == 8
rng = np.random.default_rng(0)
tokens, x = rng.integers(0, 9, (16, 6)).astype(np.int32), rng.normal(size=(16, 4)).astype(np.float32)
expected = jax.jit(t.norms)(t.PARAMS, tokens)
dense = dj.per_example_grad_norms(lambda params, x: jax.numpy.tanh(x @ params["out"]).sum())
for kind, norms, batch in [
    (AxisType.Auto, t.norms, tokens),
    (AxisType.Auto, dense, x),
    (AxisType.Explicit, dense, x),
]:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    params = jax.device_put(t.PARAMS, NamedSharding(mesh, P()))
    sharded = jax.device_put(batch, NamedSharding(mesh, P("data")))
    got = jax.jit(norms)(params, sharded)
    np.testing.assert_allclose(got, jax.jit(norms)(t.PARAMS, batch), rtol=1e-5)
    assert got.sharding.is_equivalent_to(NamedSharding(mesh, P("data")), 1), got.sharding
    mapped = jax.shard_map(norms, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"), check_vma=False)
    np.testing.assert_allclose(jax.jit(mapped)(params, sharded), got, rtol=1e-5)
"""


@pytest.mark.slow
def test_sharded_batches_stay_sharded():
    """On eight devices, with shardings that are inferred and ones in types, and device by device."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(REPOSITORY)}
    code = SHARDED.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_float64():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), PARAMS)
        got = jax.jit(norms)(params, TOKENS)
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got, expected_norms(loss, params, TOKENS), rtol=1e-12)


def test_bfloat16_norms_are_summed_in_float32(expected):
    def in_half(params, tokens):
        return loss(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params), tokens).astype(jnp.float32)

    for half, params in [(in_half, PARAMS), (loss, jax.tree.map(lambda a: a.astype(jnp.bfloat16), PARAMS))]:
        formed = norms_of(gradients(half, params, TOKENS))
        got = jax.jit(dj.per_example_grad_norms(half))(params, TOKENS)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, rtol=0.05)
        error, formed_error = (np.abs(np.asarray(a) / expected - 1).mean() for a in (got, formed))
        assert error <= 1.1 * formed_error + 1e-3


def test_batch_norm_in_training_mode_sees_a_batch_of_one(conv_model, conv_variables):
    def train_loss(params, image, label):
        variables = conv_variables._replace(params=params)
        return dj.cross_entropy(conv_model.apply(variables, image[None], train=True)[0], label[None])[0]

    norms = jax.jit(dj.per_example_grad_norms(train_loss))
    together = norms(conv_variables.params, IMAGES, LABELS)
    np.testing.assert_allclose(
        together, expected_norms(train_loss, conv_variables.params, IMAGES, LABELS), rtol=1e-5
    )
    others = norms(conv_variables.params, IMAGES.at[1:].set(IMAGES[1:, ::-1]), LABELS)
    np.testing.assert_allclose(others[0], together[0], rtol=1e-6)
    assert (np.abs(others[1:] / together[1:] - 1) > 1e-3).all()


def test_select_counts_the_leaves_it_names():
    gradient, seen = gradients(loss, PARAMS, TOKENS), []

    def select(path):
        seen.append(path)
        return "conv/" in path or path == "out"

    got = jax.jit(dj.per_example_grad_norms(loss, select=select))(PARAMS, TOKENS)
    assert sorted(set(seen)) == ["conv/bias", "conv/kernel", "layers", "out", "table"]
    np.testing.assert_allclose(got, norms_of([gradient["conv"], gradient["out"]]), rtol=1e-5)
    leaves = jax.jit(dj.per_example_grad_norms(loss, select=select, per_leaf=True))(PARAMS, TOKENS)
    assert leaves["table"] is None
    assert leaves["layers"] is None
    np.testing.assert_allclose(leaves["out"], norms_of(gradient["out"]), rtol=1e-5)


def test_per_leaf_norms_add_up_and_integers_are_constants(expected):
    params = {"model": PARAMS, "step": jnp.int32(3), "on": [jnp.array(True)], "shift": np.zeros(2, np.int32)}

    def with_constants(params, tokens):
        return loss(params["model"], (tokens + params["step"] + params["shift"][0] - 3) % 9)

    leaves = jax.jit(dj.per_example_grad_norms(with_constants, per_leaf=True))(params, TOKENS)
    assert (leaves["step"], leaves["on"], leaves["shift"]) == (None, [None], None)
    assert jax.tree.structure(leaves["model"]) == jax.tree.structure(PARAMS)
    assert {leaf.shape for leaf in jax.tree.leaves(leaves)} == {(COUNT,)}
    np.testing.assert_allclose(np.sqrt(sum(leaf**2 for leaf in jax.tree.leaves(leaves))), expected, rtol=1e-5)


def test_a_parameter_without_a_gradient_has_norm_zero():
    params = {"used": weights(4, 3), "unused": weights(2), "half": weights(3)}

    def partly(params, x):
        return jnp.square(x @ params["used"]).sum() + jax.lax.stop_gradient(params["half"]).sum()

    leaves = dj.per_example_grad_norms(partly, per_leaf=True)(params, weights(COUNT, 4))
    assert leaves["unused"].tolist() == leaves["half"].tolist() == [0.0] * COUNT
    assert (leaves["used"] > 0).all()


ONE = {"w": jnp.ones(3)}
X = jnp.ones((4, 3))


def dot(params, *arrays):
    return jnp.sum(params["w"] * arrays[0])


REFUSED = {
    "complex": (dot, {"w": jnp.ones(3), "z": [jnp.ones(2, jnp.complex64)]}, (X,), {}, "z/0 is complex64"),
    "nothing selected": (dot, ONE, (X,), {"select": lambda path: "b" in path}, "1 parameters .* paths are w"),
    "no floats": (dot, {"w": jnp.arange(3)}, (X,), {}, "nothing to differentiate: of 1 parameters"),
    "ragged": (dot, ONE, (X, jnp.ones(5)), {}, r"same first axis.*\(4, 3\), \(5,\)"),
    "a scalar in the batch": (dot, ONE, (X, 2.0), {}, r"same first axis.*\(4, 3\), \(\)"),
    "no batch": (dot, ONE, (), {}, r"no arrays: call with \(params, \*batch\)"),
    "a vector": (lambda p, x: p["w"] * x, ONE, (X,), {}, r"loss_fn .* float32 of shape \(3,\)"),
    "an integer": (lambda p, x: jnp.int32(1), ONE, (X,), {}, r"loss_fn .* int32 of shape \(\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_numbers(case):
    loss, params, batch, options, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        dj.per_example_grad_norms(loss, **options)(params, *batch)
    with pytest.raises(InputError, match=message):
        dj.explain(loss, params, *batch, **options)


def test_no_examples_have_no_norms(conv_model, conv_variables):
    grand = jax.jit(lambda *batch: dj.grand(conv_model.predict, conv_variables, *batch))
    assert grand(IMAGES[:0], LABELS[:0]).shape == (0,)
    assert dj.per_example_grad_norms(dot)(ONE, X[:0]).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_stays_in_its_example(bad, conv_model, conv_variables):
    score = jax.jit(lambda images: dj.grand(conv_model.predict, conv_variables, images, LABELS))
    spoiled = np.asarray(score(IMAGES.at[2, 1, 1, 0].set(bad)))
    others = np.arange(COUNT) != 2
    assert np.isnan(spoiled[2])
    np.testing.assert_allclose(spoiled[others], np.asarray(score(IMAGES))[others], rtol=1e-6)


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dropout(0.5, deterministic=False)(nn.relu(nn.Dense(8)(x)))
        return nn.Dense(3)(x)


@pytest.mark.parametrize("wrap", [lambda loss: loss, jax.checkpoint], ids=["plain", "checkpointed"])
def test_a_key_for_each_example(wrap):
    x, keys = weights(COUNT, 6), jax.random.split(jax.random.key(3), COUNT)
    shapes = jax.eval_shape(Dropped().init, {"params": keys[0], "dropout": keys[0]}, x[0])["params"]
    params = jax.tree.map(lambda leaf: weights(*leaf.shape), shapes)

    @wrap
    def loss(params, x, key, label):
        logits = Dropped().apply({"params": params}, x, rngs={"dropout": key})
        return dj.cross_entropy(logits[None], label[None])[0]

    got = jax.jit(dj.per_example_grad_norms(loss))(params, x, keys, LABELS)
    np.testing.assert_allclose(got, expected_norms(loss, params, x, keys, LABELS), rtol=1e-5)
    again = jax.jit(dj.per_example_grad_norms(loss))(params, x, keys[::-1], LABELS)
    assert (np.abs(again / got - 1) > 1e-3).any()
