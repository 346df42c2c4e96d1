"""What a selection rule is: options, several scores, and masks that are what they should be."""

import dataclasses

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.selection.ranks import HIGHEST, LOWEST, WINDOW, WindowOptions, ranked_rows

SCORES = np.random.default_rng(0).normal(size=50)


def keep_both(first, second, fraction, *, key):
    return dj.keep_highest(first + second, fraction, key=key)


BOTH = dj.Rule(name="both", words="the highest sums", reference="none", select=keep_both, num_scores=2)


def test_the_rules_of_ranks_are_their_functions():
    np.testing.assert_array_equal(HIGHEST(SCORES, fraction=0.3), dj.keep_highest(SCORES, 0.3))
    np.testing.assert_array_equal(LOWEST(SCORES, fraction=0.3), dj.keep_lowest(SCORES, 0.3))
    window = WINDOW.with_options(WindowOptions(0.2))
    np.testing.assert_array_equal(window(SCORES, fraction=0.3), dj.keep_window(SCORES, 0.3, offset=0.2))
    assert [rule.describe() for rule in (HIGHEST, LOWEST, window)] == [
        "",
        "the lowest scores kept",
        "windows that leave out the lowest 0.2",
    ]


def test_a_rule_may_write_into_its_scores():
    def select(scores, fraction, *, key):
        scores[:] = 0
        return dj.keep_highest(scores, fraction, key=key)

    before = SCORES.copy()
    dj.Rule(name="own", words="", reference="", select=select)(SCORES, fraction=0.5)
    np.testing.assert_array_equal(SCORES, before)


def test_a_rule_over_two_scores():
    keep = BOTH(SCORES, -SCORES + np.arange(50), fraction=0.2)
    np.testing.assert_array_equal(keep, np.arange(50) >= 40)
    assert BOTH.describe() == "kept by the rule both"
    with pytest.raises(dj.InputError, match="the rule both reads 2 scores, got 1"):
        BOTH(SCORES, fraction=0.2)


def test_options_and_fractions_that_do_not_fit():
    window = WINDOW.with_options(WindowOptions(0.8))
    with pytest.raises(dj.InputError, match="their sum must be at most 1"):
        window.check_fraction(0.3)
    for call in (lambda: WINDOW.check_fraction(0.3), lambda: WINDOW(SCORES, fraction=0.3)):
        with pytest.raises(dj.InputError, match="the rule window needs its option offset"):
            call()
    with pytest.raises(dj.InputError, match="options of window must be WindowOptions, got float"):
        WINDOW.with_options(0.8)
    HIGHEST.check_fraction(0.3)


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (lambda scores, fraction, *, key: scores, "must return a mask bool"),
        (lambda scores, fraction, *, key: scores[:3] > 0, "must return a mask bool"),
        (
            lambda scores, fraction, *, key: [[True], [True, False]],
            "the mask of the rule .* of several shapes",
        ),
    ],
)
def test_a_mask_is_a_boolean_for_each_example(select, message):
    with pytest.raises(dj.InputError, match=message):
        dataclasses.replace(HIGHEST, name="broken", select=select)(SCORES, fraction=0.3)


def test_what_cannot_be_a_rule():
    with pytest.raises(dj.InputError, match="letters, digits and _"):
        dataclasses.replace(HIGHEST, name="two words")
    with pytest.raises(dj.InputError, match="num_scores must be at least 1, got 0"):
        dataclasses.replace(HIGHEST, name="none", num_scores=0)


def test_a_rule_keeps_as_many_as_the_fraction_says():
    """Else it would be compared with a random subset of another size."""
    few = dataclasses.replace(HIGHEST, name="few", select=lambda s, fraction, *, key: dj.keep_highest(s, 0.1))
    with pytest.raises(
        dj.InputError, match=r"must keep 15 of 50 examples for the keep fraction 0\.3, it keeps 5"
    ):
        few(SCORES, fraction=0.3)


def test_ties_are_broken_by_the_key_and_a_fixed_one_by_default():
    tied = np.zeros(50)
    np.testing.assert_array_equal(HIGHEST(tied, fraction=0.3), HIGHEST(tied, fraction=0.3))
    other = HIGHEST(tied, fraction=0.3, key=dj.seed_keys(3, "tie_break", 1)[0])
    assert (other != HIGHEST(tied, fraction=0.3)).any()
    np.testing.assert_array_equal(np.sort(ranked_rows(tied)), np.arange(50))
    np.testing.assert_array_equal(ranked_rows(SCORES), np.argsort(SCORES))
