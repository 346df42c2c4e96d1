"""Many devices: a mesh with axes for seeds and for data, and what is split along them.

The mesh is JAX's own and is found where JAX keeps it (`jax.set_mesh`); without one everything here leaves
its arguments alone. Computations are those of one device: JAX inserts the communication.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from diet_jax.checks.values import check_count, check_type
from diet_jax.errors import InputError

SEED = "seed"
"""Axis along which seeds are spread."""
DATA = "data"
"""Axis along which every batch is split; parameters are replicated along it."""
FSDP = "fsdp"
"""Axis along which every batch is split, and so are parameters and optimiser state."""
AXES = (SEED, DATA, FSDP)


def make_mesh(seed: int | None = None, data: int = 1, *, shard_params: bool = False) -> Mesh:
    """Returns a mesh of the first `seed * data` devices, to be set with `jax.set_mesh`.

    Under it `over_seeds(..., how="mesh")`, `score_ensemble` and `train_ensemble` spread seeds over the axis
    "seed", and training, scores, evaluation and kernels split each batch over the axis "data". BatchNorm then
    uses the statistics of the whole batch, as on one device.

    Args:
        seed: devices along the seed axis; by default all devices divided by `data`.
        data: devices that share each batch of one seed.
        shard_params: split parameters and optimiser state over the devices that share a batch, instead of
            holding them on each: training needs less memory. Scores, evaluation and kernels hold the
            parameters whole on each device.

    Returns:
        A mesh with axes "seed" and "data" (or "fsdp" with `shard_params`).

    Raises:
        InputError: a number below 1, or more devices than there are.

    Example:
        >>> import diet_jax as dj
        >>> dj.make_mesh(seed=1).axis_names
        ('seed', 'data')
    """
    count = jax.device_count()
    check_count(data, "data")
    if seed is not None:
        check_count(seed, "seed")
    check_type(shard_params, "shard_params", bool, "True or False")
    seed = max(1, count // data) if seed is None else seed
    if seed * data > count:
        raise InputError(
            f"a mesh of seed {seed} x data {data} needs {seed * data} devices, of {count} there; "
            f"lower one of them"
        )
    devices = np.asarray(jax.devices()[: seed * data]).reshape(seed, data)
    names = (SEED, FSDP if shard_params else DATA)
    return Mesh(devices, names, axis_types=(AxisType.Auto, AxisType.Auto))


def axis_size(name: str) -> int:
    """Returns over how many devices of the current mesh an axis can be split; 1 if there is no such axis.

    1 also inside `jax.shard_map` over that axis, where each device has its own part already.

    Raises:
        InputError: a mesh whose axis has an explicit type, which JAX's loops do not support.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or name not in mesh.axis_names:
        return 1
    kind = mesh.axis_types[mesh.axis_names.index(name)]
    if kind == AxisType.Explicit:
        raise InputError(
            f"the axis {name!r} of the current mesh has the type Explicit, it must be Auto; make the mesh "
            f"with diet_jax.make_mesh"
        )
    return mesh.shape[name] if kind == AxisType.Auto else 1


def batch_axes() -> tuple[str, ...]:
    """Returns the axes of the current mesh that split batches: "data" and "fsdp", where longer than 1."""
    return tuple(name for name in (DATA, FSDP) if axis_size(name) > 1)


def batch_parts() -> int:
    """Returns into how many parts each batch is split; 1 without a mesh."""
    return math.prod(axis_size(name) for name in batch_axes())


def split_batch(tree: Any) -> Any:
    """Splits the leading axis of every leaf over the data axes of the current mesh.

    A leaf whose length they do not divide stays whole, as does everything without a mesh.
    """
    axes, parts = batch_axes(), batch_parts()
    if parts == 1:
        return tree

    def split(leaf: Any) -> Any:
        if not leaf.ndim or leaf.shape[0] % parts:
            return leaf
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec(axes))

    return jax.tree.map(split, tree)


def over_parts(fn: Callable[..., Any], shared: Any, *arrays: Any) -> Any:
    """Applies `fn(shared, *arrays)`, which treats examples independently, on each device to its part of them.

    Unlike `split_batch` it leaves nothing to the compiler, which splits `vmap` of a gradient of convolutions
    wrongly (seen on CPUs with jaxlib 0.10). What is shared is whole on each device; copies of the last
    example fill up.

    Args:
        fn: returns a pytree of arrays `[b ...]`.
        shared: pytree of arrays.
        *arrays: pytrees of arrays `[b ...]`.
    """
    parts = batch_parts()
    if parts == 1:
        return fn(shared, *arrays)
    count = jax.tree.leaves(arrays)[0].shape[0]
    if count % parts:
        filled = np.arange(parts * math.ceil(count / parts)).clip(max=count - 1)
        arrays = jax.tree.map(lambda leaf: leaf[filled], arrays)
    split = PartitionSpec(batch_axes())
    result = jax.shard_map(
        fn,
        in_specs=(PartitionSpec(), *(split for _ in arrays)),
        out_specs=split,
        axis_names=set(batch_axes()),
        check_vma=False,
    )(shared, *arrays)
    return jax.tree.map(lambda leaf: leaf[:count], result) if count % parts else result


def split_params(tree: Any) -> Any:
    """Splits every leaf over the axis "fsdp" of the current mesh, along its longest axis that this divides.

    Leaves with no such axis are whole on each device. Without that mesh axis everything stays as it is.
    """
    parts = axis_size(FSDP)
    if parts == 1:
        return tree

    def split(leaf: Any) -> Any:
        fitting = [axis for axis in range(leaf.ndim) if leaf.shape[axis] % parts == 0 and leaf.shape[axis]]
        if not fitting or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            return hold_whole(leaf)
        longest = max(fitting, key=lambda axis: leaf.shape[axis])
        spec = [FSDP if axis == longest else None for axis in range(leaf.ndim)]
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec(*spec))

    return jax.tree.map(split, tree)


def hold_whole(tree: Any) -> Any:
    """Keeps every leaf whole on each device that shares a batch; the compiler would be free to split it."""
    if batch_parts() == 1:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec()), tree)


def replicate(tree: Any) -> Any:
    """Puts arrays, the same in every process, on all devices of the current mesh, or on the default one.

    JAX arrays that lie on this very mesh already stay as they are, also where they are split.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return jax.device_put(tree)
    whole = NamedSharding(mesh, PartitionSpec())

    def is_there(leaf: Any) -> bool:
        sharding = getattr(leaf, "sharding", None)
        return isinstance(sharding, NamedSharding) and sharding.mesh == mesh

    leaves, structure = jax.tree.flatten(tree)
    away = [i for i, leaf in enumerate(leaves) if not is_there(leaf)]
    # Keys cannot be put on the devices of another process, their data can.
    keys = {i: jax.random.key_impl(leaves[i]) for i in away if _is_key(leaves[i])}
    data = [jax.random.key_data(leaves[i]) if i in keys else leaves[i] for i in away]
    for i, leaf in zip(away, jax.device_put(data, whole), strict=True):
        leaves[i] = jax.random.wrap_key_data(leaf, impl=keys[i]) if i in keys else leaf
    return jax.tree.unflatten(structure, leaves)


def copied(tree: Any) -> Any:
    """Returns arrays in buffers of their own, where the given ones lie."""

    def copy(leaf: Any) -> Any:
        if _is_key(leaf):
            return jax.random.wrap_key_data(copy(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer):
            return jax.device_put(leaf, leaf.sharding, may_alias=False)
        return jnp.array(leaf, copy=True)

    return jax.tree.map(copy, tree)


def replicated_shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape of what `replicate` puts on devices, to compile for before it is there."""
    mesh = jax.sharding.get_mesh()
    sharding = None if mesh.empty else NamedSharding(mesh, PartitionSpec())
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def fetch(tree: Any) -> Any:
    """Returns arrays as NumPy arrays, whole in every process, also where their parts lie in several."""

    def whole(leaf: Any) -> Any:
        here = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated
        return leaf if here else multihost_utils.process_allgather(leaf, tiled=True)

    return jax.device_get(jax.tree.map(whole, tree))


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
