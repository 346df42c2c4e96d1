"""Figure 2, left: accuracy against the offset of the window; clean labels, 40 % kept.

Published: digitised to ±0.0004.

Command: diet-jax reproduce fig2-windows-clean --scale small
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.outcome import Published
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP
from diet_jax.experiments.reproduction.task import ScoreAt
from diet_jax.experiments.reproduction.windows import Windows

CONFIG = PaperFigure(
    smoke=Windows(
        DIGITS,
        fraction=0.4,
        offsets=(0.2, 0.5, 0.6),
        score=ScoreAt("el2n", 2),
        score_seeds=2,
        retrain_seeds=2,
    ),
    small=Windows(
        FASHION_MLP,
        fraction=0.4,
        offsets=(0, 0.2, 0.4, 0.5, 0.55, 0.58, 0.59, 0.6),
        score=ScoreAt("el2n", 2),
        score_seeds=4,
        retrain_seeds=3,
    ),
    paper=Windows(
        CIFAR10_RESNET18,
        fraction=0.4,
        offsets=(0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.52, 0.54, 0.56, 0.57, 0.58, 0.59, 0.6),
        score=ScoreAt("el2n", 10),
    ),
    published=Published(
        "CIFAR-10, ResNet18: clean labels",
        series={
            "el2n": (
                (0, 0.844),
                (0.1, 0.863),
                (0.2, 0.882),
                (0.3, 0.898),
                (0.4, 0.912),
                (0.5, 0.9315),
                (0.52, 0.933),
                (0.54, 0.939),
                (0.56, 0.943),
                (0.57, 0.947),
                (0.58, 0.947),
                (0.59, 0.948),
                (0.6, 0.942),
            ),
        },
        levels={"everything": 0.952, "random": 0.927},
    ),
)
