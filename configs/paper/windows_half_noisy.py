"""Appendix E.1: accuracy against the offset of the window; 10 % of the labels randomised, 50 % kept.

Command: diet-jax reproduce windows-half-noisy --scale small
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP
from diet_jax.experiments.reproduction.task import ScoreAt
from diet_jax.experiments.reproduction.windows import Windows

CONFIG = PaperFigure(
    smoke=Windows(
        DIGITS.with_noise(0.1),
        fraction=0.5,
        offsets=(0.2, 0.4, 0.5),
        score=ScoreAt("el2n", 2),
        score_seeds=2,
        retrain_seeds=2,
    ),
    small=Windows(
        FASHION_MLP.with_noise(0.1),
        fraction=0.5,
        offsets=(0, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5),
        score=ScoreAt("el2n", 2),
        score_seeds=4,
        retrain_seeds=3,
    ),
    paper=Windows(
        CIFAR10_RESNET18.with_noise(0.1),
        fraction=0.5,
        offsets=(0, 0.1, 0.2, 0.3, 0.35, 0.38, 0.4, 0.42, 0.44, 0.46, 0.48, 0.5),
        score=ScoreAt("el2n", 10),
    ),
)
