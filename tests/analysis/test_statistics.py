"""Numbers over seeds, against SciPy and by hand."""

import numpy as np
import pytest
from scipy import stats

from diet_jax.analysis.statistics import Comparison, Summary, spearman


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
