"""Scores that need only a forward pass: of the error vector, of the probabilities, of the loss."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from diet_jax.checks.calls import called, check_batch_of, check_labelled_batch
from diet_jax.per_example.losses import cross_entropy, error_norm, error_vector, predicted_classes
from diet_jax.scores.score import SCORES, Score
from diet_jax.types import AnyVariables, Array, Inputs, Labels, PredictFn, ScoreArray


def el2n(predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, labels: Labels) -> ScoreArray:
    """Returns the norm of the error vector of each example: `‖softmax(f(x)) − onehot(y)‖₂`.

    The norm, not its square; average it over seeds, not the error vectors. High means hard: 0 for a
    certain and right prediction, √2 for a certain and wrong one.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model.
        inputs: float `[b ...]`, normalised, not augmented.
        labels: int `[b]`, the labels that were trained on.

    Returns:
        float32 `[b]` (float64 for float64 logits), in `[0, √2]`.

    Paper: Definition 2.3 (EL2N); the score after few epochs is the one to prune by.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> inputs = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
        >>> dj.el2n(model.predict, variables, inputs, jax.numpy.array([0, 1, 2, 0, 1])).shape
        (5,)
    """
    inputs, labels = check_labelled_batch(predict_fn, variables, inputs, labels)
    return error_norm(error_vector(called(predict_fn, variables, inputs), labels))


def l1_error(predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, labels: Labels) -> ScoreArray:
    """Returns the 1-norm of the error vector of each example: `‖softmax(f(x)) − onehot(y)‖₁`.

    It is `2 (1 − p_y)`: the ranking of the probability of the label, with all digits where that is near 1.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model.
        inputs: float `[b ...]`, normalised, not augmented.
        labels: int `[b]`, the labels that were trained on.

    Returns:
        float32 `[b]` (float64 for float64 logits), in `[0, 2]`; high means hard.

    Paper: not in it; `l1_error` of the authors' code.

    Example:
        >>> import jax.numpy as jnp, diet_jax as dj
        >>> logits = jnp.log(jnp.array([[0.75, 0.25], [0.5, 0.5]]))
        >>> scores = dj.l1_error(lambda _, inputs: logits, {}, jnp.zeros((2, 1)), jnp.array([0, 1]))
        >>> [round(float(score), 3) for score in scores]
        [0.5, 1.0]
    """
    inputs, labels = check_labelled_batch(predict_fn, variables, inputs, labels)
    return jnp.sum(jnp.abs(error_vector(called(predict_fn, variables, inputs), labels)), axis=-1)


def max_margin(predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, labels: Labels) -> ScoreArray:
    """Returns how far the likeliest other class is ahead of the label: `max_{k≠y} p_k − p_y`.

    Above 0 where an example is classified wrong. A margin of probabilities, at one checkpoint: AUM is the
    mean of logit margins over training, with the other sign.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model.
        inputs: float `[b ...]`, normalised, not augmented.
        labels: int `[b]`, the labels that were trained on.

    Returns:
        float32 `[b]` (float64 for float64 logits), in `[−1, 1]`; high means hard. Of a single class −1.

    Paper: not in it; `max_margin` of the authors' code.

    Example:
        >>> import jax.numpy as jnp, diet_jax as dj
        >>> logits = jnp.log(jnp.array([[0.75, 0.25], [0.5, 0.5]]))
        >>> scores = dj.max_margin(lambda _, inputs: logits, {}, jnp.zeros((2, 1)), jnp.array([0, 1]))
        >>> [round(float(score), 3) for score in scores]
        [-0.5, 0.0]
    """
    inputs, labels = check_labelled_batch(predict_fn, variables, inputs, labels)
    logits = called(predict_fn, variables, inputs)
    others = jnp.where(_is_label(logits, labels), 0, error_vector(logits, labels))
    return jnp.max(others, axis=-1) - jnp.exp(-cross_entropy(logits, labels))


def sum_margin(predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, labels: Labels) -> ScoreArray:
    """Returns how far the other classes are ahead of the label, summed: `Σ_{k≠y} (p_k − p_y)`.

    It is `1 − c p_y`: for one number of classes the ranking of the probability of the label.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model.
        inputs: float `[b ...]`, normalised, not augmented.
        labels: int `[b]`, the labels that were trained on.

    Returns:
        float32 `[b]` (float64 for float64 logits), in `[1 − c, 1]`; high means hard.

    Paper: not in it; `sum_margin` of the authors' code.

    Example:
        >>> import jax.numpy as jnp, diet_jax as dj
        >>> logits = jnp.log(jnp.array([[0.75, 0.25, 0.0], [0.5, 0.5, 0.0]]))
        >>> scores = dj.sum_margin(lambda _, inputs: logits, {}, jnp.zeros((2, 1)), jnp.array([0, 1]))
        >>> [round(float(score), 3) for score in scores]
        [-1.25, -0.5]
    """
    inputs, labels = check_labelled_batch(predict_fn, variables, inputs, labels)
    logits = called(predict_fn, variables, inputs)
    return 1 - logits.shape[-1] * jnp.exp(-cross_entropy(logits, labels))


def loss_score(predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, labels: Labels) -> ScoreArray:
    """Returns the cross-entropy of each example: `−log softmax(f(x))_y`.

    It ranks examples of one network as `confidence_score` does; means over networks differ, for an example
    that one network is certain and wrong of has a large loss.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model.
        inputs: float `[b ...]`, normalised, not augmented.
        labels: int `[b]`, the labels that were trained on.

    Returns:
        float32 `[b]` (float64 for float64 logits), in nats, at least 0; high means hard.

    Paper: not in it; the loss of one checkpoint as a score is folklore.

    Example:
        >>> import jax.numpy as jnp, diet_jax as dj
        >>> logits = jnp.log(jnp.array([[0.75, 0.25], [0.5, 0.5]]))
        >>> scores = dj.loss_score(lambda _, inputs: logits, {}, jnp.zeros((2, 1)), jnp.array([0, 1]))
        >>> [round(float(score), 3) for score in scores]
        [0.288, 0.693]
    """
    inputs, labels = check_labelled_batch(predict_fn, variables, inputs, labels)
    return cross_entropy(called(predict_fn, variables, inputs), labels)


def confidence_score(
    predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, labels: Labels
) -> ScoreArray:
    """Returns minus the probability of the label: `−softmax(f(x))_y`.

    Near −1 float32 tells probabilities apart by 6e-8 only: of well-fitted examples `l1_error`, which ranks
    alike, has fewer ties.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model.
        inputs: float `[b ...]`, normalised, not augmented.
        labels: int `[b]`, the labels that were trained on.

    Returns:
        float32 `[b]` (float64 for float64 logits), in `[−1, 0]`; high means hard.

    Paper: not in it; self-confidence of confident learning (Northcutt et al. 2021), with the other sign.

    Example:
        >>> import jax.numpy as jnp, diet_jax as dj
        >>> logits = jnp.log(jnp.array([[0.75, 0.25], [0.5, 0.5]]))
        >>> scores = dj.confidence_score(lambda _, inputs: logits, {}, jnp.zeros((2, 1)), jnp.array([0, 1]))
        >>> [round(float(score), 3) for score in scores]
        [-0.75, -0.5]
    """
    inputs, labels = check_labelled_batch(predict_fn, variables, inputs, labels)
    return -jnp.exp(-cross_entropy(called(predict_fn, variables, inputs), labels))


def entropy_score(predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs) -> ScoreArray:
    """Returns the entropy of each prediction: `−Σ_k p_k log p_k`.

    No label is used: a certain and wrong prediction has a low entropy.

    Args:
        predict_fn: `(variables, inputs) -> logits [b c]`, in eval mode.
        variables: of one model.
        inputs: float `[b ...]`, normalised, not augmented.

    Returns:
        float32 `[b]` (float64 for float64 logits), in nats, in `[0, log c]`; high means uncertain.

    Paper: not in it; Shannon's entropy, in data selection since Lewis and Gale's uncertainty sampling (1994).

    Example:
        >>> import jax.numpy as jnp, diet_jax as dj
        >>> logits = jnp.array([[0.0, 0.0], [100.0, 0.0]])
        >>> dj.entropy_score(lambda _, inputs: logits, {}, jnp.zeros((2, 1))).round(3).tolist()
        [0.6930000185966492, 0.0]
    """
    inputs = check_batch_of(predict_fn, variables, inputs)
    logits = called(predict_fn, variables, inputs)
    top = predicted_classes(logits)
    loss = cross_entropy(logits, top)
    # With −log p_k = loss of the top class + z_top − z_k all terms are positive: as `1 − p` is small, nothing
    # of it is lost, and the entropy of a certain prediction keeps its digits.
    wide = logits.astype(loss.dtype)
    behind = jnp.take_along_axis(wide, top[:, None], axis=-1) - wide
    shares = jnp.exp(-behind - loss[:, None])
    return loss + jnp.sum(jnp.where(shares > 0, shares * jnp.where(shares > 0, behind, 0), 0), axis=-1)


def _entropy(predict_fn: PredictFn, variables: AnyVariables, inputs: Inputs, labels: Labels) -> ScoreArray:
    return entropy_score(predict_fn, variables, inputs)


def _is_label(logits: Float[Array, "b c"], labels: Labels) -> Bool[Array, "b c"]:
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)


def _registered(function: Callable[..., Any], **about: Any) -> Score:
    build = lambda model: functools.partial(function, model.predict)  # noqa: E731
    return SCORES.register(Score(reads="logits", build=build, **about))


EL2N = _registered(
    el2n,
    name="el2n",
    label="EL2N",
    formula="norm of softmax(logits) - onehot(label), eval mode, un-augmented",
    reference="Paul et al. 2021, Definition 2.3",
    color="#0072B2",
    marker="o",
    elsewhere=(
        "Paul et al. (data_diet): l2_error, the mean over 10 networks at one checkpoint",
        "CCS and DUAL call other scores EL2N: docs/definitions.md begins with them",
    ),
)

LOSS = _registered(
    loss_score,
    name="loss",
    label="loss",
    formula="cross-entropy of the label, eval mode, un-augmented",
    reference="folklore; the first term of Mindermann et al. 2022 (RHO)",
    elsewhere=("RHO-Loss: train loss, one of its baselines, on the batch at hand instead of one checkpoint",),
)

CONFIDENCE = _registered(
    confidence_score,
    name="confidence",
    label="confidence (minus)",
    formula="minus the probability of the label, eval mode, un-augmented",
    reference="Northcutt et al. 2021 (confident learning): self-confidence",
    elsewhere=(
        "cleanlab: self_confidence, with the other sign and of probabilities out of sample",
        "DeepCore: LeastConfidence is something else, minus the largest logit whatever the label",
    ),
)

ENTROPY = _registered(
    _entropy,
    name="entropy",
    label="entropy",
    formula="entropy of softmax(logits) in nats, eval mode, un-augmented; no label",
    reference="Lewis and Gale 1994 (uncertainty sampling), by Shannon's entropy",
    high_means="uncertain",
    elsewhere=(
        "DeepCore: Uncertainty with Entropy is the sum of p log(p + 1e-6), minus the entropy, of which the "
        "highest are kept: the certain examples",
    ),
)

L1_ERROR = _registered(
    l1_error,
    name="l1_error",
    label="L1 error",
    formula="1-norm of softmax(logits) - onehot(label), 2 (1 - p_label), eval mode, un-augmented",
    reference="the authors' code of Paul et al. 2021",
    elsewhere=("Paul et al. (data_diet): l1_error",),
)

MAX_MARGIN = _registered(
    max_margin,
    name="max_margin",
    label="max margin",
    formula="largest probability of another class minus the label's, eval mode, un-augmented",
    reference="the authors' code of Paul et al. 2021",
    elsewhere=(
        "Paul et al. (data_diet): max_margin",
        "cleanlab: normalized_margin is (1 - this) / 2, out of sample, low for label errors",
        "DeepCore: Uncertainty with Margin is something else, the largest minus the second largest "
        "probability whatever the label",
    ),
)

SUM_MARGIN = _registered(
    sum_margin,
    name="sum_margin",
    label="sum margin",
    formula="sum over the other classes of their probability minus the label's, 1 - c p_label, eval mode, "
    "un-augmented",
    reference="the authors' code of Paul et al. 2021",
    elsewhere=("Paul et al. (data_diet): sum_margin",),
)
