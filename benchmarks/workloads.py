"""What is trained in the benchmarks: digits, and synthetic images of MNIST's and CIFAR-10's size."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import diet_jax as dj

SYNTHETIC = {"28x28": (28, 28, 1), "32x32": (32, 32, 3)}


class Workload(NamedTuple):
    """A network on a dataset, and how it is trained."""

    model: dj.Model
    train: dj.Dataset
    test: dj.Dataset
    config: dj.TrainConfig


def workload(
    name: str, *, steps: int, batch_size: int = 32, num_train: int = 512, num_test: int = 256, **options: Any
) -> Workload:
    """Returns a workload by name, such as "mlp, digits" or "small_cnn, 28x28".

    Args:
        name: network and images: digits, 28x28 or 32x32.
        steps: length of the training.
        batch_size: of a step.
        num_train: synthetic train images; digits has its own number.
        num_test: synthetic test images.
        **options: of the model.
    """
    network, images = name.split(", ")
    if images == "digits":
        train, test = dj.load_dataset("digits")
    else:
        train, test = synthetic(SYNTHETIC[images], num_train, num_test)
    config = dj.TrainConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=0.05,
        schedule="cosine",
        augment="none",
    )
    return Workload(dj.create_model(network, num_classes=10, **options), train, test, config)


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


def step_flops(work: Workload) -> float:
    """Floating-point operations of one step's gradient, as XLA counts those of the program as written."""
    images = jax.ShapeDtypeStruct((work.config.batch_size, *work.train.image_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((work.config.batch_size,), jnp.int32)
    # Counted without remade patches: they are how a step is computed, not what.
    model = work.model
    if hasattr(model.module, "convolution"):
        model = dj.from_linen(model.module.clone(convolution="lax"))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), work.train.image_shape))

    def loss(params: Any, state: Any, images: Any, labels: Any) -> Any:
        logits, _ = model.apply(dj.Variables(params, state), images, train=True)
        return dj.cross_entropy(logits, labels).mean()

    return jax.jit(jax.grad(loss)).lower(*variables, images, labels).cost_analysis()["flops"]
