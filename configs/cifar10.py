"""CIFAR-10 with ResNet18: the paper's full recipe.

Command: diet-jax prepare cifar10
         diet-jax run configs/cifar10.py
         diet-jax run configs/cifar10.py --minutes 10    (in slices, until it says no more that it stopped)
Figure:  the paper's Figure 1, first column, second row (EL2N at epoch 20, keep fractions 0.3 to 0.9).
Time:    needs an accelerator; not yet timed.
Published: full .952; keep 0.5 by EL2N .952, at random .934; keep 0.3 by EL2N .919, at random .916.

Step count and learning-rate schedule are those of the full training whatever is kept: 78,000 steps, the
rate times 0.2 after steps 23,400, 46,800 and 62,400. One choice differs from the authors' code: every image
is cropped at its own offset. `--train.crop-offsets batch` draws one per batch, as they did.
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
    model=ModelConfig(name="resnet18"),
    train=TrainConfig(
        epochs=200,
        batch_size=128,
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        schedule="piecewise",
        decay_at=(0.3, 0.6, 0.8),
        decay_factor=0.2,
        augment="crop_flip",
    ),
    score=ScoreConfig(names=("el2n", "grand", "forgetting"), epoch=20, num_seeds=10),
    # In the order of the work where seeds train one by one: the comparison at 0.5 is complete first.
    select=SelectConfig(fractions=(0.5, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)),
    retrain=RetrainConfig(num_seeds=4),
)
