"""Fashion-MNIST with a network for two CPU cores.

Command: diet-jax prepare fashion_mnist
         diet-jax run configs/fashion_mnist.py
Figure:  the paper's Figure 1, second row, on real Fashion-MNIST.
Time:    39 min 47 s on two cores that other work shared.
Measured: everything .911; keep 0.5 by EL2N .911, by GraNd .911, at random .898; docs/results/fashion_mnist.
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
    data=DataConfig(name="fashion_mnist"),
    model=ModelConfig(name="small_cnn"),
    train=TrainConfig(epochs=8, batch_size=128, learning_rate=0.05, schedule="cosine", augment="none"),
    score=ScoreConfig(names=("el2n", "grand"), epoch=2, num_seeds=4),
    select=SelectConfig(fractions=(0.3, 0.5, 0.7)),
    retrain=RetrainConfig(num_seeds=3),
)
