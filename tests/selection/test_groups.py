"""Shares of groups: against handing out one at a time, and against the published loop of quotas."""

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.selection.groups import group_counts, places_within
from diet_jax.selection.per_class import check_balanced, check_by_class, keep_balanced
from diet_jax.selection.ranks import HIGHEST

SIZES = ([3, 3, 3], [1, 10, 10, 4], [0, 7, 2], [5], [0, 0, 9, 1, 1], [100, 1, 50, 50, 49])


def one_at_a_time(sizes, count):
    """Each time one more for the group with the fewest, of several for the largest."""
    kept = [0] * len(sizes)
    for _ in range(count):
        open_ = [g for g in range(len(sizes)) if kept[g] < sizes[g]]
        kept[min(open_, key=lambda g: (kept[g], -sizes[g], g))] += 1
    return kept


def published_quotas(sizes, count, errors):
    """DRoP's algorithm 1: densities, with the excess of saturated classes handed on."""
    density, unsaturated = [0.0] * len(sizes), {k for k in range(len(sizes)) if sizes[k]}
    excess = float(count)
    while excess > 1e-9:
        norm = sum(sizes[k] * errors[k] for k in unsaturated) / excess
        excess = 0.0
        for k in sorted(unsaturated):
            density[k] += errors[k] / norm
            if density[k] > 1:
                unsaturated.discard(k)
                excess += sizes[k] * (density[k] - 1)
                density[k] = 1.0
    return [size * d for size, d in zip(sizes, density, strict=True)]


@pytest.mark.parametrize("sizes", SIZES)
def test_equal_shares_are_those_handed_out_one_at_a_time(sizes):
    for count in range(sum(sizes) + 1):
        assert group_counts(np.array(sizes), count).tolist() == one_at_a_time(sizes, count)


@pytest.mark.parametrize("seed", range(5))
def test_weighted_shares_are_the_published_quotas_rounded(seed):
    rng = np.random.default_rng(seed)
    sizes, errors = rng.integers(0, 40, 7), rng.uniform(0.05, 1, 7)
    for count in range(1, sizes.sum() + 1, 3):
        kept = group_counts(sizes, count, sizes * errors)
        assert kept.sum() == count
        assert (kept <= sizes).all()
        np.testing.assert_array_less(np.abs(kept - published_quotas(sizes, count, errors)), 1)


def test_groups_without_weight_give_what_the_others_cannot():
    sizes, weights = np.array([4, 10, 20, 0]), np.array([1.0, 0.0, 0.0, 1.0])
    assert group_counts(sizes, 3, weights).tolist() == [3, 0, 0, 0]
    assert group_counts(sizes, 10, weights).tolist() == [4, 2, 4, 0]
    assert group_counts(sizes, 34, weights).tolist() == [4, 10, 20, 0]


def test_places_are_counted_within_each_group():
    rng = np.random.default_rng(0)
    groups, rows = rng.integers(0, 4, 50), rng.permutation(50)
    wanted, seen = np.empty(50, int), {}
    for row in rows:
        wanted[row] = seen.setdefault(groups[row], 0)
        seen[groups[row]] += 1
    np.testing.assert_array_equal(places_within(groups, rows), wanted)


@pytest.mark.parametrize("count", [1, 5, 17, 40, 60])
def test_balanced_keeps_as_many_of_each_by_the_rule_within(count):
    rng = np.random.default_rng(count)
    labels = rng.choice(5, 60, p=[0.5, 0.3, 0.15, 0.05, 0])
    scores = labels + rng.random(60)
    keep = keep_balanced(lambda rows, k: HIGHEST(scores[rows], fraction=k / len(rows)), labels, count)
    there = np.bincount(labels, minlength=5)
    assert np.bincount(labels[keep], minlength=5).tolist() == one_at_a_time(there, count)
    for label in range(5):
        mine, kept = scores[labels == label], keep[labels == label]
        if 0 < kept.sum() < len(mine):
            assert mine[kept].min() > mine[~kept].max()


def test_two_ways_to_decide_of_classes_are_refused():
    with pytest.raises(dj.InputError, match="balanced and min_per_class 2 both are of classes"):
        check_by_class([HIGHEST], 2, True)
    with pytest.raises(dj.InputError, match="class_quotas has quotas of its own"):
        check_by_class([dj.RULES.find("class_quotas")], 0, True)
    with pytest.raises(dj.InputError, match="choose one"):
        dj.RunConfig(select=dj.SelectConfig(balanced=True, min_per_class=1))


def test_a_rule_that_cannot_select_within_classes_is_refused_before_anything_runs():
    for classes in ({"balanced": True}, {"min_per_class": 1}):
        with pytest.raises(
            dj.InputError, match="best_window tells classes apart and cannot select within one"
        ):
            dj.RunConfig(select=dj.SelectConfig(method=("highest", "best_window"), **classes))


def test_options_that_the_share_of_a_small_class_does_not_allow_leave_the_fraction_out(tmp_path):
    """All of the small class would be kept, which is no window above the lowest tenth."""
    window = dj.RULES.find("window")
    window = window.with_options(type(window.options)(offset=0.1))
    labels = np.repeat([0, 2], [40, 10])
    check_balanced([window, HIGHEST], labels, 15)
    check_balanced([HIGHEST], labels, 25)
    with pytest.raises(
        dj.InputError, match=r"rule window keeps 10 of 10 examples of class 2: offset 0\.1 and"
    ):
        check_balanced([window], labels, 25)
    data = dj.Dataset.from_arrays(np.zeros((50, 2)), labels)
    select = dj.SelectConfig(method=(window,), fractions=(0.5,), balanced=True)
    training = dj.TrainConfig(batch_size=5, augment="none")
    config = dj.RunConfig(select=select, train=training, run_dir=str(tmp_path / "run"))
    with pytest.raises(dj.InputError, match=r"no keep fraction can be trained on .* of class 2"):
        dj.run(config, train=data, test=data)
    assert not (tmp_path / "run").exists()
