"""Appendix E.3: the window experiment with GraNd; clean labels, 40 % kept.

The paper took GraNd "at initialisation", which was of trained networks (see grand_at_init); here it is of
epoch 10.

Command: diet-jax reproduce windows-grand-clean --scale small
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP
from diet_jax.experiments.reproduction.task import ScoreAt
from diet_jax.experiments.reproduction.windows import Windows

CONFIG = PaperFigure(
    smoke=Windows(
        DIGITS,
        fraction=0.4,
        offsets=(0.2, 0.5, 0.6),
        score=ScoreAt("grand", 2),
        score_seeds=2,
        retrain_seeds=2,
    ),
    small=Windows(
        FASHION_MLP,
        fraction=0.4,
        offsets=(0, 0.3, 0.5, 0.58, 0.6),
        score=ScoreAt("grand", 2),
        score_seeds=4,
        retrain_seeds=3,
    ),
    paper=Windows(
        CIFAR10_RESNET18,
        fraction=0.4,
        offsets=(0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.52, 0.54, 0.56, 0.57, 0.58, 0.59, 0.6),
        score=ScoreAt("grand", 10),
    ),
)
