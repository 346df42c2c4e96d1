"""Figures of a run. `draw_*` return a Matplotlib figure, `*_figure` write it to a file."""

from diet_jax.plotting.accuracy import accuracy_figure, draw_accuracy
from diet_jax.plotting.examples import draw_examples, easiest_and_hardest, examples_figure
from diet_jax.plotting.histogram import draw_histogram, histogram_figure
from diet_jax.plotting.result import draw_result, result_figure

__all__ = [
    "accuracy_figure",
    "draw_accuracy",
    "draw_examples",
    "draw_histogram",
    "draw_result",
    "easiest_and_hardest",
    "examples_figure",
    "histogram_figure",
    "result_figure",
]
