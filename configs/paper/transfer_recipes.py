"""Camera-ready supplement: scores of one learning rate and weight decay prune the training of another.

Command: diet-jax reproduce transfer-recipes --scale small
The paper's grid is not known; this is ours.
"""

import dataclasses

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP, shortened
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.experiments.reproduction.transfer import Transfer


def with_recipe(task: Task, rate: float, weight_decay: float) -> Task:
    """The same data and network with another learning rate and weight decay."""
    train = dataclasses.replace(task.train, learning_rate=rate, weight_decay=weight_decay)
    return dataclasses.replace(task, train=train)


def grid(task: Task, rates: tuple[float, ...], decays: tuple[float, ...]) -> tuple[tuple[str, Task], ...]:
    """Every rate with every weight decay, named after them."""
    return tuple((f"lr {r:g}, wd {d:g}", with_recipe(task, r, d)) for r in rates for d in decays)


CONFIG = PaperFigure(
    smoke=Transfer(
        grid(DIGITS, (0.05, 0.02), (5e-4,)), ScoreAt("el2n", 2), fraction=0.3, score_seeds=2, retrain_seeds=2
    ),
    small=Transfer(
        grid(FASHION_MLP, (0.1, 0.02), (5e-4, 0.0)),
        ScoreAt("el2n", 2),
        fraction=0.4,
        score_seeds=2,
        retrain_seeds=2,
    ),
    medium=Transfer(
        grid(shortened(CIFAR10_RESNET18), (0.1, 0.02), (5e-4, 1e-4)),
        ScoreAt("el2n", 10),
        fraction=0.5,
        retrain_seeds=2,
    ),
    paper=Transfer(
        grid(CIFAR10_RESNET18, (0.1, 0.05, 0.02), (5e-4, 1e-4)), ScoreAt("el2n", 20), fraction=0.5
    ),
)
