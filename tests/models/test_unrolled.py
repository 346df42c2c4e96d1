"""The convolution that `vmap` over networks writes out: equal to JAX's, never grouped, norms exact."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diet_jax as dj

CASES = {
    "same": ((8, 8, 5), (3, 3, 5, 4), {"padding": "SAME"}),
    "stride 2, pairs": ((9, 8, 5), (3, 2, 5, 4), {"padding": ((1, 0), (2, 1)), "window_strides": (2, 1)}),
    "dilated": ((9, 9, 2), (3, 3, 2, 3), {"padding": "VALID", "rhs_dilation": (2, 2)}),
    "transposed": ((4, 4, 2), (3, 3, 2, 3), {"padding": ((2, 2), (2, 2)), "lhs_dilation": (2, 2)}),
    "groups of channels": ((6, 6, 4), (3, 3, 2, 6), {"padding": "SAME", "feature_group_count": 2}),
    "one axis": ((7, 3), (3, 3, 2), {"padding": "SAME", "dimension_numbers": ("NWC", "WIO", "NWC")}),
    "one place": ((5, 5, 3), (1, 1, 3, 2), {"padding": "VALID"}),
}


QUICK = ("stride 2, pairs", "groups of channels", "one axis")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES]
)
def test_values_and_gradients_of_many_networks_are_those_of_jax(case):
    shape, kernel_shape, options = CASES[case]
    options = {
        "window_strides": (1,) * (len(shape) - 1),
        "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
        **options,
    }
    x = jax.random.normal(jax.random.key(0), (2, 3, *shape))
    kernel = jax.random.normal(jax.random.key(1), (2, *kernel_shape))

    def results(convolution, kernel, x):
        out, back = jax.vjp(lambda k, x: convolution(x, k, **options), kernel, x)
        return out, *back(jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))

    for axes in ((0, 0), (0, None), (None, 0)):
        arguments = [a if axis == 0 else a[0] for a, axis in zip((kernel, x), axes, strict=True)]
        ours, theirs = (
            jax.jit(jax.vmap(functools.partial(results, form), in_axes=axes))(*arguments)
            for form in (dj.unrolled_convolution, lax.conv_general_dilated)
        )
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(jnp.abs(b).max()))


def test_bfloat16_and_the_type_of_the_result():
    x, kernel = jnp.ones((2, 1, 4, 4, 3), jnp.bfloat16), jnp.ones((2, 3, 3, 3, 2), jnp.bfloat16)
    for asked in (None, jnp.float32):
        one = functools.partial(
            dj.unrolled_convolution,
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            preferred_element_type=asked,
        )
        assert jax.vmap(one)(x, kernel).dtype == asked or jnp.bfloat16


class Net(nn.Module):
    """Two convolutions of which the second stands in a checkpoint, and BatchNorm."""

    convolution: object = None

    @nn.compact
    def __call__(self, x, train: bool):
        layer = functools.partial(nn.Conv, 4, (3, 3), conv_general_dilated=self.convolution)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(layer()(x)))
        return nn.Dense(3)(layer(strides=2)(x).mean(axis=(1, 2)))


@pytest.mark.slow
def test_gradient_norms_are_exact_through_it(train_split):
    images = jnp.asarray(train_split.images[:6], jnp.float32) / 100
    labels = jnp.asarray(train_split.labels[:6])
    ours, theirs = (dj.from_linen(Net(form)) for form in (dj.unrolled_convolution, None))
    variables = jax.vmap(lambda key: ours.init(key, (8, 8, 2)))(dj.seed_keys(0, "score", 2))
    of_seed = [dj.take_seed(variables, seed) for seed in range(2)]
    expected = [dj.grand_vmap(theirs.predict, one, images, labels) for one in of_seed]
    for one, norms in zip(of_seed, expected, strict=True):
        np.testing.assert_allclose(dj.grand(ours.predict, one, images, labels), norms, rtol=1e-5)
        np.testing.assert_allclose(dj.grand_vmap(ours.predict, one, images, labels), norms, rtol=1e-5)
    many = jax.jit(jax.vmap(lambda one: dj.grand(ours.predict, one, images, labels)))(variables)
    np.testing.assert_allclose(many, expected, rtol=1e-5)
    # The norms are found in the products, as with JAX's convolution: no weight gradient is formed.
    one = of_seed[0]
    plans = [
        str(dj.explain(dj.example_loss(model.predict, one.model_state), one.params, images, labels))
        for model in (ours, theirs)
    ]
    assert plans[0] == plans[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_an_ensemble_in_one_program_equals_one_network_after_the_other(name, train_split):
    options = {"cnn": {"widths": (4,)}, "resnet18": {"width": 2}}[name]
    config = dj.TrainConfig(steps=3, batch_size=8, learning_rate=0.02)
    keys = dj.seed_keys(0, "score", 2)
    run = functools.partial(dj.score_ensemble, keys, dataset=train_split, config=config, step=3)
    model = dj.create_model(name, num_classes=3, convolution="unrolled", **options)
    if name == "resnet18":  # Two stages of one block: the same code, seconds less to compile.
        model = dj.from_linen(model.module.clone(stage_sizes=(1, 1)))
    together = run(model, how="vmap")
    lax_form = run(dj.from_linen(model.module.clone(convolution="lax")), how="loop")
    for score, values in together.scores.items():
        np.testing.assert_allclose(values, lax_form.scores[score], rtol=2e-3)
    np.testing.assert_allclose(together.history.loss, lax_form.history.loss, rtol=1e-3)
    assert np.ptp(together.scores["el2n"], axis=0).max() > 1e-3  # The networks do differ.
