"""Mapping a function of a batch over many examples: any number of examples, bounded memory."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diet_jax.errors import InputError

# Intermediate arrays of one chunk that are alive at once. On CPUs convolutional networks are fastest in
# chunks of a few dozen examples, long before memory is short: this gives ResNet18 on 32x32 images 16 for
# GraNd, at the top of its curve, and smaller networks the sizes at which theirs level off.
CPU_CHUNK_BYTES = 90_000_000
ACCELERATOR_CHUNK_BYTES = 2**33
LARGEST_AUTO_BATCH = 1024


def map_examples(fn: Callable[..., Any], *arrays: Any, batch_size: int) -> Any:
    """Applies a function of a batch to all examples, `batch_size` at a time, inside one program.

    Equal to `fn(*arrays)` for every function that treats examples independently. The tail runs as a
    smaller batch, so any number of examples will do.

    Args:
        fn: takes arrays with a leading batch axis, returns a pytree with the same leading axis.
        *arrays: pytrees of arrays `[n ...]`.
        batch_size: examples per chunk, at least 1.

    Returns:
        What `fn(*arrays)` would return.

    Example:
        >>> import jax.numpy as jnp
        >>> map_examples(lambda x: 2 * x, jnp.arange(5), batch_size=2).tolist()
        [0, 2, 4, 6, 8]
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    count = jax.tree.leaves(arrays)[0].shape[0]
    if count <= batch_size:
        return fn(*arrays)
    chunks = count // batch_size
    full = chunks * batch_size
    stacked = jax.tree.map(lambda a: a[:full].reshape(chunks, batch_size, *a.shape[1:]), arrays)
    done = jax.lax.map(lambda chunk: fn(*chunk), stacked)
    done = jax.tree.map(lambda a: a.reshape(full, *a.shape[2:]), done)
    if full == count:
        return done
    tail = fn(*jax.tree.map(lambda a: a[full:], arrays))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), done, tail)


def chunk_budget() -> int:
    """Returns the bytes that the intermediate arrays of one chunk should keep to on this backend."""
    return CPU_CHUNK_BYTES if jax.default_backend() == "cpu" else ACCELERATOR_CHUNK_BYTES


def auto_batch_size(
    fn: Callable[..., Any], *arrays: Any, shared: tuple[Any, ...] = (), budget: int | None = None
) -> int:
    """Returns a power-of-two batch size whose intermediate arrays should fit a budget.

    Counts the bytes that one more example keeps alive in the function's jaxpr, run in order; nothing is
    compiled or run. (For GraNd of ResNet18 it counts 5.3 MB, and XLA's own figure is 5.1 MB.) See `fit_batch`
    for the check of the compiled program.

    Args:
        fn: takes the shared arguments and then arrays with a leading batch axis.
        *arrays: pytrees of arrays (or `jax.ShapeDtypeStruct`) `[n ...]`.
        shared: arguments without a batch axis, such as variables.
        budget: bytes; by default `chunk_budget()`.

    Returns:
        A batch size from 1 to 1024.

    Example:
        >>> import jax.numpy as jnp
        >>> auto_batch_size(lambda x: x + 1, jnp.zeros((10, 3)))
        1024
    """
    one, two = (peak_bytes(jax.make_jaxpr(fn)(*shared, *_with_batch(arrays, size)).jaxpr) for size in (1, 2))
    fits = (chunk_budget() if budget is None else budget) // max(two - one, 1)
    return 2 ** int(math.log2(min(max(fits, 1), LARGEST_AUTO_BATCH)))


def _with_batch(arrays: Any, size: int) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), arrays)


def peak_bytes(jaxpr: Any) -> int:
    """Returns the most bytes of results at once if a jaxpr's equations run in order and free what is used up.

    Args:
        jaxpr: a `jax.extend.core.Jaxpr`, such as `jax.make_jaxpr(fn)(*args).jaxpr`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> peak_bytes(jax.make_jaxpr(lambda x: jnp.sin(x).sum())(jnp.zeros(256)).jaxpr)
        1028
    """
    last_use = {
        atom: position
        for position, equation in enumerate(jaxpr.eqns)
        for atom in equation.invars
        if not hasattr(atom, "val")
    }
    results = {atom for atom in jaxpr.outvars if not hasattr(atom, "val")}
    freed: dict[int, int] = {}
    alive = peak = 0
    for position, equation in enumerate(jaxpr.eqns):
        # What is jitted, or runs in a loop, is one equation here: its body has intermediate arrays too.
        parts = jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr)
        inside = max((peak_bytes(part) for part in parts if _is_jaxpr(part)), default=0)
        made = {var: _bytes(var.aval) for var in equation.outvars if var in last_use or var in results}
        peak = max(peak, alive + max(inside, sum(made.values())))
        alive += sum(made.values())
        for var, size in made.items():
            if var not in results:
                end = last_use[var]
                freed[end] = freed.get(end, 0) + size
        alive -= freed.get(position, 0)
    return peak


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * aval.dtype.itemsize if hasattr(aval, "shape") else 0


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns")
