"""GraNd at initialisation against what version 1 of the paper had measured in its place.

Command: diet-jax reproduce grand-at-init --scale small
Published: keep 0.5 by GraNd at initialisation .951 (version 1), .922 (Kirsch, arXiv 2303.14753), at random
.934.
"""

from diet_jax.experiments.reproduction.at_init import GrandAtInit
from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP, shortened

CONFIG = PaperFigure(
    smoke=GrandAtInit(DIGITS, fractions=(0.5, 0.3), el2n_epoch=2, score_seeds=2, retrain_seeds=2),
    small=GrandAtInit(FASHION_MLP, fractions=(0.7, 0.5, 0.3), el2n_epoch=2, score_seeds=4, retrain_seeds=3),
    medium=GrandAtInit(
        shortened(CIFAR10_RESNET18), fractions=(0.9, 0.7, 0.5, 0.4), el2n_epoch=10, retrain_seeds=2
    ),
    paper=GrandAtInit(CIFAR10_RESNET18, fractions=(0.9, 0.7, 0.5, 0.4), el2n_epoch=20),
)
