"""The bridge from two functions of your own to the three pure functions of `diet_jax.types.Model`."""

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from diet_jax.checks.values import check_key, check_shape, shown
from diet_jax.errors import InputError
from diet_jax.models.adapters import remedy_for
from diet_jax.types import Inputs, Logits, PRNGKey, Variables


class Adapted(ABC):
    """What models that were made of something else share."""

    features_fn: Callable[..., Any] | None

    @abstractmethod
    def apply(
        self, variables: Variables, inputs: Inputs, *, train: bool, key: PRNGKey | None = None
    ) -> tuple[Logits, Any]:
        """Returns logits and the new model state; the key is for what is random in train mode."""

    def predict(self, variables: Variables, inputs: Inputs) -> Logits:
        """Returns logits in eval mode."""
        return self.apply(variables, inputs, train=False)[0]

    def evaluated(self, variables: Variables) -> tuple[Any, ...]:
        """Returns what `features_fn` is given before the inputs."""
        return (variables,)

    @property
    def features(self) -> Callable[..., Any]:
        """`(variables, inputs) -> (logits, features [b d], has_bias)`, if it was given."""
        if (fn := self.features_fn) is None:
            raise AttributeError("the model was made without features")
        return lambda variables, inputs: fn(*self.evaluated(variables), inputs)


@dataclass(frozen=True)
class FunctionModel(Adapted):
    """Two functions as a model; equal to another of the same functions. Made by `from_functions`."""

    init_fn: Callable[..., Any]
    apply_fn: Callable[..., Any]
    features_fn: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        """Of the function that applies it."""
        fn = self.apply_fn.func if isinstance(self.apply_fn, functools.partial) else self.apply_fn
        return getattr(fn, "__name__", type(fn).__name__).strip("<>")

    def init(self, key: PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Variables:
        """Returns fresh variables for inputs of a shape."""
        made = self.init_fn(check_key(key), check_shape(shape))
        return made if isinstance(made, Variables) else Variables(made, {})

    def apply(
        self, variables: Variables, inputs: Inputs, *, train: bool, key: PRNGKey | None = None
    ) -> tuple[Logits, Any]:
        accepted = inspect.signature(self.apply_fn).parameters
        if "train" not in accepted:
            return checked_logits(self.apply_fn(variables.params, inputs)), variables.model_state
        options = {"key": key if train else None} if "key" in accepted else {}
        returned = self.apply_fn(variables, inputs, train=train, **options)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise InputError(
                "apply takes `train`, so it must return (logits, model_state), got "
                f"{type(returned).__name__}; return both, {{}} for no state, or leave `train` out"
            )
        return checked_logits(returned[0]), returned[1] if train else variables.model_state


def from_functions(
    init: Callable[..., Any], apply: Callable[..., Any], *, features: Callable[..., Any] | None = None
) -> FunctionModel:
    """Returns a model made of two pure functions, whatever library they are written with.

    | init returns | apply is |
    |---|---|
    | params, any pytree of arrays | `apply(params, inputs) -> logits`, the same in both modes |
    | `dj.Variables(params, state)` | `apply(variables, inputs, *, train, key) -> (logits, state)` |

    Args:
        init: `(key, shape of one input) -> params` or variables.
        apply: one of the two forms; `key` may be left out of the second one where nothing is random.
            Logits are float `[b c]`.
        features: `(variables, inputs) -> (logits [b c], features [b d], has_bias)`, where the logits are a
            dense layer of the features; for scores of the last layer.

    Returns:
        The model. Models of the same functions are equal, so that compiled programs are found again.

    Raises:
        InputError: an argument is no function.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def init(key, shape):
        ...     return {"w": 0.1 * jax.random.normal(key, (*shape, 3))}
        >>> model = from_functions(init, lambda params, x: x @ params["w"])
        >>> variables = model.init(jax.random.key(0), (5,))
        >>> model.predict(variables, jnp.ones((2, 5))).shape
        (2, 3)
    """
    for name, fn in (("init", init), ("apply", apply), ("features", features)):
        if not callable(fn) and not (name == "features" and fn is None):
            raise InputError(f"{name} must be a function, got {shown(fn)}. {remedy_for(fn)}")
    return FunctionModel(init, apply, features)


def checked_logits(logits: Any, name: str = "apply") -> Logits:
    """Returns logits as float32 after checking that there is one row for each example."""
    if getattr(logits, "ndim", None) != 2:
        got = getattr(logits, "shape", type(logits).__name__)
        raise InputError(f"{name} must return logits [batch, classes], got {got}")
    return logits.astype(jnp.float32)
