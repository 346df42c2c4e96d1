"""Baselines without a network: the norm of the image, to which GraNd at initialisation comes down; chance."""

import math

import jax
import jax.numpy as jnp

from diet_jax.checks.values import check_array, check_count, check_key
from diet_jax.errors import InputError
from diet_jax.per_example.products import accumulator
from diet_jax.scores.score import SCORES, Score
from diet_jax.types import Array, Inputs, Labels, PRNGKey, ScoreArray, Variables


def input_norm(variables: Variables, inputs: Inputs, labels: Labels) -> ScoreArray:
    """Returns the norm of each normalised input: `‖x‖₂` over all pixels and channels, or features.

    A baseline: at initialisation a network is almost linear in the size of its input, so that GraNd there
    ranks examples much as this does, and pruning by either is worse than pruning at random.

    Args:
        variables: not used; `Variables({}, {})` will do. They make this a `ScoreFn`.
        inputs: float `[b ...]`, normalised, not augmented.
        labels: int `[b]`, not used.

    Returns:
        float32 `[b]` (float64 for float64 inputs), in standard deviations of a pixel; high means far from
        the mean.

    Raises:
        InputError: the inputs are tokens.

    Paper: not in it; Kirsch 2023 (arXiv 2303.14753) on its GraNd at initialisation.

    Example:
        >>> import diet_jax as dj
        >>> test = dj.load_dataset("digits").test
        >>> dj.score_dataset(input_norm, dj.Variables({}, {}), test).shape
        (719,)
    """
    inputs = jnp.asarray(check_array(inputs, "inputs", "b ...", "anything"))
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise InputError(f"input_norm is of normalised numbers; inputs of {inputs.dtype} have no length")
    return jnp.linalg.norm(
        inputs.reshape(len(inputs), math.prod(inputs.shape[1:])).astype(accumulator(inputs.dtype)), axis=-1
    )


def random_scores(key: PRNGKey, num_examples: int) -> Array:
    """Returns scores that say nothing: uniform numbers, float32 `[n]` in [0, 1).

    Args:
        key: decides them.
        num_examples: how many.

    Example:
        >>> import jax
        >>> random_scores(jax.random.key(0), 3).shape
        (3,)
    """
    check_count(num_examples, "num_examples")
    return jax.random.uniform(check_key(key), (num_examples,), jnp.float32)


INPUT_NORM = SCORES.register(
    Score(
        name="input_norm",
        label="input norm",
        formula="norm of the normalised image over all pixels and channels; no network",
        reference="Kirsch 2023 (arXiv 2303.14753)",
        reads="inputs",
        build=lambda model: input_norm,
        color="#882255",
        marker="P",
        high_means="of a large norm",
        elsewhere=("Kirsch 2023: input norm, to which GraNd at initialisation comes down",),
    )
)

RANDOM = SCORES.register(
    Score(
        name="random",
        label="random",
        formula="a random number for each example; no network",
        reference="the baseline of every paper on pruning",
        reads="nothing",
        build=lambda: random_scores,
        color="#7F7F7F",
        marker="v",
        high_means="nothing",
    )
)
