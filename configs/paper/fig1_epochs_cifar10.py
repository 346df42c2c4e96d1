"""Figure 1, row 1: accuracy against the epoch of the score; CIFAR-10, ResNet18, 50% kept.

Command: diet-jax reproduce fig1-epochs-cifar10 --scale small
Medium:    105 million images, some 40 minutes of an H100 (the sum is in families.py).
Published: version 1 of the paper, digitised to ±0.0004; its points at epoch 0 are left out, for they are of
trained networks (see grand_at_init).
"""

from diet_jax.experiments.reproduction.accuracy import AccuracyByEpoch
from diet_jax.experiments.reproduction.families import accuracy_by_epoch
from diet_jax.experiments.reproduction.outcome import Published
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, FASHION_MLP

CONFIG = accuracy_by_epoch(
    small=AccuracyByEpoch(FASHION_MLP, 0.5, epochs=(0, 1, 2, 3, 5, 8), score_seeds=4, retrain_seeds=3),
    medium=(0, 1, 2, 3, 4, 5, 8, 10),
    paper=CIFAR10_RESNET18,
    published=Published(
        "CIFAR-10, ResNet18: keep 0.5",
        series={
            "forgetting": ((4, 0.946), (5, 0.95), (8, 0.952), (10, 0.952), (15, 0.951), (20, 0.952)),
            "el2n": ((2, 0.933), (4, 0.946), (5, 0.95), (8, 0.951), (10, 0.953), (15, 0.951), (20, 0.952)),
            "grand": ((2, 0.938), (4, 0.947), (5, 0.95), (8, 0.951), (10, 0.95), (15, 0.949), (20, 0.951)),
        },
        levels={"everything": 0.9521, "random": 0.934},
    ),
)
