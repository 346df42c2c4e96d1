"""The bridge from an Equinox module to the three pure functions of `diet_jax.types.Model`."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diet_jax.checks.calls import calling
from diet_jax.checks.values import check_function, check_key
from diet_jax.errors import InputError
from diet_jax.models.adapters import check_constructor
from diet_jax.models.functions import Adapted, checked_logits
from diet_jax.models.pytrees import by_path, like
from diet_jax.types import Inputs, Logits, PRNGKey, Variables

BATCH = "batch"
"""The name of the axis of examples, for `equinox.nn.BatchNorm(axis_name="batch")`."""


@dataclass(frozen=True)
class EquinoxModel(Adapted):
    """What makes Equinox modules, as a model; equal to another of the same constructor. By `from_equinox`."""

    constructor: Callable[..., Any]
    features_fn: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        """Of the module's class."""
        return _template(self.constructor)[-1]

    def init(self, key: PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Variables:
        """Returns fresh variables; an Equinox module knows the shape of its inputs itself."""
        return _variables(*_pair(self.constructor(check_key(key))))

    def apply(
        self, variables: Variables, inputs: Inputs, *, train: bool, key: PRNGKey | None = None
    ) -> tuple[Logits, Any]:
        """Returns logits and the new model state; the key is for dropout in train mode."""
        module, state = self._module(variables, train)
        options: dict[str, Any] = {}
        if "key" in inspect.signature(type(module).__call__).parameters and train and key is not None:
            options["key"] = jax.random.split(key, len(inputs))

        def one(x: Any, state: Any, options: Any) -> Any:
            return module(x, **options) if state is None else module(x, state, **options)

        out_axes = 0 if state is None else (0, None)
        mapped = jax.vmap(one, in_axes=(0, None, 0), out_axes=out_axes, axis_name=BATCH)
        returned = mapped(inputs, state, options)
        logits, state = (returned, None) if state is None else returned
        logits = checked_logits(logits, "module")
        return logits, _variables(module, state).model_state if train else variables.model_state

    def evaluated(self, variables: Variables) -> tuple[Any, ...]:
        """Returns the module in eval mode, and its state."""
        return self._module(variables, False)

    def _module(self, variables: Variables, train: bool) -> tuple[Any, Any]:
        import equinox as eqx

        params, constants, state, static, _ = _template(self.constructor)
        module = eqx.combine(
            like(params, variables.params), like(constants, variables.model_state["constants"]), static
        )
        if state is not None:
            state = like(state, variables.model_state["state"])
        return eqx.nn.inference_mode(module, value=not train), state


def from_equinox(
    constructor: Callable[..., Any], *, features: Callable[..., Any] | None = None
) -> EquinoxModel:
    """Returns a model made of an Equinox module: of what constructs it, for every seed has its own.

    As always in Equinox the module's call takes one example and returns its logits `[c]`; it is mapped over
    the batch along the axis "batch", by which `equinox.nn.BatchNorm(..., axis_name="batch")` finds the
    others. `equinox.nn.inference_mode` follows the mode.

    Args:
        constructor: `(key) -> module`, or `(module, state)` as `equinox.nn.make_with_state` makes them. The
            module's call is `(x)`, or `(x, state)` which returns `(logits, state)`; either may have a keyword
            `key`. Inputs are `[h w ch]`; Equinox's convolutions want the channels first. Keep one object:
            models of the same constructor are equal, and their compiled programs are shared.
        features: `(module, state, inputs) -> (logits [b c], features [b d], has_bias)`, where the logits are
            a dense layer of the features; for scores of the last layer.

    Returns:
        The model. Its parameters are the module's floating arrays, by path.

    Raises:
        InputError: it is no function, or it does not make an Equinox module.

    Example:
        >>> import equinox as eqx, jax
        >>> model = from_equinox(lambda key: eqx.nn.MLP(4, 3, width_size=8, depth=1, key=key))
        >>> variables = model.init(jax.random.key(0), (4,))
        >>> model.predict(variables, jax.numpy.ones((2, 4))).shape
        (2, 3)
    """
    if features is not None:
        check_function(features, "features", "(variables, inputs) -> (logits, features, has_bias)")
    check_constructor(constructor, "equinox")
    _template(constructor)
    return EquinoxModel(constructor, features)


@functools.lru_cache(maxsize=64)
def _template(constructor: Callable[..., Any]) -> tuple[Any, Any, Any, Any, str]:
    """Parameters, other arrays and state as shapes, what is no array, and the name of the class."""
    import equinox as eqx

    with calling("the constructor"):
        made = eqx.filter_eval_shape(constructor, jax.random.key(0))
    module, state = _pair(made)
    if not isinstance(module, eqx.Module):
        raise InputError(f"constructor: expected it to make an equinox.Module, got {type(module).__name__}")
    arrays, static = eqx.partition(module, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    params, constants = eqx.partition(arrays, _is_float)
    return params, constants, state, static, type(module).__name__


def _pair(made: Any) -> tuple[Any, Any]:
    return made if isinstance(made, tuple) and len(made) == 2 else (made, None)


def _variables(module: Any, state: Any) -> Variables:
    import equinox as eqx

    params, constants = eqx.partition(eqx.filter(module, eqx.is_array), _is_float)
    model_state = {"constants": by_path(constants), "state": by_path(state)}
    return Variables(by_path(params), model_state)


def _is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)
