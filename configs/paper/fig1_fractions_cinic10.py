"""Figure 1, row 2: accuracy against the fraction pruned; CINIC-10, ResNet18.

Command: diet-jax reproduce fig1-fractions-cinic10 --scale small
Published: version 1 of the paper, digitised to ±0.0004; its "GraNd at initialisation" is left out, for it
is of trained networks (see grand_at_init). GraNd is taken at the epoch of EL2N instead.
"""

from diet_jax.experiments.reproduction.accuracy import AccuracyByFraction
from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.outcome import Published
from diet_jax.experiments.reproduction.recipes import CIFAR10_CNN, CINIC10_RESNET18, DIGITS
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
        CIFAR10_CNN,
        fractions=(0.8, 0.6),
        scores=(ScoreAt("el2n", 12),),
        claim_fraction=0.6,
        score_seeds=4,
        retrain_seeds=2,
    ),
    paper=AccuracyByFraction(
        CINIC10_RESNET18,
        fractions=(0.9, 0.8, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45),
        scores=(ScoreAt("forgetting", 200), ScoreAt("el2n", 20), ScoreAt("grand", 20)),
        claim_fraction=0.6,
    ),
    published=Published(
        "CINIC-10, ResNet18",
        series={
            "forgetting": (
                (0.1, 0.9015),
                (0.2, 0.902),
                (0.3, 0.9028),
                (0.35, 0.9024),
                (0.4, 0.9011),
                (0.45, 0.9),
                (0.5, 0.895),
                (0.55, 0.89),
            ),
            "el2n": (
                (0.1, 0.9015),
                (0.2, 0.9022),
                (0.3, 0.9024),
                (0.35, 0.902),
                (0.4, 0.9003),
                (0.45, 0.8974),
                (0.5, 0.8912),
                (0.55, 0.876),
            ),
            "random": (
                (0.1, 0.898),
                (0.2, 0.895),
                (0.3, 0.89),
                (0.35, 0.887),
                (0.4, 0.8846),
                (0.45, 0.8815),
                (0.5, 0.878),
                (0.55, 0.874),
            ),
        },
        levels={"everything": 0.9014},
    ),
)
