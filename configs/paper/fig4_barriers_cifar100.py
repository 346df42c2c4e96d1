"""Figure 4: error barrier to spawned children, on the lowest, highest and random EL2N; CIFAR-100, ResNet50.

Command: diet-jax reproduce fig4-barriers-cifar100 --scale small
The paper's spawn epochs, numbers of networks and treatment of BatchNorm are not known; these are ours.
"""

from diet_jax.experiments.reproduction.families import barriers
from diet_jax.experiments.reproduction.recipes import CIFAR100_RESNET50, FASHION_CNN

CONFIG = barriers(FASHION_CNN, spawn_epochs=(0, 0.5, 1, 2, 4, 8), score_epoch=5, paper=CIFAR100_RESNET50)
