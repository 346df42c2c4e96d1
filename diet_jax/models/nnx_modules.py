"""The bridge from a Flax NNX module to the three pure functions of `diet_jax.types.Model`."""

import functools
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


@dataclass(frozen=True)
class NnxModel(Adapted):
    """What makes NNX modules, as a model; equal to another of the same constructor. Made by `from_nnx`."""

    constructor: Callable[..., Any]
    features_fn: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        """Of the module's class."""
        return _template(self.constructor)[-1]

    def init(self, key: PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Variables:
        """Returns fresh variables; an NNX module knows the shape of its inputs itself."""
        from flax import nnx

        return _variables(self.constructor(nnx.Rngs(check_key(key))))

    def apply(
        self, variables: Variables, inputs: Inputs, *, train: bool, key: PRNGKey | None = None
    ) -> tuple[Logits, Any]:
        """Returns logits and the new model state; the key is for dropout in train mode."""
        module = self._module(variables, key if train else None)
        module.train() if train else module.eval()
        logits = checked_logits(module(inputs), "module")
        return logits, _variables(module).model_state if train else variables.model_state

    def evaluated(self, variables: Variables) -> tuple[Any, ...]:
        """Returns the module in eval mode."""
        module = self._module(variables, None)
        module.eval()
        return (module,)

    def _module(self, variables: Variables, key: PRNGKey | None) -> Any:
        from flax import nnx

        graph, params, random, rest, _ = _template(self.constructor)
        key = jax.random.key(0) if key is None else key
        leaves = [_fresh(jax.random.fold_in(key, i), leaf) for i, leaf in enumerate(jax.tree.leaves(random))]
        return nnx.merge(
            graph,
            like(params, variables.params),
            jax.tree.unflatten(jax.tree.structure(random), leaves),
            like(rest, variables.model_state),
        )


def from_nnx(constructor: Callable[..., Any], *, features: Callable[..., Any] | None = None) -> NnxModel:
    """Returns a model made of a Flax NNX module: of what constructs it, for every seed has its own.

    The module's call takes inputs and returns logits `[b c]`. Dropout, BatchNorm and all that
    `module.train()` and `module.eval()` switch follow the mode.

    Args:
        constructor: `(nnx.Rngs) -> module`, such as the class itself if its `__init__` takes `rngs` first.
            Keep one object: models of the same constructor are equal, and their compiled programs are shared.
        features: `(module, inputs) -> (logits [b c], features [b d], has_bias)`, where the logits are a dense
            layer of the features; for scores of the last layer.

    Returns:
        The model. Its parameters are the module's `nnx.Param`, by path.

    Raises:
        InputError: it is no function, or it does not make an NNX module.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> model = from_nnx(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
        >>> variables = model.init(jax.random.key(0), (4,))
        >>> sorted(variables.params)
        ['bias/value', 'kernel/value']
    """
    if features is not None:
        check_function(features, "features", "(variables, inputs) -> (logits, features, has_bias)")
    check_constructor(constructor, "flax.nnx")
    _template(constructor)
    return NnxModel(constructor, features)


@functools.lru_cache(maxsize=64)
def _template(constructor: Callable[..., Any]) -> tuple[Any, Any, Any, Any, str]:
    """Graph, parameters, random state and the rest of a module, as shapes, and the name of its class."""
    from flax import nnx

    with calling("the constructor"):
        module = nnx.eval_shape(lambda: constructor(nnx.Rngs(0)))
    if not isinstance(module, nnx.Module):
        raise InputError(f"constructor: expected it to make an nnx.Module, got {type(module).__name__}")
    graph, params, random, rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return graph, params, random, rest, type(module).__name__


def _variables(module: Any) -> Variables:
    from flax import nnx

    _, params, _, rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return Variables(by_path(params), by_path(rest))


def _fresh(key: PRNGKey, leaf: Any) -> Any:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.split(key, leaf.shape) if leaf.shape else key
    return jnp.zeros(leaf.shape, leaf.dtype)
