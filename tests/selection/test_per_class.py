"""Classes in a selection: counts, the guard, and what is said of a bad one."""

import re

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.selection.per_class import balance_notes, keep_some_of_each, kept_per_class
from diet_jax.selection.ranks import WindowOptions


def by_rule(rule, scores):
    def choose(rows, count):
        return rule(scores[rows], fraction=count / len(rows))

    return choose


@pytest.mark.parametrize("name", ["highest", "lowest", "window"])
@pytest.mark.parametrize("minimum", [0, 1, 3, 7, 10])
@pytest.mark.parametrize("seed", range(3))
def test_the_guard_keeps_some_of_each_and_as_many_in_all(name, minimum, seed):
    rng = np.random.default_rng(seed)
    # Classes of unequal size whose scores lie apart: the rule alone loses some.
    labels = rng.choice(6, 200, p=[0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    scores, rule = labels + rng.random(200), dj.RULES.find(name)
    rule = rule.with_options(WindowOptions(0.0)) if name == "window" else rule
    count = 60
    keep = keep_some_of_each(by_rule(rule, scores), labels, count, minimum=minimum)
    there, kept = np.bincount(labels, minlength=6), kept_per_class(keep, labels, 6)
    assert keep.sum() == count
    assert (kept >= np.minimum(there, minimum)).all()
    alone = rule(scores, fraction=count / 200)
    if (kept_per_class(alone, labels, 6) >= np.minimum(there, minimum)).all():
        np.testing.assert_array_equal(keep, alone)
    for label in range(6):  # Within a class the rule's order holds: the highest, or the lowest.
        mine, kept_here = scores[labels == label], keep[labels == label]
        if name != "window" and 0 < kept_here.sum() < len(mine):
            sign = 1 if name == "highest" else -1
            assert (sign * mine[kept_here]).min() > (sign * mine[~kept_here]).max()


def test_what_the_free_classes_cannot_take_goes_to_the_guarded_ones():
    # Of class 1 there are 2 only, of class 0 the rule keeps none at first.
    scores, labels = np.arange(12.0), np.array([0] * 10 + [1] * 2)
    keep = keep_some_of_each(by_rule(dj.RULES.find("highest"), scores), labels, 7, minimum=2)
    np.testing.assert_array_equal(keep, [False] * 5 + [True] * 7)


def test_more_of_each_than_is_kept_is_refused():
    choose = by_rule(dj.RULES.find("highest"), np.arange(10.0))
    with pytest.raises(dj.InputError, match=r"asks for 10 examples of 2 classes.* keeps 9; lower it to 4"):
        keep_some_of_each(choose, np.arange(10) % 2, 9, minimum=5)


def test_counts_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    masks, labels = rng.random((3, 50)) < 0.3, rng.integers(4, size=50)
    counts = kept_per_class(masks, labels, 6)
    for seed in range(3):
        for label in range(6):
            assert counts[seed, label] == sum(masks[seed, i] and labels[i] == label for i in range(50))
    with pytest.raises(dj.InputError, match="each of the 50 examples"):
        kept_per_class(masks[:, 1:], labels, 6)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ((40, 40, 40), []),
        ((40, 40, 12), []),
        ((90, 30, 0), ["no example of 1 of the 3 classes that have any is kept: c"]),
        ((60, 55, 5), ["kept far below their share: c (5 instead of 40)"]),
        (
            (115, 5, 0),
            [
                "no example of 1 of the 3 classes that have any is kept: c",
                "kept far below their share: b \\(5 instead of 40\\)",
            ],
        ),
    ],
)
def test_a_bad_selection_is_told(kept, said):
    labels = np.repeat([0, 1, 2], 120)
    keep = np.concatenate([np.arange(120) < count for count in kept])
    # The class d has no example, so none can be lost.
    notes = balance_notes(keep, labels, ("a", "b", "c", "d"))
    assert len(notes) == len(said)
    for note, words in zip(notes, said, strict=True):
        assert note == words or re.search(words, note)


def test_one_mask_per_seed_says_in_how_many_a_class_is_lost():
    labels = np.array([0] * 30 + [1] * 2)
    masks = np.ones((3, 32), bool)
    masks[1, 30:] = False
    assert balance_notes(masks, labels, ("a", "b")) == [
        "no example of 1 of 2 classes is kept in 1 of 3 selections: b"
    ]
