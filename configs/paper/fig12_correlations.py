"""Appendix D.3, Figure 12: rank correlations between scores, the input norm among them.

Command: diet-jax reproduce fig12-correlations --scale small
Published: Kirsch's port of the authors' code (arXiv 2303.14753), CIFAR-10 and ResNet18, means of 10
networks.
"""

from diet_jax.reproduction.figure import PaperFigure
from diet_jax.reproduction.rankings import Correlations
from diet_jax.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP
from diet_jax.reproduction.task import ScoreAt


def correlations(early: int, last: int) -> tuple[tuple[str, str, float], ...]:
    """The published correlations, with the epochs of a scale in the names of the scores."""
    initial, grand, el2n, forgetting = (
        "GraNd at epoch 0",
        f"GraNd at epoch {early}",
        f"EL2N at epoch {early}",
        f"forgetting at epoch {last}",
    )
    return (
        ("input norm", initial, 0.963),
        (initial, grand, -0.024),
        (initial, el2n, -0.022),
        (initial, forgetting, -0.023),
        (grand, el2n, 0.985),
        (grand, forgetting, 0.868),
        (el2n, forgetting, 0.894),
        ("input norm", el2n, -0.015),
    )


CONFIG = PaperFigure(
    smoke=Correlations(
        DIGITS,
        (
            ScoreAt("input_norm"),
            ScoreAt("grand", 0),
            ScoreAt("grand", 2),
            ScoreAt("el2n", 2),
            ScoreAt("forgetting", 8),
        ),
        score_seeds=2,
        published=correlations(2, 8),
    ),
    small=Correlations(
        FASHION_MLP,
        (
            ScoreAt("input_norm"),
            ScoreAt("grand", 0),
            ScoreAt("grand", 2),
            ScoreAt("el2n", 2),
            ScoreAt("forgetting", 8),
        ),
        score_seeds=4,
        published=correlations(2, 8),
    ),
    paper=Correlations(
        CIFAR10_RESNET18,
        (
            ScoreAt("input_norm"),
            ScoreAt("grand", 0),
            ScoreAt("grand", 20),
            ScoreAt("el2n", 20),
            ScoreAt("forgetting", 200),
        ),
        published=correlations(20, 200),
    ),
)
