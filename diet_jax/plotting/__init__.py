"""Figures of a run: `draw_*` return a Matplotlib figure, `save_figure` writes one as PNG."""

from diet_jax.plotting.accuracy import draw_accuracy
from diet_jax.plotting.correlations import can_correlate, draw_correlations
from diet_jax.plotting.costs import draw_costs
from diet_jax.plotting.examples import draw_examples, hardest_and_easiest
from diet_jax.plotting.histogram import draw_histogram
from diet_jax.plotting.result import draw_result
from diet_jax.plotting.style import save_figure

__all__ = [
    "can_correlate",
    "draw_accuracy",
    "draw_correlations",
    "draw_costs",
    "draw_examples",
    "draw_histogram",
    "draw_result",
    "hardest_and_easiest",
    "save_figure",
]
