"""Folds that measure all examples at the end of every epoch: the same however the training runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diet_jax as dj
from diet_jax.data.sources import load_dataset, load_streamed
from diet_jax.ensemble.scoring import all_folds
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.epoch_ends import with_ends_of_epochs
from diet_jax.training.loop import program_of, start, train_between
from diet_jax.training.recipe import make_schedule
from diet_jax.training.step import advance_in_one_program
from diet_jax.training.streaming import stream_between

# Batches of 12 of 50 examples: epochs of 4 steps.
CONFIG = dj.TrainConfig(steps=15, batch_size=12, learning_rate=0.05, schedule="cosine", augment="crop")
KEYS = dj.seed_keys(3, "score", 3)


def init_traced(num_examples, num_classes):
    return {"sum": jnp.zeros(num_examples), "logits": jnp.zeros((num_examples, num_classes))}


def measure_logits(model):
    return lambda variables, inputs, labels: model.predict(variables, inputs)


def update_traced(state, rows, values, labels, rate):
    loss = dj.cross_entropy(values, labels)
    return {"sum": state["sum"].at[rows].add(rate * loss), "logits": values}


def traced_scores():
    return lambda state, keep: state["sum"] + 0 * state["logits"].sum(axis=1)


TRACED = dj.Score(
    name="traced",
    label="traced",
    formula="sum over epochs of rate times loss",
    reference="none",
    reads="dynamics",
    build=traced_scores,
    fold=dj.Fold("traced", init_traced, update_traced, measure_logits),
)


def by_hand(key, model, data, keep, last):
    """Stops at the end of every epoch of a training without such a fold, and scores with each network."""
    kept = np.flatnonzero(np.ones(50, bool) if keep is None else keep)
    program = program_of(model, data, CONFIG, num_kept=len(kept))
    every, rate = len(kept) // 12, make_schedule(CONFIG, 15)
    ends, total = range(every, last + 1, every), np.zeros(len(data), np.float32)

    def loss(variables, inputs, labels):
        return dj.cross_entropy(model.predict(variables, inputs), labels)

    state = start(key, data, program=program)
    for end, (reached, _) in zip(
        ends, train_between(state, data.examples(), kept, ends, program=program), strict=True
    ):
        losses = dj.score_dataset(loss, reached.variables, data)
        total += float(rate(jnp.int32(end))) * losses
    return total


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        ("vmap", 30),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("map", 50), ("loop", 30), ("loop", 50))),
    ],
)
def test_a_fold_measures_at_the_end_of_every_epoch(conv_model, train_split, how, kept):
    keep = None if kept == 50 else np.arange(50) < kept
    config = dataclasses.replace(CONFIG, steps_per_call=3)
    options = {"config": config, "names": (TRACED, "forgetting"), "keep": keep, "how": how}
    found = dj.score_ensemble(KEYS, conv_model, train_split, step=(3, 15), **options)
    trained = slice(None) if keep is None else keep
    for place, last in enumerate((3, 15)):
        for seed in (0, 2):
            expected = by_hand(KEYS[seed], conv_model, train_split, keep, last)
            values = found.scores["traced"][place, seed]
            np.testing.assert_allclose(values[trained], expected[trained], rtol=2e-4, atol=1e-6)
    assert np.isnan(found.scores["traced"][..., ~np.asarray(keep)]).all() if keep is not None else True
    # The training itself is the one without the fold.
    alone = dj.score_ensemble(KEYS, conv_model, train_split, step=15, **{**options, "names": ("forgetting",)})
    np.testing.assert_allclose(found.history.loss, alone.history.loss, rtol=1e-5)


def bits(state):
    own = state._replace(key=jax.random.key_data(state.key))
    return jax.tree.map(np.array, own)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("stops", [(2, 7, 15), (3, 4, 12, 13)])
def test_going_on_equals_the_unbroken_training(conv_model, train_split, tmp_path, stops):
    """Stopped in the middle of an epoch and at its end, read back from disk, and gone on."""
    program = program_of(conv_model, train_split, CONFIG, folds=all_folds((TRACED,)))
    kept, examples = np.arange(50), train_split.examples()

    def reached(state, stops):
        return [bits(s) for s, _ in train_between(state, examples, kept, stops, program=program)]

    whole = reached(start(KEYS[0], train_split, program=program), stops)
    state, place = start(KEYS[0], train_split, program=program), Checkpoints(tmp_path, {})
    for number, stop in enumerate(stops):
        state, _ = next(train_between(state, examples, kept, [stop], program=program))
        assert_equal(bits(state), whole[number])
        place.save(state)
        state = place.restore(stop, start(KEYS[1], train_split, program=program))


@pytest.mark.slow
def test_streamed_data_are_read_once_more_at_the_end_of_an_epoch(image_folder):
    model = dj.create_model("mlp", num_classes=3, widths=(4,))
    config = dj.TrainConfig(steps=7, batch_size=8, learning_rate=0.05, augment="crop_flip")
    states = []
    for load in (load_streamed, load_dataset):
        data = load(f"folder:{image_folder}").train
        program = program_of(model, data, config, folds=all_folds((TRACED,)))
        state, kept = start(KEYS[0], data, program=program), np.arange(30)
        if data.streamed:
            steps = stream_between(state, data, kept, [2, 7], program=program)
        else:
            steps = train_between(state, data.examples(), kept, [2, 7], program=program)
        states.append([bits(state) for state, _ in steps])
    for a, b in zip(*states, strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)
    assert states[0][1].dynamics["traced"]["sum"].all()
    assert not states[0][0].dynamics["traced"]["sum"].any()


def test_ends_of_epochs():
    fold = TRACED.fold
    assert fold is not None
    program = dj.Program(dj.create_model("mlp", num_classes=2), CONFIG, 15, folds=(fold,), epoch_steps=4)
    assert list(with_ends_of_epochs(program, 0, 15)) == [4, 8, 12, 15]
    assert list(with_ends_of_epochs(program, 4, 8)) == [8]
    assert list(with_ends_of_epochs(program, 5, 7)) == [7]
    assert list(with_ends_of_epochs(program, 8, 8)) == []
    never = dataclasses.replace(program, epoch_steps=0)
    assert list(with_ends_of_epochs(never, 0, 15)) == [15]


def test_what_cannot_be_measured_is_refused(conv_model, train_split):
    folds = all_folds((TRACED,))
    with pytest.raises(dj.InputError, match="traced is measured at the end of every epoch: give the program"):
        dj.Program(conv_model, CONFIG, 15, folds=folds)
    own = dataclasses.replace(CONFIG, optimizer=optax.adam(1e-3), learning_rate=0.1, schedule="piecewise")
    with pytest.raises(dj.InputError, match="traced needs the learning rate of every epoch"):
        program_of(conv_model, train_split, own, folds=folds)
    program = program_of(conv_model, train_split, CONFIG, folds=folds)
    state = start(KEYS[0], train_split, program=program)
    options = {"num_updates": 15, "program": program}
    with pytest.raises(dj.InputError, match="updated by train_between only"):
        advance_in_one_program(state, train_split.examples(), np.arange(50), **options)
