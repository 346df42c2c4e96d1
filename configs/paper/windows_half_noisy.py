"""Appendix E.1: accuracy against the offset of the window; 10 % of the labels randomised, 50 % kept.

Command: diet-jax reproduce windows-half-noisy --scale small
"""

from diet_jax.experiments.reproduction.families import windows

CONFIG = windows(
    "el2n",
    0.5,
    noise=0.1,
    smoke=(0.2, 0.4, 0.5),
    small=(0, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5),
    paper=(0, 0.1, 0.2, 0.3, 0.35, 0.38, 0.4, 0.42, 0.44, 0.46, 0.48, 0.5),
)
