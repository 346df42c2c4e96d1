"""The reducible loss (RHO): the loss of an example, less that of a network which never saw it."""

import jax.numpy as jnp
from jaxtyping import Float

from diet_jax.checks.values import check_array
from diet_jax.errors import InputError
from diet_jax.per_example.products import in_one_dtype
from diet_jax.types import AnyArray, ScoreArray


def reducible_loss(loss: Float[AnyArray, "n"], irreducible: Float[AnyArray, "n"]) -> ScoreArray:
    """Returns the reducible holdout loss of each example: `ℓ(x, y; network) − ℓ(x, y; held-out network)`.

    The second network was trained without the example. Its loss, the irreducible one, is large for labels
    that nobody could predict: of two examples with a large loss the one that can be learned scores higher.
    Two halves of one dataset give it for all: a network trained on one half judges the other.

    Args:
        loss: float `[n]`, in nats, of the network in training, such as of the score "loss".
        irreducible: float `[n]`, in nats, of networks that were not trained on the example, in the same
            order.

    Returns:
        float32 `[n]` (float64 for float64 losses), in nats, of either sign; high means learnable and not
        learned yet.

    Raises:
        InputError: the losses are of different numbers of examples.

    Paper: not in it; Mindermann et al. 2022 (RHO-LOSS, ICML), equation 3.

    Example:
        >>> import jax, numpy as np, diet_jax as dj
        >>> train = dj.load_dataset("digits").train
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> config = dj.TrainConfig(epochs=4, batch_size=32, augment="none")
        >>> def loss(key, keep=None):
        ...     options = {"config": config, "epoch": 2, "names": ("loss",), "keep": keep}
        ...     return dj.score_ensemble(key[None], model, train, **options).scores["loss"][0]
        >>> half, keys = dj.held_out(jax.random.key(0), train.labels, 0.5), dj.seed_keys(0, "score", 3)
        >>> irreducible = np.where(half, loss(keys[0], ~half), loss(keys[1], half))
        >>> dj.reducible_loss(loss(keys[2]), irreducible).shape
        (1078,)
    """
    loss = jnp.asarray(check_array(loss, "loss", "n"))
    irreducible = jnp.asarray(check_array(irreducible, "irreducible", "n"))
    if loss.shape != irreducible.shape:
        raise InputError(
            f"irreducible must be one number for each of the {len(loss):,} losses, got {len(irreducible):,}"
        )
    loss, irreducible = in_one_dtype(loss, irreducible)
    return loss - irreducible
