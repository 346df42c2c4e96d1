"""Figure 4: error barrier to spawned children, on the lowest, highest and random EL2N; CIFAR-10, ResNet18.

Command: diet-jax reproduce fig4-barriers-cifar10 --scale small
The paper's spawn epochs, numbers of networks and treatment of BatchNorm are not known; these are ours.
"""

from diet_jax.experiments.reproduction.families import barriers
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, FASHION_MLP

CONFIG = barriers(
    FASHION_MLP, spawn_epochs=(0, 0.1, 0.25, 0.5, 1, 2, 4), score_epoch=2, paper=CIFAR10_RESNET18
)
