"""Figure 3, right: velocity of the kernel of 100 neighbours by EL2N; 10 % of the labels randomised.

Command: diet-jax reproduce fig3-velocity-noisy --scale small
The paper's epochs, groups and number of networks are not known; these are ours.
"""

from diet_jax.experiments.reproduction.figure import PaperFigure
from diet_jax.experiments.reproduction.kernels import KernelVelocity
from diet_jax.experiments.reproduction.recipes import CIFAR10_RESNET18, DIGITS, FASHION_MLP

CONFIG = PaperFigure(
    smoke=KernelVelocity(
        DIGITS.with_noise(0.1), epochs=(1, 3), num_groups=4, group_size=50, score_seeds=2, velocity_seeds=1
    ),
    small=KernelVelocity(
        FASHION_MLP.with_noise(0.1), epochs=(1, 2, 4), num_groups=10, score_seeds=4, velocity_seeds=4
    ),
    paper=KernelVelocity(CIFAR10_RESNET18.with_noise(0.1), epochs=(1, 5, 10, 20, 50), num_groups=20),
)
