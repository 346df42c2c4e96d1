"""The embedded digits: the main job in a minute on two CPU cores, without any download.

Command: diet-jax run            (the same as: diet-jax run configs/digits.py)
Figure:  the paper's Figure 1, second row, on scikit-learn's 8x8 handwritten digits.
Time:    59 s on two cores.
Measured: everything .981; keep 0.3 by EL2N .981, at random .954; keep 0.5 .981 and .967; docs/results/digits.
"""

from diet_jax.experiments.config import RunConfig

CONFIG = RunConfig()
