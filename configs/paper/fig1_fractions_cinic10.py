"""Figure 1, row 2: accuracy against the fraction pruned; CINIC-10, ResNet18.

Command: diet-jax reproduce fig1-fractions-cinic10 --scale small
Medium:    259 million images, reckoned at 44,000 a second some 98 minutes of an H100.
Published: version 1 of the paper, digitised to ±0.0004; its "GraNd at initialisation" is left out, for it
is of trained networks (see grand_at_init). GraNd is taken at the epoch of EL2N instead.
"""

from diet_jax.experiments.reproduction.accuracy import AccuracyByFraction
from diet_jax.experiments.reproduction.families import accuracy_by_fraction
from diet_jax.experiments.reproduction.outcome import Published, points
from diet_jax.experiments.reproduction.recipes import CIFAR10_CNN, CINIC10_RESNET18
from diet_jax.experiments.reproduction.task import ScoreAt

PRUNED = (0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55)

CONFIG = accuracy_by_fraction(
    small=AccuracyByFraction(
        CIFAR10_CNN, (0.8, 0.6), (ScoreAt("el2n", 12),), claim_fraction=0.6, score_seeds=4, retrain_seeds=2
    ),
    medium=(0.8, 0.6, 0.5),
    paper=CINIC10_RESNET18,
    fractions=(0.9, 0.8, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45),
    published=Published(
        "CINIC-10, ResNet18",
        series={
            "forgetting": points(PRUNED, (0.9015, 0.902, 0.9028, 0.9024, 0.9011, 0.9, 0.895, 0.89)),
            "el2n": points(PRUNED, (0.9015, 0.9022, 0.9024, 0.902, 0.9003, 0.8974, 0.8912, 0.876)),
            "random": points(PRUNED, (0.898, 0.895, 0.89, 0.887, 0.8846, 0.8815, 0.878, 0.874)),
        },
        levels={"everything": 0.9014},
    ),
)
