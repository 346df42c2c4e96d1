"""Functions with a rule of their own for `vmap` over networks, where JAX's rule makes slow programs.

Called without `vmap`, each is the function that it was made from.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap, sequential_vmap

in_turn = sequential_vmap
"""Returns a function that `vmap` runs in a loop on the device, one entry after the other.

For passes over many examples: one network's batch fills the device, and its memory is that of one network.
"""


def one_by_one(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that `vmap` writes out for each entry if its first argument is batched.

    Where only the others are batched, such as by `vmap` over examples, it is batched as any function.

    Args:
        fn: of arrays, which returns an array.

    Example:
        >>> product = one_by_one(lambda kernel, x: x @ kernel)
        >>> jax.vmap(product)(jnp.ones((2, 3, 4)), jnp.ones((2, 5, 3))).shape
        (2, 5, 4)
    """
    call = custom_vmap(fn)

    @call.def_vmap
    def _(size: int, batched: Sequence[bool], *args: Any) -> tuple[Any, bool]:
        if batched[0]:
            taken = [[a[i] if yes else a for a, yes in zip(args, batched, strict=True)] for i in range(size)]
            return jnp.stack([call(*one) for one in taken]), True
        # Still written out by a vmap around this one.
        return one_by_one(jax.vmap(fn, in_axes=[0 if yes else None for yes in batched]))(*args), True

    return call


def seldom(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `(needed, value, *others) -> fn(value, *others) if needed else value`; `fn` is seldom needed.

    JAX's rule makes a selection of this branch, which runs `fn` for every entry in every call; here it runs
    for those entries that need it.

    Args:
        fn: `(value, *others) -> value`, pytrees of the same shapes and dtypes.

    Example:
        >>> double = seldom(lambda x: 2 * x)
        >>> jax.vmap(double)(jnp.array([True, False]), jnp.array([3, 4])).tolist()
        [6, 4]
    """

    def branch(needed: Array, value: Any, *others: Any) -> Any:
        return jax.lax.cond(needed, fn, lambda value, *_: value, value, *others)

    call = custom_vmap(branch)

    @call.def_vmap
    def _(size: int, batched: Sequence[Any], *args: Any) -> tuple[Any, Any]:
        def whole(leaf: Any, yes: bool) -> Any:
            return leaf if yes else jnp.broadcast_to(leaf, (size, *jnp.shape(leaf)))

        # What is not batched is not copied for each entry.
        value = jax.tree.map(whole, args[1], batched[1])
        axes = [jax.tree.map(lambda yes: 0 if yes else None, tree) for tree in batched]
        each = jax.vmap(in_turn(branch), in_axes=(axes[0], 0, *axes[2:]), axis_size=size)
        needed = jnp.any(args[0])
        result = jax.lax.cond(needed, each, lambda _, value, *others: value, args[0], value, *args[2:])
        return result, jax.tree.map(lambda _: True, result)

    return call


def value_and_grad(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `jax.value_and_grad(fn, has_aux=True)`, under `vmap` the gradient of the sum over networks.

    The same numbers, for no network's loss depends on another's parameters. But JAX's rule batches the
    gradient of a convolution's kernel as a convolution in groups of channels, which XLA's GPU backend does
    not know as a gradient; differentiating the batched loss makes groups of the batch, which it knows.

    Args:
        fn: `(params, *others) -> (loss, pytree)`.

    Example:
        >>> square = value_and_grad(lambda w, x: (jnp.sum((w * x) ** 2), None))
        >>> (loss, _), gradients = jax.vmap(square)(jnp.ones((2, 3)), jnp.ones((2, 3)))
        >>> loss.tolist(), gradients[0].tolist()
        ([3.0, 3.0], [2.0, 2.0, 2.0])
    """
    plain = jax.value_and_grad(fn, has_aux=True)
    call = custom_vmap(plain)

    @call.def_vmap
    def _(size: int, batched: Sequence[Any], *args: Any) -> tuple[Any, Any]:
        axes = [jax.tree.map(lambda yes: 0 if yes else None, tree) for tree in batched]
        if not all(jax.tree.leaves(batched[0])):
            results = jax.vmap(plain, in_axes=axes, axis_size=size)(*args)
        else:
            many = jax.vmap(fn, in_axes=axes, axis_size=size)

            def total(*args: Any) -> tuple[Any, Any]:
                losses, others = many(*args)
                return losses.sum(), (losses, others)

            (_, results), gradients = jax.value_and_grad(total, has_aux=True)(*args)
            results = results, gradients
        return results, jax.tree.map(lambda _: True, results)

    return call
