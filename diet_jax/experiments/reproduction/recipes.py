"""The pairs of data and network that the figures are made of: the paper's, and small ones for CPUs."""

import dataclasses

from diet_jax.experiments.config import DataConfig, ModelConfig
from diet_jax.experiments.reproduction.task import Task
from diet_jax.training.recipe import TrainConfig

_PAPER = TrainConfig()

CIFAR10_RESNET18 = Task(DataConfig("cifar10"), ModelConfig("resnet18"), _PAPER)
"""The paper's main pair: 200 epochs of 390 steps, batches of 128."""

CIFAR10_RESNET50 = Task(DataConfig("cifar10"), ModelConfig("resnet50"), _PAPER)

CINIC10_RESNET18 = Task(
    DataConfig("cinic10"), ModelConfig("resnet18"), dataclasses.replace(_PAPER, batch_size=256)
)

CIFAR100_RESNET50 = Task(DataConfig("cifar100"), ModelConfig("resnet50"), _PAPER)

MEDIUM_EPOCHS = 40


def shortened(task: Task) -> Task:
    """Returns a task of the paper for the scale medium: 40 epochs, computed in bfloat16.

    The rate falls after the same shares of the training as in the paper: after 12, 24 and 32 epochs.
    """
    return dataclasses.replace(
        task,
        model=dataclasses.replace(task.model, dtype="bfloat16"),
        train=dataclasses.replace(task.train, epochs=MEDIUM_EPOCHS),
    )


_SHORT = TrainConfig(epochs=8, batch_size=128, learning_rate=0.05, schedule="cosine", augment="none")

FASHION_MLP = Task(DataConfig("fashion_mnist"), ModelConfig("mlp"), _SHORT)
"""All 60,000 images of Fashion-MNIST and a network of dense layers: seconds on two cores."""

FASHION_CNN = Task(
    DataConfig("fashion_mnist", num_train=10_000),
    ModelConfig("small_cnn"),
    dataclasses.replace(_SHORT, epochs=12),
)
"""10,000 images of Fashion-MNIST and a small convolutional network."""

CIFAR10_CNN = Task(
    DataConfig("cifar10", num_train=10_000), ModelConfig("small_cnn"), dataclasses.replace(_SHORT, epochs=12)
)
"""10,000 images of CIFAR-10 and a small convolutional network."""

DIGITS = Task(
    DataConfig("digits"),
    ModelConfig("mlp", widths=(32,)),
    TrainConfig(epochs=8, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none"),
)
"""The embedded digits: shows that a figure runs, not that its claim holds."""
