"""How well a score finds changed labels, by counting pairs; and the pieces that choose a window."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diet_jax.errors import InputError
from diet_jax.selection.detection import detection_quality
from diet_jax.selection.window_tuning import best_window, held_out

INF = float("inf")


def by_counting(scores, changed):
    """ROC AUC over pairs, average precision over cuts, precision over every order of the tied ones."""
    positives = [s for s, c in zip(scores, changed, strict=True) if c]
    negatives = [s for s, c in zip(scores, changed, strict=True) if not c]
    wins = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    average = 0.0
    for cut in sorted(set(scores), reverse=True):
        hits = sum(p >= cut for p in positives)
        average += sum(p == cut for p in positives) / len(positives) * hits / sum(s >= cut for s in scores)
    return wins / (len(positives) * len(negatives)), average


def precision_by_orders(scores, changed):
    """Mean over all orders of the examples of the precision after a stable sort, exactly."""
    count = sum(changed)
    total, orders = Fraction(0), 0
    for order in itertools.permutations(range(len(scores))):
        top = sorted(order, key=lambda row: -scores[row])[:count]
        total += Fraction(sum(changed[row] for row in top), count)
        orders += 1
    return float(total / orders)


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_counting_pairs(levels, dtype):
    rng = np.random.default_rng(levels)
    changed = rng.random(60) < 0.3
    scores = (rng.integers(0, levels, 60) + 2.0 * changed * rng.random(60).round()).astype(dtype)
    quality = detection_quality(scores, changed)
    expected = by_counting(scores.tolist(), changed.tolist())
    np.testing.assert_allclose(quality[:2], expected, rtol=1e-12)
    assert quality.share == changed.mean()


@pytest.mark.parametrize("seed", range(6))
def test_precision_with_ties_is_the_mean_over_all_orders(seed):
    rng = np.random.default_rng(seed)
    changed = rng.permutation([True] * (1 + seed % 4) + [False] * (6 - seed % 4))
    scores = rng.integers(0, 3, 7).astype(float)
    quality = detection_quality(scores, changed)
    expected = precision_by_orders(scores.tolist(), changed.tolist())
    np.testing.assert_allclose(quality.precision_at_share, expected, rtol=1e-12)


def test_perfect_inverted_and_blind_scores():
    changed = np.arange(20) < 5
    assert detection_quality(changed * 1.0, changed) == (1, 1, 1, 0.25)
    inverted = detection_quality(-1.0 * changed, changed)
    assert (inverted.roc_auc, inverted.precision_at_share) == (0, 0)
    # With distinct scores the i-th changed example comes after 15 others.
    backwards = detection_quality(np.arange(20.0), changed)
    np.testing.assert_allclose(backwards.average_precision, np.mean([i / (15 + i) for i in range(1, 6)]))
    blind = detection_quality(np.zeros(20), changed)
    np.testing.assert_allclose(blind, (0.5, 0.25, 0.25, 0.25))


def test_random_scores_are_near_the_share():
    rng = np.random.default_rng(0)
    changed = rng.random(20_000) < 0.1
    quality = detection_quality(rng.random(20_000), changed)
    # Standard deviation of the area: sqrt((p + q + 1) / (12 p q)) for p changed and q unchanged.
    p, q = changed.sum(), (~changed).sum()
    assert abs(quality.roc_auc - 0.5) < 5 * np.sqrt((p + q + 1) / (12.0 * p * q))
    assert abs(quality.precision_at_share - quality.share) < 5 * np.sqrt(0.1 * 0.9 / p)
    assert abs(quality.average_precision - quality.share) < 0.02


def test_precision_at_share_is_what_a_loop_counts():
    rng = np.random.default_rng(1)
    changed = rng.random(300) < 0.2
    scores = rng.normal(size=300) + changed
    top = sorted(range(300), key=lambda row: scores[row])[300 - changed.sum() :]
    expected = sum(bool(changed[row]) for row in top) / len(top)
    assert detection_quality(scores, changed).precision_at_share == pytest.approx(expected, rel=1e-12)


def test_infinite_scores_rank_at_the_ends():
    changed = np.array([True, False, True, False, False])
    scores = np.array([INF, 1e300, INF, 0.0, -INF])
    assert detection_quality(scores, changed) == (1, 1, 1, 0.4)
    assert detection_quality(np.float32([INF, INF, 3, 2, -INF]), changed) == detection_quality(
        [9, 9, 3, 2, -9], changed
    )


def test_only_the_order_counts():
    rng = np.random.default_rng(2)
    changed, scores = rng.random(50) < 0.4, rng.normal(size=50)
    expected = detection_quality(scores, changed)
    assert detection_quality(np.exp(scores), changed) == expected
    # Neighbours in float64 are different scores.
    assert detection_quality(1 + scores.argsort().argsort() * 2.0**-52, changed) == expected
    assert detection_quality(jnp.asarray(scores.argsort().argsort()), changed) == expected


@pytest.mark.parametrize(
    ("scores", "changed", "message"),
    [
        ([0.1, float("nan"), 0.3], [True, False, False], "1 of 3 are, first row 1"),
        ([0.1, 0.2], [True, False, False], r"shape \(2,\) and changed bool of shape \(3,\)"),
        ([[0.1], [0.2]], [[True], [False]], "must be vectors of one length"),
        ([0.1, 0.2], [1, 0], "changed int64"),
        ([0.1, 0.2], [False, False], "changed marks 0 of 2"),
        ([0.1, 0.2], [True, True], "changed marks 2 of 2"),
        ([], [], "changed marks 0 of 0|changed float64"),
    ],
)
def test_what_cannot_be_judged(scores, changed, message, unchecked_types):
    with pytest.raises(InputError, match=message):
        detection_quality(scores, np.array(changed))


@pytest.mark.parametrize("fraction", [0.05, 0.1, 1 / 3, 0.5, 0.9])
def test_held_out_has_the_exact_size_and_every_class_its_share(fraction):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 2, 3, 7], [97, 400, 33, 205]))
    mask = held_out(jax.random.key(0), labels, fraction)
    assert mask.dtype == bool
    assert mask.sum() == np.floor(735 * fraction + 0.5)
    for label, count in ((0, 97), (2, 400), (3, 33), (7, 205)):
        assert abs(mask[labels == label].sum() - count * fraction) < 1


def test_the_largest_remainders_are_rounded_up():
    labels = np.repeat([0, 1, 2], [13, 17, 20])
    # Quotas 1.3, 1.7 and 2.0 of a total of 5.
    mask = held_out(jax.random.key(0), labels, 0.1)
    assert np.bincount(labels[mask]).tolist() == [1, 2, 2]


def test_held_out_is_random_and_the_key_decides():
    labels = np.arange(200) % 2
    masks = np.array([held_out(jax.random.key(seed), labels, 0.25) for seed in range(200)])
    np.testing.assert_array_equal(held_out(jax.random.key(3), labels, 0.25), masks[3])
    # Each row is held out in a quarter of the draws: binomial, six standard deviations for 200 rows.
    assert np.abs(masks.mean(axis=0) - 0.25).max() < 6 * np.sqrt(0.25 * 0.75 / 200)
    # Rows of one class are drawn without replacement, those of two classes independently.
    together = (masks[:, 0] & masks[:, 1]).mean()
    assert abs(together - 1 / 16) < 5 * np.sqrt(15 / 256 / 200)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_held_out_fraction_is_a_true_share(fraction):
    with pytest.raises(InputError, match="above 0 and below 1"):
        held_out(jax.random.key(0), np.arange(10) % 2, fraction)


def test_held_out_must_leave_something():
    with pytest.raises(InputError, match=r"0.01 of 10 examples holds out none; raise it"):
        held_out(jax.random.key(0), np.arange(10) % 2, 0.01)
    with pytest.raises(InputError, match="all 1 examples of class 4; lower it"):
        held_out(jax.random.key(0), np.array([0] * 30 + [4]), 0.9)
    with pytest.raises(InputError, match="labels must be integers"):
        held_out(jax.random.key(0), np.zeros(4), 0.5)


def test_the_best_window_and_its_error():
    accuracies = np.random.default_rng(0).normal(0.8, 0.01, (6, 5)) + np.array([[0, 1, 3, 3.2, 2, -1]]).T / 50
    choice = best_window(accuracies)
    for row in range(6):
        mean = sum(accuracies[row]) / 5
        error = (sum((value - mean) ** 2 for value in accuracies[row]) / 4 / 5) ** 0.5
        np.testing.assert_allclose((choice.mean[row], choice.standard_error[row]), (mean, error), rtol=1e-12)
    assert choice.best == max(range(6), key=lambda row: sum(accuracies[row]))
    limit = choice.mean[choice.best] - choice.standard_error[choice.best]
    assert choice.within_one_standard_error.tolist() == [bool(mean >= limit) for mean in choice.mean]
    assert choice.within_one_standard_error[choice.best]
    assert not choice.within_one_standard_error.all()


def test_one_seed_and_equal_offsets():
    choice = best_window(np.array([[0.5], [0.7], [0.7], [0.6]]))
    assert choice.best == 1
    assert np.isnan(choice.standard_error).all()
    assert choice.within_one_standard_error.tolist() == [False, True, True, False]
    in_float32 = best_window(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
    assert (in_float32.best, in_float32.standard_error.tolist()) == (0, [0.0, 0.25])


def test_noise_in_held_out_labels_keeps_the_order():
    """The closed form in the docstring: simulated predictions judged on labels with uniform noise."""
    rng = np.random.default_rng(3)
    count, classes, rate = 100_000, 4, 0.3
    clean = rng.integers(0, classes, count)
    noisy = np.where(rng.random(count) < rate, (clean + rng.integers(1, classes, count)) % classes, clean)
    seen = []
    for accuracy in (0.6, 0.7, 0.8):
        wrong = rng.random(count) >= accuracy
        predicted = np.where(wrong, (clean + rng.integers(1, classes, count)) % classes, clean)
        seen.append([(predicted == noisy).mean()])
        expected = accuracy * (1 - rate) + (1 - accuracy) * rate / (classes - 1)
        assert abs(seen[-1][0] - expected) < 5 * np.sqrt(0.25 / count)
    assert best_window(np.array(seen)).best == 2


@pytest.mark.parametrize(
    ("accuracies", "message"),
    [
        (np.zeros(3), r"\[offsets seeds\].*got \(3,\)"),
        (np.zeros((3, 0)), r"got \(3, 0\)"),
        (np.array([[0.5, 0.5], [0.5, np.nan]]), "got nan for offset 1, seed 1"),
    ],
)
def test_accuracies_are_a_matrix_of_numbers(accuracies, message, unchecked_types):
    with pytest.raises(InputError, match=message):
        best_window(accuracies)
