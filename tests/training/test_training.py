"""The training loop: its batches, its subsets, and its numbers against a loop written without it."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.training.loop import call_lengths, start, train_between
from diet_jax.training.step import RunKeys, batch_rows, run_keys

KEY = jax.random.key(5)
CONFIG = dj.TrainConfig(steps=12, batch_size=8, steps_per_call=7)
rows_of = jax.jit(batch_rows, static_argnames=("num_steps", "batch_size"))


def assert_close(actual, expected, rtol=1e-5, atol=1e-6):
    """The same tree of arrays up to rounding; keys exactly."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def test_every_epoch_is_a_fresh_permutation_without_the_tail():
    kept = np.array([3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37], np.int32)
    rows = np.asarray(rows_of(KEY, kept, 0, num_steps=5 * 200, batch_size=2)).reshape(200, 10)
    assert rows.dtype == np.int32
    assert all(len(set(epoch)) == 10 and set(epoch) <= set(kept.tolist()) for epoch in rows.tolist())
    assert len({tuple(epoch) for epoch in rows.tolist()}) == 200
    # The row that an epoch leaves out is another one each time: each with chance 1/11.
    dropped = [(set(kept.tolist()) - set(epoch)).pop() for epoch in rows.tolist()]
    shares = np.array([dropped.count(row) for row in kept]) / 200
    assert np.abs(shares - 1 / 11).max() < 5 * np.sqrt(1 / 11 * 10 / 11 / 200)


def test_keys_decide_the_order():
    kept = np.arange(30, dtype=np.int32)
    orders = [np.asarray(rows_of(jax.random.key(k), kept, 0, num_steps=3, batch_size=10)) for k in (0, 1, 0)]
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])


@pytest.mark.parametrize(
    ("count", "batch_size", "num_steps"), [(11, 3, 1), (11, 3, 2), (9, 3, 5), (4, 4, 1), (7, 4, 5)]
)
def test_any_window_of_steps_is_a_slice_of_the_whole_training(count, batch_size, num_steps):
    kept = np.arange(count, dtype=np.int32)
    whole = np.asarray(rows_of(KEY, kept, 0, num_steps=16, batch_size=batch_size))
    for first in range(16 - num_steps + 1):
        window = rows_of(KEY, kept, first, num_steps=num_steps, batch_size=batch_size)
        np.testing.assert_array_equal(window, whole[first : first + num_steps])


def test_fewer_rows_than_a_batch_are_refused():
    with pytest.raises(InputError, match="only 3 examples"):
        batch_rows(KEY, jnp.arange(3), 0, num_steps=1, batch_size=4)


def test_training_equals_a_plain_loop(conv_model, train_split):
    """30 steps: jax.grad of the mean loss, then L2, Nesterov and the drop of the rate in NumPy."""
    config = dj.TrainConfig(
        steps=30, batch_size=8, augment="none", weight_decay=0.01, decay_at=(0.5,), steps_per_call=7
    )
    state, history = dj.train(KEY, conv_model, train_split, config=config)

    def loss_fn(params, model_state, images, labels):
        logits, model_state = conv_model.apply(dj.Variables(params, model_state), images, train=True)
        logs = jax.nn.log_softmax(logits)
        loss = -(jax.nn.one_hot(labels, 3) * logs).sum(axis=-1).mean()
        return loss, (model_state, (logits.argmax(axis=-1) == labels).mean())

    gradient = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    normalization = train_split.normalization
    pixels = (train_split.images - np.array(normalization.mean)) / np.array(normalization.std)
    params, model_state = conv_model.init(run_keys(KEY).init, train_split.image_shape)
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    memory = jax.tree.map(np.zeros_like, params)
    rows = rows_of(run_keys(KEY).order, np.arange(50, dtype=np.int32), 0, num_steps=30, batch_size=8)
    losses, accuracies = [], []
    for t, batch in enumerate(np.asarray(rows), start=1):
        images = jnp.asarray(pixels[batch], jnp.float32)
        labels = jnp.asarray(train_split.labels[batch])
        single = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
        (loss, (model_state, accuracy)), grads = gradient(single, model_state, images, labels)
        grads = jax.tree.map(lambda g, w: np.asarray(g, np.float64) + 0.01 * w, grads, params)
        memory = jax.tree.map(lambda m, g: 0.9 * m + g, memory, grads)
        rate = 0.1 if t <= 15 else 0.02
        params = jax.tree.map(lambda w, g, m: w - rate * (g + 0.9 * m), params, grads, memory)  # noqa: B023
        losses.append(float(loss))
        accuracies.append(float(accuracy))
    assert_close(state.variables.params, params, rtol=1e-3, atol=1e-4)
    assert_close(state.variables.model_state, model_state, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(history.accuracy, accuracies, atol=1e-6)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])  # It learned, so the test saw large updates.


@pytest.mark.parametrize("steps_per_call", [1, 100])
def test_where_the_calls_are_cut_makes_no_difference(steps_per_call, conv_model, train_split, trained):
    config = dj.TrainConfig(steps=12, batch_size=8, steps_per_call=steps_per_call)
    assert_close(dj.train(KEY, conv_model, train_split, config=config), trained, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def trained(conv_model, train_split):
    return dj.train(KEY, conv_model, train_split, config=CONFIG)


def test_train_under_jit_equals_train_called_eagerly(conv_model, train_split, trained):
    jitted = jax.jit(functools.partial(dj.train, model=conv_model, dataset=train_split, config=CONFIG))
    assert_close(jitted(KEY), trained, rtol=1e-4, atol=1e-5)


def test_train_under_vmap_equals_train_called_eagerly(conv_model, train_split, trained):
    train = functools.partial(dj.train, model=conv_model, dataset=train_split, config=CONFIG)
    keys = jnp.stack([jax.random.key(9), KEY])
    both = jax.jit(jax.vmap(train))(keys)
    assert_close(dj.take_seed(both, 1), trained, rtol=1e-4, atol=1e-5)


def test_num_updates_stops_on_the_way_of_the_same_schedule(conv_model, train_split, trained):
    state, history = dj.train(KEY, conv_model, train_split, config=CONFIG, num_updates=6)
    assert int(state.step) == 6
    np.testing.assert_allclose(history.loss, trained[1].loss[:6], rtol=1e-5)
    # A training of 6 steps drops its rate earlier and ends elsewhere.
    short, _ = dj.train(KEY, conv_model, train_split, config=dj.TrainConfig(steps=6, batch_size=8))
    distance = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), state.variables, short.variables)
    assert max(jax.tree.leaves(distance)) > 1e-3
    for bad in (-1, 13):
        with pytest.raises(InputError, match="num_updates must lie between 0 and the 12 steps"):
            dj.train(KEY, conv_model, train_split, config=CONFIG, num_updates=bad)


def test_the_calls_of_a_stretch_add_up_and_are_of_two_lengths_at_most():
    for num_updates, most in itertools.product(range(230), (1, 2, 7, 100)):
        lengths = call_lengths(num_updates, most)
        assert sum(lengths) == num_updates
        assert all(0 < length <= most for length in lengths)
        assert len(set(lengths)) <= 2
        # Twice the fewest calls, and one: no more than that for equal lengths.
        assert len(lengths) <= 2 * -(-num_updates // most) + 1


def test_a_last_call_of_another_length_is_done_too(conv_model, train_split):
    """11 updates have no equal calls of at most 4."""
    config = dj.TrainConfig(steps=11, batch_size=8, steps_per_call=4)
    state, history = dj.train(KEY, conv_model, train_split, config=config)
    single = dj.TrainConfig(steps=11, batch_size=8, steps_per_call=1)
    assert (int(state.step), len(history.loss)) == (11, 11)
    assert_close(
        (state, history), dj.train(KEY, conv_model, train_split, config=single), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("steps_per_call", [1, 7])
def test_stops_on_the_way_change_nothing(steps_per_call, conv_model, train_split, trained):
    """Stops inside a call, at its end, twice at one step, and at the start."""
    config = dj.TrainConfig(steps=12, batch_size=8, steps_per_call=steps_per_call)
    program = dj.Program(conv_model, config, 12)
    state = start(KEY, train_split, program=program)
    stops, steps, losses = [0, 3, 3, 10, 12], [], []
    kept = np.arange(50, dtype=np.int32)
    for reached, metrics in train_between(state, train_split.examples(), kept, stops, program=program):
        steps.append(int(reached.step))
        losses.append(metrics.loss)
        last = jax.tree.map(jnp.copy, reached)
    assert steps == stops
    assert [len(part) for part in losses] == [0, 3, 0, 7, 2]
    np.testing.assert_allclose(np.concatenate(losses), trained[1].loss, rtol=1e-4)
    assert_close(last, trained[0], rtol=1e-4, atol=1e-5)
    for wrong in (11, 13):  # Before the state's step, and beyond the training.
        with pytest.raises(InputError, match="stops must ascend from step 12 to at most 12"):
            next(train_between(last, train_split.examples(), kept, [wrong], program=program))


@pytest.mark.parametrize("under", [lambda fn: fn, jax.jit])
def test_no_updates_give_the_initial_network(under, conv_model, train_split):
    train = functools.partial(dj.train, model=conv_model, dataset=train_split, config=CONFIG, num_updates=0)
    state, history = under(train)(KEY)
    assert (int(state.step), history.loss.shape, history.accuracy.shape) == (0, (0,), (0,))
    assert_close(state.variables, conv_model.init(run_keys(KEY).init, (8, 8, 2)))


def test_a_keep_mask_equals_a_copy_of_the_kept_rows(conv_model, train_split):
    keep = dj.keep_random(jax.random.key(0), 50, 0.5)
    state, history = dj.train(KEY, conv_model, train_split, keep=keep, config=CONFIG)
    part = Dataset.from_arrays(
        train_split.images[keep],
        train_split.labels[keep],
        normalization=train_split.normalization,
    )
    copied, copied_history = dj.train(KEY, conv_model, part, config=CONFIG)
    np.testing.assert_allclose(history.loss, copied_history.loss, rtol=1e-6)
    assert_close(state.variables, copied.variables, rtol=1e-6)
    for all_rows, kept_rows in zip(*(s.dynamics["forgetting"] for s in (state, copied)), strict=True):
        np.testing.assert_array_equal(np.asarray(all_rows)[keep], kept_rows)
        np.testing.assert_array_equal(np.asarray(all_rows)[~keep], 0)


@pytest.mark.parametrize(("budget", "steps"), [("equal_steps", 12), ("equal_epochs", 6)])
def test_a_pruned_training_has_the_steps_of_its_budget(budget, steps, conv_model, train_split):
    config = dj.TrainConfig(epochs=2, batch_size=8, budget=budget, augment="none")
    keep = dj.keep_random(jax.random.key(0), 50, 0.5)
    state, history = dj.train(KEY, conv_model, train_split, keep=keep, config=config)
    assert (int(state.step), len(history.loss)) == (steps, steps)


def test_the_streams_of_a_run_are_independent():
    """No two of init, order and augmentation share a key, within a run or between runs."""
    runs = [run_keys(key) for key in dj.seed_keys(0, "retrain", 20)]
    data = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for run in runs for key in run}
    assert len(data) == 20 * len(RunKeys._fields)


def test_augmentation_changes_neither_initialisation_nor_order(conv_model, train_split):
    """Two recipes with one key: the same first network, the same rows, other pixels."""
    plain, augmented = (dj.TrainConfig(steps=6, batch_size=8, augment=a) for a in ("none", "crop_flip"))
    states = [
        dj.train(KEY, conv_model, train_split, config=c, num_updates=n)[0]
        for c in (plain, augmented)
        for n in (0, 6)
    ]
    assert_close(states[0].variables, states[2].variables)
    kernels = [np.asarray(state.variables.params["Conv_0"]["kernel"]) for state in states]
    assert np.abs(kernels[1] - kernels[3]).max() > 1e-4


def test_another_key_type_trains_too(conv_model, train_split):
    key = jax.random.key(0, impl="unsafe_rbg")
    state, _ = dj.train(key, conv_model, train_split, config=CONFIG, num_updates=2)
    assert state.key.dtype == key.dtype
    assert int(state.step) == 2


def test_the_key_given_outlives_the_training(conv_model, train_split, trained):
    """States are overwritten in place; the caller's key must not be."""
    key = jax.random.key(5)
    dj.train(key, conv_model, train_split, config=CONFIG, num_updates=3)
    np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(KEY))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (np.ones(49, bool), "one entry for each of the 50"),
        (np.ones((1, 50), bool), "one entry for each of the 50"),
        (np.arange(50) < 7, "only 7 examples"),
        (np.zeros(50, bool), "no example to train on"),
        (np.ones(50, np.int32), "boolean vector"),
    ],
)
def test_masks_that_do_not_fit_are_refused(keep, message, conv_model, train_split, unchecked_types):
    with pytest.raises(InputError, match=message):
        dj.train(KEY, conv_model, train_split, keep=keep, config=CONFIG)


def test_a_mask_that_empties_a_class_trains_as_a_copy_without_it_does(conv_model, train_split):
    keep = train_split.labels != 1
    config = dataclasses.replace(CONFIG, steps=3)
    masked, _ = dj.train(KEY, conv_model, train_split, keep=keep, config=config)
    sliced, _ = dj.train(KEY, conv_model, train_split.take(np.flatnonzero(keep)), config=config)
    jax.tree.map(np.testing.assert_array_equal, masked.variables, sliced.variables)


@pytest.mark.parametrize(
    ("model", "take", "changes", "whose"),
    [
        ((8,), 96, {}, "model"),
        ((6,), 96, {"optimizer": "adamw", "learning_rate": 0.001}, "optimizer"),
        ((6,), 90, {}, "dataset"),
    ],
)
def test_a_state_of_another_training_is_refused(model, take, changes, whose):
    images = np.random.default_rng(0).normal(size=(96, 4, 4, 1)).astype(np.float32)
    train = Dataset.from_arrays(images, np.arange(96) % 4)
    config = dj.TrainConfig(steps=4, batch_size=16, augment="none")
    network = dj.create_model("mlp", num_classes=4, widths=(6,))
    state, _ = dj.train(KEY, network, train, config=config, num_updates=2)
    other = dj.create_model("mlp", num_classes=4, widths=model)
    with pytest.raises(InputError, match=f"state is of another {whose}"):
        dj.train_from(
            state, other, train.take(np.arange(take)), config=dataclasses.replace(config, **changes)
        )
    assert int(dj.train_from(state, network, train, config=config)[0].step) == 4
