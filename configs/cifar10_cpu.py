"""CIFAR-10 with a network for two CPU cores.

Command: diet-jax prepare cifar10
         diet-jax run configs/cifar10_cpu.py
Figure:  the paper's Figure 1, first column, second row, in small: not its network, length or augmentation.
Time:    34 min 42 s on two cores that other work shared.
Measured: everything .680; keep 0.7 by EL2N .638, at random .647; keep 0.5 .486 and .616: the paper's claim
         does not show at this size; docs/results/cifar10_cpu has the figures.
"""

from diet_jax.experiments.config import (
    DataConfig,
    ModelConfig,
    RetrainConfig,
    RunConfig,
    ScoreConfig,
    SelectConfig,
)
from diet_jax.training.recipe import TrainConfig

CONFIG = RunConfig(
    data=DataConfig(name="cifar10"),
    model=ModelConfig(name="small_cnn"),
    train=TrainConfig(epochs=8, batch_size=128, learning_rate=0.05, schedule="cosine", augment="none"),
    score=ScoreConfig(names=("el2n",), epoch=3, num_seeds=4),
    select=SelectConfig(fractions=(0.3, 0.5, 0.7)),
    retrain=RetrainConfig(num_seeds=3),
)
