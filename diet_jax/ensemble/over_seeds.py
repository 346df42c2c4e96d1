"""Many seeds: one leading axis, five ways to run it, the same numbers."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import PartitionSpec

from diet_jax.data.dataset import Dataset
from diet_jax.devices.defaults import How, default_how, has_convolution, model_has_convolution
from diet_jax.devices.mesh import SEED, axis_size, replicate
from diet_jax.errors import InputError
from diet_jax.types import Model

AnyHow = How | Literal["auto"]
HOWS: tuple[How, ...] = ("vmap", "unroll", "map", "loop", "mesh")


def over_seeds(fn: Callable[..., Any], *, how: AnyHow = "auto") -> Callable[..., Any]:
    """Maps a function of one seed over a leading seed axis of its first argument.

    Like `vmap`, with a choice of how; the other arguments are shared by all seeds. The caller applies
    `jit`, to the result or, with "loop", to `fn`.

    | how | what it does |
    |---|---|
    | vmap | one batched program: best where the batch of seeds fills the device |
    | unroll | the seeds one after the other, written out in one program: compiles longest |
    | map | a loop over seeds on the device, in one program |
    | loop | a Python loop: `fn` is called once for each seed |
    | mesh | one program over many devices: seeds are spread over the axis "seed" of JAX's current mesh |
    | auto | mesh if that axis has several devices; on accelerators vmap; on CPUs loop or map (measured) |

    On CPUs "auto" is loop for convolutions, else map. "mesh" needs a mesh: `with
    jax.set_mesh(dj.make_mesh(...))`. Each device runs its seeds as "auto" would run them in one program;
    where devices do not divide the seeds, copies of the last one fill up and are dropped. Batches of one
    seed may be split as well, see `make_mesh`. Called outside `jit`, it compiles anew for each result of
    `over_seeds`.

    Args:
        fn: `fn(seeded, *shared)`; `seeded` is one seed's slice.
        how: see the table.

    Returns:
        A function of `(seeded, *shared)` where every leaf of `seeded` has a leading seed axis `[s ...]`, and
        so has every leaf of the result.

    Raises:
        InputError: an unknown `how`; when called, seeded leaves of different lengths, or "mesh" without a
            mesh that has an axis "seed".

    Example:
        >>> import jax, diet_jax as dj
        >>> keys = dj.seed_keys(0, "score", 3)
        >>> draw = dj.over_seeds(lambda key, n: jax.random.normal(key, ()) + n, how="vmap")
        >>> draw(keys, 1.0).shape
        (3,)
    """
    if how not in (*HOWS, "auto"):
        raise InputError(f"how must be one of {', '.join(HOWS)} or auto, got {how!r}")

    # Partly automatic meshes work under `jit` only.
    program = jax.jit(functools.partial(_on_mesh, fn))

    def mapped(seeded: Any, *shared: Any) -> Any:
        num_seeds = count_seeds(seeded)
        chosen = how
        if chosen == "auto":
            chosen = (
                "mesh"
                if axis_size(SEED) > 1
                else default_how(has_convolution(fn, take_seed(seeded, 0), *shared))
            )
        if chosen == "mesh":
            check_seed_axis()
            traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((seeded, shared)))
            return program(*((seeded, *shared) if traced else replicate((seeded, *shared))))
        if chosen == "vmap":
            return jax.vmap(fn, in_axes=(0, *(None for _ in shared)))(seeded, *shared)
        if chosen == "map":
            return jax.lax.map(lambda one: fn(one, *shared), seeded)
        results = [fn(take_seed(seeded, seed), *shared) for seed in range(num_seeds)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return mapped


def take_seed(stacked: Any, seed: int) -> Any:
    """Returns one seed's slice of a stacked pytree: every leaf `[s ...]` becomes `[...]`.

    Raises:
        InputError: there is no such seed.

    Example:
        >>> import jax.numpy as jnp
        >>> take_seed({"w": jnp.arange(6).reshape(3, 2)}, 2)["w"].tolist()
        [4, 5]
    """
    num_seeds = count_seeds(stacked)
    if not 0 <= seed < num_seeds:
        raise InputError(f"seed must lie in 0..{num_seeds - 1}, got {seed}")
    return jax.tree.map(lambda leaf: leaf[seed], stacked)


def resolve_how(how: AnyHow, model: Model, dataset: Dataset) -> How:
    """Returns what "auto" means for a model and the backend; anything else as it is, if it is known."""
    if how == "auto" and axis_size(SEED) > 1:
        return "mesh"
    if how == "auto":
        return default_how(model_has_convolution(model, dataset.image_shape))
    if how not in HOWS:
        raise InputError(f"how must be one of {', '.join(HOWS)} or auto, got {how!r}")
    if how == "mesh":
        check_seed_axis()
    return how


def check_seed_axis() -> None:
    """Raises InputError unless JAX's current mesh has an axis for seeds."""
    mesh = jax.sharding.get_abstract_mesh()
    if SEED not in mesh.axis_names:
        there = "there is no mesh" if mesh.empty else f"its axes are {', '.join(mesh.axis_names)}"
        raise InputError(
            f'how="mesh" needs a current mesh with an axis "seed", but {there}; call it inside '
            f"`with jax.set_mesh(diet_jax.make_mesh()):`, or give the command several devices and --mesh.seed"
        )


def count_seeds(stacked: Any) -> int:
    """Returns the length of the leading seed axis that all leaves share."""
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(stacked)}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(
            f"every leaf must have the same leading seed axis of at least 1, found {sorted(lengths)}"
        )
    return lengths.pop()


def _on_mesh(fn: Callable[..., Any], seeded: Any, *shared: Any) -> Any:
    num_seeds, devices = count_seeds(seeded), axis_size(SEED)
    per_device = -(-num_seeds // devices)
    how = _how_on_one_device(fn, per_device, take_seed(seeded, 0), *shared)
    filled = jnp.minimum(jnp.arange(devices * per_device), num_seeds - 1)
    if per_device * devices > num_seeds:
        seeded = jax.tree.map(lambda leaf: leaf[filled], seeded)
    result = jax.shard_map(
        over_seeds(fn, how=how),
        in_specs=(PartitionSpec(SEED), *(PartitionSpec() for _ in shared)),
        out_specs=PartitionSpec(SEED),
        axis_names={SEED},
        check_vma=False,
    )(seeded, *shared)
    return jax.tree.map(lambda leaf: leaf[:num_seeds], result)


def _how_on_one_device(fn: Callable[..., Any], num_seeds: int, *args: Any) -> How:
    if num_seeds == 1:
        return "unroll"
    how = default_how(has_convolution(fn, *args))
    return "map" if how == "loop" else how
