"""A score of the image alone: what GraNd at initialisation comes down to."""

import jax.numpy as jnp

from diet_jax.types import Images, Labels, ScoreArray, Variables


def input_norm(variables: Variables, images: Images, labels: Labels) -> ScoreArray:
    """Returns the norm of each normalised image: `‖x‖₂` over all pixels and channels.

    A baseline: at initialisation a network is almost linear in the size of its input, so that GraNd there
    ranks examples much as this does, and pruning by either is worse than pruning at random.

    Args:
        variables: not used; `Variables({}, {})` will do. They make this a `ScoreFn`.
        images: float `[b h w ch]`, normalised, not augmented.
        labels: int `[b]`, not used.

    Returns:
        float32 `[b]` (float64 for float64 images), in standard deviations of a pixel; high means far from
        the mean image.

    Paper: not in it; Kirsch 2023 (arXiv 2303.14753) on its GraNd at initialisation.

    Example:
        >>> import diet_jax as dj
        >>> test = dj.load_dataset("digits").test
        >>> dj.score_dataset(input_norm, dj.Variables({}, {}), test).shape
        (719,)
    """
    images = jnp.asarray(images)
    kind = jnp.float64 if images.dtype == jnp.float64 else jnp.float32
    return jnp.linalg.norm(images.reshape(len(images), -1).astype(kind), axis=-1)
