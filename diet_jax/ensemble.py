"""Many seeds: one leading axis, four ways to run it, the same numbers."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from diet_jax.backend import How, default_how, has_convolution, model_has_convolution
from diet_jax.data import Dataset
from diet_jax.errors import InputError
from diet_jax.types import Model

AnyHow = How | Literal["auto"]
HOWS: tuple[How, ...] = ("vmap", "unroll", "map", "loop")


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
    | auto | on accelerators vmap; on CPUs loop for convolutions, else map (measured) |

    Args:
        fn: `fn(seeded, *shared)`; `seeded` is one seed's slice.
        how: see the table.

    Returns:
        A function of `(seeded, *shared)` where every leaf of `seeded` has a leading seed axis `[s ...]`, and
        so has every leaf of the result.

    Raises:
        InputError: an unknown `how`; when called, seeded leaves of different lengths.

    Example:
        >>> import jax, diet_jax as dj
        >>> keys = dj.seed_keys(0, "score", 3)
        >>> draw = dj.over_seeds(lambda key, n: jax.random.normal(key, ()) + n, how="vmap")
        >>> draw(keys, 1.0).shape
        (3,)
    """
    if how not in (*HOWS, "auto"):
        raise InputError(f"how must be one of {', '.join(HOWS)} or auto, got {how!r}")

    def mapped(seeded: Any, *shared: Any) -> Any:
        num_seeds = count_seeds(seeded)
        chosen = how
        if chosen == "auto":
            chosen = default_how(has_convolution(fn, take_seed(seeded, 0), *shared))
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
    if how == "auto":
        return default_how(model_has_convolution(model, dataset.image_shape))
    if how not in HOWS:
        raise InputError(f"how must be one of {', '.join(HOWS)} or auto, got {how!r}")
    return how


def count_seeds(stacked: Any) -> int:
    """Returns the length of the leading seed axis that all leaves share."""
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(stacked)}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(
            f"every leaf must have the same leading seed axis of at least 1, found {sorted(lengths)}"
        )
    return lengths.pop()
