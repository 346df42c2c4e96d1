"""A multi-layer perceptron."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from diet_jax.models.layers import last_dtype
from diet_jax.types import Inputs


class MLP(nn.Module):
    """Dense layers with relu on flattened inputs: the quickest model here. Not in the paper.

    Example:
        >>> import jax
        >>> logits, _ = MLP(num_classes=10).init_with_output(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
        >>> logits.shape
        (1, 10)
    """

    num_classes: int
    widths: tuple[int, ...] = (128, 128)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Inputs) -> Float[Array, "b c"]:
        """Returns logits, float32 [b c], of normalised, float [b ...]."""
        x = inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))
        for width in self.widths:
            x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
        return nn.Dense(self.num_classes, dtype=last_dtype(self.dtype))(x)
