"""Figure 1, row 1: accuracy against the epoch of the score; CINIC-10, ResNet18, 60% kept.

Command: diet-jax reproduce fig1-epochs-cinic10 --scale small
Published: version 1 of the paper, digitised to ±0.0004; its points at epoch 0 are left out, for they are of
trained networks (see grand_at_init).
"""

from diet_jax.experiments.reproduction.accuracy import AccuracyByEpoch
from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.outcome import Published
from diet_jax.experiments.reproduction.recipes import CIFAR10_CNN, CINIC10_RESNET18, DIGITS

CONFIG = PaperFigure(
    smoke=AccuracyByEpoch(DIGITS, fraction=0.6, epochs=(0, 2, 8), score_seeds=2, retrain_seeds=2),
    small=AccuracyByEpoch(
        CIFAR10_CNN, fraction=0.6, names=("el2n",), epochs=(0, 2, 12), score_seeds=4, retrain_seeds=2
    ),
    paper=AccuracyByEpoch(CINIC10_RESNET18, fraction=0.6, epochs=(0, 2, 4, 5, 8, 10, 15, 20)),
    published=Published(
        "CINIC-10, ResNet18: keep 0.6",
        series={
            "forgetting": (
                (2, 0.885),
                (4, 0.894),
                (5, 0.896),
                (8, 0.896),
                (10, 0.896),
                (15, 0.897),
                (20, 0.897),
            ),
            "el2n": ((2, 0.874), (4, 0.894), (5, 0.892), (8, 0.896), (10, 0.898), (15, 0.9), (20, 0.9)),
            "grand": ((2, 0.877), (4, 0.882), (5, 0.88), (8, 0.889), (10, 0.889), (15, 0.896), (20, 0.897)),
        },
        levels={"everything": 0.9014, "random": 0.8846},
    ),
)
