"""Appendix E.2: EL2N of clean and corrupted examples, and of the same examples before and after.

Command: diet-jax reproduce noise-distributions --scale small
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.noise import NoiseDistributions
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP, shortened
from diet_jax.experiments.reproduction.task import ScoreAt

CONFIG = PaperFigure(
    smoke=NoiseDistributions(DIGITS.with_noise(0.1), ScoreAt("el2n", 2), score_seeds=2),
    small=NoiseDistributions(FASHION_MLP.with_noise(0.1), ScoreAt("el2n", 2), score_seeds=4),
    medium=NoiseDistributions(shortened(CIFAR10_RESNET18).with_noise(0.1), ScoreAt("el2n", 10)),
    paper=NoiseDistributions(CIFAR10_RESNET18.with_noise(0.1), ScoreAt("el2n", 10)),
)
