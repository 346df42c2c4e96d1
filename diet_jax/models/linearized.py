"""A network replaced by its first-order expansion in the parameters."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diet_jax.checks.values import check_pytree, check_type
from diet_jax.errors import InputError
from diet_jax.models.adapters import check_model
from diet_jax.types import Inputs, Logits, Model, PRNGKey, Variables


@dataclass(frozen=True)
class LinearizedModel:
    """A model whose logits are linear in its parameters: `f(w₀; x) + J(w₀; x) (w − w₀)`.

    The origin `w₀` is no part of the model but of its `model_state`, so that one compiled program serves
    every origin. Build model and variables with `linearize`.

    Example:
        >>> from diet_jax.models import create_model
        >>> LinearizedModel(create_model("mlp", num_classes=3)) == LinearizedModel(
        ...     create_model("mlp", num_classes=3)
        ... )
        True
    """

    base: Model

    def init(self, key: PRNGKey, shape: tuple[int, ...]) -> Variables:
        """Raises InputError: a linearised model starts from a network that exists; see `linearize`."""
        raise InputError(
            "init: a linearised model has no fresh variables, its origin must be given. "
            "Remedy: model, variables = linearize(base_model, base_variables)."
        )

    def apply(self, variables: Variables, inputs: Inputs, *, train: bool) -> tuple[Logits, Any]:
        """Returns logits and the model state as it was: BatchNorm stays in eval mode, also if `train`.

        Args:
            variables: from `linearize`, or with later `params`.
            inputs: normalised, float [b ...].
            train: makes no difference.

        Example:
            >>> from diet_jax.models import create_model
            >>> base = create_model("mlp", num_classes=3)
            >>> model, variables = linearize(base, base.init(jax.random.key(0), (8, 8, 1)))
            >>> logits, state = model.apply(variables, jnp.ones((2, 8, 8, 1)), train=True)
            >>> logits.shape, state is variables.model_state
            ((2, 3), True)
        """
        return self.predict(variables, inputs), variables.model_state

    def predict(self, variables: Variables, inputs: Inputs) -> Logits:
        """Returns the logits, from one forward-mode pass at the origin.

        Args:
            variables: from `linearize`, or with later `params`.
            inputs: normalised, float [b ...].

        Returns:
            Logits, float32 [b c].

        Example:
            >>> from diet_jax.models import create_model
            >>> base = create_model("mlp", num_classes=3)
            >>> model, variables = linearize(base, base.init(jax.random.key(0), (8, 8, 1)))
            >>> model.predict(variables, jnp.ones((2, 8, 8, 1))).shape
            (2, 3)
        """
        origin = variables.model_state["origin"]

        def logits_at(params: Any) -> Logits:
            return self.base.predict(origin._replace(params=params), inputs)

        step = jax.tree.map(jnp.subtract, variables.params, origin.params)
        logits, change = jax.jvp(logits_at, (origin.params,), (step,))
        return logits + change


def linearize(model: Model, variables: Variables) -> tuple[LinearizedModel, Variables]:
    """Returns the first-order expansion of a network around its variables, ready to be trained.

    `f(w; x) = f(w₀; x) + J(w₀; x) (w − w₀)`, with BatchNorm's running statistics held at the origin. Trained
    on squared error it converges to `kernel_regression` with the origin's `logit_gram`.

    Args:
        model: the network.
        variables: of one model; the origin `w₀`.

    Returns:
        The linearised model, and variables whose `params` start at the origin's and whose `model_state` is
        `{"origin": variables}`; all are copies.

    Paper: not in it; Fort et al. train networks linearised at different epochs.

    Example:
        >>> from diet_jax.models import create_model
        >>> base = create_model("mlp", num_classes=3)
        >>> origin = base.init(jax.random.key(0), (8, 8, 1))
        >>> model, variables = linearize(base, origin)
        >>> inputs = jnp.ones((2, 8, 8, 1))
        >>> bool((model.predict(variables, inputs) == base.predict(origin, inputs)).all())
        True
    """
    check_model(model)
    check_type(variables, "variables", Variables, "dj.Variables, as model.init returns them")
    check_pytree(variables, "variables")
    # Copies: a training step takes over its state's memory, which must not be the caller's, nor there twice.
    origin = jax.tree.map(jnp.copy, variables)
    params = jax.tree.map(jnp.copy, variables.params)
    return LinearizedModel(model), Variables(params, {"origin": origin})
