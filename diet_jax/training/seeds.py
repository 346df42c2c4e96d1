"""Keys with a purpose: streams that never overlap, however many seeds each has."""

import math
from typing import Literal

import jax
from jaxtyping import Key

from diet_jax.checks.values import check_choice, check_count
from diet_jax.errors import InputError
from diet_jax.types import THREEFRY, Array

# Each is a network.
MOST_SEEDS = 10**6

Purpose = Literal["score", "retrain", "random_subset", "tie_break", "label_noise", "child", "held_out"]
# Append only: a purpose's place in this tuple is part of every key ever made for it.
PURPOSES: tuple[Purpose, ...] = (
    "score",
    "retrain",
    "random_subset",
    "tie_break",
    "label_noise",
    "child",
    "held_out",
)


def seed_keys(seed: int, purpose: Purpose, num_seeds: int) -> Key[Array, "s"]:
    """Returns the keys of the runs 0 .. num_seeds-1 that serve one purpose.

    Key r of a purpose does not depend on how many are asked for, and scoring and retraining never share
    one, so a network is never judged on examples that its own initialisation picked.

    Args:
        seed: the experiment's seed, from 0 to 2**32 - 1.
        purpose: "score", "retrain", "random_subset", "tie_break", "label_noise" (which labels are wrong),
            "child" (data order of spawned networks) or "held_out".
        num_seeds: how many, at least 1.

    Returns:
        Typed keys `[s]`.

    Raises:
        InputError: a seed out of range, an unknown purpose, or no seeds.

    Example:
        >>> seed_keys(0, "score", 3).shape
        (3,)
    """
    check_seed(seed)
    check_count(num_seeds, "num_seeds", most=MOST_SEEDS)
    check_choice(purpose, "purpose", PURPOSES)
    stream = jax.random.fold_in(jax.random.key(seed, impl=THREEFRY), PURPOSES.index(purpose))
    return jax.vmap(jax.random.fold_in, (None, 0))(stream, jax.numpy.arange(num_seeds))


def check_seed(seed: int) -> None:
    """Raises InputError unless a seed fits 32 bits: JAX would cut a larger one off to another seed."""
    if not 0 <= check_count(seed, "seed", least=-math.inf, most=math.inf) < 2**32:
        raise InputError(f"seed must be at least 0 and below 2**32, got {seed}")
