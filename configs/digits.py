"""The embedded digits: the main job in about a minute, without any download.

Command: diet-jax run            (the same as: diet-jax run configs/digits.py)
Figure:  the paper's Figure 1, second row, on scikit-learn's 8x8 handwritten digits.
"""

from diet_jax.config import RunConfig

CONFIG = RunConfig()
