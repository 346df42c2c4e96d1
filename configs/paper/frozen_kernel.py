"""Kernel regression and linearised training, frozen at epoch t (Fort et al., arXiv 2010.15110).

Command: diet-jax reproduce frozen-kernel --scale small
Published there (ResNet-20, CIFAR-10): the kernel of epochs 3 to 4 beats the initial one three times in
error.
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP, shortened
from diet_jax.experiments.reproduction.regression import FrozenKernel

CONFIG = PaperFigure(
    smoke=FrozenKernel(
        DIGITS, epochs=(0, 2), num_train=60, num_test=100, linear_epochs=1, seeds=1, claim_epoch=2
    ),
    small=FrozenKernel(FASHION_MLP, epochs=(0, 1, 2, 4, 8), num_train=300, linear_epochs=2),
    medium=FrozenKernel(
        shortened(CIFAR10_RESNET18), epochs=(0, 1, 2, 4, 8), num_train=1000, linear_epochs=20
    ),
    paper=FrozenKernel(CIFAR10_RESNET18, epochs=(0, 1, 2, 4, 8, 20), num_train=1000, linear_epochs=100),
)
