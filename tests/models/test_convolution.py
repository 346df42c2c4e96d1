"""Convolution as a matrix product: against JAX's own, against NumPy, and where it is used."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diet_jax as dj
from diet_jax.devices import defaults
from diet_jax.errors import InputError
from diet_jax.models.convolution import matmul_convolution, resolve_form

NUMBERS = ("NHWC", "HWIO", "NHWC")
CASES = {
    "3x3": ((2, 7, 6, 3), (3, 3, 3, 4), (1, 1), "SAME", (1, 1)),
    "stride 2, even": ((2, 8, 8, 3), (3, 3, 3, 4), (2, 2), "SAME", (1, 1)),
    "stride 2, odd": ((2, 7, 5, 3), (3, 3, 3, 4), (2, 2), "SAME", (1, 1)),
    "stride beyond the kernel": ((2, 9, 8, 2), (2, 2, 2, 3), (3, 4), "VALID", (1, 1)),
    "1x1": ((2, 5, 4, 3), (1, 1, 3, 4), (1, 1), "SAME", (1, 1)),
    "1x1, stride 2": ((2, 5, 4, 3), (1, 1, 3, 4), (2, 2), "SAME", (1, 1)),
    "1x1, padded": ((2, 5, 4, 3), (1, 1, 3, 4), (2, 1), ((1, 0), (0, 2)), (1, 1)),
    "7x7 stem": ((1, 12, 12, 3), (7, 7, 3, 2), (2, 2), "SAME", (1, 1)),
    "even and oblong": ((2, 6, 7, 3), (2, 4, 3, 4), (1, 2), "SAME", (1, 1)),
    "low side padded more": ((2, 6, 7, 3), (2, 4, 3, 4), (2, 2), "SAME_LOWER", (1, 1)),
    "valid": ((2, 6, 7, 3), (3, 2, 3, 4), (1, 2), "VALID", (1, 1)),
    "pairs": ((2, 6, 7, 3), (3, 3, 3, 4), (2, 1), ((0, 3), (2, 1)), (1, 1)),
    "cropped": ((2, 8, 7, 3), (3, 3, 3, 4), (1, 1), ((-1, 0), (1, -2)), (1, 1)),
    "dilated": ((2, 9, 8, 3), (3, 2, 3, 4), (2, 1), "SAME", (2, 3)),
    "as large as the image": ((2, 4, 4, 3), (4, 4, 3, 5), (1, 1), "VALID", (1, 1)),
}


def arrays(shape, kernel_shape, dtype=np.float32):
    rng = np.random.default_rng(0)
    return (jnp.asarray(rng.normal(size=size), dtype) for size in (shape, kernel_shape))


def np_convolution(x, kernel, strides, pads, dilation):
    x = np.pad(np.asarray(x, np.float64), ((0, 0), *((max(a, 0), max(b, 0)) for a, b in pads), (0, 0)))
    for axis, (low, high) in enumerate(pads, start=1):
        x = np.take(x, range(max(-low, 0), x.shape[axis] - max(-high, 0)), axis)
    kernel = np.asarray(kernel, np.float64)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=False)]
    places = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:3], reach, strides, strict=True)]
    out = np.zeros((len(x), *places, kernel.shape[3]))
    for row in range(places[0]):
        for column in range(places[1]):
            for i in range(kernel.shape[0]):
                for j in range(kernel.shape[1]):
                    pixel = x[:, row * strides[0] + i * dilation[0], column * strides[1] + j * dilation[1]]
                    out[:, row, column] += pixel @ kernel[i, j]
    return out


@pytest.mark.parametrize("name", CASES)
def test_equals_jax_and_numpy(name):
    shape, kernel_shape, strides, padding, dilation = CASES[name]
    x, kernel = arrays(shape, kernel_shape)
    options = {"rhs_dilation": dilation, "dimension_numbers": NUMBERS}

    def program(convolution):
        def loss(x, kernel):
            out = convolution(x, kernel, strides, padding, **options)
            return jnp.sum(jnp.sin(out) * jnp.linspace(-1, 1, out.size).reshape(out.shape)), out

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))

    assert not defaults.has_convolution(program(matmul_convolution), x, kernel)
    (dx, dk), out = program(matmul_convolution)(x, kernel)
    (dx_jax, dk_jax), out_jax = program(lax.conv_general_dilated)(x, kernel)
    np.testing.assert_allclose(out, out_jax, rtol=1e-5, atol=1e-5)
    for ours, theirs in ((dx, dx_jax), (dk, dk_jax)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(jnp.abs(theirs).max()))
    pads = padding
    if isinstance(padding, str):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel_shape, dilation, strict=False)]
        pads = lax.padtype_to_pads(shape[1:3], reach, strides, padding)
    np.testing.assert_allclose(out, np_convolution(x, kernel, strides, pads, dilation), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "kernel_shape"), [((2, 9, 3), (4, 3, 5)), ((1, 4, 5, 6, 2), (3, 2, 3, 2, 3))]
)
def test_any_number_of_spatial_axes(shape, kernel_shape):
    x, kernel = arrays(shape, kernel_shape)
    spatial = "DHW"[-len(shape) + 2 :]
    numbers = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    strides = (2, 1, 2)[: len(spatial)]
    ours, theirs = (
        convolution(x, kernel, strides, "SAME", dimension_numbers=numbers)
        for convolution in (matmul_convolution, lax.conv_general_dilated)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_bfloat16_is_rounded_once():
    x, kernel = arrays((2, 7, 6, 3), (3, 3, 3, 4), jnp.bfloat16)
    out = matmul_convolution(x, kernel, (1, 1), "SAME", dimension_numbers=NUMBERS)
    assert out.dtype == jnp.bfloat16
    exact = np_convolution(x, kernel, (1, 1), ((1, 1), (1, 1)), (1, 1))
    np.testing.assert_allclose(np.asarray(out, np.float64), exact, rtol=2**-8, atol=2**-10)
    wide = matmul_convolution(
        x, kernel, (1, 1), "SAME", dimension_numbers=NUMBERS, preferred_element_type=jnp.float32
    )
    assert wide.dtype == jnp.float32
    np.testing.assert_allclose(wide, exact, rtol=1e-5, atol=1e-5)


def test_per_example_seed_and_second_derivatives():
    x, kernel = arrays((3, 6, 6, 2), (3, 3, 2, 4))
    kernels = jnp.stack([kernel, kernel[::-1]])

    def program(convolution):
        def loss(kernel, image):
            out = convolution(image[None], kernel, (2, 2), "SAME", dimension_numbers=NUMBERS)
            return jnp.sum(jnp.sin(out))

        gradient = jax.grad(loss)
        per_example = jax.vmap(jax.vmap(gradient, (None, 0)), (0, None))(kernels, x)
        along = jax.jvp(lambda k: gradient(k, x[0]), (kernel,), (kernels[1],))
        return per_example, along, dj.per_example_grad_norms(loss)(kernel, x)

    ours, theirs = (jax.jit(lambda c=c: program(c))() for c in (matmul_convolution, lax.conv_general_dilated))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)
    np.testing.assert_allclose(ours[2], np.linalg.norm(ours[0][0].reshape(3, -1), axis=1), rtol=1e-5)


def test_patches_are_not_kept_for_the_backward_pass():
    x, kernel = arrays((2, 8, 8, 4), (3, 3, 4, 4))

    def kept(convolution):
        apply = lambda *args: convolution(*args, (1, 1), "SAME", dimension_numbers=NUMBERS)  # noqa: E731
        _, pullback = jax.vjp(apply, x, kernel)
        return sum(leaf.size for leaf in jax.tree.leaves(pullback))

    assert kept(matmul_convolution) == x.size + kernel.size
    assert kept(lax.conv_general_dilated) == x.size + kernel.size


@pytest.mark.parametrize(
    ("shape", "kernel_shape", "options"),
    [
        ((2, 6, 6, 4), (3, 3, 2, 4), {"feature_group_count": 2}),
        ((2, 6, 6, 4), (3, 3, 4, 4), {"lhs_dilation": (2, 1)}),
        ((2, 6, 6, 4), (3, 3, 4, 4), {"batch_group_count": 2}),
        ((2, 4, 6, 6), (4, 4, 3, 3), {"dimension_numbers": None}),
    ],
)
def test_what_it_does_not_cover_is_left_to_jax(shape, kernel_shape, options):
    x, kernel = arrays(shape, kernel_shape)
    options = {"dimension_numbers": NUMBERS, **options}
    ours = lambda *args: matmul_convolution(*args, (1, 1), "SAME", **options)  # noqa: E731
    if "lhs_dilation" in options:
        ours = lambda *args: matmul_convolution(*args, (1, 1), ((1, 1), (0, 1)), **options)  # noqa: E731
    assert defaults.has_convolution(ours, x, kernel)
    padding = ((1, 1), (0, 1)) if "lhs_dilation" in options else "SAME"
    np.testing.assert_array_equal(
        ours(x, kernel), lax.conv_general_dilated(x, kernel, (1, 1), padding, **options)
    )


def test_wrong_arguments_get_jaxs_message():
    x, kernel = arrays((2, 6, 6, 3), (3, 3, 4, 4))
    with pytest.raises(ValueError, match="feature"):
        matmul_convolution(x, kernel, (1, 1), "SAME", dimension_numbers=NUMBERS)
    x, kernel = arrays((2, 2, 2, 3), (3, 3, 3, 4))
    empty = matmul_convolution(x, kernel, (1, 1), "VALID", dimension_numbers=NUMBERS)
    assert empty.shape == (2, 0, 0, 4)


@pytest.mark.parametrize("options", [{}, {"padding": "CIRCULAR"}, {"padding": 2, "kernel_dilation": 2}])
def test_it_fits_flax(options):
    x, _ = arrays((2, 9, 8, 3), ())
    ours = nn.Conv(4, (3, 3), strides=2, conv_general_dilated=dj.matmul_convolution, **options)
    theirs = nn.Conv(4, (3, 3), strides=2, **options)
    variables = theirs.init(jax.random.key(0), x)
    assert not defaults.has_convolution(ours.apply, variables, x)
    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-4, atol=1e-5)


# Where the networks use it.


@pytest.mark.parametrize(
    ("name", "form", "train", "expected"),
    [
        ("cpu", "auto", True, "cpu"),
        ("cpu", "cpu", False, "lax"),
        ("cpu", "auto", False, "lax"),
        ("gpu", "auto", True, "unrolled"),
        ("gpu", "auto", False, "lax"),
        ("cpu", "unrolled", True, "unrolled"),
        ("cpu", "unrolled", False, "lax"),
        ("cpu", "lax", True, "lax"),
        ("gpu", "matmul", False, "matmul"),
    ],
)
def test_the_form_follows_backend_and_mode(name, form, train, expected, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    assert resolve_form(form, train=train) == expected


NETWORKS = {
    "cnn": (8, {"widths": (4,)}),
    "small_cnn": (8, {"widths": (4,)}),
    "resnet18": (8, {"width": 2}),
    "resnet50": (8, {"width": 2}),
    "vgg16": (32, {"width": 2}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_traces_the_form_it_was_asked_for(name):
    size, options = NETWORKS[name]
    spec = jax.ShapeDtypeStruct((size, size, 3), "float32")
    forms = ("auto", "lax", "matmul")
    models = {form: dj.create_model(name, num_classes=3, convolution=form, **options) for form in forms}
    assert models["auto"] == dj.create_model(name, num_classes=3, **options)
    if name.startswith("resnet"):  # Two stages of one block: the same code, seconds less to trace.
        models = {
            form: dj.from_linen(model.module.clone(stage_sizes=(1, 1))) for form, model in models.items()
        }
    assert defaults.model_has_convolution(models["lax"], spec)
    assert defaults.training_has_convolution(models["lax"], spec)
    assert not defaults.model_has_convolution(models["matmul"], spec)
    if jax.default_backend() == "cpu":
        assert defaults.model_has_convolution(models["auto"], spec)
        assert not defaults.training_has_convolution(models["auto"], spec)
    assert len(set(models.values())) == 3


def test_both_forms_train_and_score_alike(train_split):
    results = []
    config = dj.TrainConfig(steps=4, batch_size=8, learning_rate=0.05, augment="none")
    for form in ("lax", "matmul"):
        model = dj.create_model("cnn", num_classes=3, widths=(4,), convolution=form)
        state, history = dj.train(jax.random.key(0), model, train_split, config=config)
        scores = jax.jit(dj.grand, static_argnums=0)(
            model.predict,
            state.variables,
            jnp.asarray(train_split.images[:4], jnp.float32),
            jnp.asarray(train_split.labels[:4]),
        )
        results.append((history.loss, scores))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_the_option_is_checked():
    with pytest.raises(
        InputError,
        match=r"convolution: expected 'auto' or 'lax' or 'matmul' or 'cpu' or 'unrolled', got 'fft'",
    ):
        dj.create_model("cnn", num_classes=3, convolution="fft")
    with pytest.raises(InputError, match=r"convolution: model 'mlp' has no such option"):
        dj.create_model("mlp", num_classes=3, convolution="lax")
