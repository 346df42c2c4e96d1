"""Models: structure against NumPy, the adapter's contract, and every error."""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diet_jax.errors import InputError
from diet_jax.models import MODEL_NAMES, LinenModel, create_model, from_linen
from diet_jax.types import Model, Variables

KEY = jax.random.key(0)
QUICK_KEY = jax.random.key(0, impl="unsafe_rbg")  # compiles in no time
SHAPE = (8, 8, 3)


def random_images(n: int = 3, shape: tuple[int, ...] = SHAPE) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(n, *shape)), jnp.float32)


def tiny_resnet(name: str, **fields) -> LinenModel:
    """The named network with two stages of one block: the same code, seconds less to compile."""
    module = create_model(name, num_classes=4, width=4).module
    return LinenModel(module.clone(stage_sizes=(1, 1), **fields))


def made(model: LinenModel, image_shape: tuple[int, int, int] = SHAPE, seed: int = 1) -> Variables:
    """Fills what `init` would make from NumPy: compiling JAX's random numbers takes seconds per shape.

    No number is an initial 0 or 1, so that a forgotten scale or bias shows.
    """
    rng = np.random.default_rng(seed)

    def fill(leaf):
        if leaf.ndim > 1:  # a kernel
            x = rng.normal(size=leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5
        else:  # a bias, scale, mean or variance
            x = rng.uniform(0.3, 1.2, leaf.shape)
        return jnp.asarray(x, leaf.dtype)

    return jax.tree.map(fill, jax.eval_shape(lambda key: model.init(key, image_shape), KEY))


def shapes_of(name: str, image_shape=(32, 32, 3), **options) -> Variables:
    model = create_model(name, **options)
    return jax.eval_shape(lambda key: model.init(key, image_shape), KEY)


# The same networks once more, in NumPy and float64.


def np_conv(x, layer, stride=1):
    """'SAME' written out: one pixel on each side at stride 1, one more on bottom and right at stride 2."""
    kernel = np.asarray(layer["kernel"], np.float64)
    size = kernel.shape[0]
    pad = {(1, 1): (0, 0), (1, 2): (0, 0), (3, 1): (1, 1), (3, 2): (0, 1), (7, 2): (2, 3)}[size, stride]
    height, width = x.shape[1] // stride, x.shape[2] // stride
    x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    out = np.zeros((x.shape[0], height, width, kernel.shape[3]))
    for i in range(size):
        for j in range(size):
            out += x[:, i::stride, j::stride][:, :height, :width] @ kernel[i, j]
    return out + np.asarray(layer.get("bias", 0.0), np.float64)


def np_max_pool(x):
    """3x3 windows, stride 2, one pixel of padding on bottom and right."""
    height, width = x.shape[1] // 2, x.shape[2] // 2
    x = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    windows = [x[:, i::2, j::2][:, :height, :width] for i in range(3) for j in range(3)]
    return np.max(windows, axis=0)


def np_dense(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def relu(x):
    return np.maximum(x, 0)


class NpResNet:
    """ResNet-v1 with one block per stage; `state` collects the new running statistics."""

    def __init__(self, variables, train):
        self.params, self.old = variables.params, variables.model_state["batch_stats"]
        self.train, self.state = train, {}

    def norm(self, x, *path):
        layer, old = self.params, self.old
        for name in path:
            layer, old = layer[name], old[name]
        mean, var = np.asarray(old["mean"], np.float64), np.asarray(old["var"], np.float64)
        if self.train:
            batch_mean = x.mean((0, 1, 2))
            batch_var = ((x - batch_mean) ** 2).mean((0, 1, 2))  # biased: divided by the count
            self.state[path] = (0.9 * mean + 0.1 * batch_mean, 0.9 * var + 0.1 * batch_var)
            mean, var = batch_mean, batch_var
        scale, bias = np.asarray(layer["scale"]), np.asarray(layer["bias"])
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

    def block(self, x, name, strides, block_stride):
        layers, y = self.params[name], x
        for i, stride in enumerate(strides):
            y = self.norm(np_conv(y, layers[f"Conv_{i}"], stride), name, f"BatchNorm_{i}")
            y = relu(y) if i < len(strides) - 1 else y
        if x.shape != y.shape:
            i = len(strides)
            x = self.norm(np_conv(x, layers[f"Conv_{i}"], block_stride), name, f"BatchNorm_{i}")
        return relu(x + y)

    def __call__(self, images, bottleneck, stem="small"):
        x = np.asarray(images, np.float64)
        x = np_conv(x, self.params["Conv_0"], 2 if stem == "imagenet" else 1)
        x = relu(self.norm(x, "BatchNorm_0"))
        x = np_max_pool(x) if stem == "imagenet" else x
        for stage, stride in enumerate((1, 2)):
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            x = self.block(x, f"ResidualBlock_{stage}", strides, stride)
        return np_dense(x.mean((1, 2)), self.params["Dense_0"])


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("name", "bottleneck"), [("resnet18", False), ("resnet50", True)])
def test_resnet_equals_numpy(name, bottleneck, train):
    model = tiny_resnet(name)
    variables = made(model)
    logits, state = jax.jit(model.apply, static_argnames="train")(variables, random_images(), train=train)
    reference = NpResNet(variables, train)
    np.testing.assert_allclose(logits, reference(random_images(), bottleneck), rtol=1e-4, atol=1e-4)

    if not train:
        assert jax.tree.all(jax.tree.map(np.array_equal, state, variables.model_state))
    for path, (mean, var) in reference.state.items():
        stats = state["batch_stats"]
        for part in path:
            stats = stats[part]
        np.testing.assert_allclose(stats["mean"], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(stats["var"], var, rtol=1e-4, atol=1e-5)
    # Every BatchNorm was checked: one running mean and one running variance each.
    assert len(reference.state) * 2 == (len(jax.tree.leaves(state)) if train else 0)


@pytest.mark.parametrize("train", [False, True])
def test_imagenet_stem_equals_numpy(train):
    model, images = tiny_resnet("resnet18", stem="imagenet"), random_images(shape=(16, 24, 3))
    variables = made(model, (16, 24, 3))
    assert variables.params["Conv_0"]["kernel"].shape == (7, 7, 3, 4)
    logits, state = jax.jit(model.apply, static_argnames="train")(variables, images, train=train)
    reference = NpResNet(variables, train)
    np.testing.assert_allclose(logits, reference(images, False, stem="imagenet"), rtol=1e-4, atol=1e-4)
    for path, (mean, _) in list(reference.state.items())[:1]:
        np.testing.assert_allclose(state["batch_stats"][path[0]]["mean"], mean, rtol=1e-4, atol=1e-5)


def test_cnn_equals_numpy():
    model = create_model("cnn", num_classes=4, widths=(4, 6))
    variables = made(model)
    x = np.asarray(random_images(), np.float64)
    for i, stride in enumerate((1, 2, 1, 2)):
        x = relu(np_conv(x, variables.params[f"Conv_{i}"], stride))
    expected = np_dense(x.mean((1, 2)), variables.params["Dense_0"])
    np.testing.assert_allclose(model.predict(variables, random_images()), expected, rtol=1e-4)


def test_small_cnn_equals_numpy():
    model = create_model("small_cnn", num_classes=4, widths=(4, 6))
    variables = made(model)
    x = np.asarray(random_images(), np.float64)
    for i in range(2):
        x = relu(np_conv(x, variables.params[f"Conv_{i}"], 2))
    expected = np_dense(x.reshape(3, -1), variables.params["Dense_0"])
    np.testing.assert_allclose(model.predict(variables, random_images()), expected, rtol=1e-4)


def test_mlp_equals_numpy():
    model = create_model("mlp", num_classes=4, widths=(8, 6))
    variables = made(model)
    x = np.asarray(random_images(), np.float64).reshape(3, -1)
    x = relu(np_dense(relu(np_dense(x, variables.params["Dense_0"])), variables.params["Dense_1"]))
    expected = np_dense(x, variables.params["Dense_2"])
    np.testing.assert_allclose(model.predict(variables, random_images()), expected, rtol=1e-4)


def test_vgg_equals_numpy():
    model = create_model("vgg16", num_classes=4, width=2)
    variables = made(model, (32, 32, 3))
    images = random_images(2, (32, 32, 3))
    reference = NpResNet(variables, train=False)
    x, layer = np.asarray(images, np.float64), 0
    for depth in (2, 2, 3, 3, 3):
        for _ in range(depth):
            x = relu(reference.norm(np_conv(x, variables.params[f"Conv_{layer}"]), f"BatchNorm_{layer}"))
            layer += 1
        n, height, width, filters = x.shape
        x = x.reshape(n, height // 2, 2, width // 2, 2, filters).max((2, 4))
    expected = np_dense(x.reshape(2, -1), variables.params["Dense_0"])
    np.testing.assert_allclose(jax.jit(model.predict)(variables, images), expected, rtol=1e-4)


# Structure.


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [
        ("resnet18", 10, 11_173_962),
        ("resnet50", 100, 23_705_252),
        # 13 convolutions, two numbers for each of the 4,224 channels, and 512 x 10 + 10.
        ("vgg16", 10, 14_710_464 + 2 * 4_224 + 5_130),
        ("cnn", 10, 896 + 9_248 + 18_496 + 36_928 + 73_856 + 147_584 + 1_290),
        ("small_cnn", 10, 448 + 4_640 + 18_496 + 10_250),
        ("mlp", 10, 3_073 * 128 + 129 * 128 + 1_290),
    ],
)
def test_parameter_count(name, num_classes, count):
    variables = shapes_of(name, num_classes=num_classes)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables.params)) == count


# What torchvision counts for its resnet18 and resnet50.
@pytest.mark.parametrize(("name", "count"), [("resnet18", 11_689_512), ("resnet50", 25_557_032)])
def test_parameter_count_with_imagenets_stem(name, count):
    variables = shapes_of(name, (224, 224, 3), num_classes=1000, stem="imagenet")
    assert sum(leaf.size for leaf in jax.tree.leaves(variables.params)) == count


@pytest.mark.parametrize(("name", "projections"), [("resnet18", [2, 4, 6]), ("resnet50", [0, 3, 7, 13])])
def test_resnet_projects_only_where_shapes_differ(name, projections):
    params = shapes_of(name, num_classes=10).params
    convolutions = 2 if name == "resnet18" else 3
    blocks = [params[f"ResidualBlock_{i}"] for i in range(sum(key.startswith("Res") for key in params))]
    with_projection = [i for i, block in enumerate(blocks) if f"Conv_{convolutions}" in block]
    assert with_projection == projections
    assert all(f"BatchNorm_{convolutions}" in blocks[i] for i in projections)
    assert params["Conv_0"]["kernel"].shape == (3, 3, 3, 64)
    assert not any("bias" in layer for block in blocks for name, layer in block.items() if "Conv" in name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "last", "expected"), [("resnet18", "BatchNorm_1", 1.0), ("resnet50", "BatchNorm_2", 0.0)]
)
def test_initial_batch_norm(name, last, expected):
    model = tiny_resnet(name)
    variables = jax.jit(model.init, static_argnums=1)(QUICK_KEY, SHAPE)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        path = jax.tree_util.keystr(path)
        if "scale" in path:
            is_last = "ResidualBlock" in path and last in path
            np.testing.assert_array_equal(leaf, expected if is_last else 1.0, err_msg=path)
        elif "BatchNorm" in path:  # eval mode at step 0 is the identity
            np.testing.assert_array_equal(leaf, 1.0 if "var" in path else 0.0, err_msg=path)


def test_zero_init_can_be_switched():
    for name in ("resnet18", "resnet50"):
        for zero_init in (False, True):
            assert create_model(name, num_classes=3, zero_init=zero_init).module.zero_init is zero_init


def test_initial_kernels_are_lecun_normal():
    params = create_model("mlp", num_classes=10, widths=(256,)).init(KEY, SHAPE).params
    kernel = np.asarray(params["Dense_0"]["kernel"])
    np.testing.assert_allclose(kernel.std(), (1 / 192) ** 0.5, rtol=0.02)
    assert np.abs(kernel).max() <= 2 * (1 / 192) ** 0.5 / 0.8796 + 1e-6  # a normal cut at two sigma
    np.testing.assert_array_equal(params["Dense_0"]["bias"], 0)


# The contract of Model.


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *(
            pytest.param(name, "float32", marks=pytest.mark.slow if name == "resnet50" else ())
            for name in MODEL_NAMES
        ),
        ("resnet18", "bfloat16"),
        ("mlp", "bfloat16"),
    ],
)
def test_contract(name, dtype):
    model = create_model(name, num_classes=10, dtype=dtype)
    assert isinstance(model, Model)
    variables = jax.eval_shape(lambda key: model.init(key, (32, 32, 3)), KEY)
    assert isinstance(variables, Variables)
    assert type(variables.params) is dict
    assert type(variables.model_state) is dict
    assert bool(variables.model_state) == (name in ("resnet18", "resnet50", "vgg16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}

    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    logits, state = jax.eval_shape(lambda v, x: model.apply(v, x, train=True), variables, images)
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)
    assert state == variables.model_state  # the same structure, shapes and dtypes
    logits = jax.eval_shape(model.predict, variables, images)
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)
    logits, features = jax.eval_shape(lambda v, x: model.features(v, x)[:2], variables, images)
    assert (logits.shape, logits.dtype, features.dtype) == ((2, 10), jnp.float32, jnp.float32)


def test_modes():
    model = tiny_resnet("resnet18")
    variables = made(model)
    apply = jax.jit(model.apply, static_argnames="train")
    logits, state = apply(variables, random_images(), train=True)
    assert not jax.tree.all(jax.tree.map(np.array_equal, state, variables.model_state))
    trained = Variables(variables.params, state)

    eval_logits, same = model.apply(trained, random_images(), train=False)
    assert same is state
    np.testing.assert_array_equal(eval_logits, model.predict(trained, random_images()))
    assert not np.allclose(eval_logits, logits, atol=1e-3)
    alone = jnp.concatenate([apply(trained, image[None], train=False)[0] for image in random_images()])
    np.testing.assert_allclose(eval_logits, alone, rtol=1e-5, atol=1e-5)
    alone = jnp.concatenate([apply(trained, image[None], train=True)[0] for image in random_images()])
    assert not np.allclose(logits, alone, atol=1e-3)  # batch statistics do depend on the batch


@pytest.mark.parametrize("name", ["resnet18", "cnn"])
def test_bfloat16_is_close_to_float32(name):
    models = [create_model(name, num_classes=4, dtype=dtype) for dtype in ("float32", "bfloat16")]
    if name == "resnet18":
        models = [tiny_resnet(name, dtype=model.module.dtype) for model in models]
    assert models[0] != models[1]
    variables, images = made(models[0]), random_images()
    full, half = (jax.jit(model.predict)(variables, images) for model in models)
    assert 0 < jnp.abs(half - full).max() < 0.03 * jnp.abs(full).max()
    # The last layer is in float32: its output has digits that bfloat16 does not.
    assert not np.array_equal(half, half.astype(jnp.bfloat16).astype(jnp.float32))


def test_a_jitted_init_is_reproducible_and_depends_on_the_key():
    model = create_model("mlp", num_classes=4, widths=(4,))
    init = jax.jit(model.init, static_argnums=1)
    first, again, other = (init(jax.random.key(seed), SHAPE) for seed in (0, 0, 1))
    assert jax.tree.all(jax.tree.map(np.array_equal, first, again))
    assert not np.array_equal(first.params["Dense_0"]["kernel"], other.params["Dense_0"]["kernel"])


def test_vmap_over_seeds_equals_a_loop():
    model = tiny_resnet("resnet18")
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), made(model, seed=1), made(model, seed=2))
    forward = jax.jit(jax.vmap(lambda v: model.apply(v, random_images(), train=True)))
    logits, state = forward(stacked)
    assert logits.shape == (2, 3, 4)
    apply = jax.jit(model.apply, static_argnames="train")
    for seed in range(2):
        one = jax.tree.map(lambda leaf, seed=seed: leaf[seed], stacked)
        expected, expected_state = apply(one, random_images(), train=True)
        np.testing.assert_allclose(logits[seed], expected, rtol=1e-4, atol=1e-5)
        mean = state["batch_stats"]["BatchNorm_0"]["mean"][seed]
        np.testing.assert_allclose(mean, expected_state["batch_stats"]["BatchNorm_0"]["mean"], atol=1e-6)


def test_init_can_be_vmapped():
    model = create_model("small_cnn", num_classes=4, widths=(4,))
    keys = jax.random.split(QUICK_KEY, 2)
    kernels = jax.jit(jax.vmap(lambda key: model.init(key, SHAPE)))(keys).params["Conv_0"]["kernel"]
    assert kernels.shape == (2, 3, 3, 3, 4)
    assert not np.allclose(kernels[0], kernels[1])


def test_per_example_gradients_average_to_the_batch_gradient():
    model = tiny_resnet("resnet18")
    variables = made(model)

    def loss(params, images):
        return model.predict(Variables(params, variables.model_state), images)[:, 0].mean()

    per_example = jax.vmap(jax.grad(lambda params, image: loss(params, image[None])), in_axes=(None, 0))
    each = jax.jit(per_example)(variables.params, random_images())
    whole = jax.jit(jax.grad(loss))(variables.params, random_images())
    means = jax.tree.map(lambda leaf: leaf.mean(0), each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), means, whole)


def test_equality_and_hash():
    a, b = (create_model("cnn", num_classes=10, widths=widths) for widths in ([4, 8], (4, 8)))
    assert a == b
    assert hash(a) == hash(b)
    others = [
        create_model("cnn", num_classes=10),
        create_model("cnn", num_classes=11, widths=(4, 8)),
        create_model("cnn", num_classes=10, widths=(4, 8), dtype="bfloat16"),
        create_model("small_cnn", num_classes=10, widths=(4, 8)),
        "cnn",
    ]
    assert a not in others
    assert create_model("resnet18", num_classes=10) != create_model("resnet18", num_classes=10, width=32)

    traces = []

    def forward(model, variables, images):
        traces.append(model)
        return model.predict(variables, images)

    jitted = jax.jit(forward, static_argnums=0)
    variables = made(a)
    jitted(a, variables, random_images())
    jitted(b, variables, random_images())
    assert len(traces) == 1  # compiled once for equal models


def test_a_module_with_an_array_field_equals_only_itself():
    class Scaled(nn.Module):
        scale: jax.Array

        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)((self.scale * x).mean((1, 2)))

    module = Scaled(jnp.full((1, 1, 1, 3), 2.0))
    model = from_linen(module)
    assert model == from_linen(module)
    assert hash(model) == hash(from_linen(module))
    assert model != from_linen(Scaled(module.scale))
    variables = made(model)
    assert jax.jit(model.predict)(variables, random_images()).shape == (3, 4)


# Other people's modules.


class Train(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        return Averaged()(x, use_running_average=not train)


class Training(nn.Module):
    @nn.compact
    def __call__(self, x, *, training: bool = True):
        return Averaged()(x, use_running_average=not training)


class Deterministic(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=False):
        return Averaged()(x, use_running_average=deterministic)


class Averaged(nn.Module):
    @nn.compact
    def __call__(self, x, use_running_average):
        x = nn.BatchNorm(use_running_average=use_running_average)(x)
        return nn.Dense(4)(x.mean((1, 2)))


class NoMode(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.sow("intermediates", "input", x)
        return nn.Dense(4)(x.mean((1, 2)))


@pytest.mark.parametrize("module", [Train(), Training(), Deterministic(), Averaged()])
def test_from_linen_finds_the_mode_keyword(module):
    model = from_linen(module)
    variables = made(model)
    assert list(variables.model_state) == ["batch_stats"]
    logits, state = model.apply(variables, random_images(), train=True)
    old, new = (jax.tree.leaves(tree)[0] for tree in (variables.model_state, state))  # mean, then var
    expected = 0.99 * old + 0.01 * random_images().mean((0, 1, 2))
    np.testing.assert_allclose(new, expected, rtol=1e-4)
    assert not np.allclose(logits, model.predict(variables, random_images()), atol=1e-3)


def test_from_linen_without_a_mode():
    model = from_linen(NoMode())
    variables = made(model)
    assert variables.model_state == {}
    logits, state = model.apply(variables, random_images(), train=True)
    assert state == {}
    np.testing.assert_array_equal(logits, model.predict(variables, random_images()))


def test_numpy_variables_and_images_work():
    model = create_model("mlp", num_classes=4, widths=(8,))
    variables = made(model)
    logits, features, _ = model.features(variables, random_images())
    restored = jax.tree.map(np.asarray, variables)
    again, features_again, _ = model.features(restored, np.asarray(random_images()))
    np.testing.assert_array_equal(logits, again)
    np.testing.assert_array_equal(features, features_again)


class Dropping(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(4)(nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2))))


def test_a_module_that_needs_a_random_key():
    model = from_linen(Dropping())
    variables = made(model)
    assert model.predict(variables, random_images()).shape == (3, 4)
    with pytest.raises(InputError, match=r"random key in train mode .*give `apply` a key"):
        model.apply(variables, random_images(), train=True)


class AlwaysTraining(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(nn.BatchNorm(use_running_average=False)(x).mean((1, 2)))


class Pair(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(x.mean((1, 2))), x


def test_modules_that_do_not_fit():
    model = from_linen(AlwaysTraining())
    with pytest.raises(InputError, match="changes its state in eval mode"):
        model.predict(made(model), random_images())
    model = from_linen(Pair())
    with pytest.raises(InputError, match=r"return logits \[batch, classes\], got tuple"):
        model.predict(made(model), random_images())


# Features.


@pytest.mark.parametrize(
    ("name", "options"), [("resnet18", {"width": 4}), ("small_cnn", {}), ("mlp", {"widths": (8,)})]
)
def test_features_feed_the_last_dense(name, options):
    model = create_model(name, num_classes=4, **options) if name != "resnet18" else tiny_resnet(name)
    variables = made(model)
    logits, features, has_bias = model.features(variables, random_images())
    assert has_bias is True
    last = max(key for key in variables.params if "Dense" in key)
    np.testing.assert_allclose(logits, np_dense(np.asarray(features), variables.params[last]), rtol=1e-4)
    np.testing.assert_array_equal(logits, model.predict(variables, random_images()))

    # What features are for: the last layer's gradient in closed form.
    def loss(params):
        return jnp.square(model.predict(Variables(params, variables.model_state), random_images()[:1])).sum()

    gradient = jax.jit(jax.grad(loss))(variables.params)[last]["kernel"]
    np.testing.assert_allclose(gradient, np.outer(features[0], 2 * logits[0]), rtol=1e-3, atol=1e-5)


class Headed(nn.Module):
    """Ends in one of several ways, most of them no plain Dense."""

    ending: str

    @nn.compact
    def __call__(self, x):
        x = x.mean((1, 2))
        if self.ending == "no bias":
            return nn.Dense(3, use_bias=False)(x)
        if self.ending == "scaled":
            return 2.0 * nn.Dense(3)(x)
        if self.ending == "conv":
            return nn.Conv(3, (1,))(x[:, None])[:, 0]
        if self.ending == "shared":
            dense = nn.Dense(3)
            return dense(dense(x))
        if self.ending == "weight norm":
            return nn.WeightNorm(nn.Dense(3))(x)
        if self.ending == "compiled":
            return nn.jit(nn.Dense)(3)(x)
        raise ValueError(self.ending)


def test_features_without_bias():
    model = from_linen(Headed("no bias"))
    _, features, has_bias = model.features(made(model), random_images())
    assert has_bias is False
    np.testing.assert_allclose(features, random_images().mean((1, 2)), rtol=1e-6)


@pytest.mark.parametrize("ending", ["scaled", "conv", "shared", "weight norm", "compiled"])
def test_features_need_a_last_dense(ending):
    model = from_linen(Headed(ending))
    variables = made(model)
    assert model.predict(variables, random_images()).shape == (3, 3)
    with pytest.raises(InputError, match="last layer of Headed could not be identified"):
        model.features(variables, random_images())


# Errors.


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, r"name: no model .*'resnet81'.* Did you mean 'resnet18'\? Choose from: resnet18, "),
        ("x", {}, r"name: no model is called 'x'\. Choose from: .*, mlp\."),
        (
            "cnn",
            {"width": 4},
            r"width: .*'cnn' has no such option.*'widths'\? Choose from: widths, conv",
        ),
        ("vgg16", {"zero_init": True}, r"zero_init: .*Choose from: width, convolution\."),
        ("cnn", {"dtype": "float16"}, r"dtype: expected 'float32' or 'bfloat16', got 'float16'"),
        ("cnn", {"num_classes": 1}, r"num_classes: expected .* at least 2.*, got 1"),
        ("cnn", {"widths": []}, r"widths: expected a list of positive integers"),
        ("mlp", {"widths": 128}, r"widths: .* got 128"),
        ("mlp", {"widths": (8, 0)}, r"widths: .* got \(8, 0\)"),
        ("resnet18", {"width": 0}, r"width: expected a positive integer.*, got 0"),
        ("resnet18", {"stem": "large"}, r"stem: expected 'small' or 'imagenet', got 'large'"),
        ("cnn", {"stem": "imagenet"}, r"stem: model 'cnn' has no such option"),
        ("resnet18", {"zero_init": 1}, r"zero_init: expected True or False, got 1"),
    ],
)
def test_create_model_errors(name, options, message):
    with pytest.raises(InputError, match=message):
        create_model(name, **{"num_classes": 10, **options})


def test_unnormalised_images_are_refused():
    model = create_model("mlp", num_classes=4, widths=(8,))
    variables = made(model)
    images = jnp.zeros((2, *SHAPE), jnp.uint8)
    calls = [
        model.predict,
        model.features,
        lambda v, x: model.apply(v, x, train=True),
        lambda v, x: model.apply(v, x, train=False),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"got uint8.*diet_jax.normalize\(inputs, mean, std\)"):
            call(variables, images)


def test_vgg_refuses_small_images():
    with pytest.raises(InputError, match="needs 32 x 32 pixels or more, got 32 x 28"):
        create_model("vgg16", num_classes=10).init(KEY, (32, 28, 1))


def test_init_checks_the_image_shape():
    model = create_model("mlp", num_classes=10)
    with pytest.raises(InputError, match="size in shape must be at least 1"):
        model.init(KEY, (8, 0, 3))
    with pytest.raises(InputError, match=r"shape of one example.*got an array of shape \(2, 8, 8, 1\)"):
        inspect.unwrap(type(model).init)(model, KEY, jnp.zeros((2, 8, 8, 1)))


@pytest.mark.parametrize("key", [0, None, "a", [0, 0], np.zeros(2, np.int32), jax.random.split(KEY, 3)])
def test_init_checks_the_key(key):
    with pytest.raises(InputError, match="key must be a key"):
        # Past the type checker that only the tests install.
        inspect.unwrap(LinenModel.init)(create_model("mlp", num_classes=10), key, (8, 8, 1))


@pytest.mark.parametrize(("name", "channels"), [("mlp", 1), ("small_cnn", 3), ("cnn", 3)])
def test_no_examples_have_no_logits(name, channels):
    model = create_model(name, num_classes=10)
    variables = jax.eval_shape(lambda: model.init(KEY, (16, 16, channels)))
    none = jax.ShapeDtypeStruct((0, 16, 16, channels), "float32")
    assert jax.eval_shape(model.predict, variables, none).shape == (0, 10)


def test_from_linen_wants_an_instance():
    with pytest.raises(InputError, match=r"the class NoMode .*write dj\.from_linen\(Net\(\.\.\.\)\)"):
        inspect.unwrap(from_linen)(NoMode)  # past the type checker that only the tests install
