"""Fashion-MNIST, scores by rules by keep fractions with all baselines: an honest grid for two CPU cores.

Command: diet-jax prepare fashion_mnist
         diet-jax compare configs/compare/fashion_mnist.py
Figure:  none in the paper; docs/comparison.md says what the columns mean.
"""

from diet_jax.experiments.config import (
    DataConfig,
    ModelConfig,
    RetrainConfig,
    RunConfig,
    ScoreConfig,
    SelectConfig,
)
from diet_jax.selection.coverage import CoverageOptions
from diet_jax.training.recipe import TrainConfig

CONFIG = RunConfig(
    data=DataConfig(name="fashion_mnist"),
    model=ModelConfig(name="mlp", widths=(256,)),
    # Equal steps: 2,340 whatever is kept.
    train=TrainConfig(epochs=5, batch_size=128, learning_rate=0.05, schedule="cosine", augment="none"),
    score=ScoreConfig(
        names=("el2n", "grand", "forgetting", "aum", "variability", "input_norm"),
        epoch=4,
        num_seeds=4,
    ),
    select=SelectConfig(
        method=(
            "highest",
            "coverage",
            "moderate",
            "class_quotas_highest",
            "best_window",
        ),
        fractions=(0.1, 0.2, 0.3, 0.5),
        baselines=("balanced_random", "rs2"),
        # One cutoff for all fractions; chosen for each, as its authors do, it would be chosen by test data.
        options={"coverage": CoverageOptions(cutoff=0.2)},
    ),
    retrain=RetrainConfig(num_seeds=3),
)
