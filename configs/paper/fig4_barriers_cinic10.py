"""Figure 4: error barrier to spawned children, on the lowest, highest and random EL2N; CINIC-10, ResNet18.

Command: diet-jax reproduce fig4-barriers-cinic10 --scale small
The paper's spawn epochs, numbers of networks and treatment of BatchNorm are not known; these are ours.
"""

from diet_jax.experiments.reproduction.families import barriers
from diet_jax.experiments.reproduction.recipes import CIFAR10_CNN, CINIC10_RESNET18

CONFIG = barriers(CIFAR10_CNN, spawn_epochs=(0, 0.5, 1, 2, 4, 8), score_epoch=5, paper=CINIC10_RESNET18)
