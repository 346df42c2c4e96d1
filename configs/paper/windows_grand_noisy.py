"""Appendix E.3: the window experiment with GraNd; 10 % of the labels randomised, 40 % kept.

The paper took GraNd "at initialisation", which was of trained networks (see grand_at_init); here it is of
epoch 10.

Command: diet-jax reproduce windows-grand-noisy --scale small
"""

from diet_jax.experiments.reproduction.families import windows

CONFIG = windows(
    "grand",
    0.4,
    noise=0.1,
    smoke=(0.2, 0.5, 0.6),
    small=(0, 0.3, 0.45, 0.5, 0.55, 0.6),
    paper=(0, 0.1, 0.2, 0.3, 0.4, 0.42, 0.44, 0.46, 0.48, 0.5, 0.52, 0.54, 0.56, 0.57, 0.58, 0.59, 0.6),
)
