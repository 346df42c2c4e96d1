"""What the backend and the model decide: how many steps per compiled call, how seeds are batched.

Measured by `benchmarks/steps_per_call.py` and `benchmarks/ensemble.py`; see `docs/results/benchmarks-cpu.md`.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax

from diet_jax.types import Model

How = Literal["vmap", "unroll", "map", "loop", "mesh"]


def has_convolution(fn: Callable[..., Any], *args: Any) -> bool:
    """Returns whether a function, traced on these arguments, computes a convolution.

    Args:
        fn: any traceable function.
        *args: pytrees of arrays or `jax.ShapeDtypeStruct`.

    Example:
        >>> import jax.numpy as jnp
        >>> has_convolution(lambda x: x @ x, jnp.eye(2))
        False
    """
    return "conv_general_dilated" in str(jax.make_jaxpr(fn)(*args))


@functools.lru_cache(maxsize=64)
def model_has_convolution(model: Model, image_shape: tuple[int, int, int]) -> bool:
    """Returns whether a model's forward pass computes a convolution in either mode; nothing is run.

    A convolution written as a matrix product (`matmul_convolution`) is none.
    """
    variables, image = _shapes(model, image_shape)
    predicts = has_convolution(model.predict, variables, image)
    return predicts or training_has_convolution(model, image_shape)


@functools.lru_cache(maxsize=64)
def training_has_convolution(model: Model, image_shape: tuple[int, int, int]) -> bool:
    """Returns whether a model's forward pass in train mode computes a convolution; nothing is run."""
    return has_convolution(functools.partial(model.apply, train=True), *_shapes(model, image_shape))


def _shapes(model: Model, image_shape: tuple[int, int, int]) -> tuple[Any, Any]:
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), image_shape))
    return variables, jax.ShapeDtypeStruct((1, *image_shape), "float32")


def default_steps_per_call(convolutional: bool) -> int:
    """Returns how many training steps one compiled call should do, given `training_has_convolution`.

    XLA's CPU convolutions are slow inside a loop (eleven times on 28x28 images, hardly on 8x8), so there a
    step is a call of its own. The library's networks train on CPUs without them.
    """
    return 1 if convolutional and jax.default_backend() == "cpu" else 100


def default_chunks_per_call() -> int:
    """Returns how many scoring chunks one compiled call should do, one after the other.

    Accelerators wait for the host between calls. On CPUs convolutions are slow in a loop on the device.
    """
    return 1 if jax.default_backend() == "cpu" else 32


def default_how(convolutional: bool) -> How:
    """Returns how seeds should be batched, given `model_has_convolution`; see `over_seeds`.

    On CPUs a convolution in a loop on the device is slow, and all but "loop" score and train in one. So
    convolutional networks run one after the other, which loses nothing: every seed fills the cores.

    On accelerators they run one after the other inside one program: on an H100 four ResNet18 under "vmap",
    with JAX's convolution, made 0.59 of the images per second of one after the other. "vmap" with
    `unrolled_convolution`, by which they train since, was not measured yet; see `docs/results/gpu.md`.
    """
    if jax.default_backend() == "cpu":
        return "loop" if convolutional else "map"
    return "map" if convolutional else "vmap"
