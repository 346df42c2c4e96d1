"""Figure 1, row 2: accuracy against the fraction pruned; CIFAR-10, ResNet18.

Command: diet-jax reproduce fig1-fractions-cifar10 --scale small
Medium:    120 million images, some 45 minutes of an H100 (the sum is in families.py).
Published: version 1 of the paper, digitised to ±0.0004; its "GraNd at initialisation" is left out, for it
is of trained networks (see grand_at_init). GraNd is taken at the epoch of EL2N instead.
"""

from diet_jax.experiments.reproduction.accuracy import AccuracyByFraction
from diet_jax.experiments.reproduction.families import accuracy_by_fraction, three_scores
from diet_jax.experiments.reproduction.outcome import Published, points
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, FASHION_MLP

PRUNED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

CONFIG = accuracy_by_fraction(
    small=AccuracyByFraction(
        FASHION_MLP,
        (0.9, 0.7, 0.5, 0.4, 0.3),
        three_scores(2, 8),
        claim_fraction=0.5,
        score_seeds=4,
        retrain_seeds=3,
    ),
    medium=(0.8, 0.7, 0.6, 0.5, 0.4, 0.3),
    paper=CIFAR10_RESNET18,
    fractions=(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3),
    published=Published(
        "CIFAR-10, ResNet18",
        series={
            "forgetting": points(PRUNED, (0.954, 0.952, 0.954, 0.954, 0.953, 0.95, 0.922)),
            "el2n": points(PRUNED, (0.951, 0.9546, 0.9549, 0.953, 0.9516, 0.9475, 0.919)),
            "random": points(PRUNED, (0.95, 0.948, 0.944, 0.939, 0.934, 0.927, 0.916)),
        },
        levels={"everything": 0.9521},
    ),
)
