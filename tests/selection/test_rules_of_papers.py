"""Every published rule against a plain loop written from its paper, and what all rules have in common."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats

import diet_jax as dj
from diet_jax.selection.best_window import regressed_windows
from diet_jax.selection.beta import CONCENTRATION
from diet_jax.selection.diversity import keep_k_centre
from diet_jax.selection.ranks import random_rows
from diet_jax.selection.risk import risk_note

N, CLASSES = 60, 4
RNG = np.random.default_rng(0)
SCORES = RNG.gamma(2.0, size=N)
DOUBT = RNG.beta(1, 3, size=N)
FEATURES = RNG.normal(size=(N, 5))
LABELS = RNG.choice(CLASSES, N, p=[0.6, 0.25, 0.15, 0])
ERRORS = np.array([0.05, 0.3, 0.4, 0.0])
BESIDE = {"labels": LABELS, "features": FEATURES, "class_errors": ERRORS}
FRACTIONS = (1 / N, 0.1, 0.3, 0.77, 1.0)
DRAWN = {"coverage", "beta", "class_quotas", "k_centre"}  # They draw: by row, not by value.


def rule_of(name, **options):
    rule = dj.RULES.find(name)
    if name == "window":
        options.setdefault("offset", 0.0)
    return rule if rule.options is None else rule.with_options(dataclasses.replace(rule.options, **options))


def scores_of(rule, scores=SCORES):
    return (scores, DOUBT)[: rule.num_scores]


def keep_by(rule, fraction, rows=slice(None), scores=SCORES, **options):
    beside = {name: values if name == "class_errors" else values[rows] for name, values in BESIDE.items()}
    return rule(*(one[rows] for one in scores_of(rule, scores)), fraction=fraction, **beside, **options)


OWN = [
    name
    for name in dj.RULES.names()
    if dj.RULES.find(name).select.__module__.startswith("diet_jax.selection")
]
NEW = set(OWN) - {"highest", "lowest", "window"}
assert {"coverage", "moderate", "beta", "d2", "k_centre", "class_quotas", "best_window"} <= NEW


@pytest.mark.parametrize("name", OWN)
def test_exactly_as_many_are_kept_as_the_fraction_says(name):
    for fraction in FRACTIONS:
        assert keep_by(rule_of(name), fraction).sum() == dj.num_kept(N, fraction)
    one = {"labels": LABELS[:1], "features": FEATURES[:1], "class_errors": ERRORS}
    if name != "best_window":
        rule = rule_of(name)
        assert rule(*(s[:1] for s in scores_of(rule)), fraction=1.0, **one).tolist() == [True]


@pytest.mark.parametrize("name", sorted(set(OWN) - DRAWN))
def test_permuted_rows_have_the_permuted_mask(name):
    order = np.random.default_rng(1).permutation(N)
    np.testing.assert_array_equal(
        keep_by(rule_of(name), 0.3, order), keep_by(rule_of(name), 0.3)[order], err_msg=name
    )


@pytest.mark.parametrize("name", OWN)
def test_the_key_decides_where_scores_do_not_and_nothing_else_does(name):
    rule, tied = rule_of(name), np.ones(N)
    if name in ("best_window", "d2"):  # Features decide there.
        np.testing.assert_array_equal(keep_by(rule, 0.3), keep_by(rule, 0.3, key=jax.random.key(7)))
        return
    masks = [keep_by(rule, 0.3, scores=tied, key=jax.random.key(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


@pytest.mark.parametrize("name", sorted(name for name in OWN if dj.RULES.find(name).num_scores))
def test_scores_that_are_not_finite(name):
    rule, broken = rule_of(name), SCORES.copy()
    broken[3] = np.nan
    with pytest.raises(dj.InputError, match="NaN: 1 of 60"):
        keep_by(rule, 0.3, scores=broken)
    broken[3], broken[4] = np.inf, np.inf
    if name == "d2":
        with pytest.raises(dj.InputError, match="must be finite: 2 of 60"):
            keep_by(rule, 0.3, scores=broken)
        return
    assert keep_by(rule, 0.3, scores=broken).sum() == 18
    if name not in ("beta",):
        assert keep_by(rule, 0.3, scores=np.full(N, np.inf)).sum() == 18
        assert keep_by(rule, 0.3, scores=np.where(np.arange(N) < 30, -np.inf, np.inf)).sum() == 18


@pytest.mark.parametrize("name", sorted(name for name in OWN if dj.RULES.find(name).reads))
def test_what_a_rule_reads_must_be_given_and_fit(name):
    rule = rule_of(name)
    for missing in rule.reads:
        given = {**BESIDE, missing: None}
        with pytest.raises(dj.InputError, match=f"{name} reads {missing}, which are missing; give it"):
            rule(*scores_of(rule), fraction=0.3, **given)
    wrong = {
        "labels": [
            (LABELS[:-1], "are of 59 examples|are of 60 examples"),
            (LABELS - 1, "at least 0, got -1"),
        ],
        "features": [
            (FEATURES[:, 0], r"features float \[n d\]"),
            (FEATURES[:, :0], r"features float \[n d\].*got float64 of shape \(60, 0\)"),
            (FEATURES * np.inf, "must be finite: 60 of 60"),
        ],
        "class_errors": [(ERRORS[:2], "of 3 classes at least; got 2"), (ERRORS * 3, "shares from 0 to 1")],
    }
    for read in rule.reads:
        for value, message in wrong[read]:
            if rule.num_scores or read != "labels" or "-1" in message:
                with pytest.raises(dj.InputError, match=message):
                    rule(*scores_of(rule), fraction=0.3, **{**BESIDE, read: value})


@pytest.mark.parametrize("name", sorted(name for name in OWN if "labels" in dj.RULES.find(name).reads))
def test_labels_of_any_width(name):
    """Of 8 bits too, in which the number of classes may not fit."""
    rule, labels = rule_of(name), np.where(LABELS == 2, 255, LABELS)
    given = {**BESIDE, "class_errors": np.r_[ERRORS[:2], np.zeros(253), ERRORS[2]], "labels": labels}
    masks = [
        rule(*scores_of(rule), fraction=0.3, **{**given, "labels": labels.astype(dtype)})
        for dtype in (np.int64, np.uint8)
    ]
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize("name", ["d2", "k_centre"])
@pytest.mark.parametrize(("shift", "scale"), [(1e3, 1e-2), (1e4, 1.0), (0.0, 1e30), (0.0, 1e-30)])
def test_distances_keep_their_digits_wherever_the_features_lie(name, shift, scale):
    rule = rule_of(name)
    given = {"features": shift + scale * FEATURES, "fraction": 0.3}
    np.testing.assert_array_equal(rule(*scores_of(rule), **given), keep_by(rule, 0.3))


def published_strata(scores, count, cutoff, strata):
    """CCS: how many of each stratum, by its algorithm and budgets, without the hardest."""
    easy = sorted(scores)[: len(scores) - round(cutoff * len(scores))]
    low, width = easy[0], (easy[-1] - easy[0]) / strata
    members = [[] for _ in range(strata)]
    for score in easy:
        members[min(int((score - low) / width), strata - 1)].append(score)
    left, budgets = count, {}
    for i, place in enumerate(sorted(range(strata), key=lambda s: len(members[s]))):
        budgets[place] = min(len(members[place]), left // (strata - i))
        left -= budgets[place]
    return members, budgets


@pytest.mark.parametrize(("fraction", "cutoff", "strata"), [(0.1, 0.3, 5), (0.5, 0.1, 50), (0.7, 0.0, 8)])
def test_coverage_is_the_published_budget_of_each_stratum(fraction, cutoff, strata):
    rule = rule_of("coverage", cutoff=cutoff, strata=strata)
    kept = SCORES[keep_by(rule, fraction)]
    members, budgets = published_strata(SCORES.tolist(), dj.num_kept(N, fraction), cutoff, strata)
    for place, scores in enumerate(members):
        # Of several strata of one size it is left open which gives what does not divide.
        assert abs(np.isin(kept, scores).sum() - budgets[place]) <= 1
    assert sorted(np.isin(kept, m).sum() for m in members) == sorted(budgets.values())


def test_coverage_draws_evenly_within_a_stratum_and_leaves_out_the_hardest():
    rule = rule_of("coverage", cutoff=0.25, strata=1)
    counts = sum(keep_by(rule, 0.25, key=jax.random.key(seed)) for seed in range(300))
    order = np.argsort(SCORES)
    assert not counts[order[45:]].any()
    # 15 of 45: the standard deviation of a count is 8.
    assert np.abs(counts[order[:45]] - 100).max() < 5 * 8.2
    with pytest.raises(dj.InputError, match=r"cutoff 0\.25 drops so many"):
        keep_by(rule, 0.8)
    assert "highest among them (cutoff 0)" in rule_of("coverage").describe()


def test_moderate_by_rank_and_by_value():
    ranks, median = np.argsort(SCORES), sorted(SCORES)[29] / 2 + sorted(SCORES)[30] / 2
    middle = np.isin(np.arange(N), ranks[21:39])
    np.testing.assert_array_equal(keep_by(rule_of("moderate"), 0.3), middle)
    nearest = sorted(range(N), key=lambda i: abs(SCORES[i] - median))[:18]
    by_value = keep_by(rule_of("moderate", nearest_by="value"), 0.3)
    np.testing.assert_array_equal(np.flatnonzero(by_value), sorted(nearest))
    assert (by_value != middle).any()


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_beta_draws_as_often_as_drawing_one_after_the_other(fraction):
    few = slice(0, 12)
    weights, mean = SCORES[few], 1 - DOUBT[few]
    anchor = mean[np.argsort(weights)[-10:]].mean()
    beta = CONCENTRATION * (1 - anchor) * (1 - (1 - fraction) ** 4.0)
    chances = stats.beta.pdf(mean, CONCENTRATION + 1 - beta, beta) * weights
    rng, draws = np.random.default_rng(0), 300
    wanted, count = np.zeros(12), dj.num_kept(12, fraction)
    for _ in range(20 * draws):
        wanted[rng.choice(12, count, replace=False, p=chances / chances.sum())] += 1 / 20
    keys = dj.seed_keys(0, "random_subset", draws)
    found = sum(dj.keep_beta(weights, DOUBT[few], fraction, key=key) for key in keys)
    spread = np.sqrt(wanted * (1 - wanted / draws)) + 1
    assert (np.abs(found - wanted) < 4.5 * spread).all()


def test_beta_takes_means_of_either_sign_and_weights_of_none():
    keep = dj.keep_beta(SCORES, DOUBT, 0.3)
    np.testing.assert_array_equal(keep, dj.keep_beta(SCORES, DOUBT - 1, 0.3))
    weights = np.where(np.arange(N) < 10, SCORES, 0)
    keep = dj.keep_beta(weights, DOUBT, 0.3)
    assert keep[:10].all()
    assert keep.sum() == 18
    with pytest.raises(dj.InputError, match="weight and must be at least 0"):
        dj.keep_beta(-SCORES, DOUBT, 0.3)
    with pytest.raises(dj.InputError, match="must be 1 minus a mean probability"):
        dj.keep_beta(SCORES, 3 * DOUBT, 0.3)


def d2_loop(scores, features, count, k, forward, reverse):
    """D2 on dense matrices, one message at a time."""
    n = len(scores)
    distance = [[float(np.linalg.norm(features[i] - features[j])) for j in range(n)] for i in range(n)]
    nearest = [sorted((j for j in range(n) if j != i), key=lambda j: distance[i][j])[:k] for i in range(n)]
    unit = np.median([distance[i][j] ** 2 for i in range(n) for j in nearest[i]])
    edges = [{j for j in range(n) if j in nearest[i] or i in nearest[j]} for i in range(n)]
    hard = [score - min(scores) for score in scores]
    worth = [
        hard[i] + sum(np.exp(-forward * distance[i][j] ** 2 / unit) * hard[j] for j in edges[i])
        for i in range(n)
    ]
    kept = []
    while len(kept) < count:
        best = max((i for i in range(n) if i not in kept), key=lambda i: worth[i])
        kept.append(best)
        for j in edges[best]:
            worth[j] -= np.exp(-reverse * distance[best][j] ** 2 / unit) * worth[best]
    return sorted(kept)


@pytest.mark.parametrize(("k", "forward", "reverse"), [(5, 1.0, 1.0), (3, 0.0, 0.3), (20, 2.0, 0.0)])
def test_d2_is_the_loop_over_messages(k, forward, reverse):
    rule = rule_of("d2", neighbours=k, forward=forward, reverse=reverse)
    keep = keep_by(rule, 0.3)
    assert np.flatnonzero(keep).tolist() == d2_loop(SCORES, FEATURES, 18, k, forward, reverse)


def test_d2_of_examples_that_are_all_one_and_without_messages():
    same = dict(BESIDE, features=np.ones((N, 3)))
    assert rule_of("d2")(SCORES, fraction=0.3, **same).sum() == 18
    silent = rule_of("d2", forward=1e9, reverse=1e9)
    np.testing.assert_array_equal(keep_by(silent, 0.3), dj.keep_highest(SCORES, 0.3))


def test_k_centre_is_the_greedy_loop_and_within_twice_the_best():
    key = jax.random.key(3)
    keep = keep_k_centre(0.2, features=FEATURES, key=key)
    centres = [random_rows(key, N)[0]]
    while len(centres) < 12:
        centres.append(
            max(range(N), key=lambda i: min(np.linalg.norm(FEATURES[i] - FEATURES[c]) for c in centres))
        )
    assert np.flatnonzero(keep).tolist() == sorted(centres)
    doubled = np.repeat(FEATURES[:6], 10, axis=0)
    first = keep_k_centre(0.1, features=doubled)
    assert len(np.unique(doubled[first], axis=0)) == 6


def test_class_quotas_follow_the_errors_and_the_highest_are_kept_within():
    for fraction in FRACTIONS:
        kept = [
            np.bincount(LABELS[keep_by(rule_of(name), fraction)], minlength=4)
            for name in ("class_quotas", "class_quotas_highest")
        ]
        np.testing.assert_array_equal(*kept)
        exact = kept[0][[0, 1, 2]] / np.bincount(LABELS)[:3] / ERRORS[:3]
        unsaturated = kept[0][:3] < np.bincount(LABELS)[:3]
        # Kept shares over errors are one number, but for rounding to whole examples.
        if unsaturated.sum() > 1 and fraction >= 0.3:
            assert np.ptp(exact[unsaturated]) < (1 / np.bincount(LABELS)[:3] / ERRORS[:3])[unsaturated].max()
    keep = keep_by(rule_of("class_quotas_highest"), 0.3)
    for label in range(3):
        mine, kept_here = SCORES[label == LABELS], keep[label == LABELS]
        if 0 < kept_here.sum() < len(mine):
            assert mine[kept_here].min() > mine[~kept_here].max()
    counts = sum(keep_by(rule_of("class_quotas"), 0.3, key=jax.random.key(seed)) for seed in range(200))
    assert counts[LABELS == 0].min() > 0


def test_windows_are_judged_by_our_kernel_regression():
    found = regressed_windows(SCORES, 0.3, labels=LABELS, features=FEATURES, step=0.2, ridge=0.1)
    np.testing.assert_allclose(found.offsets, [0, 0.2, 0.4, 0.6, 0.7])
    eye, order = np.eye(3), np.argsort(SCORES)
    for offset, accuracy in zip(found.offsets, found.accuracies, strict=True):
        rows = order[round(N * offset) :][:18]
        kernel = FEATURES @ FEATURES[rows].T
        predicted = dj.kernel_regression(
            np.kron(kernel[rows], eye), eye[LABELS[rows]] - 1 / 3, np.kron(kernel, eye), ridge=0.1
        )
        assert accuracy == np.mean(np.argmax(np.asarray(predicted), axis=1) == LABELS)
    best = found.offsets[found.accuracies == found.accuracies.max()][0]
    keep = keep_by(rule_of("best_window", step=0.2, ridge=0.1), 0.3)
    np.testing.assert_array_equal(keep, dj.keep_window(SCORES, 0.3, offset=best))
    with pytest.raises(dj.InputError, match="the labels are all one"):
        regressed_windows(SCORES, 0.3, labels=np.zeros(N, int), features=FEATURES)


@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_fraction_is_by_monotone_regression(seed):
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(seed)
    fractions, full = rng.permutation([0.1, 0.2, 0.3, 0.5, 0.7]), 0.9 + rng.normal(0, 0.01, 4)
    accuracies = full - 0.05 * (1 - fractions[:, None]) ** 2 + rng.normal(0, 0.01, (5, 4))
    found = dj.smallest_fraction(fractions, accuracies, full, max_loss=0.02)
    order = np.argsort(fractions)
    loss = (full - accuracies)[order]
    wanted = IsotonicRegression(increasing=False).fit_transform(fractions[order], loss.mean(axis=1))
    np.testing.assert_allclose(found.loss, wanted, atol=1e-12)
    chosen = 1.0
    for i in range(4, -1, -1):
        if wanted[i] + loss[i].std(ddof=1) / 2 > 0.02:
            break
        chosen = fractions[order][i]
    assert found.fraction == chosen
    assert dj.smallest_fraction(fractions, accuracies, full, max_loss=0.5).fraction == 0.1
    assert dj.smallest_fraction([0.5], [[0.1, 0.1]], [0.9, 0.9], max_loss=0.5).fraction == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], [[0.9]], [0.9]), "at least two seeds"),
        (([0.5, 0.5], [[0.9, 0.9]] * 2, [0.9, 0.9]), "must be distinct"),
        (([1.5], [[0.9, 0.9]], [0.9, 0.9]), "at most 1, got 1.5"),
        (([0.5], [[0.9, np.nan]], [0.9, 0.9]), "leave out seeds that diverged"),
    ],
)
def test_the_smallest_fraction_refuses(arguments, message):
    with pytest.raises(dj.InputError, match=message):
        dj.smallest_fraction(*arguments, max_loss=0.1)


def test_only_the_highest_alone_at_small_fractions_are_warned_of():
    rules = [rule_of(name) for name in OWN]
    assert "keep fraction 0.1, 0.3 may well do worse" in risk_note(rules, [0.5, 0.3, 0.1], guarded=False)
    assert not risk_note(rules, [0.5, 0.3, 0.1], guarded=True)
    assert not risk_note([rule for rule in rules if rule.name != "highest"], [0.1], guarded=False)


def test_a_rule_cannot_write_into_what_it_reads_nor_read_the_unknown():
    def select(fraction, *, key, features):
        features[:] = 0

    with pytest.raises(ValueError, match="read-only"):
        dj.Rule(name="own", words="", reference="", select=select, num_scores=0, reads=("features",))(
            fraction=0.5, features=FEATURES
        )
    with pytest.raises(dj.InputError, match="reads must be of labels, features, class_errors; got logits"):
        dj.Rule(name="own", words="", reference="", select=select, reads=("logits",))
    with pytest.raises(dj.InputError, match="num_scores must be at least 1, got 0"):
        dj.Rule(name="own", words="", reference="", select=select, num_scores=0, reads=("class_errors",))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["highest", "coverage", "moderate", "beta", "class_quotas_highest"])
def test_a_million_examples(name):
    rng, n = np.random.default_rng(0), 1_000_000
    labels = rng.integers(0, 1000, n)
    rule = rule_of(name)
    scores = (rng.gamma(2.0, size=n), rng.random(n))[: rule.num_scores]
    keep = rule(*scores, fraction=0.1, labels=labels, class_errors=rng.random(1000))
    assert keep.sum() == 100_000
