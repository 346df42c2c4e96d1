"""Figure 3, left: velocity of the kernel of 100 neighbours by EL2N; clean labels.

Command: diet-jax reproduce fig3-velocity-clean --scale small
The paper's epochs, groups and number of networks are not known; these are ours.
"""

from diet_jax.experiments.reproduction.families import kernel_velocity

CONFIG = kernel_velocity()
