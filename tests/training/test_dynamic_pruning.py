"""Dynamic pruning: against loops that do the published thing by hand, unbiased, resumed, side by side."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diet_jax as dj
from diet_jax.scores.dynamics import FORGETTING_FOLD
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.dynamic_pruning.infobatch import choose_epoch
from diet_jax.training.dynamic_pruning.methods import rows_per_step, without_pruning
from diet_jax.training.loop import program_of, start, train_between
from diet_jax.training.recipe import make_schedule
from diet_jax.training.step import run_keys

KEYS = dj.seed_keys(5, "retrain", 3)
# No augmentation and no BatchNorm: the loops by hand stay readable.
PLAIN = dj.TrainConfig(
    steps=40, batch_size=6, learning_rate=0.02, momentum=0.9, schedule="cosine", augment="none"
)
INFOBATCH = dataclasses.replace(
    PLAIN, dynamic="infobatch", infobatch=dj.InfoBatchOptions(leave_out=0.6, until=0.7)
)
HARDEST = dataclasses.replace(PLAIN, dynamic="hardest", hardest=dj.HardestOptions(fraction=0.4))
MODEL = dj.create_model("mlp", num_classes=3, widths=(5,))
KEEP = np.arange(50) % 5 != 2
SLOW = pytest.mark.slow


def bits(state):
    return jax.tree.map(np.array, state._replace(key=jax.random.key_data(state.key)))


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b):
    """The same but for rounding, of other programs."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), a, b)


def losses_of(params, data, rows):
    inputs = jnp.asarray(dj.normalized_inputs(data))[np.asarray(rows)]
    logits = MODEL.predict(dj.Variables(params, {}), inputs)
    return -jax.nn.log_softmax(logits)[np.arange(len(rows)), data.labels[np.asarray(rows)]]


class ByHand:
    """SGD with Nesterov's momentum, one batch after the other."""

    def __init__(self, key, data):
        self.data = data
        self.params = MODEL.init(run_keys(key).init, data.spec.shape).params
        self.sum = jax.tree.map(jnp.zeros_like, self.params)
        self.rate, self.step, self.history = make_schedule(PLAIN, PLAIN.steps), 0, []

    def update(self, rows, weights):
        def loss(params):
            return (jnp.asarray(weights, jnp.float32) * losses_of(params, self.data, rows)).mean()

        self.step += 1
        value, gradients = jax.value_and_grad(loss)(self.params)
        rate = self.rate(jnp.int32(self.step))
        gradients = jax.tree.map(lambda g, w: g + 5e-4 * w, gradients, self.params)
        self.sum = jax.tree.map(lambda m, g: jnp.float32(0.9) * m + g, self.sum, gradients)
        self.params = jax.tree.map(
            lambda w, g, m: w - rate * (g + jnp.float32(0.9) * m), self.params, gradients, self.sum
        )
        self.history.append(float(value))


def infobatch_by_hand(key, data, kept):
    """Epoch after epoch as published, but for the batches that are cut off; the loop in words of Python."""
    keys, training = run_keys(key), ByHand(key, data)
    known, left_out, offered, last = {}, 0, 0, None
    for epoch in itertools.count():
        weight = dict.fromkeys(kept.tolist(), 1.0)
        if training.step < 28:  # 0.7 of 40.
            mean = np.mean([known[row] for row in kept.tolist() if row in known]) if known else None
            below = [row for row in kept.tolist() if row in known and known[row] < mean]
            drawn = np.asarray(jax.random.permutation(jax.random.fold_in(keys.prune, epoch), len(kept)))
            in_draw = [row for row in kept[drawn].tolist() if row in below]
            stay = len(below) - int(0.6 * len(below))
            weight |= dict.fromkeys(in_draw[:stay], len(below) / max(stay, 1))
            for row in in_draw[stay:]:
                del weight[row]
            last = sorted(weight)
        order = np.asarray(jax.random.permutation(jax.random.fold_in(keys.order, epoch), kept)).tolist()
        order = [row for row in order if row in weight]
        offered, left_out = offered + len(kept), left_out + len(kept) - len(order)
        for first in range(0, len(order) - 5, 6):
            rows = order[first : first + 6]
            found = losses_of(training.params, data, rows)
            training.update(rows, [weight[row] for row in rows])
            known |= dict(zip(rows, np.asarray(found).tolist(), strict=True))
            if training.step == PLAIN.steps:
                return training, last, (offered, left_out)
    raise AssertionError


def hardest_by_hand(key, data, kept):
    """15 candidates in the order of the epoch, of which the 6 with the highest loss are trained on."""
    keys, training = run_keys(key), ByHand(key, data)
    hard = set()
    for epoch in itertools.count():
        order = np.asarray(jax.random.permutation(jax.random.fold_in(keys.order, epoch), kept))
        for first in range(0, len(order) - 14, 15):
            candidates = order[first : first + 15]
            found = np.asarray(losses_of(training.params, data, candidates))
            rows = candidates[np.sort(np.argsort(-found)[:6])].tolist()
            hard = (hard - set(candidates.tolist())) | set(rows)
            training.update(rows, np.ones(6))
            if training.step == PLAIN.steps:
                return training, sorted(hard), (15 * 40, 9 * 40)
    raise AssertionError


BY_HAND = {"infobatch": (INFOBATCH, infobatch_by_hand), "hardest": (HARDEST, hardest_by_hand)}


@pytest.mark.parametrize(
    ("name", "keep"), [("infobatch", KEEP), ("hardest", None), pytest.param("infobatch", None, marks=SLOW)]
)
def test_the_compiled_loop_does_what_the_loop_by_hand_does(train_split, name, keep):
    config, by_hand = BY_HAND[name]
    kept = np.arange(50) if keep is None else np.flatnonzero(keep)
    state, history = dj.train(KEYS[0], MODEL, train_split, keep=keep, config=config)
    expected, last, (offered, left_out) = by_hand(KEYS[0], train_split, kept)
    np.testing.assert_allclose(history.loss, expected.history, rtol=1e-4, atol=1e-6)
    assert_close(state.variables.params, expected.params)
    assert dj.last_subset(state, train_split).rows.tolist() == last
    assert float(dj.share_left_out(state)) == left_out / offered
    assert 0.05 < left_out / offered < 0.7


@pytest.mark.parametrize(
    "config",
    [INFOBATCH, pytest.param(HARDEST, marks=pytest.mark.slow)],
    ids=["infobatch", "hardest"],
)
def test_going_on_and_side_by_side_are_the_unbroken_training(train_split, conv_model, tmp_path, config):
    """In the middle of epochs, from disk, and by calls of other lengths, with BatchNorm and crops too."""
    config = dataclasses.replace(config, augment="crop", steps_per_call=7)
    program = program_of(conv_model, train_split, config, num_kept=40)
    kept, examples = np.flatnonzero(KEEP), train_split.examples()
    state = start(KEYS[1], train_split, program=program)
    state, history = next(train_between(state, examples, kept, [40], program=program))
    whole = bits(state)
    state, place = start(KEYS[1], train_split, program=program), Checkpoints(tmp_path, {})
    for stop in (2, 17, 40):
        state, _ = next(train_between(state, examples, kept, [stop], program=program))
        place.save(state)
        state = place.restore(stop, start(KEYS[0], train_split, program=program))
    assert_equal(bits(state), whole)
    options = {"config": config, "keep": KEEP, "how": "vmap"}
    together = dj.train_ensemble(KEYS, conv_model, train_split, train_split, **options)
    # Another program: the same to rounding, which grows with the steps.
    np.testing.assert_allclose(together.history.loss[1], history.loss, rtol=2e-3, atol=1e-5)
    own = jax.tree.map(lambda leaf: leaf[1], together.pruning)
    np.testing.assert_array_equal(own.kept, whole.dynamics["pruning"].kept)
    assert int(own.left_out) == int(whole.dynamics["pruning"].left_out)
    masks = dj.last_subset(together.pruning, train_split).keep
    assert masks.shape == (3, 50)
    assert not masks[:, ~KEEP].any()
    assert dj.share_left_out(together.pruning).shape == (3,)


@pytest.mark.slow
def test_one_step_of_a_call_at_a_time_is_the_same_training(train_split):
    """As convolutions train on CPUs."""
    for config in (INFOBATCH, HARDEST):
        together = dj.train(KEYS[1], MODEL, train_split, config=config, num_updates=30)[0]
        options = {"config": dataclasses.replace(config, steps_per_call=1)}
        single, _ = dj.train(KEYS[1], MODEL, train_split, **options, num_updates=11)
        single, _ = dj.train_from(single, MODEL, train_split, **options, num_updates=30)
        np.testing.assert_array_equal(single.dynamics["pruning"].kept, together.dynamics["pruning"].kept)
        assert_close(single.variables, together.variables)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", ["infobatch", "hardest"])
def test_a_method_that_leaves_out_nothing_is_plain_training(train_split, conv_model, dynamic):
    """The same batches in the same order, with the same random numbers."""
    nothing = {"infobatch": dj.InfoBatchOptions(leave_out=0), "hardest": dj.HardestOptions(fraction=1)}
    config = dataclasses.replace(PLAIN, augment="crop_flip", dynamic=dynamic, **{dynamic: nothing[dynamic]})
    found = dj.train(KEYS[0], conv_model, train_split, config=config)[0]
    plain = dj.train(KEYS[0], conv_model, train_split, config=without_pruning(config))[0]
    assert_close(found.variables, plain.variables)
    assert "pruning" not in plain.dynamics
    assert_equal(found.dynamics["forgetting"], plain.dynamics["forgetting"])
    assert float(dj.share_left_out(found)) == 0


def test_the_expected_gradient_is_that_of_all_examples():
    """Every subset that can be drawn is drawn equally often, and their mean is the sum over everything."""
    losses = np.array([0.1, 0.2, -1, 0.3, 5.0, 0.4, 0.5, 6.0], np.float32)
    gradients = np.random.default_rng(0).normal(size=(8, 3))
    draws = 4000
    keys = jax.random.split(jax.random.key(1), draws)
    choices = jax.vmap(lambda key: choose_epoch(key, jnp.asarray(losses), 0.6))(keys)
    stays, weight = np.asarray(choices.stays), np.asarray(choices.weight)
    # Five are below the mean of 1.79, three of them are left out: never an unseen one.
    below = [0, 1, 3, 5, 6]
    assert (stays.sum(axis=1) == 5).all()
    assert stays[:, [2, 4, 7]].all()
    subsets = {tuple(np.flatnonzero(one)) for one in stays}
    every = {tuple(sorted((2, 4, 7, *pair))) for pair in itertools.combinations(below, 2)}
    assert subsets == every
    # Exactly, over the ten subsets: of the rescaled sum, and of the mean over a batch drawn from what stays.
    sums = [(weight[0][list(rows)] @ gradients[list(rows)]) for rows in every]
    np.testing.assert_allclose(np.mean(sums, axis=0), gradients.sum(axis=0), rtol=1e-6)
    weighted = weight[0][:, None] * gradients
    batches = [weighted[list(b)].mean(axis=0) for rows in every for b in itertools.combinations(rows, 2)]
    np.testing.assert_allclose(np.mean(batches, axis=0), gradients.sum(axis=0) / 5, rtol=1e-6)
    # The draws themselves: 400 of each, standard deviation 19.
    counts = [int((stays[:, list(rows)].all(axis=1)).sum()) for rows in every]
    assert np.abs(np.array(counts) - draws / 10).max() < 5 * 19


def test_no_epoch_is_smaller_than_a_batch_and_candidates_must_be_there(train_split):
    few = np.arange(50) < 9
    config = dataclasses.replace(INFOBATCH, batch_size=8, infobatch=dj.InfoBatchOptions(leave_out=0.9))
    state, _ = dj.train(KEYS[0], MODEL, train_split, keep=few, config=config)
    # With nine examples and batches of eight, leaving out two would leave no batch.
    own = state.dynamics["pruning"]
    assert int(own.epochs) == 40
    assert int(own.left_out) <= 40
    with pytest.raises(dj.InputError, match=r"draws 15 candidates for every batch of 6, but only 9 examples"):
        dj.train(KEYS[0], MODEL, train_split, keep=few, config=HARDEST)


def test_scores_rank_the_candidates_a_network_of_its_own_too(train_split):
    """Whatever is registered as a score: here one that always prefers the rows of one class."""

    def build(model):
        return lambda variables, inputs, labels: (labels == 2).astype(jnp.float32)

    proxy = dj.Score(
        name="of_class_2",
        label="class 2",
        formula="1 for class 2",
        reference="none",
        reads="logits",
        build=build,
    )
    dj.SCORES.register(proxy)
    config = dataclasses.replace(HARDEST, hardest=dj.HardestOptions(fraction=0.4, by="of_class_2"))
    state, _ = dj.train(KEYS[0], MODEL, train_split, config=config)
    updates = np.asarray(state.dynamics["pruning"].updates)
    assert updates.sum() == 40 * 6
    assert updates[train_split.labels == 2].mean() > 2 * updates[train_split.labels != 2].mean()
    by_el2n = dataclasses.replace(HARDEST, hardest=dj.HardestOptions(fraction=0.4, by="el2n"))
    assert float(dj.share_left_out(dj.train(KEYS[0], MODEL, train_split, config=by_el2n)[0])) == 0.6
    for by, message in (("forgetting", "which reads dynamics"), ("el3n", "no score is called 'el3n'")):
        config = dataclasses.replace(HARDEST, hardest=dj.HardestOptions(by=by))
        with pytest.raises(dj.InputError, match=message):
            dj.train(KEYS[0], MODEL, train_split, config=config)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [INFOBATCH, pytest.param(HARDEST, marks=SLOW)], ids=["infobatch", "hardest"]
)
def test_networks_trained_so_are_scored_like_others(train_split, config):
    options = {"config": config, "step": (4, 12), "names": ("el2n", "forgetting"), "keep": KEEP}
    found = [
        dj.score_ensemble(KEYS, MODEL, train_split, how=how, **options).scores for how in ("loop", "vmap")
    ]
    np.testing.assert_allclose(found[0]["el2n"], found[1]["el2n"], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(found[0]["forgetting"], found[1]["forgetting"])


def test_the_optimiser_is_told_the_loss_of_the_update(train_split):
    """Weighted: that of a line search along this gradient."""
    seen = []

    def update(updates, state, params=None, *, value, value_fn, **extra):
        jax.debug.callback(lambda *values: seen.append(values), value, value_fn(params))
        return jax.tree.map(lambda g: -jnp.float32(0.05) * g, updates), state

    optimizer = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    config = dj.TrainConfig(steps=30, batch_size=6, optimizer=optimizer, augment="none", dynamic="infobatch")
    _, history = dj.train(KEYS[0], MODEL, train_split, config=config)
    jax.effects_barrier()
    np.testing.assert_allclose([float(v) for v, _ in seen], history.loss, rtol=1e-6)
    np.testing.assert_allclose([float(v) for v, _ in seen], [float(f) for _, f in seen], rtol=1e-5)


REFUSED = {
    "fraction": (lambda: dj.HardestOptions(fraction=0), r"hardest.fraction must be a share above 0"),
    "leave_out": (
        lambda: dj.InfoBatchOptions(leave_out=1),
        r"infobatch.leave_out must be at least 0 and below 1",
    ),
    "until": (
        lambda: dj.InfoBatchOptions(until=1.5),
        r"infobatch.until must be a share from 0 to 1, got 1.5",
    ),
    "name": (lambda: dj.TrainConfig(dynamic="rs2"), r"dynamic must be one of none, infobatch, hardest"),
    "unread": (
        lambda: dj.TrainConfig(dynamic="hardest", infobatch=dj.InfoBatchOptions(leave_out=0.3)),
        r"infobatch.leave_out is 0.3 \(default 0.5\), but dynamic is hardest, which does not read that",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, unchecked_types):
    make, message = REFUSED[name]
    with pytest.raises(dj.InputError, match=message):
        make()


def test_nothing_is_exported_before_something_was_chosen(train_split):
    state, _ = dj.train(KEYS[0], MODEL, train_split, config=PLAIN, num_updates=1)
    for call in (dj.share_left_out, lambda state: dj.last_subset(state, train_split)):
        with pytest.raises(dj.InputError, match="set dynamic in the TrainConfig"):
            call(state)
    state, _ = dj.train(KEYS[0], MODEL, train_split, config=HARDEST, num_updates=0)
    with pytest.raises(dj.InputError, match="no subset was chosen yet"):
        dj.last_subset(state, train_split)


def test_folds_of_whole_epochs_do_not_go_with_epochs_of_any_length():
    fold = dj.Fold("all", lambda count: jnp.zeros(count), lambda *_: None, lambda model: lambda *_: None)
    with pytest.raises(dj.InputError, match="epochs differ in length"):
        dj.Program(MODEL, INFOBATCH, 40, (FORGETTING_FOLD, fold), epoch_steps=8)
    assert (rows_per_step(HARDEST), rows_per_step(INFOBATCH)) == (15, 6)
