"""How well each score finds wrong labels; not a figure of the paper.

Command: diet-jax reproduce noise-detection --scale small
benchmarks/noise_detection.py compares with cleanlab's confident learning.
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.noise import NoiseDetection
from diet_jax.experiments.reproduction.recipes import (
    CIFAR10_RESNET18,
    DIGITS,
    FASHION_MLP,
    MEDIUM_EPOCHS,
    shortened,
)
from diet_jax.experiments.reproduction.task import ScoreAt


def scores(epoch: float, last: float) -> tuple[ScoreAt, ...]:
    """All six, at a scale's own epochs."""
    by_network = (ScoreAt(name, epoch) for name in ("el2n", "grand", "grand_last_layer"))
    return *by_network, ScoreAt("forgetting", last), ScoreAt("input_norm"), ScoreAt("random")


CONFIG = PaperFigure(
    smoke=NoiseDetection(DIGITS.with_noise(0.1), scores(2, 8), score_seeds=2),
    small=NoiseDetection(FASHION_MLP.with_noise(0.1), scores(2, 8), score_seeds=4),
    medium=NoiseDetection(shortened(CIFAR10_RESNET18).with_noise(0.1), scores(10, MEDIUM_EPOCHS)),
    paper=NoiseDetection(CIFAR10_RESNET18.with_noise(0.1), scores(10, 200)),
)
