"""How well each score finds wrong labels; not a figure of the paper.

Command: diet-jax reproduce noise-detection --scale small
benchmarks/noise_detection.py compares with cleanlab's confident learning.
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.noise import NoiseDetection
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP
from diet_jax.experiments.reproduction.task import ScoreAt

CONFIG = PaperFigure(
    smoke=NoiseDetection(
        DIGITS.with_noise(0.1),
        (
            ScoreAt("el2n", 2),
            ScoreAt("grand", 2),
            ScoreAt("grand_last_layer", 2),
            ScoreAt("forgetting", 8),
            ScoreAt("input_norm"),
            ScoreAt("random"),
        ),
        score_seeds=2,
    ),
    small=NoiseDetection(
        FASHION_MLP.with_noise(0.1),
        (
            ScoreAt("el2n", 2),
            ScoreAt("grand", 2),
            ScoreAt("grand_last_layer", 2),
            ScoreAt("forgetting", 8),
            ScoreAt("input_norm"),
            ScoreAt("random"),
        ),
        score_seeds=4,
    ),
    paper=NoiseDetection(
        CIFAR10_RESNET18.with_noise(0.1),
        (
            ScoreAt("el2n", 10),
            ScoreAt("grand", 10),
            ScoreAt("grand_last_layer", 10),
            ScoreAt("forgetting", 200),
            ScoreAt("input_norm"),
            ScoreAt("random"),
        ),
    ),
)
