"""Figure 3, right: velocity of the kernel of 100 neighbours by EL2N; 10 % of the labels randomised.

Command: diet-jax reproduce fig3-velocity-noisy --scale small
The paper's epochs, groups and number of networks are not known; these are ours.
"""

from diet_jax.experiments.reproduction.families import kernel_velocity

CONFIG = kernel_velocity(noise=0.1)
