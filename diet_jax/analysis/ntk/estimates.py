"""Estimates of the tangent kernel and of its motion from random directions, with their errors."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jaxtyping import Float

from diet_jax.analysis.ntk.gram import Blocks, checked_num_classes, python_loop
from diet_jax.checks.calls import check_batch_of
from diet_jax.checks.values import check_count, check_key
from diet_jax.devices.mesh import replicate, split_batch
from diet_jax.per_example.products import contract
from diet_jax.types import AnyVariables, Array, Inputs, PredictFn, PRNGKey, params_of, with_params

# Of a forward-mode pass.
MOST_IMAGES_PER_PASS = 128
# The error falls with the root of the number; each is a pass.
MOST_PROJECTIONS = 10**6


class LogitGramEstimate(NamedTuple):
    """An estimate of `logit_gram` and its uncertainty, float32 `[e·c, e·c]` each."""

    gram: Array
    standard_error: Array
    """Of each entry, from the scatter of the projections."""


def estimate_logit_gram(
    key: PRNGKey, predict_fn: PredictFn, variables: AnyVariables, images: Inputs, *, num_projections: int
) -> LogitGramEstimate:
    """Estimates the tangent kernel from the logits' derivatives in random directions.

    `K ≈ (1/r) Σ_s (J v_s)(J v_s)ᵀ` with independent signs `v_s`: unbiased, with an error of about
    `√((K_aa K_bb + K_ab²) / r)`. Each direction costs one forward-mode pass; no Jacobian is formed.
    Compiles, and loops, as `logit_gram` does.

    Args:
        key: of the directions.
        predict_fn: `(variables, images) -> logits [b c]`, in eval mode.
        variables: of one model: the params of `dj.Variables` are differentiated, of anything else all.
        images: float `[e ...]`, inputs of any kind, normalised, not augmented.
        num_projections: `r`, at least 2.

    Returns:
        The estimate, of rank at most `r`, and the standard error of each entry.

    Raises:
        InputError: no images, or fewer than 2 projections.

    Paper: not in it.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> images = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
        >>> key = jax.random.key(2)
        >>> estimate = estimate_logit_gram(key, model.predict, variables, images, num_projections=4)
        >>> estimate.standard_error.shape
        (15, 15)
    """
    projections = _projections(key, predict_fn, variables, images, num_projections, least=2)
    products = functools.partial(contract, over=((0,), (0,)))
    gram = products(projections, projections) / num_projections
    squares = products(jnp.square(projections), jnp.square(projections)) / num_projections
    variance = jnp.maximum(squares - jnp.square(gram), 0) / (num_projections - 1)
    return LogitGramEstimate(gram, jnp.sqrt(variance))


class KernelDistanceEstimate(NamedTuple):
    """An estimate of `kernel_distance` and its uncertainty, float32 scalars."""

    distance: Array
    standard_error: Array
    """From leaving out each projection in turn (jackknife)."""


def estimate_kernel_distance(
    key: PRNGKey,
    predict_fn: PredictFn,
    variables: AnyVariables,
    other_variables: AnyVariables,
    images: Inputs,
    *,
    num_projections: int,
) -> KernelDistanceEstimate:
    """Estimates the distance of the tangent kernels at two states of the weights, without either kernel.

    `⟨K, K'⟩ = E (u·u')²` for `u = J v` and `u' = J' v'` with independent directions, so the mean over all
    pairs of different directions is unbiased; the same directions serve both kernels, and equal weights have
    distance 0. Estimates of small distances scatter to both sides of 0, and are rounded at about 1e-6.
    For the velocity divide both numbers by the duration.

    Args:
        key: of the directions.
        predict_fn: `(variables, images) -> logits [b c]`, in eval mode.
        variables: of the earlier state; see `logit_gram` for what is differentiated.
        other_variables: of the later state.
        images: float `[e ...]`, inputs of any kind, normalised, not augmented.
        num_projections: at least 4; each costs one forward-mode pass for each state.

    Returns:
        The estimate and its standard error.

    Raises:
        InputError: no images, or fewer than 4 projections.

    Paper: not in it.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> states = [model.init(jax.random.key(seed), (8, 8, 1)) for seed in (0, 0)]
        >>> images, key = jax.numpy.ones((5, 8, 8, 1)), jax.random.key(2)
        >>> float(estimate_kernel_distance(key, model.predict, *states, images, num_projections=4).distance)
        0.0
    """
    first, second = (
        _projections(key, predict_fn, state, images, num_projections, least=4)
        for state in (variables, other_variables)
    )
    # Scaled, so that fourth powers of gradients neither overflow nor underflow.
    first, second = (u / jnp.max(jnp.abs(u)) for u in (first, second))
    totals = [_sums_over_pairs(*pair) for pair in ((first, second), (first, first), (second, second))]

    def distance(cross: Array, one: Array, two: Array) -> Array:
        return 1 - cross / jnp.sqrt(one * two)

    left_out = distance(*(total - at_each for total, at_each in totals))
    count = num_projections
    variance = (count - 1) / count * jnp.sum(jnp.square(left_out - jnp.mean(left_out)))
    return KernelDistanceEstimate(distance(*(total for total, _ in totals)), jnp.sqrt(variance))


def _projections(
    key: PRNGKey, predict_fn: PredictFn, variables: AnyVariables, images: Inputs, count: int, *, least: int
) -> Float[Array, "r m"]:
    """Derivatives of all logits in `count` random directions, each from a key of its own."""
    check_key(key)
    images = jnp.asarray(check_batch_of(predict_fn, variables, images))
    num_classes = checked_num_classes(predict_fn, variables, images, images)
    check_count(count, "num_projections", least=least, most=MOST_PROJECTIONS)
    passes = Blocks(len(images), num_classes, min(len(images), MOST_IMAGES_PER_PASS), num_classes)
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((key, variables, images)))
    if not traced:
        key, variables, images = replicate((key, variables, images))

    def body(index: Any, projections: Array) -> Array:
        example, _ = passes.start(index % passes.count)
        direction = index // passes.count
        batch = lax.dynamic_slice_in_dim(images, example, passes.examples)
        along = _derivative(predict_fn, variables, batch, jax.random.fold_in(key, direction))
        return lax.dynamic_update_slice(projections, along[None], (direction, example * num_classes))

    loop = lax.fori_loop if traced else python_loop
    empty = jnp.zeros((count, len(images) * num_classes), jnp.float32)
    return loop(0, count * passes.count, body, empty)


@functools.partial(jax.jit, static_argnames="predict_fn")
def _derivative(predict_fn: PredictFn, variables: AnyVariables, images: Inputs, key: PRNGKey) -> Array:
    """Derivative of all logits in a direction of random signs, flattened."""
    leaves, structure = jax.tree.flatten(params_of(variables))
    keys = jax.random.split(key, len(leaves))
    signs = [jax.random.rademacher(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]

    images = split_batch(images)

    def logits(params: Any) -> Array:
        return predict_fn(with_params(variables, params), images)

    _, along = jax.jvp(logits, (params_of(variables),), (jax.tree.unflatten(structure, signs),))
    return along.astype(jnp.float32).ravel()


def _sums_over_pairs(left: Float[Array, "r m"], right: Float[Array, "r m"]) -> tuple[Array, Array]:
    """Sum of `(u_s · u'_t)²` over `s ≠ t`, and for each direction the part of it that it takes part in."""
    squares = jnp.square(contract(left, right, ((1,), (1,))))
    squares = jnp.where(jnp.eye(len(squares), dtype=bool), 0, squares)
    return jnp.sum(squares), jnp.sum(squares, axis=0) + jnp.sum(squares, axis=1)
