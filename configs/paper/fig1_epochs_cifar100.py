"""Figure 1, row 1: accuracy against the epoch of the score; CIFAR-100, ResNet50, 75% kept.

Command: diet-jax reproduce fig1-epochs-cifar100 --scale small
Medium:    57 million images in ResNet50, reckoned by its multiplications some 50 minutes of an H100.
Published: version 1 of the paper, digitised to ±0.0004; its points at epoch 0 are left out, for they are of
trained networks (see grand_at_init).
"""

from diet_jax.experiments.reproduction.accuracy import AccuracyByEpoch
from diet_jax.experiments.reproduction.families import accuracy_by_epoch
from diet_jax.experiments.reproduction.outcome import Published
from diet_jax.experiments.reproduction.recipes import CIFAR100_RESNET50, FASHION_CNN

CONFIG = accuracy_by_epoch(
    small=AccuracyByEpoch(FASHION_CNN, 0.75, epochs=(0, 2, 12), score_seeds=4, retrain_seeds=2),
    medium=(0, 2, 5, 10),
    paper=CIFAR100_RESNET50,
    published=Published(
        "CIFAR-100, ResNet50: keep 0.75",
        series={
            "forgetting": ((4, 0.79), (5, 0.794), (8, 0.796), (10, 0.797), (15, 0.796), (20, 0.798)),
            "el2n": ((2, 0.78), (4, 0.786), (5, 0.793), (8, 0.793), (10, 0.796), (15, 0.796), (20, 0.796)),
            "grand": ((2, 0.774), (4, 0.784), (5, 0.787), (8, 0.795), (10, 0.792), (15, 0.792), (20, 0.794)),
        },
        levels={"everything": 0.799, "random": 0.7775},
    ),
)
