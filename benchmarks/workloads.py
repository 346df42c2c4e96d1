"""What is trained in the benchmarks: digits, and synthetic images of MNIST's and CIFAR-10's size."""

import math
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


def step_flops(work: Workload) -> int:
    """Returns the floating-point operations of one training step as they are usually counted.

    Three times those of the forward pass's convolutions and matrix products, two for each multiply-add,
    padding included: the gradient takes as many again for the inputs and for the weights of each.
    """
    # However it is computed: remade patches count nothing.
    model = work.model
    if hasattr(model.module, "convolution"):
        model = dj.from_linen(model.module.clone(convolution="lax"))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), work.train.image_shape))
    images = jax.ShapeDtypeStruct((work.config.batch_size, *work.train.image_shape), jnp.float32)
    return 3 * _flops_of_products(jax.make_jaxpr(model.predict)(variables, images))


def _flops_of_products(closed: Any) -> int:
    total = 0
    for equation in closed.jaxpr.eqns:
        lhs, rhs = (variable.aval.shape for variable in [*equation.invars, *equation.invars][:2])
        result = equation.outvars[0].aval.size
        numbers = equation.params.get("dimension_numbers")
        if equation.primitive.name == "conv_general_dilated":
            total += 2 * result * math.prod(rhs) // rhs[numbers.rhs_spec[0]]
        elif equation.primitive.name == "dot_general":
            total += 2 * result * math.prod(lhs[axis] for axis in numbers[0][0])
        inner = (value for value in equation.params.values() if hasattr(value, "jaxpr"))
        total += sum(map(_flops_of_products, inner))
    return total
