"""Rank correlations between the scores of one dataset, as a matrix."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from diet_jax.analysis.statistics import rank_correlations
from diet_jax.errors import InputError, counted
from diet_jax.plotting.result import draw_result
from diet_jax.scores.file import ScoreFile

# One number says what two scores have in common; a matrix is for more.
LEAST_SCORES = 3


def can_correlate(files: Sequence[ScoreFile]) -> bool:
    """Says whether at least three scores have ranks to correlate."""
    return len(_ranked(files)) >= LEAST_SCORES


def draw_correlations(files: Sequence[ScoreFile], *, title: str) -> Figure:
    """Draws Spearman's rank correlation of the means over seeds, of every pair of scores.

    Args:
        files: of the same examples in the same order. An infinite mean ranks highest; scores with a NaN, or
            that give all examples the same value, have no ranks and are left out, which the note says.
        title: what the scores are of.

    Returns:
        A figure with one axes, in which scores that rank alike stand side by side.

    Raises:
        InputError: fewer than three scores have ranks, or files are of other examples.
    """
    ranked = _ranked(files)
    if len(ranked) < LEAST_SCORES:
        raise InputError(
            f"files must hold at least {LEAST_SCORES} scores that have ranks, got {len(ranked)} of "
            f"{counted(len(files), 'file')}; add scores without NaN"
        )
    left = [file.name for file in files if file not in ranked]
    ranked = ScoreFile.join(ranked)
    matrix = rank_correlations([file.scores for file in ranked])
    order = _side_by_side(matrix)
    names = [ranked[place].name for place in order]
    note = "Spearman's rank correlation of the means over seeds; an infinite mean ranks highest. "
    note += "Those that rank alike stand side by side (average linkage)."
    note += f" Left out, for lack of ranks: {', '.join(left)}." if left else ""
    panel = {
        "title": f"{len(ranked[0].scores):,} examples",
        "rows": names,
        "columns": names,
        "values": matrix[np.ix_(order, order)].tolist(),
        "format": ".2f",
        "low": -1,
        "high": 1,
        "value_label": "rank correlation",
    }
    return draw_result({"title": title, "note": note, "chart": {"kind": "matrix", "panels": [panel]}})


def _ranked(files: Sequence[ScoreFile]) -> list[ScoreFile]:
    return [f for f in files if not np.isnan(f.scores).any() and f.scores.min() < f.scores.max()]


def _side_by_side(matrix: np.ndarray) -> list[int]:
    """The leaves of a tree of average linkage, turned so that neighbours rank most alike."""
    from scipy.cluster.hierarchy import leaves_list, linkage  # Slow to import, and seldom needed.

    distances = np.maximum(1 - matrix[np.triu_indices(len(matrix), 1)], 0)
    return leaves_list(linkage(distances, "average", optimal_ordering=True)).tolist()
