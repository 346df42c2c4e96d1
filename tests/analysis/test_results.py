"""The table: every number against a plain loop over seeds."""

import math

import numpy as np
import pytest

from diet_jax.analysis.results import (
    FULL,
    HEADINGS,
    RANDOM,
    SPARE,
    Result,
    headings,
    to_cells,
    to_columns,
    to_csv,
    to_markdown,
    to_rows,
)

LABELS = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2, 2])


def predictions(seed: int, num_seeds: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((num_seeds, 10)) < 0.7, LABELS, (LABELS + 1) % 3)


def result(kept_by: str, fraction: float, seed: int, num_seeds: int = 4) -> Result:
    return Result.from_predictions(kept_by, fraction, 50, 100, predictions(seed, num_seeds), LABELS)


@pytest.fixture
def rows():
    return to_rows([result(FULL, 1.0, 0), result("el2n", 0.5, 1), result(RANDOM, 0.5, 2)])


def accuracies(seed):
    return [sum(p == y for p, y in zip(run, LABELS, strict=True)) / 10 for run in predictions(seed)]


def test_accuracy_and_band(rows):
    for row, seed in zip(rows, (0, 1, 2), strict=True):
        ordered = sorted(accuracies(seed))
        assert row["accuracy"] == pytest.approx(sum(ordered) / 4)
        # Linear interpolation between order statistics: rank 0.16 * 3 is between the first two.
        assert row["accuracy_p16"] == pytest.approx(ordered[0] + 0.48 * (ordered[1] - ordered[0]))
        assert row["accuracy_p84"] == pytest.approx(ordered[2] + 0.52 * (ordered[3] - ordered[2]))


def test_differences_are_paired_by_seed(rows):
    paired = [a - b for a, b in zip(accuracies(1), accuracies(2), strict=True)]
    mean = sum(paired) / 4
    error = math.sqrt(sum((d - mean) ** 2 for d in paired) / 3 / 4)
    assert rows[1]["minus_random"] == pytest.approx(mean)
    assert rows[1]["minus_random_error"] == pytest.approx(error)
    assert rows[1]["minus_everything"] == pytest.approx(np.mean(accuracies(1)) - np.mean(accuracies(0)))
    assert rows[0]["minus_everything"] is None
    assert rows[2]["minus_random"] is None


def test_worst_class_is_the_lowest_mean_over_seeds(rows):
    per_class = []
    for c in range(3):
        hits = [p == y for run in predictions(1) for p, y in zip(run, LABELS, strict=True) if y == c]
        per_class.append(sum(hits) / len(hits))
    assert rows[1]["worst_class_accuracy"] == pytest.approx(min(per_class))


def test_a_class_without_test_examples_has_no_accuracy_and_is_not_the_worst():
    # Class 1 of 4 is never a label, and always predicted wrongly for another.
    judged = Result.from_predictions("el2n", 0.5, 5, 10, [[0, 2, 1, 3]], [0, 2, 3, 3], least_kept=0)
    np.testing.assert_array_equal(judged.class_accuracy, [[1, np.nan, 1, 0.5]])
    row = to_rows([judged])[0]
    assert (row["worst_class_accuracy"], row["least_kept_of_a_class"]) == (0.5, 0)
    assert to_cells([row])[0][-2:] == ("0", "")


def test_one_seed_has_no_standard_error():
    rows = to_rows([result(FULL, 1.0, 0, 1), result("el2n", 0.5, 1, 1), result(RANDOM, 0.5, 2, 1)])
    assert math.isnan(rows[1]["minus_random_error"])
    text = to_markdown(headings(rows), to_cells(rows))
    assert "±" not in text
    assert "nan" not in text


def test_text_forms_agree_with_the_rows(rows):
    lines = to_csv(rows).splitlines()
    assert len(lines) == 4
    values = dict(zip(lines[0].split(","), lines[2].split(","), strict=True))
    assert float(values["accuracy"]) == rows[1]["accuracy"]
    assert lines[1].split(",")[lines[0].split(",").index("minus_random")] == ""
    cells = dict(zip(HEADINGS, to_cells(rows)[1], strict=True))
    assert cells["accuracy"] == f"{100 * rows[1]['accuracy']:.2f}"
    markdown = to_markdown(headings(rows), to_cells(rows)).splitlines()
    assert len(markdown) == 5
    assert all(line.count("|") == len(HEADINGS) + 1 for line in markdown)


@pytest.mark.parametrize("of_seeds", [None, 20])
@pytest.mark.parametrize("room", [60, 79, 99, 119, math.inf])
@pytest.mark.parametrize("names", [("el2n", "random"), ("forgetting", "grand_last_layer", "el2n+grand")])
def test_a_narrow_table_has_fewer_columns_and_whole_numbers(names, room, of_seeds):
    rng = np.random.default_rng(0)
    results = [
        Result(
            *(name, fraction, round(50_000 * fraction), 100), rng.random(5), rng.random((5, 3)), np.arange(5)
        )
        for name, fraction in [(FULL, 1.0), *((name, 0.05) for name in names)]
    ]
    rows = to_rows(results, of_seeds=of_seeds)
    columns, everything = to_columns(rows, room, 3), to_columns(rows, math.inf, 3)
    assert list(everything) == list(headings(rows))
    assert list(zip(*everything.values(), strict=True)) == to_cells(rows)
    assert columns == {name: everything[name] for name in columns}
    left_out = [name for name in everything if name not in columns]
    assert set(left_out) == set(SPARE[: len(left_out)])
    wide = [
        sum(max(map(len, (n, *texts))) + 3 for n, texts in some.items()) for some in (columns, everything)
    ]
    assert wide[0] <= room or len(left_out) == len(SPARE)
    assert not left_out or wide[1] > room
    if room >= 79 and of_seeds is None:
        assert wide[0] <= room
