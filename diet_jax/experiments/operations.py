"""Floating-point operations and bytes of a run's programs, from their shapes alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.experiments.setup import Setup
from diet_jax.training.step import init_state, train_step
from diet_jax.types import Examples

# Large enough that what is done once for a batch does not count.
BATCH = 64


def state_shapes(setup: Setup) -> Any:
    """Returns the shapes of one network's training state."""
    train, config = setup.splits.train, setup.config.train
    return jax.eval_shape(
        lambda: init_state(
            jax.random.key(0),
            train.image_shape,
            len(train),
            model=setup.model,
            config=config,
            num_steps=setup.num_steps,
        )
    )


def example_shapes(dataset: Dataset) -> Any:
    """Returns the shapes of a dataset's arrays on the device."""
    shape, count = dataset.image_shape, len(dataset)
    stats: Any = jax.ShapeDtypeStruct((shape[2],), "float32")
    shaped: Any = jax.ShapeDtypeStruct
    return Examples(
        shaped((count, *shape), dataset.images.dtype),
        shaped((count,), "int32"),
        stats,
        stats,
    )


def step_flops(setup: Setup) -> float:
    """Returns the floating-point operations of one training step, as XLA counts them before optimising."""
    config = setup.config.train
    lowered = jax.jit(train_step, static_argnames=("model", "config", "num_steps")).lower(
        state_shapes(setup),
        example_shapes(setup.splits.train),
        jax.ShapeDtypeStruct((config.batch_size,), "int32"),
        model=setup.model,
        config=config,
        num_steps=setup.num_steps,
    )
    return _flops(lowered)


def example_flops(fn: Any, setup: Setup, dataset: Dataset) -> float:
    """Returns the floating-point operations that `fn(variables, images, labels)` takes for each example."""
    images = jax.ShapeDtypeStruct((BATCH, *dataset.image_shape), "float32")
    labels = jax.ShapeDtypeStruct((BATCH,), "int32")
    return _flops(jax.jit(fn).lower(state_shapes(setup).variables, images, labels)) / BATCH


def _flops(lowered: Any) -> float:
    return float(lowered.cost_analysis()["flops"])


def nbytes(tree: Any) -> int:
    """Returns the bytes of a pytree of arrays or their shapes; keys count as their data."""
    plain = jax.tree.map(_without_key, tree)
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(plain))


def _without_key(leaf: Any) -> Any:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.eval_shape(jax.random.key_data, leaf)
    return leaf
