"""Scores that need the gradient of each example's loss: GraNd and its last-layer part."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diet_jax.checks.calls import called, check_labelled_batch
from diet_jax.checks.values import check_floats, check_function, check_pytree
from diet_jax.errors import InputError
from diet_jax.per_example.losses import cross_entropy, error_norm, error_vector
from diet_jax.per_example.method import Precision
from diet_jax.per_example.norms import per_example_grad_norms
from diet_jax.per_example.products import accumulator, in_one_dtype
from diet_jax.scores.score import SCORES, Score
from diet_jax.types import (
    AnyVariables,
    Array,
    Inputs,
    Labels,
    PredictFn,
    ScoreArray,
    Variables,
    params_of,
    with_params,
)


def example_loss(predict_fn: PredictFn, model_state: Any) -> Callable[[Any, Array, Array], Array]:
    """Returns the cross-entropy of one example as a function of the parameters.

    Its gradient's norm is GraNd; give it to `explain` or `per_example_grad_norms`.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        model_state: of one model; held constant.

    Returns:
        `(params, input [...], label) -> scalar`, float32 (float64 for float64 logits).

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> loss = dj.example_loss(model.predict, variables.model_state)
        >>> loss(variables.params, jax.numpy.ones((8, 8, 1)), jax.numpy.int32(2)).shape
        ()
    """
    check_function(predict_fn, "predict_fn", "(variables, inputs) -> logits [b c]")
    check_pytree(model_state, "model_state")
    return _loss_of_one(predict_fn, Variables({}, model_state))


def _loss_of_one(predict_fn: PredictFn, variables: AnyVariables) -> Callable[[Any, Array, Array], Array]:
    def loss(params: Any, one: Array, label: Array) -> Array:
        logits = called(predict_fn, with_params(variables, params), one[None])
        return cross_entropy(logits, label[None])[0]

    return loss


def grand(
    predict_fn: PredictFn,
    variables: AnyVariables,
    inputs: Inputs,
    labels: Labels,
    *,
    precision: Precision = "auto",
) -> ScoreArray:
    """Returns the GraNd score of each example, exact, over all parameters.

    `‖∇_params cross_entropy(f(x), y)‖₂`, eval-mode BatchNorm. The gradients themselves are never formed
    (`per_example_grad_norms`): it takes about the time and memory of one ordinary gradient of the batch.
    A single seed's ranking is noisy: average over about ten (`score_ensemble`). At initialisation the score
    is little more than the norm of the input; use it after a few epochs.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model: the params of `dj.Variables` are differentiated, of anything else all.
        inputs: float `[b ...]`, normalised, not augmented.
        labels: int `[b]`, the labels that were trained on.
        precision: of the matrix products that the norms are computed with, as in `per_example_grad_norms`.

    Returns:
        float32 `[b]` (float64 for float64 parameters or logits), at least 0; high means hard.

    Raises:
        InputError: as many inputs as labels are needed; no such precision.

    Paper: Definition 2.1; no weight decay in the loss.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> inputs = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
        >>> score = jax.jit(dj.grand, static_argnums=0)
        >>> score(model.predict, variables, inputs, jax.numpy.array([0, 1, 2, 0, 1])).shape
        (5,)
    """
    inputs, labels = check_labelled_batch(predict_fn, variables, inputs, labels)

    def along_error(params: Any, one: Array, label: Array) -> tuple[Array, Array]:
        # The gradient of the loss is Σ_k e_k ∇f_k with the error vector e. Its length is taken out first:
        # of examples that are fitted well, squares of the gradient would underflow.
        logits = called(predict_fn, with_params(variables, params), one[None])
        error = error_vector(jax.lax.stop_gradient(logits), label[None])
        length = error_norm(error)
        direction = error / jnp.where(length > 0, length, 1)[:, None]
        return jnp.sum(logits.astype(direction.dtype) * direction), length[0]

    norms = per_example_grad_norms(along_error, has_aux=True, precision=precision)
    along, length = norms(params_of(variables), inputs, labels)
    along, length = in_one_dtype(along, length)
    return along * length


def grand_vmap(predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, labels: Labels) -> ScoreArray:
    """Returns the GraNd score of each example by `jax.vmap(jax.grad)`: the reference for `grand`.

    Arguments and result are those of `grand`, but norms below about 1e-17 underflow. The per-example
    gradients of the batch are all in memory at once, batch size × number of parameters × 4 bytes: bound it
    by the batch size (`score_dataset` does).

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model: the params of `dj.Variables` are differentiated, of anything else all.
        inputs: float `[b ...]`, normalised, not augmented.
        labels: int `[b]`, the labels that were trained on.

    Returns:
        float32 `[b]` (float64 for float64 parameters or logits), at least 0; high means hard.

    Paper: Definition 2.1; no weight decay in the loss.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> inputs = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
        >>> score = jax.jit(dj.grand_vmap, static_argnums=0)
        >>> score(model.predict, variables, inputs, jax.numpy.array([0, 1, 2, 0, 1])).shape
        (5,)
    """
    inputs, labels = check_labelled_batch(predict_fn, variables, inputs, labels)
    check_floats(params_of(variables))
    loss = _loss_of_one(predict_fn, variables)
    gradients = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0))(params_of(variables), inputs, labels)
    squares = [_sum_of_squares(leaf) for leaf in jax.tree.leaves(gradients)]
    return jnp.sqrt(sum(squares[1:], squares[0]))


def grand_last_layer(
    features_fn: Callable[[AnyVariables, Inputs], tuple[Array, Array, bool]],
    variables: AnyVariables,
    inputs: Inputs,
    labels: Labels,
) -> ScoreArray:
    """Returns the norm of each example's gradient in the last dense layer only, in closed form.

    With features `h` and logits `Wh + b` the gradient is `(softmax − onehot) ⊗ [h, 1]`, so its norm is
    `EL2N · √(‖h‖² + 1)` (without the 1 if the layer has no bias). Other tools call this GraNd; it is a
    part of it.

    Args:
        features_fn: `(variables, inputs) -> (logits [b c], features [b d], has_bias)`, in eval mode, such
            as `model.features`.
        variables: of one model.
        inputs: float `[b ...]`, normalised, not augmented.
        labels: int `[b]`.

    Returns:
        float32 `[b]` (float64 for float64 features or logits), at least 0, at most GraNd; high means hard.

    Paper: not in it; the last-layer part of Definition 2.1.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> inputs = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
        >>> score = jax.jit(dj.grand_last_layer, static_argnums=0)
        >>> score(model.features, variables, inputs, jax.numpy.array([0, 1, 2, 0, 1])).shape
        (5,)
    """
    inputs, labels = check_labelled_batch(features_fn, variables, inputs, labels, "features_fn")
    logits, features, has_bias = called(features_fn, variables, inputs, "features_fn")
    error, features = in_one_dtype(error_vector(logits, labels), features)
    return jnp.sqrt(_sum_of_squares(error) * (_sum_of_squares(features) + (1.0 if has_bias else 0.0)))


def _sum_of_squares(leaf: Array) -> Array:
    return jnp.sum(jnp.square(leaf.astype(accumulator(leaf.dtype))), axis=tuple(range(1, leaf.ndim)))


def features_of(model: Any, name: str) -> Callable[..., Any]:
    """Returns `model.features`, which the score of this name needs: InputError where there are none."""
    features = getattr(model, "features", None)
    if features is None:
        raise InputError(f"{name} needs a model with `features`; see from_linen")
    return features


@dataclass(frozen=True)
class GrandOptions:
    """Options of GraNd."""

    precision: Precision = "auto"
    """Of the norms: the network's own (TF32, bfloat16), or the highest; auto is the highest on CPUs only."""


GRAND = SCORES.register(
    Score(
        name="grand",
        label="GraNd",
        formula="norm of the gradient of the cross-entropy in all parameters, eval mode, un-augmented",
        reference="Paul et al. 2021, Definition 2.1",
        reads="gradients",
        build=lambda model, precision: functools.partial(grand, model.predict, precision=precision),
        options=GrandOptions(),
        color="#D55E00",
        marker="s",
        elsewhere=(
            "Paul et al. (data_diet): grad_norm, the mean over 10 networks",
            "DeepCore calls another score GraNd, see grand_last_layer",
        ),
    )
)

GRAND_LAST_LAYER = SCORES.register(
    Score(
        name="grand_last_layer",
        label="GraNd (last layer)",
        formula="norm of the gradient of the cross-entropy in the last dense layer only, eval mode",
        reference="the last layer's part of Paul et al. 2021, Definition 2.1; what other tools call GraNd",
        reads="features",
        build=lambda model: functools.partial(grand_last_layer, features_of(model, "grand_last_layer")),
        color="#E69F00",
        marker="D",
        elsewhere=(
            "DeepCore: GraNd, the mean over 10 networks; its loss takes the softmax of probabilities, which "
            "are a softmax already, so that its error vector is another one",
        ),
    )
)
