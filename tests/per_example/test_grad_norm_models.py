"""Per-example gradient norms of whole models: every leaf against `jax.vmap(jax.grad)` and NumPy."""

from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj

KEY = jax.random.key(0)
LABELS = jnp.array([2, 0], jnp.int32)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), jnp.float32)


def filled(shapes: Any, seed: int = 1) -> Any:
    """Numbers for what `jax.eval_shape` found: no 0 or 1 of initialisation, no program to compile."""
    rng = np.random.default_rng(seed)

    def fill(leaf):
        small = rng.normal(size=leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5
        return jnp.asarray(small if leaf.ndim > 1 else rng.uniform(0.3, 1.2, leaf.shape), leaf.dtype)

    return jax.tree.map(fill, shapes)


def made(module: nn.Module, *args: Any) -> Any:
    """A linen module's variables."""
    return filled(jax.eval_shape(lambda: module.init(KEY, *args)))


def squares(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf, np.float64)
    return np.square(leaf).reshape(len(leaf), -1).sum(1)


def agrees(loss: Any, params: Any, *batch: Any, singly: bool = False) -> None:
    """The norm of each leaf, and so of all, is that of vmapped gradients, and of single ones if asked."""
    gradient = jax.grad(loss)

    @jax.jit  # One program: compiling is what takes time here.
    def both(*args):
        leaves = dj.per_example_grad_norms(loss, per_leaf=True)(*args)
        return leaves, jax.vmap(gradient, (None, *(0 for _ in batch)))(*args)

    leaves, each = both(params, *batch)
    expected = np.sqrt(sum(squares(leaf) for leaf in jax.tree.leaves(each)))
    assert (expected > 1e-3).all()
    assert np.ptp(expected) > 1e-2 * expected.max(), "the examples do not differ"
    if singly:
        single = jax.jit(gradient)
        rows = [single(params, *jax.tree.map(lambda a: a[i], batch)) for i in range(len(expected))]  # noqa: B023
        norms = [np.sqrt(sum(squares(leaf[None]) for leaf in jax.tree.leaves(row))) for row in rows]
        np.testing.assert_allclose(np.concatenate(norms), expected, rtol=1e-5)

    assert jax.tree.structure(leaves) == jax.tree.structure(params)
    whole = np.sqrt(sum(np.square(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(leaves)))
    np.testing.assert_allclose(whole, expected, rtol=1e-5)
    for (path, leaf), got in zip(
        jax.tree_util.tree_leaves_with_path(each), jax.tree.leaves(leaves), strict=True
    ):
        # A square that cancels to nothing is right to its terms' rounding.
        atol = 3e-4 * expected.min()
        np.testing.assert_allclose(got, np.sqrt(squares(leaf)), rtol=2e-5, atol=atol, err_msg=str(path))


DJ_MODELS = {
    "resnet18": ((8, 8, 3), {"width": 4}),
    "resnet50": ((8, 8, 3), {"width": 2}),
    "vgg16": ((32, 32, 3), {"width": 2}),
    "cnn": ((16, 16, 3), {"widths": (4, 6)}),
    "small_cnn": ((16, 16, 3), {"widths": (4, 6)}),
    "mlp": ((8, 8, 1), {"widths": (16, 8)}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "resnet50" else ()) for n in DJ_MODELS]
)
def test_a_ready_made_model(name):
    shape, options = DJ_MODELS[name]
    model = dj.create_model(name, num_classes=4, **options)
    if name == "resnet50":  # One block of each stage: the same code, seconds less to compile.
        model = dj.from_linen(model.module.clone(stage_sizes=(1, 1, 1, 1)))
    variables = filled(jax.eval_shape(lambda: model.init(KEY, shape)))
    loss = dj.example_loss(model.predict, variables.model_state)
    agrees(loss, variables.params, normal(2, *shape), LABELS, singly=name in ("small_cnn", "mlp"))


@pytest.mark.slow
def test_a_resnet_with_imagenets_stem():
    """Its max-pool hands each example's gradient to the largest of overlapping windows."""
    model = dj.create_model("resnet50", num_classes=4, width=2, stem="imagenet")
    model = dj.from_linen(model.module.clone(stage_sizes=(1,)))
    variables = filled(jax.eval_shape(lambda: model.init(KEY, (16, 16, 3))))
    images = normal(2, 16, 16, 3)
    agrees(dj.example_loss(model.predict, variables.model_state), variables.params, images, LABELS)
    fast, reference = (
        jax.jit(fn, static_argnums=0)(model.predict, variables, images, LABELS)
        for fn in (dj.grand, dj.grand_vmap)
    )
    np.testing.assert_allclose(fast, reference, rtol=1e-5)


# Transformers.

VOCABULARY, LENGTH, WIDTH, LAYERS, HEADS = 11, 6, 8, 3, 2
TOKENS = jnp.asarray(np.random.default_rng(4).integers(0, VOCABULARY, (3, LENGTH)), jnp.int32)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        mask = nn.make_causal_mask(jnp.ones(len(x)))
        h = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(HEADS)(h, h, mask=mask)
        h = nn.Dense(2 * WIDTH)(nn.LayerNorm()(x))
        return x + nn.Dense(WIDTH)(nn.gelu(h)), None


class Transformer(nn.Module):
    prevent_cse: bool = False
    tied: bool = True

    @nn.compact
    def __call__(self, tokens):
        table = nn.Embed(VOCABULARY, WIDTH)
        x = table(tokens) + self.param("positions", nn.initializers.normal(), (LENGTH, WIDTH))
        block = nn.remat(Block, prevent_cse=self.prevent_cse)
        layers = nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS)
        x = nn.LayerNorm()(layers()(x, None)[0])
        return table.attend(x) if self.tied else nn.Dense(VOCABULARY)(x)


def next_token_loss(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    return dj.cross_entropy(logits[:-1], tokens[1:]).mean()


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"prevent_cse": True, "tied": False}], ids=str)
def test_a_flax_transformer_with_remat_and_scan(fields):
    model = Transformer(**fields)

    def loss(params, tokens):
        return next_token_loss(model.apply({"params": params}, tokens), tokens)

    agrees(loss, made(model, TOKENS[0])["params"], TOKENS)


def normalized(x: jax.Array, scale: jax.Array) -> jax.Array:
    return scale[None] * x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def layer(x: jax.Array, weights: Any) -> jax.Array:
    q, k, v = jnp.einsum("td,dchw->chtw", normalized(x, weights["scale"]), weights["qkv"])
    scores = jnp.where(jnp.tri(LENGTH, dtype=bool), jnp.einsum("htw,hsw->hts", q, k), -1e9)
    x = x + jnp.einsum("hts,hsw,hwd->td", jax.nn.softmax(scores), v, weights["out"])
    gate, up = jnp.einsum("td,dci->cti", normalized(x, weights["scale"]), weights["up"])
    return x + (jax.nn.silu(gate) * up) @ weights["down"]


STACKED = {
    "scale": (WIDTH,),
    "qkv": (WIDTH, 3, HEADS, 4),
    "out": (HEADS, 4, WIDTH),
    "up": (WIDTH, 2, 12),
    "down": (12, WIDTH),
}


def transformer_params(*leading: int) -> Any:
    shapes = {name: jax.ShapeDtypeStruct((*leading, *shape), jnp.float32) for name, shape in STACKED.items()}
    return {"layers": filled(shapes), "table": normal(VOCABULARY, WIDTH), "at": normal(LENGTH, WIDTH, seed=1)}


def transformer_loss(layers: Any) -> Any:
    """The loss of a transformer of plain arrays, given `(layer weights, x) -> x`."""

    def loss(params, tokens):
        x = layers(params["layers"], params["table"][tokens] + params["at"])
        return next_token_loss(x @ params["table"].T, tokens)

    return loss


def through(step: Any) -> Any:
    """Scans over stacked weights."""
    return lambda weights, x: jax.lax.scan(lambda x, w: (step(x, w), None), x, weights)[0]


def through_nested(weights: Any, x: jax.Array) -> jax.Array:
    """Two loops over weights stacked once, each level checkpointed."""
    weights = jax.tree.map(lambda w: w.reshape(2, 2, *w.shape[1:]), weights)
    inner = jax.checkpoint(lambda x, w: through(jax.checkpoint(layer))(w, x))
    return through(inner)(weights, x)


def through_shared(weights: Any, x: jax.Array) -> jax.Array:
    """The same weights at every step, and once more after the loop."""
    return layer(jax.lax.scan(lambda x, _: (layer(x, weights), None), x, length=LAYERS)[0], weights)


def through_list(weights: Any, x: jax.Array) -> jax.Array:
    for i in range(LAYERS):
        x = jax.checkpoint(layer)(x, jax.tree.map(lambda w: w[i], weights))  # noqa: B023
    return x


SAVEABLE = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
TRANSFORMERS = {
    "scan": (through(layer), (LAYERS,)),
    "scan of checkpoints": (through(jax.checkpoint(layer)), (LAYERS,)),
    "scan of checkpoints with a policy": (through(jax.checkpoint(layer, policy=SAVEABLE)), (LAYERS,)),
    "scan of one layer": (through(layer), (1,)),
    "nested scans": (through_nested, (4,)),
    "shared by steps and after them": (through_shared, ()),
    "slices of stacked weights": (through_list, (LAYERS,)),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_of_plain_arrays(name):
    layers, leading = TRANSFORMERS[name]
    agrees(transformer_loss(layers), transformer_params(*leading), TOKENS, singly=name == "scan")


# Recurrent networks, with a regression loss of the last state and of all states.

SERIES = normal(2, 5, 3)
TARGETS = normal(2, 4, seed=1)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.OptimizedLSTMCell, nn.GRUCell])
@pytest.mark.parametrize("long", [False, True])
def test_recurrent_networks(cell, long):
    """Over many steps the gradient is carried along; over few the factors of the steps are handed out."""
    model = nn.RNN(cell(4 if long else 24))
    series = normal(2, 40, 3) if long else SERIES[:, :2]

    def loss(params, series, target):
        states = model.apply({"params": params}, series)
        return jnp.square(states[-1, :4] - target).sum() + 0.1 * jnp.square(states).mean()

    agrees(loss, made(model, series[0])["params"], series, TARGETS)


def test_a_bidirectional_network_of_stacked_cells():
    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, series):
            x = nn.Bidirectional(nn.RNN(nn.GRUCell(4)), nn.RNN(nn.GRUCell(4)))(series)
            return nn.Dense(4)(nn.RNN(nn.OptimizedLSTMCell(6))(x))

    model = Tagger()

    def loss(params, series, target):
        return jnp.square(model.apply({"params": params}, series) - target[None]).mean()

    agrees(loss, made(model, SERIES[0])["params"], SERIES, TARGETS)


# Convolutional networks of other kinds, on one image `[8 8 4]`.


class GroupNormWeightNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.GroupNorm(num_groups=2)(nn.Conv(6, (3, 3))(x)))
        x = nn.relu(nn.InstanceNorm()(nn.Conv(6, (3, 3), kernel_dilation=2, feature_group_count=2)(x)))
        return nn.Dense(4)(nn.WeightNorm(nn.Dense(5))(x.reshape(-1)))


class UpAndDown(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(5, (3, 3), strides=2, padding=((1, 0), (2, 1)))(x))
        x = nn.relu(nn.ConvTranspose(4, (3, 3), strides=(2, 2), transpose_kernel=True)(x))
        x = nn.ConvTranspose(3, (2, 3), strides=(2, 1), padding="VALID", kernel_dilation=(1, 2))(x)
        return x[..., :3].mean((0, 1))


class DepthwiseSeparable(nn.Module):
    @nn.compact
    def __call__(self, x):
        for stride in (1, 2):
            x = nn.relu(nn.Conv(x.shape[-1], (3, 3), stride, feature_group_count=x.shape[-1])(x))
            x = nn.relu(nn.Conv(8, (1, 1), use_bias=False)(x))
        x = nn.relu(nn.Conv(16, (3, 3), feature_group_count=8, padding="CIRCULAR")(x))
        return nn.Dense(4)(nn.max_pool(x, (2, 2), (2, 2)).reshape(-1))


class General(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.DenseGeneral((2, 3), axis=(-1, 0))(x))
        x = jnp.tanh(nn.DenseGeneral(3, axis=-1, batch_dims=(0,))(x))
        x = jnp.tanh(nn.Einsum((2, 5), "hac,ao->cho")(x))
        return nn.DenseGeneral(4, axis=(0, 2, 1))(x)


class PatchesAndLocal(nn.Module):
    @nn.compact
    def __call__(self, x):
        patches = nn.Conv(6, (4, 4), strides=4)(x)
        local = nn.ConvLocal(2, (3, 3), strides=2, padding="VALID")(x)
        series = nn.Conv(3, (5,), padding="CAUSAL")(x.reshape(64, 4))
        return nn.Dense(4)(jnp.concatenate([a.reshape(-1) for a in (patches, local, series)]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", [GroupNormWeightNorm, UpAndDown, DepthwiseSeparable, General, PatchesAndLocal]
)
def test_convolutional_networks_of_other_kinds(module):
    model = module()

    def loss(params, image, label):
        return dj.cross_entropy(model.apply({"params": params}, image)[None], label[None])[0]

    images = normal(2, 8, 8, 4)
    agrees(loss, made(model, images[0])["params"], images, LABELS)


def test_a_mixture_of_experts_and_an_inner_vmap():
    """Experts are kernels with one more axis, under `vmap` inside the loss."""

    def expert(kernel, image):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(image[None], kernel, (1, 1), "SAME", dimension_numbers=numbers)[0]

    def loss(params, image, label):
        maps = jax.nn.relu(jax.vmap(expert, (0, None))(params["experts"], image))
        gates = jax.nn.softmax(image.mean((0, 1)) @ params["gate"])
        logits = jnp.einsum("e,ehwc,co->o", gates, maps, params["out"])
        return dj.cross_entropy(logits[None], label[None])[0]

    params = {
        "experts": normal(3, 3, 3, 4, 2, scale=0.2),
        "gate": normal(4, 3, seed=1),
        "out": normal(2, 4, seed=2, scale=0.2),
    }
    agrees(loss, params, normal(2, 6, 6, 4), LABELS)


# Other libraries.


def test_an_equinox_model():
    def build():
        return eqx.nn.MLP(6, 4, width_size=5, depth=2, activation=jnp.tanh, key=KEY)

    params, static = eqx.partition(eqx.filter_eval_shape(build), lambda leaf: hasattr(leaf, "shape"))

    def loss(params, x, label):
        return dj.cross_entropy(eqx.combine(params, static)(x)[None], label[None])[0]

    agrees(loss, filled(params), normal(2, 6), LABELS)


def test_a_flax_nnx_model():
    nnx = pytest.importorskip("flax.nnx", reason="this Flax does not work with this JAX", exc_type=Exception)

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(2, 4, (3, 3), strides=2, rngs=rngs)
            self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
            self.out = nnx.Linear(64, 4, rngs=rngs)

        def __call__(self, x):
            return self.out(nnx.relu(self.norm(self.conv(x))).reshape(len(x), -1))

    graph, params, rest = nnx.split(Net(nnx.Rngs(0)), nnx.Param, ...)
    params, rest = filled(params), filled(rest, seed=2)

    def loss(params, image, label):
        return dj.cross_entropy(nnx.merge(graph, params, rest)(image[None]), label[None])[0]

    agrees(loss, params, normal(2, 8, 8, 2), LABELS)
