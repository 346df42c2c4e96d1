"""Appendix E.3: the window experiment with GraNd; 10 % of the labels randomised, 40 % kept.

The paper took GraNd "at initialisation", which was of trained networks (see grand_at_init); here it is of
epoch 10.

Command: diet-jax reproduce windows-grand-noisy --scale small
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP
from diet_jax.experiments.reproduction.task import ScoreAt
from diet_jax.experiments.reproduction.windows import Windows

CONFIG = PaperFigure(
    smoke=Windows(
        DIGITS.with_noise(0.1),
        fraction=0.4,
        offsets=(0.2, 0.5, 0.6),
        score=ScoreAt("grand", 2),
        score_seeds=2,
        retrain_seeds=2,
    ),
    small=Windows(
        FASHION_MLP.with_noise(0.1),
        fraction=0.4,
        offsets=(0, 0.3, 0.45, 0.5, 0.55, 0.6),
        score=ScoreAt("grand", 2),
        score_seeds=4,
        retrain_seeds=3,
    ),
    paper=Windows(
        CIFAR10_RESNET18.with_noise(0.1),
        fraction=0.4,
        offsets=(0, 0.1, 0.2, 0.3, 0.4, 0.42, 0.44, 0.46, 0.48, 0.5, 0.52, 0.54, 0.56, 0.57, 0.58, 0.59, 0.6),
        score=ScoreAt("grand", 10),
    ),
)
