"""Appendix E.1: accuracy against the offset of the window; clean labels, 50 % kept instead of 40 %.

Command: diet-jax reproduce windows-half-clean --scale small
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP
from diet_jax.experiments.reproduction.task import ScoreAt
from diet_jax.experiments.reproduction.windows import Windows

CONFIG = PaperFigure(
    smoke=Windows(
        DIGITS,
        fraction=0.5,
        offsets=(0.2, 0.4, 0.5),
        score=ScoreAt("el2n", 2),
        score_seeds=2,
        retrain_seeds=2,
        top_is_best=True,
    ),
    small=Windows(
        FASHION_MLP,
        fraction=0.5,
        offsets=(0, 0.2, 0.3, 0.4, 0.45, 0.49, 0.5),
        score=ScoreAt("el2n", 2),
        score_seeds=4,
        retrain_seeds=3,
        top_is_best=True,
    ),
    paper=Windows(
        CIFAR10_RESNET18,
        fraction=0.5,
        offsets=(0, 0.1, 0.2, 0.3, 0.4, 0.42, 0.44, 0.46, 0.48, 0.49, 0.5),
        score=ScoreAt("el2n", 10),
        top_is_best=True,
    ),
)
