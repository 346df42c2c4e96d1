"""What `vmap` over networks makes of a gradient, of a loop over examples, and of what is written out."""

import dataclasses
import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import diet_jax as dj
from diet_jax.devices.vmap_rules import in_turn, one_by_one, seldom, value_and_grad
from diet_jax.ensemble.scoring import score_batch_sizes, score_program
from diet_jax.scores.score import resolve_scores
from diet_jax.training import step
from diet_jax.training.loop import many_steps, program_of, put_examples, start
from diet_jax.training.step import train_step

NUMBERS = ("NHWC", "HWIO", "NHWC")
K, B = 3, 4
KERNELS = [jax.random.normal(jax.random.key(i), (K, 3, 3, 5, 5)) for i in range(2)]
IMAGES = jax.random.normal(jax.random.key(2), (K, B, 8, 8, 5))


def groups(lowered) -> Counter:
    """Counts the convolutions of a lowered program by (groups of the batch, groups of channels)."""
    pattern = re.compile(r"stablehlo\.convolution.*batch_group_count = (\d+).*feature_group_count = (\d+)")
    found = (pattern.search(line) for line in lowered.as_text().splitlines())
    return Counter(tuple(map(int, match.groups())) for match in found if match)


def loss(kernels, model_state, images):
    y = images
    for kernel, stride in zip(kernels, (1, 2), strict=True):
        y = lax.conv_general_dilated(y, kernel, (stride, stride), "SAME", dimension_numbers=NUMBERS)
        y = jax.nn.relu(y)
    return (y**2).mean(), model_state + y.mean()


def test_the_gradient_of_a_kernel_is_a_convolution_in_groups_of_the_batch():
    """Two layers: two forward, one to the input, two to the kernels, each of all networks."""
    plain, ours = (
        jax.jit(jax.vmap(of(loss))).lower(KERNELS, jnp.zeros(K), IMAGES)
        for of in (functools.partial(jax.value_and_grad, has_aux=True), value_and_grad)
    )
    assert groups(plain) == {(1, K): 5}
    assert groups(ours) == {(1, K): 3, (K, 1): 2}


@pytest.mark.parametrize(
    "axes",
    [(0, 0, 0), (0, None, None), (0, 0, None), (None, 0, 0), (None, None, 0), ([0, None], 0, 0)],
    ids=str,
)
def test_value_and_grad_under_vmap_is_that_of_each_network(axes):
    arguments = (KERNELS, jnp.arange(K, dtype=jnp.float32), IMAGES)
    axes_of = jax.tree.map(lambda axis: axis, list(axes), is_leaf=lambda axis: axis is None)
    flat = [axes[0] if isinstance(axes[0], list) else [axes[0]] * 2, axes[1], axes[2]]
    one = [
        [a if axis == 0 else a[0] for a, axis in zip(arguments[0], flat[0], strict=True)],
        *(a if axis == 0 else a[0] for a, axis in zip(arguments[1:], flat[1:], strict=True)),
    ]
    mapped = jax.jit(jax.vmap(value_and_grad(loss), in_axes=(flat[0], *axes_of[1:])))(*one)
    for seed in range(K):
        mine = jax.tree.map(
            lambda a, axis: a[seed] if axis == 0 else a,  # noqa: B023
            one,
            flat,
            is_leaf=lambda leaf: leaf is None,
        )
        expected = jax.value_and_grad(loss, has_aux=True)(*mine)
        got = jax.tree.map(lambda a: a[seed], mapped)  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, expected)


def test_without_vmap_nothing_changes():
    one = (jax.tree.map(lambda k: k[0], KERNELS), jnp.float32(1), IMAGES[0])
    plain, ours = (
        jax.jit(of(loss)).lower(*one)
        for of in (functools.partial(jax.value_and_grad, has_aux=True), value_and_grad)
    )
    assert groups(plain) == groups(ours) == {(1, 1): 5}


def test_one_by_one_writes_out_what_its_first_argument_decides():
    traced = []

    def product(kernel, x):
        traced.append(x.shape)
        return x @ kernel

    kernels, x = jnp.arange(24.0).reshape(2, 3, 4), jnp.arange(15.0).reshape(5, 3)
    both = jax.vmap(one_by_one(product), in_axes=(0, None))(kernels, x)
    np.testing.assert_allclose(both, np.asarray(x) @ np.asarray(kernels))
    alone = str(jax.make_jaxpr(jax.vmap(one_by_one(product), in_axes=(0, None)))(kernels, x))
    assert alone.count("dot_general") == 2
    rows = jax.vmap(one_by_one(product), in_axes=(None, 0))
    assert str(jax.make_jaxpr(rows)(kernels[0], x)).count("dot_general") == 1
    # A vmap around that of the rows finds the rule again.
    nested = jax.vmap(rows, in_axes=(0, None))
    assert str(jax.make_jaxpr(nested)(kernels, x)).count("dot_general") == 2
    np.testing.assert_allclose(nested(kernels, x), both)


def test_in_turn_is_a_loop_over_the_networks():
    layer = in_turn(lambda w, x: {"y": jnp.tanh(x @ w)})
    w, x = jnp.ones((3, 2, 2)), jnp.ones((4, 2))
    program = jax.make_jaxpr(jax.vmap(layer, in_axes=(0, None)))(w, x)
    assert [equation.primitive.name for equation in program.eqns] == ["scan"]
    np.testing.assert_allclose(jax.vmap(layer, in_axes=(0, None))(w, x)["y"][2], layer(w[2], x)["y"])


# The programs of the library.


def scoring(train_split, conv_model, steps, form="lax"):
    config = dj.TrainConfig(epochs=2, batch_size=8)
    model = dj.create_model("cnn", num_classes=3, widths=(4, 4), convolution=form)
    scores = resolve_scores(("el2n", "grand", "forgetting"))
    return score_program.lower(
        dj.seed_keys(0, "score", K),
        put_examples(train_split),
        np.arange(len(train_split), dtype=np.int32),
        how="vmap",
        program=dataclasses.replace(program_of(model, train_split, config), side_by_side=True),
        steps=steps,
        batch_sizes=score_batch_sizes(scores, model, train_split),
    )


@pytest.mark.slow
def test_no_convolution_of_an_ensemble_is_grouped_when_it_is_written_out(conv_model, train_split):
    """Training, scoring and GraNd of all networks in one program, of plain convolutions alone."""
    unrolled = groups(scoring(train_split, conv_model, (4,), "unrolled"))
    assert set(unrolled) == {(1, 1)}
    lax_form = groups(scoring(train_split, conv_model, (4,)))
    # Training alone is grouped: forward and to the inputs by channels, to the kernels by the batch.
    assert {key for key in lax_form if key != (1, 1)} == {(1, K), (K, 1)}
    per_step = lax_form[1, K] + lax_form[K, 1]
    assert unrolled[1, 1] == lax_form[1, 1] + K * per_step


@pytest.mark.parametrize("how", ["vmap", "map", pytest.param("loop", marks=pytest.mark.slow)])
def test_only_networks_side_by_side_take_the_rule(how, conv_model, train_split, test_split, monkeypatch):
    taken = []
    real = step.value_and_grad
    monkeypatch.setattr(step, "value_and_grad", lambda fn: taken.append(how) or real(fn))
    # A batch size of their own: no program of another test is found again.
    config = dj.TrainConfig(steps=1, batch_size=9 + ["vmap", "map", "loop"].index(how), augment="none")
    keys = dj.seed_keys(0, "score", 2)
    dj.score_ensemble(keys, conv_model, train_split, config=config, step=1, how=how, names=("el2n",))
    scored = len(taken)
    dj.train_ensemble(keys, conv_model, train_split, test_split, config=config, how=how)
    assert (scored > 0, len(taken) > scored) == (how == "vmap",) * 2


def known_trip_counts(compiled) -> list[int]:
    """The lengths of the loops whose length the compiler knows, and 0 for each other loop."""
    loops = [line for line in compiled.as_text().splitlines() if re.search(r"= .* while\(", line)]
    found = [re.search(r'known_trip_count":\{"n":"(\d+)"', line) for line in loops]
    return sorted(int(match[1]) if match else 0 for match in found)


def test_the_compiler_knows_how_many_updates_a_call_does(train_split, conv_model):
    config = dj.TrainConfig(epochs=7, batch_size=8)
    program = program_of(conv_model, train_split, config)
    state, examples = start(jax.random.key(0), train_split, program=program), put_examples(train_split)
    rows = np.zeros((30, 8), np.int32)
    for length in (5, 29):
        compiled = many_steps.lower(state, examples, rows, length=length, program=program).compile()
        assert length in known_trip_counts(compiled)
        assert 0 not in known_trip_counts(compiled)


@pytest.mark.parametrize(
    ("steps", "length"),
    [*(pytest.param(*case, marks=pytest.mark.slow) for case in (((11,), 11), ((4, 8), 4))), ((0, 6, 9), 3)],
)
def test_the_compiler_knows_how_many_updates_lie_between_scorings(steps, length, train_split, conv_model):
    assert length in known_trip_counts(scoring(train_split, conv_model, steps).compile())


@pytest.mark.slow
def test_a_training_of_ones_own_is_batched_and_differentiated_as_any_function(conv_model, train_split):
    """A hyperparameter that a model closes over, batched; and a gradient through an update."""

    class Scaled:
        def __init__(self, scale):
            self.scale = scale

        def init(self, key, image_shape):
            return conv_model.init(key, image_shape)

        def apply(self, variables, images, *, train):
            logits, state = conv_model.apply(variables, images, train=train)
            return self.scale * logits, state

        def predict(self, variables, images):
            return self.scale * conv_model.predict(variables, images)

    config = dj.TrainConfig(steps=2, batch_size=8, augment="none")

    def losses(key, scale):
        return dj.train(key, Scaled(scale), train_split, config=config)[1].loss

    keys, scales = dj.seed_keys(0, "score", 2), jnp.array([0.5, 2.0])
    together = jax.jit(jax.vmap(losses))(keys, scales)
    alone = [
        dj.train(key, Scaled(s), train_split, config=config)[1].loss
        for key, s in zip(keys, scales, strict=True)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-3)
    program = program_of(conv_model, train_split, config)
    state, examples = start(keys[0], train_split, program=program), put_examples(train_split)
    rows = jnp.arange(8)

    def size(mean):
        after, _ = train_step(state, examples._replace(mean=mean), rows, program=program)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(after.variables.params))

    slope = jax.grad(size)(examples.mean)[0]
    half = jnp.array([0.5, 0.0])
    expected = float(size(examples.mean + half) - size(examples.mean - half))
    assert float(slope) == pytest.approx(expected, rel=0.1, abs=1e-3)


def test_what_is_seldom_needed_runs_for_those_that_need_it_alone():
    """Batched or not in any argument."""
    ran = []

    def grown(value, by):
        jax.debug.callback(lambda by: ran.append(float(by)), by)
        return {"a": value["a"] + by, "b": value["b"]}

    call = jax.jit(jax.vmap(seldom(grown), in_axes=(0, {"a": 0, "b": None}, 0)))
    value, by = {"a": jnp.arange(3.0), "b": jnp.int32(7)}, jnp.array([10.0, 20.0, 30.0])
    for needed, expected in (([False] * 3, [0, 1, 2]), ([True, False, True], [10, 1, 32])):
        ran.clear()
        result = call(jnp.array(needed), value, by)
        jax.effects_barrier()
        assert result["a"].tolist() == expected
        assert result["b"].tolist() == [7, 7, 7]
        assert sorted(ran) == [b for b, yes in zip(by.tolist(), needed, strict=True) if yes]
    shared = jax.vmap(seldom(lambda x, y: x * y), in_axes=(None, None, 0))
    assert shared(jnp.array(True), jnp.float32(2), by).tolist() == [20, 40, 60]
    assert shared(jnp.array(False), jnp.float32(2), by).tolist() == [2, 2, 2]
