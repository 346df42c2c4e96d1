"""Computing in bfloat16: what stays in float32, and that training and scores are right to its rounding."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

import diet_jax as dj
from diet_jax.models import LinenModel
from diet_jax.models.layers import batch_norm, last_dtype
from diet_jax.training.step import init_state, train_on_batch
from diet_jax.types import Examples

# A bfloat16 has 8 binary digits: rounding to the nearest is off by at most this much, relatively.
ROUNDING = 2.0**-8
KEY = jax.random.key(0, impl="unsafe_rbg")
SHAPE = (8, 8, 2)
CONFIG = dj.TrainConfig(epochs=4, batch_size=10, learning_rate=0.05, schedule="cosine", augment="none")


class Normed(nn.Module):
    """Convolution and BatchNorm as in ResNet, quick to compile."""

    dtype: str

    @nn.compact
    def __call__(self, x, train: bool):
        kind = jnp.dtype(self.dtype)
        x = nn.Conv(4, (3, 3), (2, 2), use_bias=False, dtype=kind)(x)
        x = nn.relu(batch_norm(x, train=train, dtype=kind))
        return nn.Dense(3, dtype=last_dtype(kind))(x.reshape(len(x), -1))


MODELS = {
    "mlp": lambda dtype: dj.create_model("mlp", num_classes=3, widths=(32, 16), dtype=dtype),
    "small_cnn": lambda dtype: dj.create_model("small_cnn", num_classes=3, widths=(8, 8), dtype=dtype),
    "normed": lambda dtype: dj.from_linen(Normed(dtype)),
}


def filled(model: LinenModel, seed: int) -> dj.Variables:
    """Variables without an initial 0 or 1 in them."""
    rng = np.random.default_rng(seed)

    def fill(leaf):
        kernel = rng.normal(size=leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5
        return jnp.asarray(kernel if leaf.ndim > 1 else rng.uniform(0.3, 1.2, leaf.shape), leaf.dtype)

    return jax.tree.map(fill, jax.eval_shape(lambda: model.init(KEY, SHAPE)))


def batch(count: int = 6) -> tuple[jax.Array, jax.Array]:
    images = np.random.default_rng(3).normal(size=(count, *SHAPE))
    return jnp.asarray(images, jnp.float32), jnp.arange(count, dtype=jnp.int32) % 3


def half(x) -> np.ndarray:
    """Rounds to bfloat16 and returns what is left in float64."""
    return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n != "normed" else ()) for n in MODELS]
)
def test_scores_of_one_network(name):
    full, low = (MODELS[name](dtype) for dtype in ("float32", "bfloat16"))
    variables, (images, labels) = filled(full, 1), batch()

    @functools.partial(jax.jit, static_argnums=0, static_argnames="fns")
    def scores(model, variables, fns=(dj.el2n, dj.grand, dj.grand_vmap)):
        return [fn(model.predict, variables, images, labels) for fn in fns]

    exact, rounded = scores(full, variables), scores(low, variables)
    assert {array.dtype for array in rounded} == {jnp.dtype("float32")}
    for ours, reference in zip(rounded, exact, strict=True):
        # A handful of roundings one after the other.
        np.testing.assert_allclose(ours, reference, rtol=8 * ROUNDING)
        assert not np.array_equal(ours, reference), "nothing was computed in bfloat16"
    # vmap(grad) rounds each gradient to bfloat16, of which GraNd takes the norm from factors in float32.
    np.testing.assert_allclose(rounded[1], rounded[2], rtol=2 * ROUNDING)

    # Several seeds at once: batched products, and convolutions in groups.
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), variables, filled(full, 2))
    both = jax.jit(jax.vmap(functools.partial(scores, low, fns=(dj.el2n, dj.grand))))(stacked)
    for array, one in zip(both, rounded[:2], strict=True):
        np.testing.assert_allclose(array[0], one, rtol=2 * ROUNDING)
        assert not np.allclose(array[0], array[1], rtol=8 * ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "small_cnn"])
def test_logits_have_digits_that_bfloat16_lacks(name):
    model = MODELS[name]("bfloat16")
    logits = model.predict(filled(model, 1), batch()[0])
    assert logits.dtype == jnp.float32
    assert np.mean(half(logits) != np.asarray(logits)) > 0.5


class OneLayer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, dtype=jnp.bfloat16)(x.reshape(len(x), -1))


def test_grand_in_closed_form():
    """The gradient is an outer product of two rounded vectors; its norm loses no further digit."""
    model = dj.from_linen(OneLayer())
    variables, (images, labels) = filled(model, 1), batch()
    got = dj.grand(model.predict, variables, images, labels)
    logits = np.asarray(model.predict(variables, images), np.float64)
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = chance - np.eye(3)[np.asarray(labels)]
    length = np.linalg.norm(error, axis=1)
    norm = np.linalg.norm(half(error / length[:, None]), axis=1) * length
    inputs = half(np.asarray(images).reshape(len(images), -1))
    np.testing.assert_allclose(got, norm * np.sqrt(np.square(inputs).sum(1) + 1), rtol=1e-3)


def test_batch_norm_keeps_its_statistics_in_float32():
    class Norm(nn.Module):
        @nn.compact
        def __call__(self, x):
            return batch_norm(x, train=True, dtype=jnp.bfloat16)

    x = jnp.asarray(3 + np.random.default_rng(0).normal(size=(16, 16, 16, 2)), jnp.bfloat16)
    variables = {
        "params": {"BatchNorm_0": {"scale": jnp.ones(2), "bias": jnp.zeros(2)}},
        "batch_stats": {"BatchNorm_0": {"mean": jnp.zeros(2), "var": jnp.ones(2)}},
    }
    y, new = Norm().apply(variables, x, mutable="batch_stats")
    stats = new["batch_stats"]["BatchNorm_0"]
    values = np.asarray(x, np.float64).reshape(-1, 2)
    assert (y.dtype, stats["mean"].dtype, stats["var"].dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(stats["mean"], 0.1 * values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * values.var(0), rtol=1e-5)
    expected = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)
    np.testing.assert_allclose(np.asarray(y, np.float64).reshape(-1, 2), expected, atol=1e-4, rtol=ROUNDING)


@pytest.mark.slow
def test_one_update_is_that_of_a_network_written_out():
    model = MODELS["mlp"]("bfloat16")
    variables, (images, labels) = filled(model, 1), batch()
    config = dj.TrainConfig(
        steps=10, batch_size=6, learning_rate=0.1, schedule="cosine", augment="none", weight_decay=0.01
    )

    def loss(params):
        x = images.reshape(len(images), -1).astype(jnp.bfloat16)
        for name in ("Dense_0", "Dense_1"):
            kernel, bias = (params[name][key].astype(jnp.bfloat16) for key in ("kernel", "bias"))
            x = jax.nn.relu(x @ kernel + bias[None])
        last = params["Dense_2"]
        logits = x.astype(jnp.float32) @ last["kernel"] + last["bias"][None]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1))

    options = {"program": dj.Program(model, config, 10)}
    spec = jax.ShapeDtypeStruct(SHAPE, "float32")
    fresh = jax.eval_shape(functools.partial(init_state, spec=spec, num_examples=6, **options), KEY)
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), fresh._replace(key=None))
    state = state._replace(key=KEY, variables=variables)
    zero, one = jnp.zeros(2), jnp.ones(2)
    step = jax.jit(functools.partial(train_on_batch, **options))
    after, metrics = step(state, Examples(images, labels, zero, one), jnp.arange(6, dtype=jnp.int32))

    value, gradient = jax.jit(jax.value_and_grad(loss))(variables.params)
    rate = 0.1 * 0.5 * (1 + np.cos(np.pi * 1 / 10))
    np.testing.assert_allclose(metrics.loss, value, rtol=1e-2)

    def check(new, old, g):
        expected = -rate * 1.9 * (np.asarray(g) + 0.01 * np.asarray(old))  # Nesterov's first step
        np.testing.assert_allclose(new - old, expected, rtol=0.02, atol=0.02 * np.abs(expected).max())

    jax.tree.map(check, after.variables.params, variables.params, gradient)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "normed"])
def test_training_keeps_everything_that_is_kept_in_float32(name, train_split):
    state, history = dj.train(KEY, MODELS[name]("bfloat16"), train_split, config=CONFIG, num_updates=3)
    kept = jax.tree.leaves((state.variables, state.opt_state, history))
    floats = {leaf.dtype for leaf in kept if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert floats == {jnp.dtype("float32")}
    assert np.isfinite(history.loss).all()


def test_updates_smaller_than_a_bfloat16_digit_are_not_lost(train_split):
    model = MODELS["mlp"]("bfloat16")
    tiny = dj.TrainConfig(
        steps=8, batch_size=10, learning_rate=1e-6, schedule="cosine", augment="none", weight_decay=0
    )
    before, _ = dj.train(KEY, model, train_split, config=tiny, num_updates=0)
    after, _ = dj.train(KEY, model, train_split, config=tiny)
    old, new = (np.asarray(state.variables.params["Dense_0"]["kernel"]) for state in (before, after))
    assert np.abs(new - old).max() < ROUNDING * np.abs(old).max() / 10
    assert np.mean(new != old) > 0.5


@pytest.mark.slow
def test_an_ensemble_is_that_of_one_seed_at_a_time(train_split):
    model = MODELS["normed"]("bfloat16")
    score = functools.partial(
        dj.score_ensemble, dj.seed_keys(0, "score", 2), model, train_split, config=CONFIG, step=5
    )
    together, apart = score(how="vmap"), score(how="loop")
    for name in ("el2n", "grand"):
        assert together.scores[name].dtype == np.float32
        # Five steps on, roundings that fell differently have grown; examples differ by far more.
        np.testing.assert_allclose(together.scores[name], apart.scores[name], rtol=0.1, atol=0.02)
        assert np.ptp(apart.scores[name]) > 0.2


@pytest.mark.slow
def test_the_command_line_trains_and_scores_in_bfloat16(tmp_path):
    from diet_jax.cli.main import main

    options = ["--data.num-train", "320", "--train.epochs", "3", "--score.epoch", "3"]
    options += ["--score.num-seeds", "2", "--model.widths", "16"]
    for dtype in ("float32", "bfloat16"):
        out = ["--run-dir", str(tmp_path / dtype)]
        assert not main(["score", *options, "--model.dtype", dtype, *out])
    files = [sorted((tmp_path / dtype).rglob("el2n*.npz")) for dtype in ("float32", "bfloat16")]
    full, low = (dj.ScoreFile.load(found[0]) for found in files)
    assert low.per_seed.dtype == np.float32
    assert not np.array_equal(full.scores, low.scores)
    assert spearmanr(full.scores, low.scores)[0] > 0.99
