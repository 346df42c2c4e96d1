"""The convolution that networks train with on CPUs: equal to JAX's, and only of layouts that XLA has fast."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params

import diet_jax as dj
from diet_jax.devices import defaults
from diet_jax.models import cpu_convolution as module

NUMBERS = ("NHWC", "HWIO", "NHWC")
CASES = {
    "3x3": ((3, 7, 6, 3), (3, 3, 3, 4), (1, 1), "SAME", (1, 1)),
    "stride 2, even": ((3, 8, 8, 3), (3, 3, 3, 4), (2, 2), "SAME", (1, 1)),
    "stride 2, odd": ((3, 7, 5, 3), (3, 3, 3, 4), (2, 2), "SAME", (1, 1)),
    "stride beyond the kernel": ((3, 9, 8, 2), (2, 2, 2, 3), (3, 4), "VALID", (1, 1)),
    "pixels that are not read": ((3, 8, 8, 2), (3, 3, 2, 3), (3, 2), "VALID", (1, 1)),
    "7x7 stem": ((3, 12, 12, 3), (7, 7, 3, 2), (2, 2), "SAME", (1, 1)),
    "low side padded more": ((3, 6, 7, 3), (2, 4, 3, 4), (2, 2), "SAME_LOWER", (1, 1)),
    "pairs": ((3, 6, 7, 3), (3, 3, 3, 4), (2, 1), ((0, 3), (2, 1)), (1, 1)),
    "cropped": ((3, 8, 7, 3), (3, 3, 3, 4), (1, 1), ((-1, 0), (1, -2)), (1, 1)),
    "dilated": ((3, 9, 8, 3), (3, 2, 3, 4), (2, 1), "SAME", (2, 3)),
}


def arrays(shape, kernel_shape, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=size), dtype) for size in (shape, kernel_shape)]


@pytest.fixture
def patches_of_an_image(monkeypatch):
    """No layer is small enough for one matrix product, and patches are made of one image at a time."""
    monkeypatch.setattr(module, "MOST_PATCHES", 1)


def with_gradients(convolution, x, kernel, *args, **options):
    def run(x, kernel):
        out, back = jax.vjp(lambda x, k: convolution(x, k, *args, **options), x, kernel)
        return out, *back(
            jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape).astype(out.dtype)
        )

    return jax.jit(run)(x, kernel)


def convolutions(jaxpr):
    """Yields the parameters of every convolution in a jaxpr."""
    for equation in jaxpr.eqns:
        if equation.primitive is lax.conv_general_dilated_p:
            yield equation.params
        for inner in jaxprs_in_params(equation.params):
            yield from convolutions(inner)


def same(ours, theirs, tolerance=1e-5):
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_jax(case, images, monkeypatch):
    shape, kernel_shape, *args, dilation = CASES[case]
    x, kernel = arrays(shape, kernel_shape)
    options = {"rhs_dilation": dilation, "dimension_numbers": NUMBERS}
    theirs = with_gradients(lax.conv_general_dilated, x, kernel, *args, **options)
    patch = np.prod(theirs[0].shape[1:3]) * np.prod(kernel_shape[:3])
    # Of three images two at a time leave a rest.
    monkeypatch.setattr(module, "MOST_PATCHES", int(images * patch))
    same(with_gradients(module.cpu_convolution, x, kernel, *args, **options), theirs)
    assert defaults.has_convolution(lambda x: module.cpu_convolution(x, kernel, *args, **options), x)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_one_axis_and_vmap(axes, patches_of_an_image):
    x, kernel = arrays((2, 3, 9, 3), (2, 4, 3, 5))
    given = [a if axis == 0 else a[0] for a, axis in zip((x, kernel), axes, strict=True)]

    def results(convolution):
        def run(x, k):
            return with_gradients(convolution, x, k, (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))

        return jax.vmap(run, axes)(*given)

    same(results(dj.cpu_convolution), results(lax.conv_general_dilated))


def test_bfloat16_sums_in_float32(patches_of_an_image):
    x, kernel = arrays((3, 8, 8, 3), (3, 3, 3, 4), jnp.bfloat16)
    args = ((2, 2), "SAME")
    ours = with_gradients(dj.cpu_convolution, x, kernel, *args, dimension_numbers=NUMBERS)
    assert all(a.dtype == jnp.bfloat16 for a in ours)
    exact = with_gradients(
        lax.conv_general_dilated, *arrays(x.shape, kernel.shape), *args, dimension_numbers=NUMBERS
    )
    for a, b in zip(ours, exact, strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float32), b, atol=0.02 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("seeds", [None, 2])
def test_all_convolutions_have_channels_last_and_no_groups(seeds, patches_of_an_image):
    # Any other layout is slow in a loop on the device.
    model = dj.create_model("resnet18", num_classes=3, width=2, convolution="cpu")
    model = dj.from_linen(model.module.clone(stage_sizes=(1, 1)))
    variables = model.init(jax.random.key(0), (8, 8, 3))

    def gradient(variables, images):
        def loss(params):
            return jnp.sum(model.apply(variables._replace(params=params), images, train=True)[0] ** 2)

        return jax.grad(loss)(variables.params)

    if seeds:
        gradient = jax.vmap(gradient, (0, None))
        variables = jax.tree.map(lambda leaf: jnp.stack([leaf] * seeds), variables)
    found = list(convolutions(jax.make_jaxpr(gradient)(variables, jnp.ones((2, 8, 8, 3))).jaxpr))
    # The stem's and two of each block, forward and the gradient of the input.
    assert len(found) == 2 * 5 * (seeds or 1)
    for params in found:
        assert params["dimension_numbers"] == lax.ConvDimensionNumbers(
            (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
        )
        assert params["feature_group_count"] == params["batch_group_count"] == 1


def test_per_example_norms_are_exact(patches_of_an_image):
    x, kernel = arrays((4, 6, 6, 2), (3, 3, 2, 4))

    def norms(convolution):
        def loss(kernel, image):
            return jnp.sum(
                jnp.sin(convolution(image[None], kernel, (2, 2), "SAME", dimension_numbers=NUMBERS))
            )

        return jax.jit(lambda k: dj.per_example_grad_norms(loss)(k, x))(kernel)

    np.testing.assert_allclose(norms(dj.cpu_convolution), norms(lax.conv_general_dilated), rtol=1e-5)


def test_small_layers_and_1x1_are_matrix_products():
    for kernel_shape, size in (((3, 3, 2, 4), 6), ((1, 1, 2, 4), 1000)):
        x, kernel = (jax.ShapeDtypeStruct(s, "float32") for s in ((4, size, size, 2), kernel_shape))

        def apply(x, kernel):
            return dj.cpu_convolution(x, kernel, (1, 1), "SAME", dimension_numbers=NUMBERS)

        assert not defaults.has_convolution(apply, x, kernel)


@pytest.mark.slow
def test_what_it_does_not_cover_is_left_to_jax(patches_of_an_image):
    x, kernel = arrays((2, 6, 6, 4), (3, 3, 2, 4))
    options = {"dimension_numbers": NUMBERS, "feature_group_count": 2}
    same(
        *(
            with_gradients(f, x, kernel, (1, 1), "SAME", **options)
            for f in (dj.cpu_convolution, lax.conv_general_dilated)
        )
    )
