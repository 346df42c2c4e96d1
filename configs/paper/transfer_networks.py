"""Camera-ready supplement: scores of one network prune the training of another.

Command: diet-jax reproduce transfer-networks --scale small
The paper's pairs of ResNets and VGGs are not known in full; these are ours.
"""

import dataclasses

from diet_jax.experiments.config import ModelConfig
from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.recipes import (
    CIFAR10_RESNET18,
    CIFAR10_RESNET50,
    DIGITS,
    FASHION_CNN,
    shortened,
)
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.experiments.reproduction.transfer import Transfer


def with_model(task: Task, name: str, widths: tuple[int, ...] | None = None) -> Task:
    """The same data and recipe with another network."""
    return dataclasses.replace(task, model=ModelConfig(name, widths=widths))


PAPER = (
    ("resnet18", CIFAR10_RESNET18),
    ("resnet50", CIFAR10_RESNET50),
    ("vgg16", with_model(CIFAR10_RESNET18, "vgg16")),
)

CONFIG = PaperFigure(
    smoke=Transfer(
        (("mlp 32", DIGITS), ("mlp 64", with_model(DIGITS, "mlp", (64,)))),
        ScoreAt("el2n", 2),
        fraction=0.3,
        score_seeds=2,
        retrain_seeds=2,
    ),
    small=Transfer(
        (
            ("small_cnn", FASHION_CNN),
            ("mlp", with_model(FASHION_CNN, "mlp")),
            ("wide mlp", with_model(FASHION_CNN, "mlp", (512,))),
        ),
        ScoreAt("el2n", 5),
        fraction=0.5,
        score_seeds=4,
        retrain_seeds=2,
    ),
    medium=Transfer(
        tuple((name, shortened(task)) for name, task in PAPER),
        ScoreAt("el2n", 10),
        fraction=0.5,
        retrain_seeds=2,
    ),
    paper=Transfer(
        PAPER,
        ScoreAt("el2n", 20),
        fraction=0.5,
    ),
)
