"""map_examples against the direct call, and the bounds of the automatic batch size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.devices import batching
from diet_jax.devices.batching import auto_batch_size, map_examples
from diet_jax.errors import InputError

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(11, 4, 3)), jnp.float32)
LABELS = jnp.arange(11)


def describe(inputs, labels):
    """Takes a pytree and returns one."""
    return {"sum": inputs["x"].sum(axis=(1, 2)), "rest": (labels, inputs["x"] * 2)}


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 11, 12, 1000])
def test_map_examples_equals_the_direct_call(batch_size):
    expected = describe({"x": IMAGES}, LABELS)
    result = map_examples(describe, {"x": IMAGES}, LABELS, batch_size=batch_size)
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), result, expected)
    jitted = jax.jit(lambda x, y: map_examples(describe, {"x": x}, y, batch_size=batch_size))(IMAGES, LABELS)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), jitted, expected)


def test_the_function_never_sees_more_than_a_batch():
    sizes = []

    def note(x):
        sizes.append(len(x))
        return x

    map_examples(note, LABELS, batch_size=4)
    assert set(sizes) == {4, 3}


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_of_nothing_are_refused(batch_size):
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        map_examples(describe, {"x": IMAGES}, LABELS, batch_size=batch_size)


def grand_batch(width: int, wrap=lambda fn: fn, score=dj.grand) -> int:
    model = dj.create_model("mlp", num_classes=10, widths=(width,))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), (8, 8, 1)))
    shapes = jax.ShapeDtypeStruct((100, 8, 8, 1), "float32"), jax.ShapeDtypeStruct((100,), "int32")
    return auto_batch_size(wrap(functools.partial(score, model.predict)), *shapes, shared=(variables,))


def test_the_automatic_batch_size_is_a_power_of_two_within_bounds_that_falls_with_the_model():
    sizes = [grand_batch(width) for width in (1, 1_000, 30_000, 1_000_000)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) >= 3
    assert sizes[0] == batching.LARGEST_AUTO_BATCH
    assert all(1 <= size <= 1024 and size & (size - 1) == 0 for size in sizes)


def test_the_gradients_of_a_batch_fit_the_budget():
    """Each example has a float32 gradient of all parameters."""
    width = 3_000
    gradient_bytes = 4 * (64 * width + width + width * 10 + 10)
    budget = batching.CPU_CHUNK_BYTES if jax.default_backend() == "cpu" else batching.ACCELERATOR_CHUNK_BYTES
    assert 1 < grand_batch(width, score=dj.grand_vmap) <= budget / gradient_bytes
    # Without the gradients there is room for more examples.
    assert grand_batch(width) > grand_batch(width, score=dj.grand_vmap)


def test_even_a_model_beyond_the_budget_is_given_one_example(monkeypatch):
    monkeypatch.setattr(batching, "CPU_CHUNK_BYTES", 10)
    monkeypatch.setattr(batching, "ACCELERATOR_CHUNK_BYTES", 10)
    assert grand_batch(100) == 1


def test_a_jitted_function_is_looked_into():
    """One equation from outside, whose intermediate arrays need their memory all the same."""
    sizes = [grand_batch(3_000, wrap, dj.grand_vmap) for wrap in (jax.jit, lambda fn: fn)]
    assert 1 < sizes[0] == sizes[1] < 1024


def test_memory_that_is_used_up_is_counted_once():
    """A chain of steps needs room for two arrays, however long it is; kept results need room each."""
    x = jnp.zeros((10, 1_000_000))

    def chain(x):
        for _ in range(5):
            x = jnp.sin(x)
        return x

    def fan(x):
        return [jnp.sin(x) * k for k in (1.0, 2.0, 3.0, 4.0, 5.0)]

    budget = batching.CPU_CHUNK_BYTES if jax.default_backend() == "cpu" else batching.ACCELERATOR_CHUNK_BYTES
    room = budget // 4_000_000
    assert auto_batch_size(chain, x) == min(2 ** int(np.log2(room / 2)), 1024)
    assert auto_batch_size(fan, x) == min(2 ** int(np.log2(room / 6)), 1024)
