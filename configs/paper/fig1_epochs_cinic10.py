"""Figure 1, row 1: accuracy against the epoch of the score; CINIC-10, ResNet18, 60% kept.

Command: diet-jax reproduce fig1-epochs-cinic10 --scale small
Medium:    205 million images, reckoned at 44,000 a second some 78 minutes of an H100.
Published: version 1 of the paper, digitised to ±0.0004; its points at epoch 0 are left out, for they are of
trained networks (see grand_at_init).
"""

from diet_jax.experiments.reproduction.accuracy import AccuracyByEpoch
from diet_jax.experiments.reproduction.families import accuracy_by_epoch
from diet_jax.experiments.reproduction.outcome import Published, points
from diet_jax.experiments.reproduction.recipes import CIFAR10_CNN, CINIC10_RESNET18

CONFIG = accuracy_by_epoch(
    small=AccuracyByEpoch(
        CIFAR10_CNN, 0.6, epochs=(0, 2, 12), names=("el2n",), score_seeds=4, retrain_seeds=2
    ),
    medium=(0, 2, 5, 10),
    paper=CINIC10_RESNET18,
    published=Published(
        "CINIC-10, ResNet18: keep 0.6",
        series={
            "forgetting": points((2, 4, 5, 8, 10, 15, 20), (0.885, 0.894, 0.896, 0.896, 0.896, 0.897, 0.897)),
            "el2n": ((2, 0.874), (4, 0.894), (5, 0.892), (8, 0.896), (10, 0.898), (15, 0.9), (20, 0.9)),
            "grand": ((2, 0.877), (4, 0.882), (5, 0.88), (8, 0.889), (10, 0.889), (15, 0.896), (20, 0.897)),
        },
        levels={"everything": 0.9014, "random": 0.8846},
    ),
)
