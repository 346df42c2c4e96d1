"""Stability over seeds: against definitions written out, simulated seeds, and the tests' own integrals."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

import diet_jax as dj
from diet_jax.analysis.stability import Agreement, Estimate, correlation_of_means, normal_overlap, stability
from diet_jax.plotting.stability import draw_stability


def seeds_of(rng, seeds, examples, noise):
    return rng.normal(size=examples) + noise * rng.normal(size=(seeds, examples))


def test_of_four_seeds_halves_are_compared_as_written_out():
    """Two seeds in each half: all pairs are known, and their means are checked by SciPy and sets."""
    scores = seeds_of(np.random.default_rng(0), 4, 60, 1.0).round(1)  # with ties
    halves = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    rank, common = [], []
    for halve in halves:
        one, other = (scores[list(part)].mean(axis=0) for part in halve)
        rank.append(stats.spearmanr(one, other).statistic)
        kept = [set(np.argsort(-half, kind="stable")[:30]) for half in (one, other)]
        common.append(len(kept[0] & kept[1]) / 30)
    found = stability(scores, (0.5,), groups=[2], pairs=300)[0]
    assert found.correlation.mean == pytest.approx(np.mean(rank), abs=0.02)
    # Ties at the edge are broken by lot.
    assert found.kept[0.5].mean == pytest.approx(np.mean(common), abs=0.05)
    assert found.jaccard(0.5) == pytest.approx(found.kept[0.5].mean / (2 - found.kept[0.5].mean))
    one = stability(scores, (0.5,), groups=[2], pairs=1)[0]
    assert min(abs(one.correlation.mean - value) for value in rank) < 1e-12
    assert np.isnan(found.correlation.error)


def test_groups_have_no_seed_in_common():
    """Seeds that are copies of one another in pairs would agree perfectly."""
    scores = np.repeat(np.random.default_rng(1).normal(size=(1, 200)), 4, axis=0)
    scores[3] = -scores[0]
    row = stability(scores, (0.5,), groups=[1], pairs=400)[0]
    # Of two seeds the last is one in half of the pairs.
    assert row.correlation.mean == pytest.approx(0, abs=0.15)
    assert row.kept[0.5].mean == pytest.approx(0.5, abs=0.08)


def test_a_rule_of_ones_own_says_what_is_kept():
    scores = seeds_of(np.random.default_rng(2), 6, 500, 1.0)
    row = stability(scores, (0.1,), groups=[3], choose=lambda s, fraction: dj.keep_lowest(s, fraction))[0]
    other = stability(-scores, (0.1,), groups=[3])[0]
    assert row.kept[0.1].mean == pytest.approx(other.kept[0.1].mean)


def test_more_seeds_agree_more_and_infinite_scores_rank_highest():
    scores = seeds_of(np.random.default_rng(3), 12, 300, 1.5)
    scores[:, 7] = np.inf
    rows = dj.stability(scores)
    assert [row.seeds for row in rows] == [1, 2, 3, 4, 6]
    for values in zip(
        *[(r.correlation.mean, r.with_all.mean, *(k.mean for k in r.kept.values())) for r in rows],
        strict=True,
    ):
        assert list(values) == sorted(values)
    assert all(row.correlation.mean < row.with_all.mean for row in rows)


def test_the_jackknife_error_is_the_spread_over_repetitions():
    rng, found = np.random.default_rng(4), []
    truth = rng.normal(size=300)
    for _ in range(60):
        scores = truth + rng.normal(size=(12, 300)) * rng.uniform(0.3, 2.5, size=(12, 1))
        row = stability(scores, (0.3,), groups=[2], pairs=30)[0]
        found.append((*row.correlation, *row.kept[0.3]))
    means, errors = np.array(found)[:, ::2], np.array(found)[:, 1::2]
    ratio = errors.mean(axis=0) / means.std(axis=0)
    # 60 repetitions leave a tenth; noise of the pairs and skewness the rest.
    assert ((ratio > 0.75) & (ratio < 1.5)).all()


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9, 0.999])
def test_the_overlap_of_normal_scores(correlation, fraction):
    edge = stats.norm.ppf(fraction)
    both = stats.multivariate_normal.cdf([edge, edge], cov=[[1, correlation], [correlation, 1]])
    assert normal_overlap(correlation, fraction) == pytest.approx(both / fraction, abs=1e-6)
    assert normal_overlap(1.0, fraction) == pytest.approx(1)


@pytest.mark.parametrize(("now", "more"), [(4, 4), (10, 2), (6, 14)])
def test_what_more_seeds_would_leave_is_foretold(now, more):
    scores = seeds_of(np.random.default_rng(now), now + more, 20_000, 1.5)
    both = np.corrcoef(scores[: now // 2].mean(axis=0), scores[now // 2 : 2 * (now // 2)].mean(axis=0))[0, 1]
    later = np.corrcoef(scores[:now].mean(axis=0), scores.mean(axis=0))[0, 1]
    assert correlation_of_means(both, now // 2, now, more) == pytest.approx(later, abs=0.01)
    for fraction in (0.1, 0.5):
        kept = stability(scores[:now], (fraction,), groups=[now // 2], pairs=5)[0].kept[fraction].mean
        expected = dj.expected_overlap(kept, fraction, seeds=now // 2, now=now, more=more)
        first, last = (dj.keep_highest(s.mean(axis=0), fraction) for s in (scores[:now], scores))
        assert expected == pytest.approx((first & last).sum() / first.sum(), abs=0.02)
    assert dj.expected_overlap(kept, fraction, seeds=now // 2, now=now, more=0) == pytest.approx(1)


def test_of_noise_that_is_kept_stays_what_is_in_the_later_mean():
    noise = np.random.default_rng(8).normal(size=(20, 50_000))
    first, last = (dj.keep_highest(s.mean(axis=0), 0.1) for s in (noise[:10], noise))
    measured = (first & last).sum() / first.sum()
    for overlap in (0.05, 0.1):
        expected = dj.expected_overlap(overlap, 0.1, seeds=5, now=10, more=10)
        assert expected == pytest.approx(measured, abs=0.02)
    assert dj.expected_overlap(1.0, 0.1, seeds=5, now=10, more=10) == pytest.approx(1)


def test_a_few_vectors_are_held_at_once():
    scores = np.random.default_rng(5).normal(size=(40, 50_000)).astype(np.float32)
    vector = 8 * scores.shape[1]
    tracemalloc.start()
    stability(scores, (0.1, 0.3), groups=[1, 20], pairs=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * vector


REFUSED = {
    "three seeds": (lambda s: stability(s[:3]), "at least 4 seeds, got 3"),
    "NaN": (lambda s: stability(np.where(s > 2, np.nan, s)), "must not be NaN: row"),
    "both infinities": (lambda s: stability(np.r_[s * 0 + np.inf, s * 0 - np.inf]), "have no mean"),
    "a group of more than half": (lambda s: stability(s, groups=[3]), "groups must be at most 2, got 3"),
    "a fraction that keeps nothing": (lambda s: stability(s, (0.001,)), "keeps none"),
    "one axis": (lambda s: stability(s[0]), "per_seed"),
    "an overlap of 2": (lambda s: dj.expected_overlap(2.0, 0.5, seeds=1, now=2, more=1), "overlap"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_stability_is_refused(case):
    ask, message = REFUSED[case]
    with pytest.raises(dj.InputError, match=message):
        ask(np.random.default_rng(6).normal(size=(4, 100)))


def test_the_figure_shows_seeds_and_steps():
    rows = []
    for step in (0, 100):
        for seeds in (1, 2):
            kept = {0.5: Estimate(0.6, 0.01)}
            row = Agreement(seeds, 10, Estimate(0.5, float("nan")), Estimate(0.7, 0.01), kept)
            rows.append({"score": "el2n", "step": step, **row._asdict()})
    titles = [[ax.get_xlabel() for ax in draw_stability(part).axes] for part in (rows, rows[:2])]
    assert [label.split(" ")[0] for label in titles[0]] == ["seeds", "seeds", "step", "step"]
    assert len(titles[1]) == 2
    with pytest.raises(dj.InputError, match="no rows"):
        draw_stability([])


def test_the_command_prints_and_draws(tmp_path, capsys):
    from diet_jax.cli.main import main

    train = dj.load_dataset("digits").train
    scores = seeds_of(np.random.default_rng(7), 4, len(train), 1.0)
    dj.ScoreFile.from_seeds("mine", scores, train, step=10).save(tmp_path / "mine.npz")
    main(["stability", str(tmp_path / "mine.npz"), "--fractions", "0.5", "--out", str(tmp_path / "a.png")])
    told = capsys.readouterr()
    assert "mine, step 10" in told.out
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    share = float(told.err.rpartition("leave ")[2].partition(" %")[0]) / 100
    half = stability(scores.astype(np.float32), (0.5,))[-1]
    ahead = dj.expected_overlap(half.kept[0.5].mean, 0.5, seeds=2, now=4, more=4)
    assert share == pytest.approx(ahead, abs=1e-3)
