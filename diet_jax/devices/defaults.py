"""What the backend and the model decide: how many steps per compiled call, how seeds are batched.

Measured by `benchmarks/steps_per_call.py` and `benchmarks/ensemble.py`; see `docs/results/benchmarks-cpu.md`.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, Literal

import jax

from diet_jax.types import Model, apply_in_training, init_variables

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


def groups_convolutions(fn: Callable[..., Any], one: Any, *shared: Any) -> bool:
    """Returns whether `vmap` makes grouped convolutions of a function's, which accelerators compute slowly.

    Args:
        fn: any traceable function.
        one: its first argument, the one that differs from network to network.
        *shared: its others.

    Example:
        >>> import jax.numpy as jnp
        >>> convolve = lambda kernel, x: jax.lax.conv(x, kernel, (1, 1), "SAME")
        >>> two_layers = lambda kernel, x: convolve(kernel, convolve(kernel, x))
        >>> kernel, x = jnp.ones((1, 1, 3, 3)), jnp.ones((1, 1, 5, 5))
        >>> groups_convolutions(convolve, kernel, x), groups_convolutions(two_layers, kernel, x)
        (False, True)
    """
    # As many as a network of its own hardly has groups.
    several = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((5, *leaf.shape), leaf.dtype), one)
    by_vmap = jax.vmap(fn, in_axes=(0, *(None for _ in shared)))
    return not _group_counts(by_vmap, several, *shared) <= _group_counts(fn, one, *shared)


def _group_counts(fn: Callable[..., Any], *args: Any) -> set[str]:
    return set(re.findall(r"(?:feature|batch)_group_count=(\d+)", str(jax.make_jaxpr(fn)(*args))))


@functools.lru_cache(maxsize=64)
def model_has_convolution(model: Model, spec: jax.ShapeDtypeStruct) -> bool:
    """Returns whether a model's forward pass computes a convolution in either mode; nothing is run.

    A convolution written as a matrix product (`matmul_convolution`) is none.
    """
    variables, inputs = _shapes(model, spec)
    predicts = has_convolution(model.predict, variables, inputs)
    return predicts or training_has_convolution(model, spec)


@functools.lru_cache(maxsize=64)
def training_has_convolution(model: Model, spec: jax.ShapeDtypeStruct) -> bool:
    """Returns whether a model's forward pass in train mode computes a convolution; nothing is run."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return has_convolution(functools.partial(apply_in_training, model), *_shapes(model, spec), key)


@functools.lru_cache(maxsize=64)
def training_groups_convolutions(model: Model, spec: jax.ShapeDtypeStruct) -> bool:
    """Returns whether training networks side by side by `vmap` would group convolutions; nothing is run."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return groups_convolutions(functools.partial(apply_in_training, model), *_shapes(model, spec), key)


def _shapes(model: Model, spec: jax.ShapeDtypeStruct) -> tuple[Any, Any]:
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0), spec))
    return variables, jax.ShapeDtypeStruct((1, *spec.shape), spec.dtype)


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


def default_how(convolutional: bool, grouped: Callable[[], bool]) -> How:
    """Returns how seeds should be batched; see `over_seeds`.

    On CPUs a convolution in a loop on the device is slow, and all but "loop" score and train in one. So
    convolutional networks run one after the other, which loses nothing: every seed fills the cores.

    On accelerators they run side by side, but for networks whose convolutions `vmap` would group: those make
    0.59 of the images per second of one after the other, the library's own 1.10 to 1.17 times as many; see
    `docs/results/gpu.md`.

    Args:
        convolutional: as `model_has_convolution` tells.
        grouped: as `groups_convolutions` tells; asked on accelerators alone.
    """
    if jax.default_backend() == "cpu":
        return "loop" if convolutional else "map"
    return "map" if convolutional and grouped() else "vmap"
