"""The types that flow through the library: read this file first.

Shapes in signatures use these letters: `n` examples in a dataset, `b` examples in a batch, `c` classes,
`k` kept examples, `s` seeds, `t` steps, `h w ch` image height, width and channels, `...` the axes of one
example, whatever it is.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Key, Shaped, UInt32

from diet_jax.errors import InputError

AnyArray = Array | np.ndarray
# Typed keys of any kind, or their words, as `jax.random.PRNGKey` makes them.
PRNGKey = Key[Array, ""] | UInt32[Array, "words"]
PRNGKeys = Key[Array, "s"] | UInt32[Array, "s words"]
THREEFRY = "threefry2x32"
"""The kind of all keys that are made here, whatever JAX is set to: a seed means the same everywhere."""
Inputs = Shaped[AnyArray, "b ..."]
Images = Shaped[AnyArray, "b h w ch"]
Labels = Int[AnyArray, "b"]
Mask = Bool[AnyArray, "n"]
Rows = Int[AnyArray, "k"]
Logits = Float[Array, "b c"]
ScoreArray = Float[Array, "b"]


class Variables(NamedTuple):
    """What a model is made of.

    `params` is what the optimiser moves and GraNd differentiates; `model_state` is what the forward pass
    moves (BatchNorm's running statistics), an empty dict for models without it. With a leading seed axis
    on every leaf the same tuple holds an ensemble ("stacked" variables).
    """

    params: Any
    model_state: Any


AnyVariables = Variables | Any
"""What a `predict_fn` takes: `Variables`, or parameters alone, any pytree of floating arrays."""


def params_of(variables: AnyVariables) -> Any:
    """Returns what is differentiated: the params of `Variables`, and all of anything else.

    Raises:
        InputError: Flax's collections as they come: what BatchNorm keeps would be differentiated too.
    """
    if isinstance(variables, Variables):
        return variables.params
    if isinstance(variables, Mapping) and "params" in variables and len(variables) > 1:
        others = ", ".join(str(name) for name in variables if name != "params")
        raise InputError(
            f"variables holds params and {others}, and all of it would be differentiated; give params alone, "
            "or dj.Variables(params, the rest), of which params is"
        )
    return variables


def with_params(variables: AnyVariables, params: Any) -> AnyVariables:
    """Returns variables with other parameters in the place of `params_of(variables)`."""
    return variables._replace(params=params) if isinstance(variables, Variables) else params


class Examples(NamedTuple):
    """The arrays of a dataset that device code sees, in dataset order: row i is example i.

    Inputs keep the dtype they were stored in (uint8 stays uint8); `mean` and `std` are of the last axis, in
    the unit that is stored, or `[0]` where nothing is normalised.
    """

    inputs: Shaped[Array, "n ..."]
    labels: Int[Array, "n"]
    mean: Float[Array, "ch"]
    std: Float[Array, "ch"]

    @property
    def images(self) -> Shaped[Array, "n ..."]:
        """The inputs, by their name where they are images."""
        return self.inputs

    @property
    def spec(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of one example as models take it."""
        tokens = self.mean.shape == (0,) and self.inputs.dtype == np.int32
        return jax.ShapeDtypeStruct(self.inputs.shape[1:], "int32" if tokens else "float32")


@runtime_checkable
class Model(Protocol):
    """A model is three pure functions. `inputs` are normalised floats, or tokens; logits are float32.

    Implementations should be hashable and compare equal when they compute the same function: compiled
    programs are cached by model.
    """

    def init(self, key: PRNGKey, shape: tuple[int, ...]) -> Variables:
        """Returns fresh variables for inputs of a shape, such as (height, width, channels).

        A model that takes tokens also takes `dtype`, of the inputs; float32 where it is left out.
        """
        ...

    def apply(self, variables: Variables, inputs: Inputs, *, train: bool) -> tuple[Logits, Any]:
        """Returns logits and the new `model_state`; BatchNorm uses batch statistics if `train`.

        A model with dropout, or anything random, also takes `key`: a fresh one for every step of a training.
        """
        ...

    def predict(self, variables: Variables, inputs: Inputs) -> Logits:
        """Returns logits in eval mode: BatchNorm uses its running statistics, nothing is updated."""
        ...


def init_variables(model: Model, key: PRNGKey, spec: jax.ShapeDtypeStruct) -> Variables:
    """Returns fresh variables for inputs of a shape and dtype; models of floats need not know of dtypes."""
    options = {} if spec.dtype == np.float32 else {"dtype": spec.dtype}
    return model.init(key, spec.shape, **options)


def apply_in_training(model: Model, variables: Variables, inputs: Inputs, key: PRNGKey) -> tuple[Logits, Any]:
    """Returns `model.apply` in train mode, with the key if the model takes one."""
    options = {"key": key} if "key" in inspect.signature(model.apply).parameters else {}
    return model.apply(variables, inputs, train=True, **options)


PredictFn = Callable[[AnyVariables, Inputs], Logits]
ScoreFn = Callable[[AnyVariables, Inputs, Labels], ScoreArray]
