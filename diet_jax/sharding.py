"""Many devices: a mesh with axes for seeds and for data, and what is split along them.

The mesh is JAX's own and is found where JAX keeps it (`jax.set_mesh`); without one everything here leaves
its arguments alone. Computations are those of one device: JAX inserts the communication.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

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
            holding them on each; for networks that do not fit one device.

    Returns:
        A mesh with axes "seed" and "data" (or "fsdp" with `shard_params`).

    Raises:
        InputError: a number below 1, or more devices than there are.

    Example:
        >>> make_mesh(seed=1).axis_names
        ('seed', 'data')
    """
    count = jax.device_count()
    if data < 1 or (seed is not None and seed < 1):
        raise InputError(f"seed and data must be at least 1, got seed {seed} and data {data}")
    seed = max(1, count // data) if seed is None else seed
    if seed * data > count:
        raise InputError(
            f"a mesh of seed {seed} x data {data} needs {seed * data} devices, there are {count}; "
            f"lower one of them"
        )
    devices = np.asarray(jax.devices()[: seed * data]).reshape(seed, data)
    names = (SEED, FSDP if shard_params else DATA)
    return Mesh(devices, names, axis_types=(AxisType.Auto, AxisType.Auto))


def axis_size(name: str) -> int:
    """Returns the number of devices along an axis of the current mesh; 1 if there is no such axis."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else dict(mesh.shape).get(name, 1)


def split_batch(tree: Any) -> Any:
    """Splits the leading axis of every leaf over the data axes of the current mesh.

    A leaf whose length they do not divide stays whole, as does everything without a mesh.
    """
    axes = tuple(name for name in (DATA, FSDP) if axis_size(name) > 1)
    parts = int(np.prod([axis_size(name) for name in axes])) if axes else 1
    if parts == 1:
        return tree

    def split(leaf: Any) -> Any:
        if not leaf.ndim or leaf.shape[0] % parts:
            return leaf
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec(axes))

    return jax.tree.map(split, tree)


def split_params(tree: Any) -> Any:
    """Splits every leaf over the axis "fsdp" of the current mesh, along its longest axis that this divides.

    Leaves with no such axis stay whole, as does everything without that mesh axis.
    """
    parts = axis_size(FSDP)
    if parts == 1:
        return tree

    def split(leaf: Any) -> Any:
        fitting = [axis for axis in range(leaf.ndim) if leaf.shape[axis] % parts == 0 and leaf.shape[axis]]
        if not fitting or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
            return leaf
        longest = max(fitting, key=lambda axis: leaf.shape[axis])
        spec = [FSDP if axis == longest else None for axis in range(leaf.ndim)]
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec(*spec))

    return jax.tree.map(split, tree)


def replicate(tree: Any) -> Any:
    """Puts arrays, the same in every process, on all devices of the current mesh, or on the default one."""
    mesh = jax.sharding.get_mesh()
    return jax.device_put(tree) if mesh.empty else jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def fetch(tree: Any) -> Any:
    """Returns arrays as NumPy arrays, whole in every process, also where their parts lie in several."""
    if all(getattr(leaf, "is_fully_addressable", True) for leaf in jax.tree.leaves(tree)):
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)
