"""Appendix E.1: accuracy against the offset of the window; clean labels, 50 % kept instead of 40 %.

Command: diet-jax reproduce windows-half-clean --scale small
"""

from diet_jax.experiments.reproduction.families import windows

CONFIG = windows(
    "el2n",
    0.5,
    smoke=(0.2, 0.4, 0.5),
    small=(0, 0.2, 0.3, 0.4, 0.45, 0.49, 0.5),
    paper=(0, 0.1, 0.2, 0.3, 0.4, 0.42, 0.44, 0.46, 0.48, 0.49, 0.5),
    top_is_best=True,
)
