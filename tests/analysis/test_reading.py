"""What a table says in short: against loops over its results."""

import numpy as np
import pytest
from scipy import stats

from diet_jax.analysis.reading import mean_ranks, pivot, verdicts
from diet_jax.analysis.results import FULL, RANDOM, Result, to_class_rows, to_rows
from diet_jax.analysis.statistics import holm

SEEDS = 6
GAINS = {"much better": 0.05, "a little better": 0.002, RANDOM: 0.0, "nearly": 0.0, "much worse": -0.05}


def result(kept_by, fraction, accuracy):
    return Result(
        kept_by,
        fraction,
        10,
        5,
        np.asarray(accuracy),
        np.asarray(accuracy)[:, None],
        np.arange(len(accuracy)),
    )


@pytest.fixture(scope="module")
def results():
    rng, found = np.random.default_rng(0), [result(FULL, 1.0, np.full(SEEDS, 0.9))]
    for fraction in (0.5, 0.1):
        base = 0.7 + 0.2 * fraction + rng.normal(0, 0.02, SEEDS)
        for name, gain in GAINS.items():
            # The gain of "a little better" is three of its standard errors.
            noise = 0.0015 * (-1.0) ** np.arange(SEEDS) * (name != RANDOM)
            found.append(result(name, fraction, base + gain + noise))
    return found


def test_p_values_of_the_table_are_corrected_for_all_its_comparisons(results):
    rows = to_rows(results)
    for baseline in ("everything", "random"):
        p_values = []
        for row, one in zip(rows, results, strict=True):
            other = next(
                r
                for r in results
                if r.kept_by == baseline and (baseline == FULL or one.fraction in (1, r.fraction))
            )
            compared = one is not other and not (baseline == RANDOM and one.kept_by == FULL)
            p_values.append(stats.ttest_rel(one.accuracy, other.accuracy).pvalue if compared else None)
            assert row[f"minus_{baseline}_p"] == (pytest.approx(p_values[-1]) if compared else None)
        assert [row[f"minus_{baseline}_p_holm"] for row in rows] == pytest.approx(holm(p_values))
        assert sum(p is not None for p in p_values) == (10 if baseline == FULL else 8)


def test_ranks_are_those_of_scipy_averaged_over_fractions(results):
    names = list(GAINS)
    ranks = []
    for fraction in (0.1, 0.5):
        means = [
            next(-r.accuracy.mean() for r in results if (r.kept_by, r.fraction) == (name, fraction))
            for name in names
        ]
        ranks.append(stats.rankdata(means))
    found = mean_ranks(to_rows(results))
    assert [found[name] for name in names] == pytest.approx(np.mean(ranks, axis=0).tolist())
    # Of a selection that is not there at every fraction nothing can be said.
    assert "nearly" not in mean_ranks(to_rows(results[:-2]))


def test_the_pivot_has_a_line_per_selection_and_says_what_is_significant(results):
    heads, lines = pivot(to_rows(results))
    assert heads == ("accuracy, %", "keep 0.1", "keep 0.5", "mean rank")
    cells = {name: values for name, *values in lines}
    assert lines[0] == (FULL, "90.00", "90.00", "")
    assert [name for name, *_ in lines[1:3]] == ["much better", "a little better"]
    assert lines[-1][0] == "much worse"
    for name in GAINS:
        for fraction, cell in zip((0.1, 0.5), cells[name], strict=False):
            mean = next(r.accuracy.mean() for r in results if (r.kept_by, r.fraction) == (name, fraction))
            arrow = {"much better": "↑", "much worse": "↓"}.get(name, "")
            assert cell == f"{100 * mean:.2f}{arrow}"


def test_a_sentence_for_each_fraction_and_one_of_what_cannot_be_told(results):
    first, second, power = verdicts(to_rows(results))
    assert first == (
        "keep 0.1: beat random: much better; lost to random: much worse; above it by more than 2 standard "
        "errors, not significantly: a little better; not told apart from it: nearly"
    )
    assert second.startswith("keep 0.5: beat random: much better; lost to random: much worse")
    needed = stats.t.ppf(1 - 0.025 / 8, SEEDS - 1)
    assert power.startswith("with 6 seeds and 8 comparisons with random, the clearest is significant at 0.05")
    assert f"from {needed:.1f} standard errors on" in power


def test_one_seed_tells_nothing_apart(results):
    one = [result(r.kept_by, r.fraction, r.accuracy[:1]) for r in results]
    said = verdicts(to_rows(one))
    assert said[0] == "keep 0.1: not told apart from it: much better, a little better, nearly, much worse"
    assert said[-1].startswith("nothing is told from chance")
    assert verdicts(to_rows([one[0]])) == []


def test_rows_of_classes_are_means_over_seeds_with_their_band():
    predicted, labels = [[0, 1, 1, 2], [0, 0, 1, 2], [1, 1, 1, 0]], [0, 0, 1, 3]
    rows = to_class_rows([Result.from_predictions("el2n", 0.5, 5, 10, predicted, labels)], "abcde")
    assert [row["class"] for row in rows] == list("abcde")
    assert [row["accuracy"] for row in rows] == [pytest.approx(0.5), 1.0, None, 0.0, None]
    assert rows[0]["accuracy_p16"] == pytest.approx(np.percentile([0.5, 1.0, 0.0], 16))
