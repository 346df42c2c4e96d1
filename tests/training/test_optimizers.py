"""Learning rates and SGD against tables and NumPy, and the arithmetic of steps and epochs."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diet_jax as dj
from diet_jax.errors import InputError
from diet_jax.training.optimizers import sgd
from diet_jax.training.recipe import (
    decay_boundaries,
    epoch_to_step,
    make_optimizer,
    make_schedule,
    steps_per_epoch,
    total_steps,
)
from diet_jax.training.schedules import warmup_schedule

PAPER = dj.TrainConfig()


def rates(schedule, steps):
    return jax.vmap(schedule)(jnp.asarray(steps, jnp.int32))


def test_the_default_rate_is_the_papers():
    """0.1, times 0.2 after steps 23,400, 46,800 and 62,400: the update at a boundary has the old rate."""
    assert total_steps(PAPER, 50_000) == 78_000
    steps = [1, 23_400, 23_401, 46_800, 46_801, 62_400, 62_401, 78_000]
    table = [0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008]
    np.testing.assert_allclose(rates(make_schedule(PAPER, 78_000), steps), table, rtol=1e-6)


def test_the_optimiser_asks_for_the_rate_of_the_update_it_does():
    """Its counter starts at 0 and the schedule's t at 1; off by one here shifts every boundary."""
    config = dj.TrainConfig(
        learning_rate=1.0, momentum=0.0, weight_decay=0.0, decay_at=(0.6,), decay_factor=0.1
    )
    optimizer = make_optimizer(config, 5)
    weight = jnp.zeros(())
    state = optimizer.init(weight)
    moved = []
    for _ in range(5):
        update, state = optimizer.update(jnp.ones(()), state, weight)
        moved.append(-float(update))
    np.testing.assert_allclose(moved, [1, 1, 1, 0.1, 0.1], rtol=1e-6)


def test_linear_equals_the_authors_warmup_schedule_and_never_goes_negative():
    """Peak 0.2 at step 4,680 (15 % of 31,200), 0 at 31,200; theirs goes on below 0."""
    config = dj.TrainConfig(steps=31_200, learning_rate=0.2, schedule="linear", warmup=0.15)
    steps = np.arange(1, 31_201)
    expected = np.interp(steps, [0, 4_680, 31_200], [0, 0.2, 0])
    schedule = make_schedule(config, total_steps(config, 50_000))
    np.testing.assert_allclose(rates(schedule, steps), expected, atol=1e-7)
    assert int(np.argmax(rates(schedule, steps))) + 1 == 4_680
    np.testing.assert_array_equal(rates(schedule, [31_200, 31_201, 40_000]), 0)


@pytest.mark.parametrize("warmup", [0, 20])
def test_cosine_equals_math_cos(warmup):
    schedule = warmup_schedule(0.3, warmup, 100, decay="cosine")

    def expected(t):
        if t < warmup:
            return 0.3 * t / warmup
        return 0.15 * (1 + math.cos(math.pi * (t - warmup) / (100 - warmup)))

    steps = range(1, 101)
    np.testing.assert_allclose(rates(schedule, list(steps)), [expected(t) for t in steps], atol=1e-6)


@pytest.mark.parametrize(("warmup", "num_steps"), [(10, 10), (11, 10), (-1, 10)])
def test_a_warmup_as_long_as_the_training_is_refused(warmup, num_steps):
    with pytest.raises(InputError, match="warm-up must end before"):
        warmup_schedule(0.1, warmup, num_steps, decay="linear")


@pytest.mark.parametrize(("nesterov", "momentum"), [(True, 0.9), (False, 0.9), (True, 0.0)])
def test_sgd_equals_the_former_flax_momentum(nesterov, momentum):
    """g ← g + wd·w; m ← β·m + g; w ← w − lr·(g + β·m if Nesterov else m)."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape) for name, shape in {"kernel": (4, 3), "bias": (3,)}.items()}
    curve = {name: rng.uniform(0.1, 2, w.shape) for name, w in weights.items()}
    rate = [0.1 if t <= 10 else 0.02 for t in range(1, 21)]
    config = dj.TrainConfig(momentum=momentum, nesterov=nesterov, weight_decay=0.05, decay_at=(0.5,))
    optimizer = make_optimizer(config, 20)
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), weights)
    state = optimizer.init(params)
    memory = {name: np.zeros_like(w) for name, w in weights.items()}
    for lr in rate:
        gradients = jax.tree.map(lambda p, a: p * jnp.asarray(a, jnp.float32), params, curve)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for name, w in weights.items():
            g = curve[name] * w + 0.05 * w
            memory[name] = momentum * memory[name] + g
            weights[name] = w - lr * (g + momentum * memory[name] if nesterov else memory[name])
    for name, w in weights.items():
        np.testing.assert_allclose(params[name], w, rtol=1e-4, atol=1e-6)


def test_weight_decay_reaches_every_parameter(conv_model, conv_variables):
    """Also BatchNorm's scale and bias, and the biases: with a gradient of 0 everything shrinks alike."""
    params = conv_variables.params
    assert {"scale", "bias"} == set(params["BatchNorm_0"])
    optimizer = sgd(lambda count: 0.5, momentum=0.0, weight_decay=0.1)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    moved = optax.apply_updates(params, updates)
    jax.tree.map(lambda new, old: np.testing.assert_allclose(new, 0.95 * old, rtol=1e-5), moved, params)


def test_steps_of_an_epoch_drop_the_incomplete_batch():
    assert [steps_per_epoch(n, 128) for n in (128, 255, 256, 50_000)] == [1, 1, 2, 390]
    with pytest.raises(InputError, match="127"):
        steps_per_epoch(127, 128)


def test_a_pruned_training_keeps_its_steps_or_its_epochs():
    epochs = dj.TrainConfig(epochs=10, batch_size=10, budget="equal_epochs")
    steps = dj.TrainConfig(epochs=10, batch_size=10)
    assert [total_steps(steps, 105, k) for k in (None, 105, 55, 10)] == [100] * 4
    assert [total_steps(epochs, 105, k) for k in (None, 105, 55, 10)] == [100, 100, 50, 10]
    assert total_steps(dj.TrainConfig(steps=7, batch_size=10), 105, 20) == 7


@pytest.mark.parametrize("config", [PAPER, dj.TrainConfig(budget="equal_epochs"), dj.TrainConfig(steps=5)])
def test_a_kept_set_smaller_than_a_batch_is_refused_under_every_budget(config):
    with pytest.raises(InputError, match="batch_size is 128 but only 100"):
        total_steps(config, 50_000, 100)


def test_a_training_without_a_step_is_refused():
    with pytest.raises(InputError, match=r"epochs is 0\.001"):
        total_steps(dj.TrainConfig(epochs=0.001), 50_000)
    assert total_steps(dj.TrainConfig(epochs=0.002), 50_000) == 1


def test_epochs_become_steps_rounded_to_nearest():
    assert [epoch_to_step(e, 390) for e in (0, 0.001, 1, 20, 200)] == [0, 0, 390, 7_800, 78_000]
    assert [epoch_to_step(e, 33) for e in (0.5, 1.5, 0.1)] == [17, 50, 3]
    for bad in (-1, math.nan, math.inf):
        with pytest.raises(InputError, match="epoch must be"):
            epoch_to_step(bad, 10)


def test_decay_boundaries_are_shares_of_the_training():
    assert decay_boundaries(PAPER, 78_000) == (23_400, 46_800, 62_400)
    assert decay_boundaries(dj.TrainConfig(decay_at=(0.5,)), 7) == (4,)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("epochs", 0.0),
        ("epochs", math.nan),
        ("epochs", math.inf),
        ("batch_size", 0),
        ("steps_per_call", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -0.1),
        ("learning_rate", math.inf),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("warmup", 1.0),
        ("weight_decay", -1.0),
        ("weight_decay", math.nan),
        ("decay_factor", 0.0),
        ("decay_at", (0.6, 0.3)),
        ("decay_at", (0.0,)),
        ("decay_at", (1.0,)),
        ("schedule", "step"),
        ("augment", "flip"),
        ("crop_offsets", "image"),
        ("budget", "epochs"),
    ],
)
def test_a_config_refuses_bad_values_by_name(field, value, unchecked_types):
    with pytest.raises(InputError, match=f"^{field} must"):
        dj.TrainConfig(**{field: value})


def test_equal_epochs_contradict_a_number_of_steps():
    with pytest.raises(InputError, match="leave out steps"):
        dj.TrainConfig(steps=10, budget="equal_epochs")
