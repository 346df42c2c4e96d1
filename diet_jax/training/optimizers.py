"""The optimisers that have names, and how one of your own takes their place.

Another name is one entry of `OPTIMIZERS`, and a field of `TrainConfig` for its options if it has any.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from diet_jax.errors import InputError
from diet_jax.options.plain import plain
from diet_jax.options.typed import check_types
from diet_jax.types import Array

OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["piecewise", "linear", "cosine"]
Rate = Callable[[Any], Any]
"""Learning rate as Optax's functions take it: of the number of updates done before, from 0."""
Optimizer = OptimizerName | Callable[[Rate], optax.GradientTransformation] | optax.GradientTransformation


def sgd(
    rate: Rate, *, momentum: float = 0.9, nesterov: bool = True, weight_decay: float = 5e-4
) -> optax.GradientTransformation:
    """The paper's SGD: L2 on every parameter, then (Nesterov) momentum, then the learning rate.

    `g ← g + weight_decay·w;  m ← momentum·m + g;  w ← w − rate·(g + momentum·m)`. The L2 term is added
    before the momentum and reaches biases and BatchNorm's scale and bias too.

    Args:
        rate: the learning rate, of the number of updates done before.
        momentum: decay of the momentum.
        nesterov: whether the step looks ahead.
        weight_decay: coefficient of the L2 term's gradient.

    Returns:
        An Optax transformation whose state counts the updates.

    Paper: appendix B, after Flax's former `optim.Momentum`.

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = sgd(lambda count: jnp.float32(0.1), momentum=0.0, weight_decay=0.0)
        >>> w = {"w": jnp.ones(1)}
        >>> updates, _ = optimizer.update({"w": jnp.ones(1)}, optimizer.init(w), w)
        >>> round(float(updates["w"][0]), 6)
        -0.1
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.trace(decay=momentum, nesterov=nesterov),
        optax.scale_by_learning_rate(rate),
    )


@dataclass(frozen=True)
class AdamWOptions:
    """Options of AdamW; the defaults are those of `optax.adamw`."""

    b1: float = 0.9
    """Decay of the mean of past gradients."""
    b2: float = 0.999
    """Decay of the mean of their squares."""
    eps: float = 1e-8
    """Added to the root of that mean."""
    weight_decay: float = 1e-4
    """Decay of every parameter beside the gradient: each update subtracts rate x weight decay x parameter
    (PyTorch's default is 0.01)."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, value in {"b1": self.b1, "b2": self.b2}.items():
            if not 0 <= value < 1:
                raise InputError(f"adamw.{name} must be at least 0 and below 1, got {value}")
        for name, value in {"eps": self.eps, "weight_decay": self.weight_decay}.items():
            if not 0 <= value < float("inf"):
                raise InputError(f"adamw.{name} must be a finite number of at least 0, got {value}")


class NamedOptimizer(NamedTuple):
    """How an optimiser is made of a config."""

    build: Callable[[Any, Rate], optax.GradientTransformation]
    """`(config, rate) -> optimiser`."""
    options: tuple[str, ...]
    """The fields of the config that it reads and no other one does."""


OPTIMIZERS: dict[str, NamedOptimizer] = {
    "sgd": NamedOptimizer(
        lambda config, rate: sgd(
            rate, momentum=config.momentum, nesterov=config.nesterov, weight_decay=config.weight_decay
        ),
        ("momentum", "nesterov", "weight_decay"),
    ),
    "adamw": NamedOptimizer(lambda config, rate: optax.adamw(rate, **vars(config.adamw)), ("adamw",)),
}

# What decides the rate, unless the optimiser or the schedule is an object that brings its own.
RATE = ("learning_rate", "schedule", "decay_at", "decay_factor", "warmup")
_FUNCTIONS = "optax.adam or functools.partial(optax.lion, weight_decay=0.1)"


def has_own_rate(optimizer: Any) -> bool:
    """Returns whether it is an Optax transformation as it is, and no name or function of a rate."""
    return isinstance(optimizer, optax.GradientTransformation)


def check_choices(config: Any) -> None:
    """Raises InputError unless optimiser and schedule of a `TrainConfig` are what they may be."""
    kinds = f"a function of the learning rate such as {_FUNCTIONS}, or an optax.GradientTransformation"
    _check_choice("optimizer", config.optimizer, get_args(OptimizerName), kinds, has_own_rate)
    kinds = "an Optax schedule: a function from the number of updates done before, from 0, to the rate"
    _check_choice("schedule", config.schedule, get_args(ScheduleName), kinds)


def check_unread(config: Any) -> None:
    """Raises InputError if a `TrainConfig` has an option set that its optimiser and schedule do not read."""
    optimizer, schedule = config.optimizer, config.schedule
    for name, named in OPTIMIZERS.items():
        if name != optimizer:
            chosen = optimizer if isinstance(optimizer, str) else "an object with options of its own"
            why = f"optimizer {name} alone reads that, and optimizer is {chosen}: choose {name}"
            check_default(config, named.options, why)
    if has_own_rate(optimizer):
        why = f"optimizer is a transformation with a rate of its own: give a function such as {_FUNCTIONS}"
        check_default(config, RATE, why)
    elif not isinstance(schedule, str):
        rest = [name for name in RATE if name != "schedule"]
        check_default(config, rest, "schedule is a function that gives the rate itself: choose its name")


def call_optimizer(function: Callable[[Rate], Any], rate: Rate) -> optax.GradientTransformation:
    """Returns the optimiser that a function of one's own makes of the learning rate.

    Raises:
        InputError: it cannot be called with a rate, or returns something else.
    """
    try:
        optimizer = function(rate)
    except Exception as error:
        raise InputError(
            f"optimizer {_shown(function)} cannot be called with a learning rate ({_line(error)}); give a "
            f"function of one argument, such as {_FUNCTIONS}"
        ) from error
    if not has_own_rate(optimizer):
        raise InputError(
            f"optimizer {_shown(function)} must return an optax.GradientTransformation as {_FUNCTIONS} do, "
            f"got {_shown(optimizer)}"
        )
    return optimizer


def call_schedule(schedule: Rate) -> Callable[[Array], Array]:
    """Returns a schedule of one's own as a function from the update number, from 1, to a float32 rate.

    Raises:
        InputError: it fails, or does not return one number.
    """

    def rate(t: Array) -> Array:
        with jax.numpy_dtype_promotion("standard"):
            return jnp.asarray(schedule(t - 1), jnp.float32)

    try:
        shape = jax.eval_shape(rate, jax.ShapeDtypeStruct((), jnp.int32)).shape
    except Exception as error:
        raise InputError(
            f"schedule {_shown(schedule)} fails for the number of updates, a traced int32 ({_line(error)}); "
            "write it with jax.numpy, or take one of Optax"
        ) from error
    if shape != ():
        raise InputError(f"schedule {_shown(schedule)} must return one number, got shape {shape}")
    return rate


def with_standard_promotion(
    optimizer: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """Returns it for programs with JAX's strict promotion too, in which most of Optax fails."""

    def init(params: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_choice(
    field: str,
    value: Any,
    names: Sequence[str],
    kinds: str,
    is_other: Callable[[Any], bool] = lambda _: False,
) -> None:
    is_function = callable(value) and not isinstance(value, type)
    if not (value in names if isinstance(value, str) else is_function or is_other(value)):
        near = difflib.get_close_matches(value, names, n=1) if isinstance(value, str) else ()
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"{field} must be one of {', '.join(names)}, or in Python {kinds}; got {_shown(value)}{hint}"
        )
    try:
        hash(value)
    except TypeError as error:
        raise InputError(
            f"{field} must be hashable, for compiled programs are found by it, and {_shown(value)} is not "
            f"({_line(error)}); wrap it in a function or a functools.partial"
        ) from error


def check_default(config: Any, names: Sequence[str], why: str) -> None:
    """Raises InputError, which ends in a reason, if one of these fields of a config is not its default."""
    changed = [line for name in names for line in _changed(config, name)]
    if changed:
        raise InputError(f"{', '.join(changed)}, but {why}, or leave the default")


def _changed(options: Any, name: str, path: str = "") -> Iterator[str]:
    """Yields which options differ from their defaults, such as "adamw.b1 is 0.8 (default 0.9)"."""
    value = getattr(options, name)
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _changed(value, field.name, f"{path}{name}.")
    elif value != (default := getattr(type(options), name)):
        yield f"{path}{name} is {plain(value)} (default {plain(default)})"


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 100 else text[:100] + '...'} ({type(value).__name__})"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
