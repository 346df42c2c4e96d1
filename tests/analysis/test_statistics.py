"""Numbers over seeds, against SciPy and by hand."""

import numpy as np
import pytest
from scipy import stats

import diet_jax as dj
from diet_jax.analysis.statistics import (
    Comparison,
    Summary,
    errors_to_be_significant,
    holm,
    paired_p,
    spearman,
)


def test_a_summary_interpolates_its_band():
    assert Summary.of([0.0, 1.0]) == pytest.approx((0.5, 0.16, 0.84))
    assert Summary.of([2.0]) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("difference", "above", "no_loss"),
    [([0.1, 0.11, 0.12], "yes", "yes"), ([-0.1, -0.11, -0.12], "no", "no"), ([-0.1, 0.11], "unclear", "yes")],
)
def test_verdicts_need_more_than_the_error(difference, above, no_loss):
    found = Comparison.of(difference, np.zeros(len(difference)))
    assert found.mean == pytest.approx(np.mean(difference))
    assert found.error == pytest.approx(np.std(difference, ddof=1) / np.sqrt(len(difference)))
    assert (found.is_above(), found.is_no_loss()) == (above, no_loss)


def test_one_seed_decides_nothing():
    found = Comparison.of([0.5], [0.0])
    assert np.isnan(found.error)
    assert (found.is_above(), found.is_no_loss(), found.text()) == ("unclear", "unclear", "+50.00")


def test_a_difference_turned_round():
    one, other = np.random.default_rng(0).random((2, 5))
    assert -Comparison.of(one, other) == Comparison.of(other, one)
    assert Comparison.of(one, one).is_above() == "unclear"


def test_rank_correlation_with_ties_and_infinite_values():
    first, second = np.array([1.0, 1.0, 3.0, 2.0, np.inf, np.inf]), np.array([5.0, 1.0, 2.0, 2.0, 9.0, 4.0])
    finite = np.where(np.isinf(first), 1e9, first)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(finite, second).statistic)


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_the_paired_test_is_that_of_scipy_and_of_closed_forms(seeds):
    one, other = np.random.default_rng(seeds).normal(0.9, 0.01, (2, seeds))
    p = paired_p(one, other)
    assert p == pytest.approx(stats.ttest_rel(one, other).pvalue)
    assert Comparison.of(one, other).p == p == paired_p(other, one)
    t = np.mean(one - other) / (np.std(one - other, ddof=1) / np.sqrt(seeds))
    if seeds == 2:  # Student's t of one degree of freedom is Cauchy's distribution.
        assert p == pytest.approx(1 - 2 * np.arctan(abs(t)) / np.pi)
    if seeds == 3:
        assert p == pytest.approx(1 - abs(t) / np.sqrt(t**2 + 2))


def test_what_cannot_be_tested_has_no_p_value():
    """Equal differences of few seeds are chance: accuracies come in steps of one test example."""
    assert paired_p([0.9], [0.8]) is None
    assert paired_p([0.9, 0.8], [0.9, 0.8]) is None
    # 0.9 - 0.7 and 0.5 - 0.3 differ in the last bit.
    assert paired_p([0.9, 0.5], [0.7, 0.3]) is None
    with pytest.raises(dj.InputError, match=r"one entry per seed; got shapes \(2,\) and \(3,\)"):
        paired_p([0.9, 0.8], [0.9, 0.8, 0.7])


def test_holms_correction_is_its_definition():
    """Reject in ascending order while p <= level / (number not yet rejected): at each level, by a loop."""
    p_values = np.random.default_rng(1).random(12) ** 3
    adjusted = np.array(holm(p_values.tolist()))
    for level in np.linspace(0.001, 0.999, 200):
        rejected = set()
        for i in np.argsort(p_values):
            if p_values[i] > level / (len(p_values) - len(rejected)):
                break
            rejected.add(i)
        assert set(np.flatnonzero(adjusted <= level)) == rejected
    assert holm([0.01, None, 0.03]) == [0.02, None, 0.03]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(("seeds", "comparisons"), [(2, 1), (3, 120), (20, 7)])
def test_the_errors_that_significance_takes(seeds, comparisons):
    """At that many standard errors the smallest of so many p values is just at the level."""
    needed = errors_to_be_significant(seeds, comparisons)
    assert needed == pytest.approx(stats.t.ppf(1 - 0.025 / comparisons, seeds - 1))
    differences = np.linspace(-1, 1, seeds)
    differences += needed * differences.std(ddof=1) / np.sqrt(seeds)
    adjusted = holm([paired_p(differences, np.zeros(seeds)), *[1.0] * (comparisons - 1)])
    assert adjusted[0] == pytest.approx(0.05)
    assert errors_to_be_significant(1, 5) == np.inf


@pytest.mark.parametrize(
    ("differences", "text"),
    [
        ([0.01, 0.03], "+2.00 ± 1.00"),
        ([-0.01, -0.03], "-2.00 ± 1.00"),
        ([0.01, 0.01006], "+1.00 ± 0.003"),
        # Two seeds that differ by as many examples say nothing of their error.
        ([0.9 - 0.8, 0.7 - 0.6], "+10.00 ± n/a"),
        ([0.01], "+1.00"),
    ],
)
def test_an_error_is_never_written_as_zero(differences, text):
    assert Comparison.of(differences, [0.0] * len(differences)).text() == text
