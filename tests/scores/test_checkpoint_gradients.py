"""VoG and TracIn through an ensemble against checkpoints at each end of an epoch, differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.ensemble.scoring import all_folds
from diet_jax.scores.checkpoint_gradients import TRACIN_SELF, VOG
from diet_jax.training.loop import program_of, start, train_between
from diet_jax.training.recipe import make_schedule

# Batches of 12 of 50 examples: epochs of 4 steps, the last one not done.
CONFIG = dj.TrainConfig(steps=15, batch_size=12, learning_rate=0.05, schedule="cosine", augment="crop")
KEYS = dj.seed_keys(3, "score", 2)


def by_hand(key, model, data, kept):
    """One example after the other at every checkpoint."""
    program = program_of(model, data, CONFIG, num_kept=len(kept))
    every = len(kept) // 12
    ends = range(every, 16, every)
    inputs, labels = jnp.asarray(dj.normalized_inputs(data)), np.asarray(data.labels)
    rates = [float(make_schedule(CONFIG, 15)(jnp.int32(end))) for end in ends]

    @jax.jit
    def of_one(variables, x, y):
        gradient = jax.grad(lambda x: model.predict(variables, x[None])[0, y])(x)
        loss = dj.example_loss(model.predict, variables.model_state)
        leaves = jax.tree.leaves(jax.grad(loss)(variables.params, x, y))
        square = sum(jnp.sum(leaf**2) for leaf in leaves)
        return gradient.mean(axis=-1), square

    steps = train_between(start(key, data, program=program), data.examples(), kept, ends, program=program)
    found = [
        [of_one(state.variables, x, y) for x, y in zip(inputs, jnp.asarray(labels), strict=True)]
        for state, _ in steps
    ]
    squares = np.array([[square for _, square in checkpoint] for checkpoint in found])
    spread = (
        np.array([[gradient for gradient, _ in checkpoint] for checkpoint in found]).std(axis=0).mean((1, 2))
    )
    vog = np.full(len(data), np.nan)
    for row in kept:
        same = spread[[other for other in kept if labels[other] == labels[row]]]
        vog[row] = (spread[row] - same.mean()) / same.std()
    return {"vog": vog, "tracin_self": np.array(rates) @ squares}


@pytest.mark.parametrize(
    ("network", "how", "kept"),
    [("conv_model", "map", 50), ("mlp", "loop", 30), pytest.param("mlp", "vmap", 50, marks=pytest.mark.slow)],
)
def test_they_are_those_of_the_checkpoints(request, train_split, network, how, kept):
    mlp = dj.create_model("mlp", num_classes=3, widths=(4,))
    model = mlp if network == "mlp" else request.getfixturevalue(network)
    keep = np.arange(50) < kept
    options = {"config": CONFIG, "step": 15, "names": ("vog", "tracin_self"), "how": how, "keep": keep}
    found = dj.score_ensemble(KEYS, model, train_split, **options).scores
    expected = by_hand(KEYS[1], model, train_split, np.flatnonzero(keep))
    for name, values in expected.items():
        np.testing.assert_allclose(found[name][1][keep], values[keep], rtol=2e-3, atol=1e-4)
        assert np.isnan(found[name][:, ~keep]).all()


@pytest.mark.parametrize(("name", "least"), [("vog", 2), ("tracin_self", 1)])
def test_of_too_few_ends_of_epochs_nothing_is_known(conv_model, train_split, name, least):
    """Else all examples would score 0, and a selection by it would be a draw."""
    options = {"config": CONFIG, "names": (name,), "how": "map"}
    for ends in range(least + 1):
        found = dj.score_ensemble(KEYS, conv_model, train_split, step=4 * ends + 3, **options).scores[name]
        assert np.isnan(found).all() if ends < least else np.isfinite(found).all()


def test_gradients_that_hardly_move_keep_their_digits():
    """Far from 0 and with little spread, as late in training."""
    moves = np.random.default_rng(0).normal(size=(20, 6, 4))
    labels = np.array([0, 0, 0, 1, 1, 1])
    state = VOG.fold.init(6, num_classes=2, spec=jax.ShapeDtypeStruct((4,), "float32"))
    for move in moves:
        rows, values = jnp.arange(6), jnp.asarray(100 + 1e-3 * move, jnp.float32)
        state = VOG.fold.update(state, rows, values, jnp.asarray(labels))
    spread = np.float32(100 + 1e-3 * moves).astype(np.float64).std(axis=0).mean(axis=1)
    found = VOG.function()(state, jnp.ones(6, bool))
    same = [spread[labels == y] for y in labels]
    expected = [(v - own.mean()) / own.std() for v, own in zip(spread, same, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.01)


def test_what_is_not_defined_is_nan(conv_model, conv_variables):
    """A rectifier hides NaN from a gradient, and a comparison hides it from a class."""
    inputs = jnp.ones((4, 8, 8, 2)).at[1, 0, 0, 0].set(jnp.nan)
    found = dj.label_logit_gradients(conv_model.predict, conv_variables, inputs, jnp.array([0, 1, 2, 3]))
    np.testing.assert_array_equal(np.isnan(found).all((1, 2, 3)), [False, True, False, True])
    assert not np.isnan(found[jnp.array([0, 2])]).any()
    gradients = (
        jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 2)), jnp.float32).at[1, 1, 0].set(jnp.nan)
    )
    found = dj.vog_scores(gradients, jnp.array([0, 0, 1, 1]), num_classes=2)
    np.testing.assert_array_equal(np.isnan(found), [True, True, False, False])


def test_what_is_remembered_and_what_is_refused(conv_model, train_split, unchecked_types):
    folds = all_folds((VOG, TRACIN_SELF))
    program = program_of(conv_model, train_split, CONFIG, folds=folds)
    state = start(KEYS[0], train_split, program=program).dynamics["vog"]
    # Eight bytes for each of 8x8 pixels; channels are averaged.
    assert state.mean.nbytes + state.squares.nbytes == 50 * 64 * 8
    tokens = jnp.zeros((2, 4), jnp.int32)
    with pytest.raises(dj.InputError, match="inputs must be floats, for a gradient in them; got int32"):
        dj.label_logit_gradients(lambda v, x: jnp.zeros((2, 3)), {}, tokens, jnp.array([0, 1]))
    with pytest.raises(dj.InputError, match="learning_rates"):
        dj.tracin_self_scores(jnp.ones((3, 2)), jnp.ones(2))
    with pytest.raises(dj.InputError, match="one number for each of the 3 losses, got 2"):
        dj.reducible_loss(jnp.ones(3), jnp.ones(2))
