"""Appendix C: the easiest and hardest images of every class.

Command: diet-jax reproduce examples --scale small
The paper took GraNd "at initialisation", which was of trained networks (see grand_at_init); here it is of
epoch 20.
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.images import ExampleImages
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP, shortened
from diet_jax.experiments.reproduction.task import ScoreAt

CONFIG = PaperFigure(
    smoke=ExampleImages(DIGITS, ScoreAt("grand", 2), score_seeds=2),
    small=ExampleImages(FASHION_MLP, ScoreAt("grand", 2), score_seeds=4),
    medium=ExampleImages(shortened(CIFAR10_RESNET18), ScoreAt("grand", 10)),
    paper=ExampleImages(CIFAR10_RESNET18, ScoreAt("grand", 20)),
)
