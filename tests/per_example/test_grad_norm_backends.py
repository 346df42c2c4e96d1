"""Norms as they are computed on accelerators: precision, forms and order, traced and run on a CPU."""

import collections
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diet_jax as dj
from diet_jax.per_example import method
from diet_jax.per_example.jaxprs import flattened
from diet_jax.per_example.method import COSTS, Costs, choose_method
from diet_jax.per_example.norms import Selection, plan_gradients
from diet_jax.scores.gradients import GRAND, GrandOptions

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from rounding import rounded

HIGHEST, HIGH = lax.Precision.HIGHEST, lax.Precision.HIGH
PRODUCTS = ("dot_general", "conv_general_dilated")


@pytest.fixture
def on_gpu(monkeypatch):
    """The library takes the CPU for a GPU; JAX does not."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> jax.Array:
    return scale * jax.random.normal(jax.random.key(seed), shape)


def convolve(x: jax.Array, w: jax.Array, precision: Any = None) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x[None], w, (1, 1), "SAME", dimension_numbers=layout, precision=precision
    )[0]


def network(params: Any, x: jax.Array, precision: Any = None) -> jax.Array:
    """A large map, a small one, tokens, one vector: every way to multiply."""
    x = jnp.tanh(convolve(x, params["large"], precision))
    x = jnp.tanh(convolve(x[::4, ::4], params["small"], precision))
    x = jnp.tanh(
        lax.dot_general(x.reshape(-1, x.shape[-1]), params["tokens"], (((1,), (0,)), ((), ())), precision)
    )
    return jnp.sum(jnp.tanh(lax.dot(x.mean(0), params["head"], precision=precision) + params["bias"]) ** 2)


SHAPES = {"large": (3, 3, 4, 32), "small": (3, 3, 32, 32), "tokens": (32, 16), "head": (16, 5), "bias": (5,)}
PARAMS = {
    name: normal(*shape, seed=i, scale=0.5 / np.sqrt(np.prod(shape[:-1])))
    for i, (name, shape) in enumerate(SHAPES.items())
}
IMAGES = normal(3, 16, 16, 4, seed=9)


def products(fn: Any, *args: Any) -> list[Any]:
    """Returns the equations of all products that a function traces to, calls in line."""
    closed = jax.make_jaxpr(fn)(*args)
    flat = flattened(closed, [True] * len(closed.jaxpr.invars))
    return [equation for equation in flat.jaxpr.eqns if equation.primitive.name in PRODUCTS]


def precisions(fn: Any, *args: Any) -> collections.Counter:
    """Counts the precisions of the products that the norms add to those of the forward and backward pass.

    Those of the norms alone are dots of a batch of examples, `[b ...]` on both sides.
    """
    norms = [
        equation
        for equation in products(fn, *args)
        if equation.primitive.name == "dot_general" and equation.params["dimension_numbers"][1][0]
    ]
    return collections.Counter(equation.params["precision"] for equation in norms)


def of_norms(loss: Any = network, params: Any = PARAMS, **options: Any) -> collections.Counter:
    return precisions(dj.per_example_grad_norms(loss, **options), params, IMAGES)


# Precision.


def test_auto_is_the_networks_precision_on_accelerators_and_the_highest_on_cpus(monkeypatch):
    highest, networks = {(HIGHEST, HIGHEST)}, {None}
    assert set(of_norms()) == set(of_norms(precision="highest")) == highest
    assert set(of_norms(precision="network")) == networks
    for backend in ("gpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert set(of_norms()) == set(of_norms(precision="network")) == networks
        assert set(of_norms(precision="highest")) == highest


@pytest.mark.parametrize("setting", ["highest", "tensorfloat32", "BF16_BF16_F32_X3"])
def test_what_the_user_set_for_all_products_holds_for_the_norms(setting, on_gpu):
    def dense(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(x @ w) ** 2)

    with jax.default_matmul_precision(setting):
        expected = {equation.params["precision"] for equation in products(jnp.matmul, jnp.eye(2), jnp.eye(2))}
        found = precisions(dj.per_example_grad_norms(dense), normal(16, 16), normal(3, 4, 16))
    assert set(found) == expected != {None}


def test_each_norm_follows_the_product_that_it_stands_for(on_gpu):
    def loss(params: Any, x: jax.Array) -> jax.Array:
        x = jnp.tanh(lax.dot(x, params["first"], precision="highest"))
        return jnp.sum(jnp.tanh(lax.dot(x, params["second"], precision=(HIGH, HIGH))) ** 2)

    params = {name: normal(16, 16, seed=i) for i, name in enumerate(("first", "second"))}
    norms = dj.per_example_grad_norms(loss, per_leaf=True)
    found = precisions(lambda x: norms(params, x)["first"], normal(3, 4, 16))
    assert {(HIGHEST, HIGHEST), (HIGH, HIGH)} == set(found)
    only = dj.per_example_grad_norms(loss, select=lambda path: path == "second")
    assert set(precisions(only, params, normal(3, 4, 16))) == {(HIGH, HIGH)}


@pytest.mark.parametrize("pair", [((HIGH, HIGHEST), (HIGH, HIGHEST)), ("highest", "default")])
def test_where_the_network_used_several_precisions_the_norm_takes_the_highest(pair, on_gpu):
    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        x = jnp.tanh(lax.dot(x, w, precision=pair[0]))
        return jnp.sum(jnp.tanh(lax.dot(x, w, precision=pair[1])) ** 2)

    found = precisions(dj.per_example_grad_norms(loss), normal(16, 16), normal(3, 4, 16))
    assert set(found) == {(HIGHEST, HIGHEST)}


@pytest.mark.parametrize("precision", ["network", "highest"])
def test_bfloat16_factors_are_multiplied_as_they_are_and_summed_in_float32(precision, on_gpu):
    def loss(params: Any, x: jax.Array) -> jax.Array:
        params, x = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, x))
        return network(params, x).astype(jnp.float32)

    norms = dj.per_example_grad_norms(loss, precision=precision)
    added = [e for e in products(norms, PARAMS, IMAGES) if e.outvars[0].aval.dtype == jnp.float32]
    assert len(added) >= 4
    for equation in added:
        assert {atom.aval.dtype for atom in equation.invars} == {jnp.dtype(jnp.bfloat16)}
        assert equation.params["preferred_element_type"] == jnp.float32


@pytest.mark.parametrize(("options", "expected"), [((), None), (("highest",), (HIGHEST, HIGHEST))])
def test_the_scores_option_is_the_norms(options, expected, on_gpu, conv_model, conv_variables):
    score = GRAND.with_options(GrandOptions(*options)).function(conv_model)
    args = conv_variables, normal(3, 8, 8, 2), jnp.zeros(3, jnp.int32)
    assert set(precisions(score, *args)) == {expected}


def test_another_precision_is_refused(unchecked_types):
    with pytest.raises(dj.InputError, match="precision must be one of auto, network, highest, got 'half'"):
        dj.per_example_grad_norms(network, precision="half")(PARAMS, IMAGES)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [10, 7])
def test_norms_in_the_networks_precision_are_those_of_the_gradients_in_that_precision(bits, on_gpu):
    """The products of the norms round the same factors as the products that form the gradients."""

    def formed(params: Any, images: jax.Array) -> Any:
        gradients = jax.vmap(jax.grad(network), (None, 0))(params, images)
        return jax.tree.map(lambda leaf: jnp.sqrt(jnp.sum(leaf.reshape(len(images), -1) ** 2, 1)), gradients)

    def in_bits(fn: Any) -> Any:
        return jax.jit(rounded(fn, bits, None))(PARAMS, IMAGES)

    expected, exact = in_bits(formed), jax.jit(formed)(PARAMS, IMAGES)
    got = in_bits(dj.per_example_grad_norms(network, per_leaf=True))
    highest = in_bits(dj.per_example_grad_norms(network, per_leaf=True, precision="highest"))
    for name in SHAPES:
        # The vector's outer product is not formed, and so not rounded.
        tolerance = 2e-6 if name != "head" else 2.0**-bits
        np.testing.assert_allclose(got[name], expected[name], rtol=tolerance, err_msg=name)
        assert np.abs(highest[name] / exact[name] - 1).max() < 2.0 ** (2 - bits)
    assert np.abs(got["small"] / exact["small"] - 1).max() > 1e-5
    assert np.abs(got["small"] / highest["small"] - 1).max() > 1e-6


# Costs.


def chosen(costs: Costs, monkeypatch: Any, side: int = 32, channels: int = 64) -> tuple[str, list[Any]]:
    """Returns the form that is chosen for a convolution at some costs, and all forms."""
    monkeypatch.setitem(COSTS, "test", costs)
    way = choose_method(backend="test")
    shapes = [jax.ShapeDtypeStruct((3, 3, channels, channels), jnp.float32)]
    shapes.append(jax.ShapeDtypeStruct((2, side, side, channels), jnp.float32))

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(convolve(x, w)))

    (gradient,) = plan_gradients(loss, Selection(shapes[0], None), shapes[1:], way)[0].gradients
    assert gradient.form is not None
    return gradient.form.name, gradient.terms[0].product.forms([])


@pytest.mark.parametrize(("side", "channels"), [(32, 64), (16, 128), (4, 32)])
def test_the_form_is_the_cheapest_by_the_table(side, channels, monkeypatch):
    counts = {
        "multiply_adds": Costs(0, 0, 0),
        "elements": Costs(1e9, 0, 0),
        "shifted": Costs(0, 1e9, 0),
        "products": Costs(0, 0, 1e15),
    }
    for count, costs in counts.items():
        name, forms = chosen(costs, monkeypatch, side, channels)
        by_name = {form.name: getattr(form, count) for form in forms}
        assert by_name[name] == min(by_name.values()), count


def test_large_maps_take_many_products_on_cpus_and_one_on_gpus(monkeypatch):
    """A kernel's offsets: nine slices and products that stay in the cache, or one product of copies."""
    assert chosen(COSTS["cpu"], monkeypatch)[0] == "offset"
    assert chosen(COSTS["gpu"], monkeypatch)[0] == "split product"
    assert (
        chosen(COSTS["gpu"], monkeypatch, side=4)[0]
        == chosen(COSTS["cpu"], monkeypatch, side=4)[0]
        == "pixel"
    )


def test_counts_of_the_split_form(monkeypatch):
    """Three copies of x and g, of 34 rows each, and one product of them."""
    _, forms = chosen(COSTS["gpu"], monkeypatch)
    (split,) = [form for form in forms if form.name == "split product"]
    copies, places = 2 * 34 * 32 * 3 * 64, 34 * 32
    assert (split.multiply_adds, split.products) == (places * (3 * 64) ** 2, 1)
    assert (split.shifted, split.elements) == (copies, copies + (3 * 64) ** 2)


def test_derived_costs_are_ratios_of_rates():
    """Against the time of each part: 4 bytes written and read, 4 bytes read, a launch."""
    costs = method.derived(multiply_adds=1e14, memory=2e12, cache=8e12, launch=1e-8)
    seconds = {"element": 8 / 2e12, "shifted": 4 / 8e12, "product": 1e-8}
    assert costs._asdict() == pytest.approx({name: 1e14 * time for name, time in seconds.items()})


def test_other_accelerators_are_taken_for_a_gpu():
    assert choose_method(backend="tpu") == choose_method(backend="gpu") != choose_method(backend="cpu")
    assert choose_method(backend="cpu") == choose_method("highest", "cpu") == choose_method()


# Order.


def recurrent(params: Any, x: jax.Array) -> jax.Array:
    def step(state: jax.Array, row: jax.Array) -> tuple[jax.Array, None]:
        return jnp.tanh(row @ params["tokens"] + state @ params["state"] + params["bias"]), None

    return jnp.sum(jax.lax.scan(step, jnp.zeros(16), x.reshape(-1, 32))[0] ** 2)


def layered(params: Any, x: jax.Array) -> jax.Array:
    """A loop over layers, checkpointed, and a weight that is used twice."""
    x = jnp.tanh(x.reshape(-1, 32) @ params["tokens"])
    x = jax.lax.scan(jax.checkpoint(lambda x, w: (jnp.tanh(x @ w), None)), x, params["layers"])[0]
    return jnp.sum(jnp.tanh(x @ params["state"]) @ params["state"])


LOSSES: dict[str, tuple[Any, Any]] = {
    "network": (network, PARAMS),
    "recurrent": (
        recurrent,
        {"tokens": PARAMS["tokens"], "state": normal(16, 16, seed=1, scale=0.2), "bias": normal(16, seed=2)},
    ),
    "layered": (
        layered,
        {"tokens": PARAMS["tokens"], "state": normal(16, 16), "layers": normal(3, 16, 16, seed=3, scale=0.3)},
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_norms_on_accelerators_equal_the_gradients(name, on_gpu):
    loss, params = LOSSES[name]
    gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, IMAGES)
    squares = {
        key: (np.asarray(leaf, np.float64).reshape(3, -1) ** 2).sum(1) for key, leaf in gradients.items()
    }
    by_leaf = jax.jit(dj.per_example_grad_norms(loss, per_leaf=True))(params, IMAGES)
    for key, square in squares.items():
        np.testing.assert_allclose(by_leaf[key], np.sqrt(square), rtol=3e-6, err_msg=key)
    total = jax.jit(dj.per_example_grad_norms(loss))(params, IMAGES)
    np.testing.assert_allclose(total, np.sqrt(sum(squares.values())), rtol=3e-6)


def test_large_gradients_without_a_form_are_summed_at_once(on_gpu, monkeypatch):
    """Small ones are summed together; both are right."""
    from diet_jax.per_example import run

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(x.reshape(-1, 32) @ (w * jnp.sign(w))))

    w = normal(32, 16)
    expected = np.linalg.norm(jax.vmap(jax.grad(loss), (None, 0))(w, IMAGES).reshape(3, -1), axis=1)
    for small in (w.size, w.size - 1):
        monkeypatch.setattr(run, "SMALL", small)
        norms = dj.per_example_grad_norms(loss)
        np.testing.assert_allclose(norms(w, IMAGES), expected, rtol=1e-6)
        held = re.findall(rf"f32\[3,{w.size}\] = ", str(jax.make_jaxpr(norms)(w, IMAGES)))
        assert bool(held) == (small == w.size)


def test_grand_on_accelerators_is_grand(on_gpu, conv_model, conv_variables):
    images, labels = normal(6, 8, 8, 2), jnp.arange(6, dtype=jnp.int32) % 3
    grand, reference = (
        jax.jit(score, static_argnums=0)(conv_model.predict, conv_variables, images, labels)
        for score in (dj.grand, dj.grand_vmap)
    )
    np.testing.assert_allclose(grand, reference, rtol=3e-6)


def test_an_accelerators_program_is_little_longer_than_the_gradients(on_gpu):
    """What an accelerator's compiler tries out: kinds of convolutions and products, by their shapes."""
    model = dj.create_model("resnet18", num_classes=10)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), (32, 32, 3)))
    images, labels = (
        jax.ShapeDtypeStruct((256, 32, 32, 3), jnp.float32),
        jax.ShapeDtypeStruct((256,), jnp.int32),
    )

    def gradient(variables: Any, images: Any, labels: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            return dj.cross_entropy(model.predict(variables._replace(params=params), images), labels).mean()

        return jax.grad(loss)(variables.params)

    def grand(variables: Any, images: Any, labels: Any) -> Any:
        return dj.grand(model.predict, variables, images, labels)

    found = []
    for fn in (gradient, grand):
        lines = jax.jit(fn).lower(variables, images, labels).as_text().splitlines()
        kinds = collections.Counter(
            re.sub(r"%[\w#:]+", "", line).strip()
            for line in lines
            if re.search(r"stablehlo\.(dot_general|convolution)", line)
        )
        found.append((len(kinds), sum(kinds.values()), len(lines)))
    (kinds, products, lines), (own_kinds, own_products, own_lines) = found
    assert own_kinds <= kinds
    assert own_products <= 1.25 * products
    assert own_lines <= 2.5 * lines
