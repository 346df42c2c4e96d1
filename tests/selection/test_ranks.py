"""Selection by rank: against argsort, with ties, infinities and edges that floats make."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.errors import InputError

SCORES = np.random.default_rng(0).normal(size=101)


def rows(keep):
    return set(np.flatnonzero(keep).tolist())


@pytest.mark.parametrize("fraction", [0.01, 0.1, 1 / 3, 0.5, 0.97, 1.0])
def test_highest_and_lowest_equal_argsort(fraction):
    count = int(np.floor(101 * fraction + 0.5))
    order = np.argsort(SCORES)
    assert rows(dj.keep_highest(SCORES, fraction)) == set(order[101 - count :].tolist())
    assert rows(dj.keep_lowest(SCORES, fraction)) == set(order[:count].tolist())


@pytest.mark.parametrize(("fraction", "offset"), [(0.4, 0.0), (0.4, 0.3), (0.2, 0.75), (0.01, 0.99)])
def test_window_equals_a_slice_of_argsort(fraction, offset):
    first, count = round(101 * offset), round(101 * fraction)
    expected = np.argsort(SCORES)[first : first + count]
    assert rows(dj.keep_window(SCORES, fraction, offset=offset)) == set(expected.tolist())


def test_scores_may_be_a_list_or_a_jax_array():
    expected = dj.keep_highest(np.float32([3, 1, 2]), 1 / 3)
    np.testing.assert_array_equal(dj.keep_highest([3, 1, 2], 1 / 3), expected)
    np.testing.assert_array_equal(dj.keep_highest(jnp.array([3.0, 1.0, 2.0]), 1 / 3), expected)


@pytest.mark.parametrize("count", [5, 10, 11, 1001])
@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.4, 0.5, 0.7, 0.9])
def test_the_window_that_ends_at_the_top_is_keep_highest(count, fraction):
    """Offset and fraction may both round up: 5 examples, half of them, from the middle on."""
    scores = np.random.default_rng(count).normal(size=count)
    window = dj.keep_window(scores, fraction, offset=1 - fraction)
    np.testing.assert_array_equal(window, dj.keep_highest(scores, fraction))
    bottom = dj.keep_window(scores, fraction, offset=0.0)
    np.testing.assert_array_equal(bottom, dj.keep_lowest(scores, fraction))


@pytest.mark.parametrize(("fraction", "offset"), [(0.4, 0.6), (0.41, 0.59), (0.1, 0.9), (1 / 3, 2 / 3)])
def test_offset_and_fraction_may_add_up_to_1_in_floats(fraction, offset):
    assert dj.keep_window(SCORES, fraction, offset=offset).sum() == dj.num_kept(101, fraction)


@pytest.mark.parametrize(("fraction", "offset"), [(0.4, 0.61), (0.5, 0.501), (1.0, 0.004), (0.9, 0.99)])
def test_a_window_beyond_the_top_is_refused_and_never_shortened(fraction, offset):
    with pytest.raises(InputError, match="at most 1"):
        dj.keep_window(SCORES, fraction, offset=offset)


@pytest.mark.parametrize("offset", [-0.1, 1.0, 1.2, float("nan")])
def test_offsets_out_of_range(offset):
    with pytest.raises(InputError, match="offset must be"):
        dj.keep_window(SCORES, 0.1, offset=offset)


@pytest.mark.parametrize("fraction", [0.0, 1.2, -0.1, float("nan"), float("inf")])
def test_fractions_out_of_range(fraction):
    for select in (
        lambda: dj.keep_highest(SCORES, fraction),
        lambda: dj.keep_lowest(SCORES, fraction),
        lambda: dj.keep_window(SCORES, fraction, offset=0.0),
        lambda: dj.keep_random(jax.random.key(0), 101, fraction),
    ):
        with pytest.raises(InputError, match="above 0 and at most 1"):
            select()


def test_a_fraction_that_keeps_nothing_is_refused():
    with pytest.raises(InputError, match="keeps none"):
        dj.keep_highest(SCORES, 0.001)


@pytest.mark.parametrize(
    ("count", "fraction", "kept"), [(50_000, 0.7, 35_000), (100, 0.29, 29), (10, 0.25, 3), (7, 1.0, 7)]
)
def test_num_kept_rounds_to_nearest_and_halves_up(count, fraction, kept):
    assert dj.num_kept(count, fraction) == kept


@pytest.mark.parametrize("bad", [[1.0, np.nan], [[1.0, 2.0]], [], 3.0])
def test_scores_that_are_not_one_vector_of_numbers_are_refused(bad):
    with pytest.raises(InputError, match="scores must"):
        dj.keep_highest(bad, 0.5)


def test_infinite_scores_sort_last_and_first():
    scores = np.array([np.inf, 0.0, 2.0, np.inf, -np.inf, 1.0])
    assert rows(dj.keep_highest(scores, 0.5)) == {0, 3, 2}
    assert rows(dj.keep_lowest(scores, 0.5)) == {4, 1, 5}


def test_ties_are_broken_by_the_key_and_by_nothing_else():
    scores = np.zeros(60)
    picks = [rows(dj.keep_highest(scores, 0.5, key=jax.random.key(seed))) for seed in range(4)]
    assert len({frozenset(pick) for pick in picks}) == 4
    assert picks[0] == rows(dj.keep_highest(scores, 0.5, key=jax.random.key(0)))
    assert rows(dj.keep_highest(scores, 0.5)) == rows(dj.keep_highest(scores, 0.5))
    # Examples that the scores alone decide do not feel the key.
    distinct = [rows(dj.keep_highest(SCORES, 0.3, key=jax.random.key(seed))) for seed in range(4)]
    assert all(pick == distinct[0] for pick in distinct)


def five_sigma(share: float, trials: int) -> float:
    return 5 * np.sqrt(share * (1 - share) / trials)


def test_every_tied_example_is_kept_equally_often():
    """Kept: the two of score 1 always, and 3 of the 10 of score 0; those of score -1 never."""
    scores = np.array([0.0] * 5 + [1.0] * 2 + [0.0] * 5 + [-1.0] * 8)
    trials = 300
    share = sum(dj.keep_highest(scores, 0.25, key=jax.random.key(k)) for k in range(trials)) / trials
    np.testing.assert_array_equal(share[scores == 1], 1)
    np.testing.assert_array_equal(share[scores == -1], 0)
    np.testing.assert_allclose(share[scores == 0], 0.3, atol=five_sigma(0.3, trials))


def test_tied_examples_are_kept_independently_of_their_neighbours():
    """A tie-break by a random rotation of the order would keep neighbours together."""
    trials = 300
    picks = np.stack([dj.keep_highest(np.zeros(10), 0.5, key=jax.random.key(k)) for k in range(trials)])
    together = (picks[:, 0] & picks[:, 1]).mean()
    expected = 0.5 * 4 / 9
    assert abs(together - expected) < five_sigma(expected, trials)


def test_random_subsets_are_uniform_and_differ_between_keys():
    trials = 300
    picks = np.stack([dj.keep_random(jax.random.key(k), 20, 0.3) for k in range(trials)])
    assert (picks.sum(axis=1) == 6).all()
    np.testing.assert_allclose(picks.mean(axis=0), 0.3, atol=five_sigma(0.3, trials))
    np.testing.assert_array_equal(picks[7], dj.keep_random(jax.random.key(7), 20, 0.3))
    assert len({tuple(pick) for pick in picks.tolist()}) > 290


def test_tie_mass_counts_by_hand():
    scores = [0, 1, 1, 1, 2, 0]
    assert tuple(dj.tie_mass(scores, np.array([0, 1, 0, 0, 1, 0], bool))) == (3, 1)
    assert tuple(dj.tie_mass(scores, np.array([0, 1, 1, 1, 1, 0], bool))) == (0, 0)
    assert tuple(dj.tie_mass([np.inf, np.inf, 0], np.array([1, 0, 1], bool))) == (2, 1)
    # A window has two edges, and can be tied at both.
    assert tuple(dj.tie_mass(scores, np.array([1, 1, 1, 0, 0, 0], bool))) == (5, 3)


def test_tie_mass_refuses_a_mask_of_another_length():
    with pytest.raises(InputError, match="shape"):
        dj.tie_mass([1.0, 2.0], np.array([True]))


def test_tie_mass_refuses_rows_and_integers_in_place_of_a_mask(unchecked_types):
    with pytest.raises(InputError, match="boolean"):
        dj.tie_mass([1.0, 1.0, 2.0], np.array([1, 0, 1]))


@pytest.mark.parametrize("count", [0, -4])
def test_no_examples_are_refused(count):
    for call in (lambda: dj.num_kept(count, 0.5), lambda: dj.keep_random(jax.random.key(0), count, 0.5)):
        with pytest.raises(InputError, match="num_examples must be at least 1"):
            call()


def test_kept_indices_equal_flatnonzero():
    keep = dj.keep_highest(SCORES, 0.2)
    found = dj.kept_indices(keep, 20)
    np.testing.assert_array_equal(found, np.flatnonzero(keep))
    assert found.dtype == np.int32


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_kept_indices_refuse_another_count(wrong):
    with pytest.raises(InputError, match="keeps 2 of 3"):
        dj.kept_indices(np.array([True, False, True]), wrong)


@pytest.mark.parametrize("keep", [np.array([[True, False]]), np.array([0, 1])])
def test_kept_indices_refuse_what_is_no_mask(keep, unchecked_types):
    with pytest.raises(InputError, match="boolean vector"):
        dj.kept_indices(keep, 1)
