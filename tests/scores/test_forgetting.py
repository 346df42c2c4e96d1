"""Forgetting events against a replay of the authors' rules, alone and inside a training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.errors import InputError
from diet_jax.scores.dynamics import init_forgetting, update_forgetting
from diet_jax.training.recipe import prepare_batch
from diet_jax.training.step import batch_rows, init_state, run_keys, train_step

NUM_ROWS = 13


class Replay:
    """The authors' counting: the previous correctness starts at 0; an event is 1 before and 0 now."""

    def __init__(self, count: int):
        self.previous, self.events, self.ever = [0] * count, [0] * count, [False] * count

    def see(self, rows, correct):
        for row, now in zip(rows, correct, strict=True):
            if self.previous[row] > now:
                self.events[row] += 1
            self.previous[row] = int(now)
            self.ever[row] = self.ever[row] or bool(now)

    def scores(self, never_learned=np.inf):
        return [e if ever else never_learned for e, ever in zip(self.events, self.ever, strict=True)]


def random_presentations(seed: int, rows, steps: int = 60):
    """Batches of 4 distinct rows with some rows much harder than others."""
    rng = np.random.default_rng(seed)
    ease = rng.uniform(0, 1, NUM_ROWS) * (rng.uniform(size=NUM_ROWS) > 0.3)
    for _ in range(steps):
        batch = rng.choice(rows, 4, replace=False)
        yield batch, rng.uniform(size=4) < ease[batch]


def folded(presentations):
    state = init_forgetting(NUM_ROWS)
    update = jax.jit(update_forgetting)
    for rows, correct in presentations:
        state = update(state, jnp.asarray(rows, jnp.int32), jnp.asarray(correct))
    return state


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_a_replay_of_the_authors_rules(seed):
    replay = Replay(NUM_ROWS)
    for rows, correct in random_presentations(seed, np.arange(NUM_ROWS)):
        replay.see(rows, correct)
    state = folded(random_presentations(seed, np.arange(NUM_ROWS)))
    assert 0 < sum(replay.ever) < NUM_ROWS  # Some rows are never learned, so infinity is seen.
    assert max(replay.events) > 1
    np.testing.assert_array_equal(dj.forgetting_scores(state), replay.scores())
    np.testing.assert_array_equal(dj.forgetting_scores(state, never_learned=200.0), replay.scores(200.0))


def test_a_subset_counts_by_rows_of_the_full_dataset_and_knows_nothing_of_the_others():
    kept = np.array([1, 4, 5, 8, 9, 12])
    keep = np.isin(np.arange(NUM_ROWS), kept)
    replay = Replay(NUM_ROWS)
    for rows, correct in random_presentations(7, kept):
        replay.see(rows, correct)
    state = folded(random_presentations(7, kept))
    expected = np.where(keep, replay.scores(), np.nan)
    np.testing.assert_array_equal(dj.forgetting_scores(state, keep=keep), expected)
    # Without the mask the rows that were never shown are never-learned rows.
    np.testing.assert_array_equal(dj.forgetting_scores(state), replay.scores())


@pytest.mark.parametrize(
    ("seen", "expected"),
    [([], np.inf), ([0, 0], np.inf), ([1], 0), ([0, 1, 1], 0), ([1, 0], 1), ([1, 0, 0, 1, 0], 2)],
)
def test_short_histories_by_hand(seen, expected):
    state = folded([([3], [bool(correct)]) for correct in seen])
    assert float(dj.forgetting_scores(state)[3]) == expected


@pytest.mark.parametrize("pruned", [False, True])
def test_a_training_counts_what_its_own_forward_passes_classify(pruned, conv_model, train_split):
    """Step by step: augmented batch, train-mode BatchNorm, the weights before the update."""
    config = dj.TrainConfig(steps=40, batch_size=16, learning_rate=0.3, steps_per_call=40)
    key = jax.random.key(3)
    keep = np.arange(50) % 4 != 1 if pruned else None
    kept = np.flatnonzero(np.ones(50, bool) if keep is None else keep).astype(np.int32)
    trained, history = dj.train(key, conv_model, train_split, keep=keep, config=config)

    examples = train_split.examples()
    program = dj.Program(conv_model, config, 40)
    step = jax.jit(lambda state, rows: train_step(state, examples, rows, program=program)[0])

    @jax.jit
    def classify(variables, t, rows):
        batch_key = jax.random.fold_in(run_keys(key).augment, t)
        images = prepare_batch(config, batch_key, examples.images[rows], examples.mean, examples.std)
        logits, _ = conv_model.apply(variables, images, train=True)
        return jnp.argmax(logits, axis=-1)

    state = jax.jit(lambda k: init_state(k, train_split.spec, 50, program=program))(key)
    draw = jax.jit(batch_rows, static_argnames=("num_steps", "batch_size"))
    rows = np.asarray(draw(run_keys(key).order, kept, 0, num_steps=40, batch_size=16))
    replay, accuracy = Replay(50), []
    for t, batch in enumerate(rows):
        correct = np.asarray(classify(state.variables, t, batch)) == train_split.labels[batch]
        replay.see(batch, correct)
        accuracy.append(correct.mean())
        state = step(state, batch)
    assert max(replay.events) >= 1
    np.testing.assert_array_equal(trained.dynamics["forgetting"].events, replay.events)
    np.testing.assert_array_equal(trained.dynamics["forgetting"].ever_correct, replay.ever)
    np.testing.assert_allclose(history.accuracy, accuracy, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_matrix_of_presentations_counts_as_the_fold(seed):
    correct = np.random.default_rng(seed).uniform(size=(9, NUM_ROWS)) < np.linspace(0, 1, NUM_ROWS)
    rows = np.arange(NUM_ROWS)
    state = folded((rows, now) for now in correct)
    np.testing.assert_array_equal(dj.forgetting_scores(correct), dj.forgetting_scores(state))
    assert np.isinf(dj.forgetting_scores(correct)).any()
    expected = dj.forgetting_scores(state, never_learned=9.0, keep=rows % 2 == 0)
    np.testing.assert_array_equal(
        dj.forgetting_scores(correct, never_learned=9.0, keep=rows % 2 == 0), expected
    )


@pytest.mark.parametrize("wrong", [np.zeros(3, bool), np.zeros((2, 3)), np.zeros((1, 2, 3), bool)])
def test_what_is_no_matrix_of_presentations_is_refused(wrong, unchecked_types):
    with pytest.raises(InputError, match=r"ForgettingState .* or a boolean matrix"):
        dj.forgetting_scores(wrong)
