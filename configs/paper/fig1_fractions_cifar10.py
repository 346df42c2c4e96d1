"""Figure 1, row 2: accuracy against the fraction pruned; CIFAR-10, ResNet18.

Command: diet-jax reproduce fig1-fractions-cifar10 --scale small
Published: version 1 of the paper, digitised to ±0.0004; its "GraNd at initialisation" is left out, for it
is of trained networks (see grand_at_init). GraNd is taken at the epoch of EL2N instead.
"""

from diet_jax.experiments.reproduction.accuracy import AccuracyByFraction
from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.outcome import Published
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP
from diet_jax.experiments.reproduction.task import ScoreAt

CONFIG = PaperFigure(
    smoke=AccuracyByFraction(
        DIGITS,
        fractions=(0.5, 0.3),
        scores=(ScoreAt("forgetting", 8), ScoreAt("el2n", 2), ScoreAt("grand", 2)),
        score_seeds=2,
        retrain_seeds=2,
    ),
    small=AccuracyByFraction(
        FASHION_MLP,
        fractions=(0.9, 0.7, 0.5, 0.4, 0.3),
        scores=(ScoreAt("forgetting", 8), ScoreAt("el2n", 2), ScoreAt("grand", 2)),
        claim_fraction=0.5,
        score_seeds=4,
        retrain_seeds=3,
    ),
    paper=AccuracyByFraction(
        CIFAR10_RESNET18,
        fractions=(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3),
        scores=(ScoreAt("forgetting", 200), ScoreAt("el2n", 20), ScoreAt("grand", 20)),
        claim_fraction=0.5,
    ),
    published=Published(
        "CIFAR-10, ResNet18",
        series={
            "forgetting": (
                (0.1, 0.954),
                (0.2, 0.952),
                (0.3, 0.954),
                (0.4, 0.954),
                (0.5, 0.953),
                (0.6, 0.95),
                (0.7, 0.922),
            ),
            "el2n": (
                (0.1, 0.951),
                (0.2, 0.9546),
                (0.3, 0.9549),
                (0.4, 0.953),
                (0.5, 0.9516),
                (0.6, 0.9475),
                (0.7, 0.919),
            ),
            "random": (
                (0.1, 0.95),
                (0.2, 0.948),
                (0.3, 0.944),
                (0.4, 0.939),
                (0.5, 0.934),
                (0.6, 0.927),
                (0.7, 0.916),
            ),
        },
        levels={"everything": 0.9521},
    ),
)
