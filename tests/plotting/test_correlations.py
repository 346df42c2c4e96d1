"""The figure of rank correlations: its numbers are those of another route, in rows and columns that agree."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr

from diet_jax.cli.main import main
from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.plotting import can_correlate, draw_correlations
from diet_jax.scores.file import ScoreFile

ROWS = 40
RNG = np.random.default_rng(0)
HARD = RNG.normal(size=ROWS)
NOISE = RNG.normal(size=ROWS)
DATASET = Dataset.from_arrays(RNG.normal(size=(ROWS, 2)), np.arange(ROWS) % 2)


def make_file(name, *per_seed):
    return ScoreFile.from_seeds(name, np.array(per_seed), DATASET, step=1)


def some_files():
    """Two that rank nearly alike, with others in between; one with infinite means and ties."""
    rounded = np.where(HARD > 0.8, np.inf, np.round(HARD))
    return [
        make_file("el2n", HARD, HARD + NOISE),
        make_file("input_norm", NOISE[::-1]),
        make_file("forgetting", rounded, rounded + 1),
        make_file("opposite", -(NOISE[::-1] ** 3)),
        make_file("loss", np.exp(HARD), np.exp(HARD + NOISE / 2)),
    ]


def cells(figure):
    """The numbers by the names of row and column, as they are written."""
    axes = figure.axes[0]
    rows, columns = ([t.get_text() for t in ax.get_ticklabels()] for ax in (axes.yaxis, axes.xaxis))
    assert rows == columns
    texts = [text for text in axes.texts if text.get_text()]
    assert len(texts) == len(rows) ** 2
    return rows, {
        (rows[int(text.get_position()[1])], columns[int(text.get_position()[0])]): text.get_text()
        for text in texts
    }


def test_every_cell_is_the_correlation_of_its_row_and_column():
    files = some_files()
    names, shown = cells(draw_correlations(files, title="t"))
    assert {*names} == {file.name for file in files}
    for a in files:
        for b in files:
            finite = [np.where(np.isinf(f.scores), 1e9, f.scores) for f in (a, b)]
            assert float(shown[a.name, b.name].replace("−", "-")) == pytest.approx(
                spearmanr(*finite).statistic, abs=0.00501
            )
    assert shown["input_norm", "opposite"] == "−1.00"
    assert abs(names.index("el2n") - names.index("loss")) == 1


def test_files_are_joined_by_id():
    first, second, *others = some_files()
    arrays = ("scores", "per_seed", "ids", "labels", "rows")
    turned = dataclasses.replace(second, **{name: getattr(second, name)[..., ::-1] for name in arrays})
    figures = [draw_correlations([first, one, *others], title="t") for one in (second, turned)]
    assert cells(figures[0]) == cells(figures[1])


def test_scores_without_ranks_are_left_out_and_three_must_be_left():
    files = some_files()
    with pytest.warns(match="NaN"):
        undefined = make_file("mine", np.where(HARD > 1, np.nan, HARD))
    constant = make_file("flat", np.ones(ROWS))
    figure = draw_correlations([undefined, constant, *files], title="t")
    assert cells(figure) == cells(draw_correlations(files, title="t"))
    assert "mine, flat" in figure.get_supxlabel().replace("\n", " ")
    assert can_correlate(files[:3])
    assert not can_correlate([undefined, constant, *files[:2]])
    with pytest.raises(InputError, match="at least 3 scores that have ranks, got 2 of 4 files"):
        draw_correlations([undefined, constant, *files[:2]], title="t")


@pytest.mark.parametrize(
    ("names", "drawn"), [(("el2n", "input_norm", "loss"), True), (("el2n", "loss"), False)]
)
def test_score_draws_it_where_there_are_three(tmp_path, names, drawn):
    data = ("--data.num-train", "64", "--train.steps", "2", "--score.epoch", "1", "--score.num-seeds", "1")
    main(["score", *data, "--score.names", *names, "--run-dir", str(tmp_path)])
    assert (tmp_path / "figures" / "correlations.png").is_file() == drawn
