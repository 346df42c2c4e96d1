"""The methods of dynamic pruning by name.

Another one is a file with its options and its `DynamicPruning`, an entry of `METHODS`, and a field of
`TrainConfig` for the options.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from diet_jax.errors import InputError
from diet_jax.training.dynamic_pruning.hardest import Hardest
from diet_jax.training.dynamic_pruning.infobatch import InfoBatch
from diet_jax.training.dynamic_pruning.method import DynamicPruning
from diet_jax.training.optimizers import check_default

DynamicName = Literal["none", "infobatch", "hardest"]


class NamedMethod(NamedTuple):
    """How a method is made of a config."""

    build: Callable[[Any, int], DynamicPruning]
    """`(config, number of steps) -> method`."""
    candidates: Callable[[Any], int] = lambda config: config.batch_size
    """`config -> examples that are drawn for every step`."""


METHODS: dict[str, NamedMethod] = {
    "infobatch": NamedMethod(
        lambda config, num_steps: InfoBatch(
            config.infobatch.leave_out,
            config.batch_size,
            math.floor(config.infobatch.until * num_steps + 0.5),
        )
    ),
    "hardest": NamedMethod(
        lambda config, _: Hardest(config.batch_size, rows_per_step(config), config.hardest.score()),
        lambda config: config.hardest.candidates(config.batch_size),
    ),
}


def make_method(config: Any, num_steps: int) -> DynamicPruning | None:
    """Returns the method of a `TrainConfig` for a training of so many steps; None where it has none."""
    return None if config.dynamic == "none" else METHODS[config.dynamic].build(config, num_steps)


def rows_per_step(config: Any) -> int:
    """Returns how many examples are drawn for every step: the batch, or the candidates for it."""
    return config.batch_size if config.dynamic == "none" else METHODS[config.dynamic].candidates(config)


def without_pruning(config: Any) -> Any:
    """Returns a `TrainConfig` without dynamic pruning."""
    defaults = {name: type(getattr(config, name))() for name in METHODS}
    return dataclasses.replace(config, dynamic="none", **defaults)


def check_method(config: Any) -> None:
    """Raises InputError if a `TrainConfig` has options of a method set that it does not use."""
    for name in METHODS:
        if name != config.dynamic:
            why = f"dynamic is {config.dynamic}, which does not read that: choose {name}"
            check_default(config, (name,), why)


def check_candidates(config: Any, num_kept: int) -> None:
    """Raises InputError where fewer examples are trained on than every step draws candidates."""
    drawn = rows_per_step(config)
    if num_kept < drawn:
        raise InputError(
            f"dynamic {config.dynamic} draws {drawn:,} candidates for every batch of "
            f"{config.batch_size:,}, but only {num_kept:,} examples are trained on; raise hardest.fraction "
            f"or lower batch_size"
        )
