"""Many seeds: one leading axis, five ways to run it, the same numbers."""

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import PartitionSpec

from diet_jax.checks.values import check_choice, check_count, check_function, check_pytree
from diet_jax.data.dataset import Dataset
from diet_jax.devices.defaults import (
    How,
    default_how,
    groups_convolutions,
    has_convolution,
    model_has_convolution,
    training_groups_convolutions,
)
from diet_jax.devices.free_memory import memory_to_plan_with
from diet_jax.devices.memory import fit_batch, halving, resident_bytes
from diet_jax.devices.mesh import SEED, axis_size, replicate
from diet_jax.errors import InputError
from diet_jax.types import Model

AnyHow = How | Literal["auto"]
T = TypeVar("T")
# Of networks that train together: more take longer to compile. Measured: docs/results/gpu.md, several seeds.
SIDE_BY_SIDE = 8
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
    | auto | mesh if that axis has several devices; else as it was measured to be best |

    "auto" is map, but loop for convolutions on CPUs and vmap for functions without any on accelerators.
    "mesh" needs a mesh: `with jax.set_mesh(dj.make_mesh(...))`. Each device runs its seeds as "auto" would
    run them in one program; where devices do not divide the seeds, copies of the last one fill up and are
    dropped. Batches of one seed may be split as well, see `make_mesh`. Called outside `jit`, it compiles anew
    for each result of `over_seeds`.

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
    check_function(fn, "fn", "(seeded, *shared) -> pytree of arrays")
    check_choice(how, "how", (*HOWS, "auto"))

    # Partly automatic meshes work under `jit` only.
    program = jax.jit(functools.partial(_on_mesh, fn))

    def mapped(seeded: Any, *shared: Any) -> Any:
        num_seeds = count_seeds(seeded)
        chosen = how
        if chosen == "auto":
            chosen = "mesh" if axis_size(SEED) > 1 else _how_for(fn, take_seed(seeded, 0), *shared)
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
    """Returns one seed's slice of a stacked pytree: every leaf `[s ...]` becomes `[...]`, of its dtype.

    Raises:
        InputError: there is no such seed.

    Example:
        >>> import jax.numpy as jnp
        >>> take_seed({"w": jnp.arange(6).reshape(3, 2)}, 2)["w"].tolist()
        [4, 5]
    """
    num_seeds = count_seeds(stacked)
    if not 0 <= check_count(seed, "seed", least=-math.inf, most=math.inf) < num_seeds:
        raise InputError(f"seed must lie in 0..{num_seeds - 1}, got {seed}")
    return jax.tree.map(lambda leaf: leaf[seed], stacked)


def resolve_how(how: AnyHow, model: Model, dataset: Dataset) -> How:
    """Returns what "auto" means for a model and the backend; anything else as it is, if it is known."""
    check_choice(how, "how", (*HOWS, "auto"))
    if how == "auto" and axis_size(SEED) > 1:
        return "mesh"
    if how == "auto":
        grouped = functools.partial(training_groups_convolutions, model, dataset.spec)
        return default_how(model_has_convolution(model, dataset.spec), grouped)
    if how == "mesh":
        check_seed_axis()
    return how


def seeds_at_once(how: How, num_seeds: int) -> int:
    """Returns how many networks one device works on at the same time, which then share its memory."""
    if how == "mesh":
        on_each = math.ceil(num_seeds / axis_size(SEED))
        return on_each if jax.default_backend() != "cpu" else 1
    return num_seeds if how == "vmap" else 1


def joined(groups: Iterable[Sequence[T]], how: How, size: Callable[[T], Any]) -> list[list[T]]:
    """Returns groups of trainings, joined where more networks side by side are faster; none is split.

    Args:
        groups: each of trainings of one size.
        how: as `resolve_how` returns it; only groups by "vmap", or over several devices, are joined.
        size: what must be the same in one program, of a training.
    """
    most = SIDE_BY_SIDE * (axis_size(SEED) if how == "mesh" else how == "vmap")
    found: list[list[T]] = []
    last: dict[Any, list[T]] = {}
    for group in filter(None, groups):
        before = last.get(size(group[0]), [])
        if before and len(before) + len(group) <= most:
            before += group
        else:
            last[size(group[0])] = list(group)
            found.append(last[size(group[0])])
    return found


def run_seeds(
    compiled: Any,
    seeded: Any,
    *shared: Any,
    how: How,
    one: Callable[[Any], Any],
    warn: Callable[[str], Any] = warnings.warn,
    **static: Any,
) -> Any:
    """Runs a program for many seeds in the way that `how` says, and joins the results.

    One after the other with "loop". Else all seeds at once if the compiled program fits memory, or half of
    them, and so on; where memory runs out all the same, the group is halved again, and groups that are done
    are kept. The last group is filled up with copies.

    Args:
        compiled: what `jax.jit` returns, of `(seeded, *shared, how=..., **static)`; its results have a
            leading seed axis.
        seeded: pytree of arrays `[s ...]`.
        *shared: pytrees of arrays that all seeds use.
        how: as `resolve_how` returns it.
        one: `one(slice of seeded)` does the same for one seed by other compiled calls, for "loop".
        warn: is told of every smaller group.
        **static: options of the program.

    Returns:
        The results of all seeds, leading axis `s`: on the host with "loop", else where the program leaves it.

    Raises:
        InputError: not even one seed fits.
    """
    count = count_seeds(seeded)
    if how == "loop":
        results = [one(take_seed(seeded, seed)) for seed in range(count)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *results)
    seeded, shared = replicate((seeded, shared))

    def group(first: int, size: int) -> Any:
        if size == count:
            return seeded
        places = np.arange(first, first + size).clip(max=count - 1)
        return jax.tree.map(lambda leaf: leaf[places], seeded)

    def compile_at(size: int) -> Any:
        return compiled.lower(group(0, size), *shared, how=how, **static).compile()

    def run(first: int, size: int) -> Any:
        return jax.block_until_ready(compiled(group(first, size), *shared, how=how, **static))

    limit = memory_to_plan_with()
    plan = fit_batch(compile_at, count, limit=limit, resident=resident_bytes(seeded, shared))
    if plan.batch_size < count:
        warn(f"{count} seeds at a time do not fit memory, running {plan.batch_size} at a time")
    remedy = "lower the batch size of the training, or choose a smaller model"
    parts = halving(run, count, plan.batch_size, what="seeds", remedy=remedy, warn=warn)
    if len(parts) == 1:
        return parts[0][1]
    trimmed = [jax.tree.map(lambda leaf: leaf[:taken], part) for taken, part in parts]  # noqa: B023
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trimmed)


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
    check_pytree(stacked, "what is stacked")
    lengths = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0 for leaf in jax.tree.leaves(stacked)}
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
    how = _how_for(fn, *args)
    return "map" if how == "loop" else how


def _how_for(fn: Callable[..., Any], *args: Any) -> How:
    """What "auto" means for a function of one seed's slice and what seeds share."""
    return default_how(has_convolution(fn, *args), functools.partial(groups_convolutions, fn, *args))
