"""Figure 2, left: accuracy against the offset of the window; clean labels, 40 % kept.

Published: digitised to ±0.0004.

Command: diet-jax reproduce fig2-windows-clean --scale small
"""

from diet_jax.experiments.reproduction.families import windows
from diet_jax.experiments.reproduction.outcome import Published, points

OFFSETS = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.52, 0.54, 0.56, 0.57, 0.58, 0.59, 0.6)

CONFIG = windows(
    "el2n",
    0.4,
    smoke=(0.2, 0.5, 0.6),
    small=(0, 0.2, 0.4, 0.5, 0.55, 0.58, 0.59, 0.6),
    paper=OFFSETS,
    published=Published(
        "CIFAR-10, ResNet18: clean labels",
        series={
            "el2n": points(
                OFFSETS,
                (
                    *(0.844, 0.863, 0.882, 0.898, 0.912, 0.9315, 0.933),
                    *(0.939, 0.943, 0.947, 0.947, 0.948, 0.942),
                ),
            ),
        },
        levels={"everything": 0.952, "random": 0.927},
    ),
)
