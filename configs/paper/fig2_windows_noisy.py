"""Figure 2, right: accuracy against the offset of the window; 10 % of the labels randomised, 40 % kept.

The labels of a tenth of the examples are permuted, as the authors did: about 9 % really change. Also
chooses the offset on held-out train examples, with the labels that they have.
Published: digitised to ±0.0004.

Command: diet-jax reproduce fig2-windows-noisy --scale small
"""

from diet_jax.experiments.reproduction.families import windows
from diet_jax.experiments.reproduction.outcome import Published, points

OFFSETS = (0, 0.1, 0.2, 0.3, 0.4, 0.42, 0.44, 0.46, 0.48, 0.5, 0.52, 0.54, 0.56, 0.57, 0.58, 0.59, 0.6)

CONFIG = windows(
    "el2n",
    0.4,
    noise=0.1,
    smoke=(0.2, 0.5, 0.6),
    small=(0, 0.2, 0.4, 0.45, 0.48, 0.5, 0.52, 0.55, 0.6),
    paper=OFFSETS,
    tune=True,
    published=Published(
        "CIFAR-10, ResNet18: 10 % randomised",
        series={
            "el2n": points(
                OFFSETS,
                (
                    *(0.833, 0.853, 0.874, 0.896, 0.921, 0.925, 0.928, 0.935, 0.938),
                    *(0.936, 0.93, 0.907, 0.857, 0.79, 0.66, 0.577, 0.533),
                ),
            ),
        },
        levels={"everything": 0.913, "random": 0.886},
    ),
)
