"""Appendix D.2, Figure 11: accuracy against the fraction pruned for two networks, each by its own scores.

Command: diet-jax reproduce fig11-networks --scale small
Published: ResNet50 on CIFAR-10, digitised; "GraNd at initialisation" is left out (see grand_at_init).
"""

import dataclasses

from diet_jax.experiments.config import ModelConfig
from diet_jax.experiments.reproduction.accuracy import AccuracyByNetwork
from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.outcome import Published, points
from diet_jax.experiments.reproduction.recipes import (
    CIFAR10_RESNET18,
    CIFAR10_RESNET50,
    DIGITS,
    FASHION_MLP,
    MEDIUM_EPOCHS,
    shortened,
)
from diet_jax.experiments.reproduction.task import ScoreAt

WIDER = dataclasses.replace(FASHION_MLP, model=ModelConfig("mlp", widths=(256,)))
WIDER_DIGITS = dataclasses.replace(DIGITS, model=ModelConfig("mlp", widths=(64, 64)))

PRUNED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

CONFIG = PaperFigure(
    smoke=AccuracyByNetwork(
        (DIGITS, WIDER_DIGITS),
        fractions=(0.5, 0.3),
        scores=(ScoreAt("forgetting", 8), ScoreAt("el2n", 2)),
        score_seeds=2,
        retrain_seeds=2,
    ),
    small=AccuracyByNetwork(
        (FASHION_MLP, WIDER),
        fractions=(0.7, 0.5, 0.3),
        scores=(ScoreAt("forgetting", 8), ScoreAt("el2n", 2)),
        score_seeds=4,
        retrain_seeds=3,
    ),
    medium=AccuracyByNetwork(
        (shortened(CIFAR10_RESNET18), shortened(CIFAR10_RESNET50)),
        fractions=(0.7, 0.5, 0.3),
        scores=(ScoreAt("forgetting", MEDIUM_EPOCHS), ScoreAt("el2n", 10)),
        retrain_seeds=2,
    ),
    paper=AccuracyByNetwork(
        (CIFAR10_RESNET18, CIFAR10_RESNET50),
        fractions=(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3),
        scores=(ScoreAt("forgetting", 200), ScoreAt("el2n", 20)),
    ),
    published=Published(
        "CIFAR-10, ResNet50",
        series={
            "forgetting": points(PRUNED, (0.955, 0.9557, 0.9561, 0.9563, 0.9575, 0.9552, 0.94)),
            "el2n": points(PRUNED, (0.9556, 0.955, 0.9574, 0.9572, 0.9548, 0.9497, 0.927)),
            "random": points(PRUNED, (0.952, 0.95, 0.947, 0.942, 0.937, 0.929, 0.917)),
        },
        levels={"everything": 0.9552},
    ),
)
