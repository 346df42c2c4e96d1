"""Gradients of the logits: why EL2N stands for GraNd, and a score without labels."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from diet_jax.checks.calls import called, check_batch_of, check_labelled_batch, num_logits
from diet_jax.checks.values import check_floats, check_pytree
from diet_jax.errors import InputError
from diet_jax.per_example.losses import error_norm, error_vector
from diet_jax.per_example.norms import per_example_grad_norms
from diet_jax.per_example.products import in_one_dtype
from diet_jax.types import (
    AnyVariables,
    Array,
    Inputs,
    Labels,
    PredictFn,
    ScoreArray,
    params_of,
    with_params,
)


def logit_grad_norms(predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs) -> Float[Array, "b c"]:
    """Returns the norm of the gradient of each logit of each example: `‖∇_params f_k(x)‖₂`.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model: the params of `dj.Variables` are differentiated, of anything else all.
        inputs: float `[b ...]`, normalised, not augmented.

    Returns:
        float32 `[b c]` (float64 for float64 parameters); high means that the logit is easily moved.

    Paper: the ψ of equation 4.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> norms = jax.jit(dj.logit_grad_norms, static_argnums=0)
        >>> norms(model.predict, variables, jax.numpy.ones((5, 8, 8, 1))).shape
        (5, 3)
    """
    inputs = check_batch_of(predict_fn, variables, inputs)
    classes = jnp.eye(num_logits(predict_fn, variables, inputs))
    return _norms_of_combinations(predict_fn, variables, inputs, classes)


def logit_grad_gram(predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs) -> Float[Array, "b c c"]:
    """Returns the inner products of the gradients of an example's logits: `∇f_k(x) · ∇f_l(x)`.

    By polarisation, `2 a·b = ‖a + b‖² − ‖a‖² − ‖b‖²`, so that no gradient is formed: `c (c + 1) / 2` backward
    passes for each example. Entries are right to about 1e-6 of the norms' product.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model: the params of `dj.Variables` are differentiated, of anything else all.
        inputs: float `[b ...]`, normalised, not augmented.

    Returns:
        float32 `[b c c]` (float64 for float64 parameters), symmetric.

    Paper: the ψ of equation 4; the diagonal blocks of the data-dependent tangent kernel.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> gram = jax.jit(dj.logit_grad_gram, static_argnums=0)
        >>> gram(model.predict, variables, jax.numpy.ones((5, 8, 8, 1))).shape
        (5, 3, 3)
    """
    inputs = check_batch_of(predict_fn, variables, inputs)
    count = num_logits(predict_fn, variables, inputs)
    classes = jnp.eye(count)
    first, second = jnp.triu_indices(count, 1)
    combinations = jnp.concatenate([classes, classes[first] + classes[second]])
    squares = jnp.square(_norms_of_combinations(predict_fn, variables, inputs, combinations))
    diagonal = squares[:, :count]
    products = (squares[:, count:] - diagonal[:, first] - diagonal[:, second]) / 2
    each = jnp.arange(count)
    gram = jnp.zeros((len(inputs), count, count), squares.dtype).at[:, each, each].set(diagonal)
    return gram.at[:, first, second].set(products).at[:, second, first].set(products)


class EL2NDiagnosis(NamedTuple):
    """GraNd and three steps down to EL2N, one number for each example; see `diagnose_el2n`."""

    grand: Array
    """`‖Σ_k e_k ψ_k‖`, the error vector e weighting the logits' gradients ψ."""
    orthogonal: Array
    """`√(Σ_k e_k² ‖ψ_k‖²)`: GraNd if the ψ_k were orthogonal."""
    equal: Array
    """`‖e‖ · √(mean_k ‖ψ_k‖²)`: and if they were equally long."""
    el2n: Array
    """`‖e‖`: and if they were as long for every example."""
    cosine: Array
    """Root mean square of the cosines between different ψ_k; 0 for orthogonal ones."""


def diagnose_el2n(
    predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, labels: Labels
) -> EL2NDiagnosis:
    """Returns how GraNd becomes EL2N, step by step: orthogonal, equally long, as long for every example.

    `GraNd = ‖Σ_k e_k ψ_k‖` with the error vector `e` and the logit gradients `ψ_k`. Where one of its three
    assumptions fails, EL2N ranks examples otherwise: compare neighbouring columns by `rank_agreement`.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model: the params of `dj.Variables` are differentiated, of anything else all.
        inputs: float `[b ...]`, normalised, not augmented; `c (c + 1) / 2` backward passes for each.
        labels: int `[b]`.

    Returns:
        Arrays float32 `[b]` (float64 for float64 parameters).

    Paper: equation 4 and the paragraph after it.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> inputs = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
        >>> diagnose = jax.jit(dj.diagnose_el2n, static_argnums=0)
        >>> diagnose(model.predict, variables, inputs, jax.numpy.array([0, 1, 2, 0, 1])).grand.shape
        (5,)
    """
    inputs, labels = check_labelled_batch(predict_fn, variables, inputs, labels)
    error = error_vector(called(predict_fn, variables, inputs), labels)
    error, gram = in_one_dtype(error, logit_grad_gram(predict_fn, variables, inputs))
    squares = jnp.diagonal(gram, axis1=1, axis2=2)
    el2n = error_norm(error)
    count = error.shape[1]
    lengths = jnp.sqrt(squares[:, :, None] * squares[:, None, :])
    off_diagonal = ~jnp.eye(count, dtype=bool)[None] & (lengths > 0)
    cosines = jnp.where(off_diagonal, gram / jnp.where(off_diagonal, lengths, 1), 0)
    return EL2NDiagnosis(
        grand=jnp.sqrt(jnp.maximum(jnp.einsum("bk,bkl,bl->b", error, gram, error), 0)),
        orthogonal=jnp.sqrt(jnp.sum(jnp.square(error) * squares, axis=1)),
        equal=el2n * jnp.sqrt(jnp.mean(squares, axis=1)),
        el2n=el2n,
        cosine=jnp.sqrt(jnp.sum(jnp.square(cosines), (1, 2)) / max(count * (count - 1), 1)),
    )


def logit_sum_gradient(predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs) -> Any:
    """Returns the mean gradient of the sum of the logits over inputs, the centre of `label_free_score`.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model: the params of `dj.Variables` are differentiated, of anything else all.
        inputs: float `[b ...]`; the authors take a random subset with as many inputs of each class.

    Returns:
        A pytree like what is differentiated, of the same dtypes.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> center = dj.logit_sum_gradient(model.predict, variables, jax.numpy.ones((5, 8, 8, 1)))
        >>> jax.tree.structure(center) == jax.tree.structure(variables.params)
        True
    """
    inputs = check_batch_of(predict_fn, variables, inputs)
    check_floats(params_of(variables))

    def mean_logit_sum(params: Any) -> Array:
        return jnp.mean(jnp.sum(called(predict_fn, with_params(variables, params), inputs), axis=1))

    return jax.grad(mean_logit_sum)(params_of(variables))


def label_free_score(
    predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, center: Any
) -> ScoreArray:
    """Returns how far the gradient of an example's logits, summed, is from that of other examples.

    `‖Σ_k (∇f_k(x) − mean_{x'} ∇f_k(x'))‖₂`, as `‖a − m‖² = ‖a‖² − 2 a·m + ‖m‖²` with `a·m` from one
    forward-mode pass: no gradient is formed. Its relative error is that of float32 times `‖m‖² / ‖a − m‖²`.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model: the params of `dj.Variables` are differentiated, of anything else all.
        inputs: float `[b ...]`, normalised, not augmented.
        center: the mean, from `logit_sum_gradient`.

    Returns:
        float32 `[b]` (float64 for float64 parameters), at least 0; high means unlike the other
        examples. No label is used.

    Paper: not in it; the "unclog" score of the authors' code.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> inputs = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
        >>> center = dj.logit_sum_gradient(model.predict, variables, inputs)
        >>> score = jax.jit(dj.label_free_score, static_argnums=0)
        >>> score(model.predict, variables, inputs, center).shape
        (5,)
    """
    inputs = check_batch_of(predict_fn, variables, inputs)
    if jax.tree.structure(check_pytree(center, "center")) != jax.tree.structure(params_of(variables)):
        raise InputError("center must be a pytree like the parameters; see logit_sum_gradient")

    def logit_sums(params: Any) -> Array:
        (logits,) = in_one_dtype(called(predict_fn, with_params(variables, params), inputs))
        return jnp.sum(logits, axis=1)

    ones = jnp.ones((1, num_logits(predict_fn, variables, inputs)))
    squares = jnp.square(_norms_of_combinations(predict_fn, variables, inputs, ones)[:, 0])
    _, along = jax.jvp(logit_sums, (params_of(variables),), (center,))
    length = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(center))
    squares, along, length = in_one_dtype(squares, along, jnp.asarray(length))
    return jnp.sqrt(jnp.maximum(squares - 2 * along + length, 0))


def _norms_of_combinations(
    predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, weights: Float[Array, "m c"]
) -> Float[Array, "b m"]:
    """Norms of the gradients of weighted sums of an example's logits; one forward pass for all weights."""

    def of_one(one: Array) -> Array:
        def weighted(params: Any, weight: Array) -> Array:
            logits = called(predict_fn, with_params(variables, params), one[None])[0]
            return jnp.sum(logits * weight.astype(logits.dtype))

        return per_example_grad_norms(weighted)(params_of(variables), weights)

    return jax.vmap(of_one)(jnp.asarray(inputs))
