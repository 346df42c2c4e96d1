"""Appendix F: scores against the memorisation values of Feldman and Zhang.

Command: diet-jax reproduce memorisation --scale paper --table memorisation.csv
The table is not part of diet_jax: a CSV file with the header id,memorisation and a line for each train
example, by the dataset's ids. The paper found no correlation (CIFAR-100, ResNet50).
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.rankings import Memorisation
from diet_jax.experiments.reproduction.recipes import (
    CIFAR100_RESNET50,
    DIGITS,
    FASHION_MLP,
    MEDIUM_EPOCHS,
    shortened,
)
from diet_jax.experiments.reproduction.task import ScoreAt


def scores(epoch: float, last: float) -> tuple[ScoreAt, ...]:
    """The three scores, at a scale's own epochs."""
    return ScoreAt("el2n", epoch), ScoreAt("grand", epoch), ScoreAt("forgetting", last)


CONFIG = PaperFigure(
    smoke=Memorisation(DIGITS, scores(2, 8), score_seeds=2),
    small=Memorisation(FASHION_MLP, scores(2, 8), score_seeds=4),
    medium=Memorisation(shortened(CIFAR100_RESNET50), scores(10, MEDIUM_EPOCHS)),
    paper=Memorisation(CIFAR100_RESNET50, scores(20, 200)),
)
