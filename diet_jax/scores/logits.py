"""Scores that need only a forward pass."""

import functools

from diet_jax.checks.calls import called, check_labelled_batch
from diet_jax.per_example.losses import error_norm, error_vector
from diet_jax.scores.score import SCORES, Score
from diet_jax.types import AnyVariables, Inputs, Labels, PredictFn, ScoreArray


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


EL2N = SCORES.register(
    Score(
        name="el2n",
        label="EL2N",
        formula="norm of softmax(logits) - onehot(label), eval mode, un-augmented",
        reference="Paul et al. 2021, Definition 2.3",
        reads="logits",
        build=lambda model: functools.partial(el2n, model.predict),
        color="#0072B2",
        marker="o",
        elsewhere=(
            "Paul et al. (data_diet): EL2N, the mean over networks",
            "CCS and DUAL call something else EL2N, see el2n_sum",
        ),
    )
)
