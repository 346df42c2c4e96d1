"""Each rule of the gradient-norm transformation, form by form, against the gradients themselves."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diet_jax as dj
from diet_jax.per_example import convolution
from diet_jax.per_example.method import choose_method
from diet_jax.per_example.norms import Selection, plan_gradients
from diet_jax.per_example.run import run_program

BATCH = 3
KEYS = map(jax.random.key, itertools.count())


def normal(*shape, scale=1.0):
    return scale * jax.random.normal(next(KEYS), shape)


def reference(loss, params, *batch):
    """The norm of each parameter's gradient, one example at a time, summed by NumPy in float64."""
    gradient = jax.jit(jax.grad(loss))
    rows = []
    for i in range(len(jax.tree.leaves(batch)[0])):
        leaves = jax.tree.leaves(gradient(params, *jax.tree.map(lambda a: a[i], batch)))  # noqa: B023
        rows.append([np.sqrt((np.asarray(leaf, np.float64) ** 2).sum()) for leaf in leaves])
    return np.array(rows)


def planned(loss, params, *batch):
    return plan_gradients(loss, Selection(params, None), batch, choose_method())[0]


def check(loss, params, *batch, rtol=2e-6):
    """Every leaf's norm, and the total; returns the explained forms."""
    expected = reference(loss, params, *batch)

    @jax.jit  # One program: compiling is what takes time here.
    def norms(params, *batch):
        kinds = (dj.per_example_grad_norms(loss, per_leaf=per_leaf) for per_leaf in (True, False))
        return [kind(params, *batch) for kind in kinds]

    by_leaf, total = norms(params, *batch)
    np.testing.assert_allclose(np.stack(jax.tree.leaves(by_leaf), axis=1), expected, rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(total, np.sqrt((expected**2).sum(axis=1)), rtol=rtol)
    return [leaf.form for leaf in dj.explain(loss, params, *batch).leaves]


def every_form(loss, params, *batch, rtol=2e-6):
    """Computes the only parameter's norm in every form that is offered; returns their names."""
    plan = planned(loss, params, *batch)
    (gradient,) = plan.gradients
    expected = reference(loss, params, *batch)[:, 0]
    forms = gradient.terms[0].product.forms([term.product for term in gradient.terms[1:]])

    def squares(example, form):
        values = jax.tree.leaves((params, example))
        changed = gradient.__class__(**{**gradient.__dict__, "form": form})
        return run_program(plan.__class__(**{**plan.__dict__, "gradients": (changed,)}), values)[1][0]

    @jax.jit
    def norms(batch):
        return [jnp.sqrt(jax.vmap(functools.partial(squares, form=form))(batch)) for form in forms]

    for form, found in zip(forms, norms(batch), strict=True):
        np.testing.assert_allclose(found, expected, rtol=rtol, err_msg=form.name)
    assert gradient.form.name == min(forms, key=lambda form: form.cost(choose_method().costs)).name
    return {form.name for form in forms}


# Dense products.

EINSUMS = {
    "one vector": ("i,io->o", (5,), (5, 4)),
    "tokens": ("ti,io->to", (6, 5), (5, 4)),
    "transposed weight": ("ti,oi->to", (6, 5), (4, 5)),
    "two token axes": ("abi,io->abo", (2, 3, 5), (5, 4)),
    "heads": ("ti,iho->tho", (6, 5), (5, 2, 3)),
    "heads, mixed axes": ("ti,hio->hto", (6, 5), (2, 5, 3)),
    "a batch axis in both": ("gti,gio->gto", (3, 6, 5), (3, 5, 4)),
    "a batch axis in the middle": ("tgi,igo->tgo", (6, 3, 5), (5, 3, 4)),
    "a vector": ("ti,i->t", (6, 5), (5,)),
    "no contraction": ("t,o->to", (6,), (4,)),
}


@pytest.mark.parametrize("case", EINSUMS)
def test_dense_products(case):
    formula, x_shape, w_shape = EINSUMS[case]

    def loss(w, x):
        return jnp.sum(jnp.tanh(jnp.einsum(formula, x, w)) ** 2)

    w, x = normal(*w_shape), normal(BATCH, *x_shape)
    check(loss, w, x)
    if planned(loss, w, x).gradients[0].terms:
        every_form(loss, w, x)


def test_few_tokens_take_the_gram_form_and_many_the_product():
    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ w))

    wide = normal(64, 64, scale=0.1)
    assert check(loss, wide, normal(BATCH, 4, 64)) == ["gram"]
    assert check(loss, normal(4, 4), normal(BATCH, 64, 4)) == ["product"]
    assert check(loss, wide, normal(BATCH, 64)) == ["outer"]


def test_the_gram_form_of_a_gradient_that_cancels_is_small_and_not_nan():
    """The square is a signed sum, so rounding leaves a few 1e-4 of the factors' norms where it is zero."""

    def loss(w, x):
        return jnp.sum((x - x[::-1]) @ w)  # rows cancel in pairs: the gradient is the sum of zeros

    x = normal(20, 4, 64)
    assert dj.explain(loss, normal(64, 64), x).leaves[0].form == "gram"
    norms = np.asarray(jax.jit(dj.per_example_grad_norms(loss))(normal(64, 64), x))
    factors = np.linalg.norm(np.asarray(x - x[:, ::-1]), axis=(1, 2)) * np.sqrt(4 * 64)
    assert np.isfinite(norms).all()
    assert (norms / factors).max() < 1e-3


# What lies between a product and its parameter.

CHAINS = {
    "scaled": lambda w: 3.0 * w,
    "divided": lambda w: w / 7.0,
    "negated": lambda w: -w,
    "transposed": lambda w: w.T.T,
    "reversed": lambda w: w[::-1, ::-1],
    "reshaped": lambda w: w.reshape(4, 16).reshape(8, 8),
    "an axis more and less": lambda w: w[None, :, None, :][0, :, 0],
    "another dtype and back": lambda w: w.astype(jnp.float16).astype(jnp.float32),
    "scaled by a traced number": lambda w: w * jnp.exp(jnp.float32(0.3)),
}


@pytest.mark.parametrize("case", CHAINS)
def test_chains_that_keep_or_scale_the_norm(case):
    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ CHAINS[case](w)) ** 2)

    rtol = 1e-3 if "dtype" in case else 2e-6
    (form,) = check(loss, normal(8, 8, scale=0.3), normal(BATCH, 2, 8), rtol=rtol)
    assert form == "gram"


def test_a_scale_that_differs_between_examples():
    def loss(w, x, scale):
        return jnp.sum(jnp.tanh(x @ (w * scale)))

    assert check(loss, normal(8, 8), normal(BATCH, 2, 8), jnp.array([0.0, 1.0, -3.0])) == ["gram"]


def test_masked_weights_have_no_form_and_are_right():
    mask = jnp.asarray(np.random.default_rng(0).integers(0, 2, (8, 8)), jnp.float32)

    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ (w * mask)))

    assert check(loss, normal(8, 8), normal(BATCH, 2, 8)) == ["gradient"]
    text = str(dj.explain(loss, jnp.zeros((8, 8)), jnp.zeros((1, 2, 8))))
    assert "from mul, no product" in text


def test_weight_decay_in_the_loss_is_a_sum_without_a_form():
    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ w)) + 0.1 * jnp.sum(w**2)

    assert check(loss, normal(8, 8), normal(BATCH, 2, 8)) == ["gradient"]


def test_a_norm_that_is_nan_leaves_the_other_parameters_alone():
    def loss(params, x):
        return jnp.sum(jnp.square(jnp.tanh(x @ params["a"]) @ params["b"])) + params["c"] * jnp.nan * x[0]

    params = {"a": normal(5, 6), "b": normal(6, 4), "c": jnp.float32(1.0)}
    norms = jax.jit(dj.per_example_grad_norms(loss, per_leaf=True))(params, normal(BATCH, 5))
    assert np.isnan(norms["c"]).all()
    assert np.isfinite(norms["a"]).all()
    assert np.isfinite(norms["b"]).all()


def test_parameters_without_influence_have_norm_zero():
    def loss(params, x):
        return jnp.sum(params["used"] * x) + 0.0 * lax.stop_gradient(params["stopped"]).sum()

    params = {"used": normal(4), "unused": normal(3, 3), "stopped": normal(2)}
    norms = dj.per_example_grad_norms(loss, per_leaf=True)(params, normal(BATCH, 4))
    assert norms["unused"].tolist() == norms["stopped"].tolist() == [0, 0, 0]
    assert (norms["used"] > 0).all()


# Shared parameters.


def test_a_weight_that_is_used_twice_joins_its_products():
    def loss(w, x):
        return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w))

    assert check(loss, normal(32, 32, scale=0.2), normal(BATCH, 2, 32)) == ["gram"]
    w, x = normal(8, 8, scale=0.3), normal(BATCH, 5, 8)
    assert every_form(loss, w, x) == {"gram", "product"}
    assert "2 uses joined" in str(dj.explain(loss, w, x))


def test_a_weight_and_its_transpose_join():
    def loss(w, x):
        return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w.T))

    assert every_form(loss, normal(8, 6, scale=0.3), normal(BATCH, 5, 8)) == {"gram", "product"}


def test_uses_with_opposite_signs_and_scales():
    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ (-w))) + 2.0 * jnp.sum(jnp.sin(x @ (0.5 * w)))

    assert every_form(loss, normal(8, 6), normal(BATCH, 5, 8)) == {"gram", "product"}


def test_a_use_by_nothing_and_a_use_by_one():
    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ w)) + jnp.sum(jnp.tanh(x[:0] @ w))

    check(loss, normal(5, 4), normal(BATCH, 1, 5))


def test_uses_whose_axes_do_not_match_are_formed():
    def loss(w, x):
        together = jnp.einsum("tij,ijk->tk", x, w)
        apart = jnp.einsum("ti,ijk->tjk", x[:, :, 0], w)
        return jnp.sum(jnp.tanh(together)) + jnp.sum(jnp.tanh(apart))

    assert check(loss, normal(4, 3, 5), normal(BATCH, 2, 4, 3)) == ["gradient"]


# Embeddings.

IDS = jnp.array([[0, 3, 3, 7], [1, 2, 4, 5], [6, 6, 6, 6]])


def test_lookups_of_equal_rows_add_up():
    def loss(table, ids):
        return jnp.sum(jnp.sin(table[ids] * jnp.arange(1.0, 5.0)[:, None]))

    assert check(loss, normal(8, 5), IDS) == ["rows"]


@pytest.mark.parametrize("mode", ["clip", "fill", "wrap"])
def test_lookups_outside_the_table(mode):
    """Row 9 of 8: clipped to the last, no row at all, or row 1."""

    def loss(table, ids):
        return jnp.sum(jnp.sin(jnp.take(table, ids, axis=0, mode=mode, fill_value=0)))

    assert check(loss, normal(8, 5), IDS.at[0, 3].set(9)) == ["rows"]


def test_two_axes_of_lookups():
    def loss(table, ids):
        return jnp.sum(jnp.sin(table[ids]))

    assert check(loss, normal(8, 5), IDS.reshape(3, 2, 2)) == ["rows"]


def test_a_single_row_that_is_looked_up():
    def loss(table, row, x):
        return jnp.sum(jnp.sin(x @ table[row]))

    assert check(loss, normal(8, 5, 4), IDS[:, 0], normal(BATCH, 2, 5)) == ["gram"]


def test_a_part_of_a_weight():
    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ w[:5]))

    assert check(loss, normal(64, 64, scale=0.1), normal(BATCH, 2, 5)) == ["gram"]


def test_two_parts_of_a_weight_are_not_taken_for_one():
    """Both gradients are put into zeros, at different places: their sum is no product."""

    def loss(w, x, row):
        first, second = (lax.dynamic_slice(w, (r, 0), (2, 4)) for r in (row, row + 1))
        return jnp.sum(jnp.tanh(jnp.tanh(x @ first) @ second.T))

    assert check(loss, normal(8, 4), normal(BATCH, 3, 2), jnp.array([0, 2, 5])) == ["gradient"]


def test_parts_of_different_sizes_at_one_place_are_not_joined():
    def loss(w, x, y, row):
        tall, flat = (lax.dynamic_slice(w, (row, 0, 0), shape) for shape in ((3, 2, 8), (2, 3, 8)))
        return jnp.sum(jnp.tanh(jnp.einsum("tij,ijk->tk", x, tall))) + jnp.sum(
            jnp.tanh(jnp.einsum("tij,ijk->tk", y, flat))
        )

    x, y = normal(BATCH, 1, 3, 2), normal(BATCH, 1, 2, 3)
    assert check(loss, normal(6, 5, 8), x, y, jnp.array([0, 1, 2])) == ["gradient"]


def test_a_weight_that_is_padded_or_cut_before_its_use():
    def padded(w, x):
        return jnp.sum(jnp.tanh(x @ jnp.pad(w, ((1, 2), (0, 0)))))

    def cut(w, x):
        return jnp.sum(jnp.tanh(x @ lax.pad(w, jnp.float32(0), ((-1, 2, 0), (0, 0, 1)))))

    check(padded, normal(5, 40), normal(BATCH, 2, 8))
    check(cut, normal(5, 40), normal(BATCH, 2, 6))


def test_a_weight_that_is_written_into_another_array():
    def loss(w, x, row):
        base = jnp.ones((6, 8))
        whole = lax.dynamic_update_slice(base, w, (row, 0)) * jnp.float32(2)
        return jnp.sum(jnp.tanh(x @ whole) ** 2)

    check(loss, normal(2, 8), normal(BATCH, 2, 6), jnp.array([0, 2, 4]))


def test_an_array_that_a_weight_is_written_over():
    """The gradient is zero where it was overwritten: a scatter of zeros into a product."""

    def loss(w, x, row):
        whole = lax.dynamic_update_slice(w, jnp.zeros((1, 8)), (row, 0))
        return jnp.sum(jnp.tanh(x @ whole) ** 2)

    check(loss, normal(6, 8), normal(BATCH, 2, 6), jnp.array([0, 2, 4]))


def test_a_broadcast_weight_is_not_taken_for_a_rearranged_one():
    def loss(w, x):
        return jnp.sum(jnp.tanh(jnp.einsum("ti,tio->to", x, jnp.broadcast_to(w, (3, 8, 40)))))

    check(loss, normal(8, 40), normal(BATCH, 3, 8))


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int16, jnp.uint32])
def test_ids_of_any_integer_type(dtype):
    def loss(table, ids):
        return jnp.sum(jnp.sin(jnp.take(table, ids, axis=0)))

    ids = np.array([[1, 2, 100], [3, 3, 3], [0, 127, 5]])
    for table in (normal(300, 5), normal(256, 5)):
        # By int32: XLA's older writer of loops loses the updates of JAX's own gradient where the number of
        # rows does not fit into the type.
        expected = reference(loss, table, ids.astype(np.int32))[:, 0]
        norms = jax.jit(dj.per_example_grad_norms(loss))(table, jnp.asarray(ids, dtype))
        np.testing.assert_allclose(norms, expected, rtol=2e-6)
        assert [leaf.form for leaf in dj.explain(loss, table, jnp.asarray(ids, dtype)).leaves] == ["rows"]


def test_two_lookups_in_one_table():
    def loss(table, ids):
        return jnp.sum(jnp.sin(table[ids]) * jnp.cos(table[ids[::-1] + 1]))

    assert check(loss, normal(9, 5), IDS) == ["rows"]


def test_a_table_that_also_gives_the_logits():
    def loss(table, ids):
        hidden = jnp.tanh(table[ids])
        return -jnp.sum(jax.nn.log_softmax(hidden @ table.T)[jnp.arange(4), ids])

    assert check(loss, normal(8, 5), IDS) == ["gram"]


def test_a_table_that_also_gives_the_logits_and_ids_outside_it():
    def loss(table, ids):
        hidden = jnp.tanh(jnp.take(table, ids, axis=0, mode="fill", fill_value=0.5))
        again = jnp.sin(jnp.take(table, ids[::-1], axis=0, mode="fill", fill_value=0))
        return jnp.sum(jax.nn.softmax(hidden @ table.T) ** 2) + jnp.sum(again)

    assert check(loss, normal(8, 5), IDS.at[0, 3].set(9).at[1, 0].set(12)) == ["gram"]


def test_a_transposed_table_that_also_gives_the_logits():
    def loss(table, ids):
        hidden = jnp.tanh(table.T[ids])
        return -jnp.sum(jax.nn.log_softmax(hidden @ table)[jnp.arange(4), ids])

    assert check(loss, normal(5, 8), IDS) == ["gram"]


# Convolutions.

CONVOLUTIONS = {
    "3x3": {},
    "stride 2": {"window_strides": (2, 2)},
    "unequal strides": {"window_strides": (1, 3)},
    "dilated kernel": {"rhs_dilation": (2, 3)},
    "dilated and strided": {"rhs_dilation": (2, 2), "window_strides": (2, 2)},
    "valid": {"padding": "VALID"},
    "cut on the sides": {"padding": ((-1, 0), (0, -2))},
    "padded on one side": {"padding": ((0, 3), (2, 0))},
    "transposed": {"lhs_dilation": (2, 2), "padding": ((1, 2), (2, 1))},
    "two groups": {"feature_group_count": 2},
    "depthwise": {"feature_group_count": 4},
    "depthwise, stride 2": {"feature_group_count": 4, "window_strides": (2, 2)},
    "tiles": {"window_strides": (3, 3), "padding": "VALID"},
}
OFFERED = {"offset", "patch gram", "patch product", "pixel", "split product"}


def convolution_loss(options):
    options = {"window_strides": (1, 1), "padding": "SAME", **options}

    def loss(w, x):
        y = lax.conv_general_dilated(x[None], w, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)
        return jnp.sum(jnp.tanh(y) ** 2)

    return loss


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_in_every_form(case):
    options = CONVOLUTIONS[case]
    groups = options.get("feature_group_count", 1)
    w, x = normal(3, 3, 4 // groups, 8, scale=0.3), normal(BATCH, 7, 8, 4)
    names = every_form(convolution_loss(options), w, x)
    assert names == (OFFERED - {"pixel"} if case == "transposed" else OFFERED)
    assert check(convolution_loss(options), w, x) != ["gradient"]


@pytest.mark.parametrize(
    "layout", [("NCHW", "OIHW", "NCHW"), ("NHWC", "OHWI", "NCHW"), ("CWNH", "WOIH", "HNWC")]
)
def test_convolutions_in_other_layouts(layout):
    numbers = lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), layout)
    sizes = {"N": 1, "H": 5, "W": 6, "C": 3}
    kernel = {"H": 3, "W": 2, "I": 3, "O": 4}

    def loss(w, x):
        return jnp.sum(
            jnp.tanh(lax.conv_general_dilated(x, w, (2, 1), "SAME", dimension_numbers=numbers)) ** 2
        )

    w = normal(*(kernel[axis] for axis in layout[1]), scale=0.3)
    x = normal(BATCH, *(sizes[axis] for axis in layout[0]))
    assert every_form(loss, w, x) == OFFERED


@pytest.mark.parametrize(("shape", "kernel"), [((9, 4), (3, 4, 5)), ((4, 5, 3, 2), (2, 3, 2, 2, 3))])
def test_convolutions_of_one_and_three_axes(shape, kernel):
    rank = len(shape) - 1
    space = "DHW"[-rank:]
    layout = ("N" + space + "C", space + "IO", "N" + space + "C")

    def loss(w, x):
        y = lax.conv_general_dilated(x[None], w, (1,) * rank, "SAME", dimension_numbers=layout)
        return jnp.sum(jnp.tanh(y) ** 2)

    offered = OFFERED if rank > 1 else OFFERED - {"split product"}
    assert every_form(loss, normal(*kernel, scale=0.3), normal(BATCH, *shape)) == offered


def test_convolutions_choose_by_the_size_of_the_map():
    loss = convolution_loss({})
    assert check(loss, normal(3, 3, 32, 32, scale=0.05), normal(BATCH, 4, 4, 32)) == ["pixel"]
    assert check(loss, normal(3, 3, 4, 4, scale=0.2), normal(BATCH, 16, 16, 4)) == ["offset"]


def shared_convolution(w, x):
    for _ in range(3):
        x = jnp.tanh(convolve(x, w))
    return jnp.sum(x**2)


def convolve(x, w, strides=(1, 1)):
    return lax.conv_general_dilated(x[None], w, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[
        0
    ]


def test_a_kernel_that_is_used_on_equal_maps():
    assert every_form(shared_convolution, normal(3, 3, 4, 4, scale=0.2), normal(BATCH, 5, 5, 4)) == OFFERED


def test_a_kernel_that_is_used_on_maps_of_different_sizes():
    def loss(w, x):
        return jnp.sum(jnp.tanh(convolve(jnp.tanh(convolve(x, w, (2, 2))), w)))

    assert every_form(loss, normal(3, 3, 4, 4, scale=0.2), normal(BATCH, 6, 6, 4)) == OFFERED - {"pixel"}


def test_batch_groups_are_formed():
    def loss(w, x):
        y = lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), batch_group_count=2
        )
        return jnp.sum(jnp.tanh(y))

    assert check(loss, normal(3, 3, 3, 4), normal(BATCH, 2, 5, 5, 3)) == ["gradient"]


def test_a_kernel_with_too_many_offsets_to_write_out_is_formed(monkeypatch):
    monkeypatch.setattr(convolution, "MOST_OFFSETS", 8)
    assert check(convolution_loss({}), normal(3, 3, 4, 4), normal(BATCH, 6, 6, 4)) == ["gradient"]


# Loops and checkpoints.


def recurrent(params, xs):
    def step(h, x):
        return jnp.tanh(x @ params["w"] + h @ params["u"]), None

    return jnp.sum(lax.scan(step, jnp.zeros(params["u"].shape[0]), xs)[0] ** 2)


def test_weights_of_every_time_step_are_products_over_time():
    params = {"u": normal(12, 12, scale=0.2), "w": normal(10, 12)}
    assert check(recurrent, params, normal(BATCH, 4, 10)) == ["gram", "gram"]


def test_long_sequences_keep_the_running_sum():
    """Stacked factors would need more room than the gradient."""
    params = {"u": normal(3, 3, scale=0.2), "w": normal(2, 3)}
    assert check(recurrent, params, normal(BATCH, 20, 2)) == ["gradient", "gradient"]


def test_a_weight_that_a_time_step_uses_twice():
    def loss(w, xs):
        def step(h, x):
            return jnp.tanh(jnp.tanh(h @ w + x) @ w.T), None

        return jnp.sum(lax.scan(step, jnp.ones(16), xs)[0] ** 2)

    assert check(loss, normal(16, 16, scale=0.2), normal(BATCH, 2, 16)) == ["gram"]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_layers_of_a_loop_take_their_norms_inside(reverse, checkpointed):
    def layer(h, weights):
        return jnp.tanh(h @ weights["kernel"] + weights["bias"]), jnp.sum(h)

    def loss(params, x):
        body = jax.checkpoint(layer) if checkpointed else layer
        h, sums = lax.scan(body, x, params, reverse=reverse)
        return jnp.sum(h**2) + jnp.sum(jnp.sin(sums))

    params = {"kernel": normal(3, 16, 16, scale=0.2), "bias": normal(3, 1, 16)}
    assert check(loss, params, normal(BATCH, 2, 16)) == ["gradient", "gram"]
    assert "in each of 3 steps" in str(dj.explain(loss, params, jnp.zeros((1, 2, 16))))


@pytest.mark.parametrize("change", [lambda w: -w, lambda w: w.T, lambda w: 2.0 * w, lambda w: w + 1.0])
def test_a_weight_that_every_step_changes(change):
    """The sum over steps is itself changed in every step."""

    def loss(w, xs):
        def step(carry, x):
            h, w = carry
            w = change(w)
            return (jnp.tanh(x + h @ w), w), None

        return jnp.sum(lax.scan(step, (jnp.full(16, 0.3), w), xs)[0][0] ** 2)

    check(loss, normal(16, 16, scale=0.1), normal(BATCH, 3, 16))


def test_a_sum_that_does_not_start_at_zero():
    """The same weight before and inside the loop, in time's two directions."""

    def loss(w, xs):
        def step(h, x):
            return jnp.tanh(x + h @ w), None

        first = jnp.tanh(xs[0] @ w)
        return jnp.sum(lax.scan(step, first, xs)[0] ** 2) + jnp.sum(first)

    check(loss, normal(16, 16, scale=0.2), normal(BATCH, 2, 16))


def test_stacked_weights_with_a_scale_that_is_computed_late():
    def loss(params, x):
        scaled = jax.checkpoint(lambda w, a: w * jnp.exp(a))(params["w"], params["a"])
        return jnp.sum(lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, scaled)[0])

    params = {"w": normal(3, 16, 16, scale=0.2), "a": jnp.float32(0.7)}
    assert check(loss, params, normal(BATCH, 2, 16)) == ["gradient", "gram"]


def test_loops_in_loops():
    """Layers outside, time inside: the inner weights are summed over time, the outer ones stacked."""

    def loss(params, xs):
        def layer(xs, w):
            def step(h, x):
                h = jnp.tanh(x + h @ w)
                return h, h

            return lax.scan(step, jnp.zeros(12), xs)[1], None

        return jnp.sum(lax.scan(layer, xs, params)[0] ** 2)

    assert check(loss, normal(2, 12, 12, scale=0.2), normal(BATCH, 4, 12)) == ["gram"]


def test_checkpoints_are_seen_through():
    def block(w, x):
        return jnp.tanh(x @ w)

    def loss(params, x):
        for w in params:
            x = jax.checkpoint(jax.jit(block))(w, x)
        return jnp.sum(x**2)

    params = [normal(16, 16, scale=0.2) for _ in range(3)]
    assert check(loss, params, normal(BATCH, 2, 16)) == ["gram"] * 3


def test_checkpoints_still_save_memory():
    """The recomputed activations must not be kept from the forward pass, nor recomputed all at once."""

    def block(w, x):
        for _ in range(4):
            x = jnp.sin(jnp.tanh(x @ w))
        return x

    def temporary(wrap):
        def loss(params, x):
            for w in params:
                x = wrap(block)(w, x)
            return jnp.sum(x**2)

        params = [jnp.zeros((64, 64))] * 8
        x = jnp.zeros((32, 128, 64))
        compiled = jax.jit(dj.per_example_grad_norms(loss)).lower(params, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(jax.checkpoint) < 0.6 * temporary(lambda fn: fn)


def test_no_more_memory_than_the_ordinary_gradient():
    """Without ties the slices of all layers' inputs are alive together, several times as much."""

    def loss(params, x):
        for w in params:
            x = jnp.tanh(convolve(x, w))
        return jnp.sum(x**2)

    def temporary(fn):
        compiled = jax.jit(fn).lower([jnp.zeros((3, 3, 16, 16))] * 6, jnp.zeros((16, 16, 16, 16))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    ordinary = temporary(jax.grad(lambda p, x: jnp.sum(jax.vmap(loss, (None, 0))(p, x))))
    assert temporary(dj.per_example_grad_norms(loss)) < 1.6 * ordinary


def test_shared_weights_are_not_copied_for_each_example():
    """The gradient of a low-rank factor has the other factor in it: a weight, the same for all."""

    def loss(params, x):
        return jnp.sum(jnp.tanh(x @ (params["a"] @ params["b"])))

    params = {"a": normal(16, 4), "b": normal(4, 16)}
    check(loss, params, normal(BATCH, 2, 16))
    text = str(jax.make_jaxpr(dj.per_example_grad_norms(loss))(params, normal(BATCH, 2, 16)))
    assert f"f32[{BATCH},4,16] = add" not in text
