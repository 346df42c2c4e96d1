"""Appendix D.3, Figure 12: rank correlations between scores, the input norm among them.

Command: diet-jax reproduce fig12-correlations --scale small
Published: Kirsch's port of the authors' code (arXiv 2303.14753), CIFAR-10 and ResNet18, means of 10
networks.
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.rankings import Correlations
from diet_jax.experiments.reproduction.recipes import (
    CIFAR10_RESNET18,
    DIGITS,
    FASHION_MLP,
    MEDIUM_EPOCHS,
    shortened,
)
from diet_jax.experiments.reproduction.task import ScoreAt


def scores(early: float, last: float) -> tuple[ScoreAt, ...]:
    """The five scores, at a scale's own epochs."""
    return (
        ScoreAt("input_norm"),
        ScoreAt("grand", 0),
        ScoreAt("grand", early),
        ScoreAt("el2n", early),
        ScoreAt("forgetting", last),
    )


# Places in that order, and the published rank correlation.
PUBLISHED = (
    (0, 1, 0.963),
    (0, 3, -0.015),
    (1, 2, -0.024),
    (1, 3, -0.022),
    (1, 4, -0.023),
    (2, 3, 0.985),
    (2, 4, 0.868),
    (3, 4, 0.894),
)
ABOUT = "CIFAR-10, ResNet18 (Kirsch 2023)"
LABELS = tuple(at.label for at in scores(20, 200))

CONFIG = PaperFigure(
    smoke=Correlations(DIGITS, scores(2, 8), 2, PUBLISHED, LABELS, ABOUT),
    small=Correlations(FASHION_MLP, scores(2, 8), 4, PUBLISHED, LABELS, ABOUT),
    medium=Correlations(shortened(CIFAR10_RESNET18), scores(10, MEDIUM_EPOCHS), 10, PUBLISHED, LABELS, ABOUT),
    paper=Correlations(CIFAR10_RESNET18, scores(20, 200), 10, PUBLISHED, LABELS, ABOUT),
)
