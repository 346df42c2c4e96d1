"""Scores of gradients at the end of every epoch: variance of gradients (VoG), self-influence (TracIn)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Shaped

from diet_jax.checks.calls import called, check_labelled_batch
from diet_jax.checks.values import check_array, check_count, check_same_length
from diet_jax.errors import InputError
from diet_jax.per_example.products import in_one_dtype
from diet_jax.scores.gradients import grand
from diet_jax.scores.score import SCORES, Fold, Score
from diet_jax.types import AnyArray, AnyVariables, Array, Inputs, Labels, Mask, PredictFn, ScoreArray


def label_logit_gradients(
    predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, labels: Labels
) -> Float[Array, "b ..."]:
    """Returns the gradient of the label's logit of each example in its input: `∂f_y(x)/∂x`.

    Of the logit, before the softmax: a probability near 0 or 1 has no gradient to speak of.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model.
        inputs: float `[b ...]`, normalised, not augmented.
        labels: int `[b]`, the labels that were trained on.

    Returns:
        Of the shape and dtype of the inputs; large where a pixel moves the logit. NaN for labels that are no
        class.

    Raises:
        InputError: the inputs are tokens.

    Paper: not in it; Agarwal et al. 2022 (VoG), section 2.

    Example:
        >>> import jax.numpy as jnp, diet_jax as dj
        >>> weights = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> linear = lambda weights, inputs: inputs @ weights
        >>> dj.label_logit_gradients(linear, weights, jnp.ones((2, 2)), jnp.array([0, 1])).tolist()
        [[1.0, 3.0], [2.0, 4.0]]
    """
    inputs, labels = check_labelled_batch(predict_fn, variables, inputs, labels)
    inputs = jnp.asarray(inputs)
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise InputError(f"inputs must be floats, for a gradient in them; got {inputs.dtype}")

    def total(inputs: Array) -> tuple[Array, Array]:
        logits = called(predict_fn, variables, inputs)
        is_label = _one_hot(labels, logits.shape[-1])
        own = jnp.sum(jnp.where(is_label, logits, 0), axis=1)
        return jnp.sum(own), jnp.any(is_label, axis=1) & ~jnp.isnan(own)

    gradients, is_defined = jax.grad(total, has_aux=True)(inputs)
    # A rectifier has the gradient 0 at NaN.
    return jnp.where(is_defined.reshape(-1, *(1,) * (inputs.ndim - 1)), gradients, jnp.nan)


def vog_scores(
    gradients: Float[AnyArray, "t n ..."], labels: Labels, *, num_classes: int, keep: Mask | None = None
) -> ScoreArray:
    """Returns the variance of gradients over checkpoints (VoG), normalised by class.

    `v = mean over pixels of √(1/T Σ_t (S_t − mean_t S_t)²)` and then `(v − μ_y) / σ_y`, with mean and
    standard deviation of `v` over the examples of the same label. It is the authors' code: a standard
    deviation for each pixel, of gradients that were averaged over the channels first.

    Args:
        gradients: float `[t n ...]`, of `label_logit_gradients` at `t` checkpoints, averaged over the
            channels of images for the authors' score.
        labels: int `[n]`, in `0 .. num_classes - 1`; any other gives NaN.
        num_classes: how many classes there are.
        keep: bool `[n]`, the examples that mean and deviation of a class are over; by default all.

    Returns:
        float32 `[n]` (float64 for float64 gradients), in standard deviations within the class; high means
        hard. 0 in classes whose examples do not differ, and with a single checkpoint.

    Paper: not in it; Agarwal, D'souza and Hooker 2022 (VoG, CVPR), section 2.

    Example:
        >>> import jax.numpy as jnp, diet_jax as dj
        >>> gradients = jnp.array([[[0.0], [0.0], [5.0]], [[2.0], [6.0], [5.0]]])
        >>> dj.vog_scores(gradients, jnp.array([0, 0, 1]), num_classes=2).tolist()
        [-1.0, 1.0, 0.0]
    """
    gradients = jnp.asarray(check_array(gradients, "gradients", "t n ..."))
    (gradients,) = in_one_dtype(gradients)
    labels = jnp.asarray(check_array(labels, "labels", "n", "integers"))
    check_same_length("labels", labels, "gradients[0]", gradients[0])
    check_count(num_classes, "num_classes")
    kept = jnp.ones(len(labels), bool)
    if keep is not None:
        kept = jnp.asarray(check_array(keep, "keep", "n", "booleans"))
        check_same_length("keep", kept, "labels", labels)
    mean = jnp.mean(gradients, axis=0, keepdims=True)
    return _normalised(jnp.mean(jnp.square(gradients - mean), axis=0), labels, kept, num_classes)


def _normalised(
    variances: Float[Array, "n ..."], labels: Labels, keep: Bool[Array, "n"], num_classes: int
) -> ScoreArray:
    deviations = jnp.mean(jnp.sqrt(variances).reshape(len(variances), -1), axis=1)
    if labels.dtype.itemsize < 4:
        labels = labels.astype(jnp.int32)
    is_class = (labels >= 0) & (labels < num_classes)
    groups = jnp.where(is_class, labels, num_classes).astype(jnp.int32)

    def of_class(values: Array) -> Array:
        """Sum over the kept examples of the class of each example."""
        sums = jax.ops.segment_sum(jnp.where(keep, values, 0), groups, num_classes + 1)
        return sums[groups]

    count = jnp.maximum(of_class(jnp.ones_like(deviations)), 1)
    # By the differences: as a difference of squares the deviation of a narrow class would be rounding.
    away = deviations - of_class(deviations) / count
    spread = jnp.sqrt(of_class(jnp.square(away)) / count)
    found = jnp.where(spread == 0, 0, away / jnp.where(spread == 0, 1, spread))
    return jnp.where(is_class, found, jnp.nan)


def tracin_self_scores(
    grad_norms: Float[AnyArray, "t n"], learning_rates: Float[AnyArray, "t"]
) -> ScoreArray:
    """Returns the influence of each example on its own loss over checkpoints: `Σ_t η_t ‖∇ℓ_t(x, y)‖²`.

    To first order, by how much a step of plain SGD on the example alone at each checkpoint would lower its
    loss; momentum makes longer steps.

    Args:
        grad_norms: float `[t n]`, the norms at `t` checkpoints, such as of `grand`.
        learning_rates: float `[t]`.

    Returns:
        float32 `[n]` (float64 for float64 norms), at least 0; high means hard: learned against the others.

    Raises:
        InputError: as many rates as checkpoints are needed.

    Paper: not in it; Pruthi et al. 2020 (TracIn, NeurIPS), TracInCP of an example with itself.

    Example:
        >>> import jax.numpy as jnp, diet_jax as dj
        >>> dj.tracin_self_scores(jnp.array([[1.0, 2.0], [0.0, 1.0]]), jnp.array([0.5, 0.25])).tolist()
        [0.5, 2.25]
    """
    grad_norms = jnp.asarray(check_array(grad_norms, "grad_norms", "t n"))
    learning_rates = jnp.asarray(check_array(learning_rates, "learning_rates", "t"))
    check_same_length("learning_rates", learning_rates, "grad_norms", grad_norms)
    grad_norms, learning_rates = in_one_dtype(grad_norms, learning_rates)
    return jnp.sum(learning_rates[:, None] * jnp.square(grad_norms), axis=0)


class VogState(NamedTuple):
    """Running moments of the gradients of every row: 8 bytes for each pixel of each example."""

    count: Int[Array, ""]
    mean: Float[Array, "n ..."]
    squares: Float[Array, "n ..."]
    """Sum of squared deviations from the mean."""
    labels: Int[Array, "n"]
    classes: Shaped[Array, "c"]
    """Of as many entries as there are classes."""


def _init_vog(num_examples: int, num_classes: int, spec: jax.ShapeDtypeStruct) -> VogState:
    shape = (num_examples, *_pixels(spec))
    return VogState(
        count=jnp.int32(0),
        mean=jnp.zeros(shape, jnp.float32),
        squares=jnp.zeros(shape, jnp.float32),
        labels=jnp.zeros(num_examples, jnp.int32),
        classes=jnp.zeros(num_classes, bool),
    )


def _pixels(spec: jax.ShapeDtypeStruct) -> tuple[int, ...]:
    """Shape of an input without the channels of an image."""
    return spec.shape[:-1] if len(spec.shape) == 3 else spec.shape


def _update_vog(state: VogState, rows: Array, gradients: Array, labels: Array) -> VogState:
    # Welford's: as a difference of sums of squares the variance of a steady gradient would be rounding.
    count = state.count + 1
    old = state.mean[rows]
    away = gradients - old
    mean = old + away / count.astype(jnp.float32)
    return state._replace(
        count=count,
        mean=state.mean.at[rows].set(mean),
        squares=state.squares.at[rows].add(away * (gradients - mean)),
        labels=state.labels.at[rows].set(labels.astype(jnp.int32)),
    )


def _measure_vog(model: Any) -> Callable[..., Array]:
    def gradients(variables: Any, inputs: Array, labels: Array) -> Array:
        found = label_logit_gradients(model.predict, variables, inputs, labels).astype(jnp.float32)
        return jnp.mean(found, axis=-1) if inputs.ndim == 4 else found

    return gradients


def _vog() -> Callable[..., ScoreArray]:
    def scores(state: VogState, keep: Mask) -> ScoreArray:
        variances = state.squares / jnp.maximum(state.count, 1).astype(jnp.float32)
        found = _normalised(variances, state.labels, jnp.asarray(keep), len(state.classes))
        # The gradients of one epoch do not vary.
        return jnp.where(state.count > 1, found, jnp.nan)

    return scores


def _one_hot(labels: Labels, num_classes: int) -> Bool[Array, "n c"]:
    return jax.nn.one_hot(labels, num_classes, dtype=bool)


def _init_tracin(num_examples: int) -> Float[Array, "n"]:
    return jnp.zeros(num_examples, jnp.float32)


def _update_tracin(state: Array, rows: Array, norms: Array, labels: Array, rate: Array) -> Array:
    return state.at[rows].add(rate * jnp.square(norms).astype(jnp.float32))


VOG = SCORES.register(
    Score(
        name="vog",
        label="VoG",
        formula="gradient of the label's logit in the input, mean over channels, standard deviation over the "
        "ends of epochs, mean over pixels; then less its mean over the examples of the same label, in "
        "standard deviations over them; eval mode, un-augmented",
        reference="Agarwal et al. 2022 (VoG) and the authors' code",
        reads="dynamics",
        build=_vog,
        fold=Fold("vog", _init_vog, _update_vog, _measure_vog),
        elsewhere=(
            "Agarwal et al.: VOG, over a few checkpoints early or late in training; their toy example takes "
            "gradients of the probability, about a mean over all epochs by the number of those chosen",
        ),
    )
)

TRACIN_SELF = SCORES.register(
    Score(
        name="tracin_self",
        label="TracIn self-influence",
        formula="sum over the ends of epochs of the learning rate times the squared norm of the gradient of "
        "the cross-entropy in all parameters, eval mode, un-augmented",
        reference="Pruthi et al. 2020 (TracIn), TracInCP of an example with itself",
        reads="dynamics",
        # Before the first epoch ends, nothing is known: a sum of no terms would rank by nothing.
        build=lambda: lambda state, keep: jnp.where(jnp.any(state > 0), state, jnp.nan),
        fold=Fold(
            "tracin_self",
            _init_tracin,
            _update_tracin,
            lambda model: functools.partial(grand, model.predict),
        ),
        elsewhere=("Pruthi et al., Captum: self-influence, over the checkpoints that they are given",),
    )
)
