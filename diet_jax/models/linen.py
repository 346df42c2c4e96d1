"""The bridge from a Flax linen module to the three pure functions of `diet_jax.types.Model`."""

import inspect
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import unfreeze
from flax.errors import InvalidRngError, ModifyScopeVariableError
from jax import Array
from jaxtyping import Float

from diet_jax.checks.values import check_key, check_shape
from diet_jax.errors import InputError
from diet_jax.models.adapters import remedy_for
from diet_jax.types import Inputs, Logits, PRNGKey, Variables

# How linen modules ask for the mode, and the value that means "train".
_MODE_KEYWORDS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


@dataclass(frozen=True, eq=False)
class LinenModel:
    """A linen module as three pure functions, plus `features`; usable under `jit`, `vmap` and `grad`.

    Models are equal, and hash alike, when their modules have the same class and the same fields. A module
    with an unhashable field (an array, say) is equal only to itself. Nothing is compiled behind your back:
    wrap a call in `jax.jit` if you want it compiled.

    Example:
        >>> import flax.linen as nn, jax
        >>> model = LinenModel(nn.Sequential([lambda x: x.mean((1, 2)), nn.Dense(10)]))
        >>> variables = model.init(jax.random.key(0), (8, 8, 3))
        >>> model.predict(variables, jax.numpy.ones((2, 8, 8, 3))).shape
        (2, 10)
    """

    module: nn.Module

    @property
    def name(self) -> str:
        """Of the module's class."""
        return type(self.module).__name__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LinenModel):
            return NotImplemented
        if self.module is other.module:
            return True
        return _is_hashable(self.module) and _is_hashable(other.module) and self.module == other.module

    def __hash__(self) -> int:
        return hash(self.module) if _is_hashable(self.module) else id(self.module)

    def init(self, key: PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Variables:
        """Returns fresh variables.

        Args:
            key: PRNG key, scalar.
            shape: of one example, such as (height, width, channels).
            dtype: of the examples: float32, or int32 for tokens.

        Returns:
            `params`, and `model_state`: every other collection (e.g. `{"batch_stats": ...}`), or `{}`.

        Raises:
            InputError: if `shape` is not made of positive integers.

        Example:
            >>> import jax
            >>> from diet_jax.models import create_model
            >>> model = create_model("small_cnn", num_classes=10)
            >>> jax.jit(model.init, static_argnums=1)(jax.random.key(0), (8, 8, 3)).model_state
            {}
        """
        key, shape = check_key(key), check_shape(shape)
        inputs = jnp.zeros((1, *shape), dtype)
        # Eval mode: which variables exist does not depend on the mode, and dropout needs no second key.
        variables = self.module.init(key, inputs, **_mode_arguments(self.module, train=False))
        state = dict(unfreeze(variables))
        return Variables(state.pop("params", {}), state)

    def apply(
        self, variables: Variables, inputs: Inputs, *, train: bool, key: PRNGKey | None = None
    ) -> tuple[Logits, Any]:
        """Returns logits and the new model state.

        Args:
            variables: what `init` returned, or later values of the same structure.
            inputs: normalised, float [b ...], or tokens int32.
            train: whether BatchNorm uses the statistics of this batch, and moves its running ones to them.
            key: for what is random in train mode, such as dropout; a fresh one for each batch.

        Returns:
            Logits, float32 [b c], and the new `model_state` (the old one if not `train`).

        Raises:
            InputError: if inputs are not floats, or the module needs a random key and has none.

        Example:
            >>> import jax
            >>> from diet_jax.models import create_model
            >>> model = create_model("resnet18", num_classes=10, width=4)
            >>> variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (8, 8, 3))
            >>> apply = jax.jit(model.apply, static_argnames="train")
            >>> logits, state = apply(variables, jax.numpy.ones((2, 8, 8, 3)), train=True)
            >>> logits.shape, list(state)
            ((2, 10), ['batch_stats'])
        """
        if not train:
            return self.predict(variables, inputs), variables.model_state
        # Only what `init` created: collections that a module fills on the side (sow) are not its state.
        mutable = list(variables.model_state)
        logits, state = self._run(variables, inputs, train=True, mutable=mutable, key=key)
        return _as_logits(logits), {**variables.model_state, **unfreeze(state)}

    def predict(self, variables: Variables, inputs: Inputs) -> Logits:
        """Returns logits in eval mode: an example's logits do not depend on the rest of the batch.

        Args:
            variables: what `init` returned, or later values of the same structure.
            inputs: normalised, float [b ...].

        Returns:
            Logits, float32 [b c].

        Raises:
            InputError: if inputs are not floats, or the module cannot run in eval mode.

        Example:
            >>> import jax
            >>> from diet_jax.models import create_model
            >>> model = create_model("small_cnn", num_classes=10, widths=(4, 8))
            >>> variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (8, 8, 3))
            >>> jax.jit(model.predict)(variables, jax.numpy.ones((2, 8, 8, 3))).dtype
            dtype('float32')
        """
        return _as_logits(self._run(variables, inputs, train=False, mutable=False))

    def features(self, variables: Variables, inputs: Inputs) -> tuple[Logits, Float[Array, "b d"], bool]:
        """Returns eval-mode logits together with the input of the last dense layer.

        The logits are exactly that layer's output, so the gradient of an example's loss with respect to
        its kernel is the outer product of the features and the gradient with respect to the logits.

        Args:
            variables: what `init` returned, or later values of the same structure.
            inputs: normalised, float [b ...].

        Returns:
            Logits, float32 [b c]; features, float32 [b d]; and whether the layer has a bias, a Python bool.

        Raises:
            InputError: if the module's output is not the output of an `nn.Dense` used once.

        Example:
            >>> import jax
            >>> from diet_jax.models import create_model
            >>> model = create_model("mlp", num_classes=10, widths=[16])
            >>> variables = model.init(jax.random.key(0), (8, 8, 3))
            >>> logits, features, has_bias = model.features(variables, jax.numpy.ones((2, 8, 8, 3)))
            >>> features.shape, has_bias
            ((2, 16), True)
        """
        calls = []

        def record(next_call, args, kwargs, context):
            output = next_call(*args, **kwargs)
            # Exactly nn.Dense: a subclass may compute something else with its kernel.
            if type(context.module) is nn.Dense and context.method_name == "__call__":
                kernel = context.module.get_variable("params", "kernel")
                inputs = args[0] if args else kwargs["inputs"]
                calls.append((inputs, kernel, output, context.module.use_bias))
            return output

        with nn.intercept_methods(record):
            logits = self._run(variables, inputs, train=False, mutable=False)
        # Identity, not equality: anything done to the Dense's output makes another array.
        last = [call for call in calls if call[2] is logits]
        # The kernel must be a parameter as it is stored (not, say, a weight-normalised one), used once:
        # otherwise its gradient has another form.
        parameters = jax.tree.leaves(variables.params)
        if (
            len(last) != 1
            or last[0][0].ndim != 2
            or not any(last[0][1] is leaf for leaf in parameters)
            or sum(call[1] is last[0][1] for call in calls) != 1
        ):
            raise InputError(
                f"features: the last layer of {type(self.module).__name__} could not be identified. Expected "
                "`__call__` to return the output of an nn.Dense over [batch, features], unchanged and used "
                "once. Remedy: return that output as it is, or use a score that needs no features."
            )
        features, _, logits, has_bias = last[0]
        return _as_logits(logits), features.astype(jnp.float32), has_bias

    def _run(
        self,
        variables: Variables,
        inputs: Inputs,
        *,
        train: bool,
        mutable: Any,
        key: PRNGKey | None = None,
    ) -> Any:
        if not jnp.issubdtype(inputs.dtype, jnp.floating) and inputs.dtype != jnp.int32:
            raise InputError(
                f"inputs: expected normalised floats, or int32 tokens, got {inputs.dtype}. "
                "Remedy: normalise first: diet_jax.normalize(inputs, mean, std)."
            )
        name = type(self.module).__name__
        mode = _mode_arguments(self.module, train=train)
        collections = {"params": variables.params, **variables.model_state}
        try:
            return self.module.apply(collections, inputs, mutable=mutable, rngs=key, **mode)
        except InvalidRngError as error:
            remedy = (
                "Remedy: give `apply` a key."
                if train
                else "Remedy: give its `__call__` a keyword `train: bool` that switches off what is random."
            )
            raise InputError(
                f"module: {name} asks for a random key in {'train' if train else 'eval'} mode (dropout, for "
                f"instance). {remedy} Flax says: {error}"
            ) from error
        except ModifyScopeVariableError as error:
            raise InputError(
                f"module: {name} changes its state in eval mode. Remedy: give its `__call__` a keyword "
                f"`train: bool` that says whether BatchNorm may update. Flax says: {error}"
            ) from error


def from_linen(module: nn.Module) -> LinenModel:
    """Returns a model made of anyone's linen module.

    The module's `__call__` takes inputs [b h w ch] and returns logits [b c]. If it has a keyword `train`,
    `training`, `is_training`, `deterministic` or `use_running_average` (the last two mean the opposite),
    that keyword is set to the mode; without any, the module computes the same thing in both modes.

    Args:
        module: an instance of a `flax.linen.Module`. What is random in train mode, such as dropout, gets a
            key of its own in every step; for last-layer scores the module must return the output of an
            `nn.Dense` as it is.

    Returns:
        The module as a `LinenModel`.

    Raises:
        InputError: if `module` is not an instance of a linen module.

    Example:
        >>> import flax.linen as nn, jax
        >>> class Net(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x, train: bool):
        ...         x = nn.BatchNorm(use_running_average=not train)(x)
        ...         return nn.Dense(10)(x.mean((1, 2)))
        >>> model = from_linen(Net())
        >>> list(model.init(jax.random.key(0), (8, 8, 3)).model_state)
        ['batch_stats']
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"module: expected an instance of flax.linen.Module. {remedy_for(module)}")
    return LinenModel(module)


def _mode_arguments(module: nn.Module, *, train: bool) -> dict[str, Any]:
    accepted = inspect.signature(type(module).__call__).parameters
    return {name: train is means_train for name, means_train in _MODE_KEYWORDS.items() if name in accepted}


def _as_logits(logits: Any) -> Logits:
    if getattr(logits, "ndim", None) != 2:
        shape = getattr(logits, "shape", type(logits).__name__)
        raise InputError(f"module: expected `__call__` to return logits [batch, classes], got {shape}.")
    return logits.astype(jnp.float32)


def _is_hashable(module: nn.Module) -> bool:
    try:
        hash(module)
    except TypeError:
        return False
    return True
