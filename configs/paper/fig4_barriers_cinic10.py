"""Figure 4: error barrier to spawned children, on the lowest, highest and random EL2N; CINIC-10, ResNet18.

Command: diet-jax reproduce fig4-barriers-cinic10 --scale small
The paper's spawn epochs, numbers of networks and treatment of BatchNorm are not known; these are ours.
"""

from diet_jax.experiments.reproduction.barriers import ErrorBarriers
from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.recipes import CIFAR10_CNN, CINIC10_RESNET18, DIGITS
from diet_jax.experiments.reproduction.task import ScoreAt

CONFIG = PaperFigure(
    smoke=ErrorBarriers(
        DIGITS, spawn_epochs=(0, 1, 4), score=ScoreAt("el2n", 2), parents=1, num_points=5, score_seeds=2
    ),
    small=ErrorBarriers(
        CIFAR10_CNN, spawn_epochs=(0, 0.5, 1, 2, 4, 8), score=ScoreAt("el2n", 5), score_seeds=4
    ),
    paper=ErrorBarriers(
        CINIC10_RESNET18, spawn_epochs=(0, 1, 2, 4, 8, 16, 32, 64), score=ScoreAt("el2n", 20), parents=1
    ),
)
