"""Appendix D.1: how many networks a score must be averaged over.

Command: diet-jax reproduce number-of-seeds --scale small
Published (from a reader's notes): one network's GraNd has rank correlation 0.75 with the mean of ten, and
prunes worse.
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.rankings import NumberOfSeeds
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP, shortened
from diet_jax.experiments.reproduction.task import ScoreAt

CONFIG = PaperFigure(
    smoke=NumberOfSeeds(
        DIGITS, (ScoreAt("el2n", 2), ScoreAt("grand", 2)), counts=(1, 2), fraction=0.3, retrain_seeds=2
    ),
    small=NumberOfSeeds(
        FASHION_MLP,
        (ScoreAt("el2n", 2), ScoreAt("grand", 2)),
        counts=(1, 2, 5, 10),
        fraction=0.4,
        retrain_seeds=3,
    ),
    medium=NumberOfSeeds(
        shortened(CIFAR10_RESNET18),
        (ScoreAt("el2n", 10), ScoreAt("grand", 10)),
        counts=(1, 2, 5, 10),
        fraction=0.5,
        retrain_seeds=2,
    ),
    paper=NumberOfSeeds(
        CIFAR10_RESNET18, (ScoreAt("el2n", 20), ScoreAt("grand", 20)), counts=(1, 2, 5, 10, 20), fraction=0.5
    ),
)
