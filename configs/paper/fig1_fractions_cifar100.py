"""Figure 1, row 2: accuracy against the fraction pruned; CIFAR-100, ResNet50.

Command: diet-jax reproduce fig1-fractions-cifar100 --scale small
Medium:    72 million images in ResNet50, reckoned by its multiplications some 64 minutes of an H100.
Published: version 1 of the paper, digitised to ±0.0004; its "GraNd at initialisation" is left out, for it
is of trained networks (see grand_at_init). GraNd is taken at the epoch of EL2N instead.
"""

from diet_jax.experiments.reproduction.accuracy import AccuracyByFraction
from diet_jax.experiments.reproduction.families import accuracy_by_fraction, three_scores
from diet_jax.experiments.reproduction.outcome import Published, points
from diet_jax.experiments.reproduction.recipes import CIFAR100_RESNET50, FASHION_CNN

PRUNED = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)

CONFIG = accuracy_by_fraction(
    small=AccuracyByFraction(
        FASHION_CNN, (0.75, 0.5), three_scores(5, 12), claim_fraction=0.75, score_seeds=4, retrain_seeds=2
    ),
    medium=(0.9, 0.75, 0.5),
    paper=CIFAR100_RESNET50,
    fractions=(0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5),
    published=Published(
        "CIFAR-100, ResNet50",
        series={
            "forgetting": points(
                PRUNED, (0.8004, 0.8008, 0.7997, 0.7995, 0.7994, 0.7963, 0.7919, 0.781, 0.7665, 0.745)
            ),
            "el2n": points(PRUNED[:8], (0.799, 0.7998, 0.797, 0.798, 0.7957, 0.787, 0.773, 0.7585)),
            "random": points(PRUNED, (0.795, 0.792, 0.788, 0.784, 0.777, 0.772, 0.766, 0.758, 0.7515, 0.742)),
        },
        levels={"everything": 0.799},
    ),
)
