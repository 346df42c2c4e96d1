"""Figure 1, row 2, at one keep fraction and with two networks: what to begin with where time is short.

Command: diet-jax reproduce first-comparison --scale small
Medium:    21 million images, some 8 minutes of an H100 (reckoned as in families.py).
Published: as of fig1-fractions-cifar10, which goes on from the scores and networks of this one.
"""

from diet_jax.experiments.reproduction.accuracy import AccuracyByFraction
from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.outcome import Published
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP, shortened
from diet_jax.experiments.reproduction.task import ScoreAt, Task


def comparison(task: Task, epoch: float, score_seeds: int) -> AccuracyByFraction:
    """Keep 0.5 by EL2N and by GraNd of an early epoch, at random, and everything."""
    scores = ScoreAt("el2n", epoch), ScoreAt("grand", epoch)
    return AccuracyByFraction(task, (0.5,), scores, score_seeds=score_seeds, retrain_seeds=2)


CONFIG = PaperFigure(
    smoke=comparison(DIGITS, 2, 2),
    small=comparison(FASHION_MLP, 2, 4),
    medium=comparison(shortened(CIFAR10_RESNET18), 10, 10),
    paper=comparison(CIFAR10_RESNET18, 20, 10),
    published=Published(
        "CIFAR-10, ResNet18",
        series={"el2n": ((0.5, 0.9516),), "random": ((0.5, 0.934),)},
        levels={"everything": 0.9521},
    ),
)
