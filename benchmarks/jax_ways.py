"""What JAX computes in the comparison with PyTorch; imported in a process without it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from grand import CLASSES, IMAGE_SHAPE, batches, ordinary_gradient

import diet_jax as dj

ORDINARY = "jax: ordinary gradient"
GRAND = "jax: grand"
VMAP = "jax: grand_vmap"
TIMED = (ORDINARY, GRAND, VMAP)


def build(batch_size: int, width: int) -> dict[str, Callable[[], Any]]:
    """Returns the functions to time by name, and "weights", "images" and "labels", which they work on."""
    model = dj.create_model("resnet18", num_classes=CLASSES, width=width)
    variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), IMAGE_SHAPE)
    variables = variables._replace(model_state=_spread(variables.model_state))
    batch = next(batches(1, batch_size))
    fns = {ORDINARY: ordinary_gradient, GRAND: dj.grand, VMAP: dj.grand_vmap}

    def call(fn: Any) -> Any:
        result = jax.block_until_ready(fn(variables, *batch))
        # The gradient stays here; norms are compared.
        return np.asarray(result) if isinstance(result, jax.Array) else None

    programs = {name: jax.jit(partial(fn, model.predict)) for name, fn in fns.items()}
    return {
        **{name: partial(call, program) for name, program in programs.items()},
        "weights": partial(weights_by_path, variables),
        "images": lambda: np.asarray(batch.images),
        "labels": lambda: np.asarray(batch.labels),
    }


def weights_by_path(variables: dj.Variables) -> dict[str, np.ndarray]:
    """Returns all arrays of a network by their paths, for its twin in PyTorch."""
    collections = {"params": variables.params, **variables.model_state}
    leaves = jax.tree_util.tree_leaves_with_path(collections)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def _spread(statistics: Any) -> Any:
    """Gives the running statistics other values than 0 and 1, so that forgetting one would show."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf + rng.uniform(-0.3, 0.3, leaf.shape), leaf.dtype), statistics
    )
