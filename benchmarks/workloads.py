"""What is trained in the benchmarks: digits, and synthetic images of MNIST's and CIFAR-10's size."""

from typing import NamedTuple

import numpy as np

import diet_jax as dj

SYNTHETIC = {"28x28": (28, 28, 1), "32x32": (32, 32, 3)}


class Workload(NamedTuple):
    """A network on a dataset, and how it is trained."""

    model: dj.Model
    train: dj.Dataset
    test: dj.Dataset
    config: dj.TrainConfig


def workload(name: str, *, steps: int) -> Workload:
    """Returns a workload by name, such as "mlp, digits" or "small_cnn, 28x28".

    Args:
        name: network and images: digits, 28x28 or 32x32.
        steps: length of the training.
    """
    network, images = name.split(", ")
    train, test = dj.load_dataset("digits") if images == "digits" else synthetic(SYNTHETIC[images], 512, 256)
    config = dj.TrainConfig(
        steps=steps,
        batch_size=32,
        learning_rate=0.05,
        schedule="cosine",
        augment="none",
    )
    return Workload(dj.create_model(network, num_classes=10), train, test, config)


def synthetic(shape: tuple[int, int, int], num_train: int, num_test: int) -> tuple[dj.Dataset, dj.Dataset]:
    """Returns random images: the time of a step does not depend on what is on them."""
    rng = np.random.default_rng(0)

    def split(count: int, name: str, normalization: dj.Normalization | None) -> dj.Dataset:
        images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        return dj.Dataset.from_arrays(
            images, np.arange(count) % 10, num_classes=10, split=name, normalization=normalization
        )

    train = split(num_train, "train", None)
    return train, split(num_test, "test", train.normalization)
