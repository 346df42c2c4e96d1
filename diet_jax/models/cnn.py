"""Two convolutional networks without BatchNorm."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from diet_jax.models.convolution import ConvolutionForm
from diet_jax.models.layers import check_images, conv, last_dtype
from diet_jax.types import Images


class CNN(nn.Module):
    """The authors' SimpleCNN: per width a 3x3 convolution, then one of stride 2 (section 5, models).

    Example:
        >>> import jax
        >>> logits, _ = CNN(num_classes=10).init_with_output(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
        >>> logits.shape
        (1, 10)
    """

    num_classes: int
    widths: tuple[int, ...] = (32, 64, 128)
    dtype: Any = jnp.float32
    convolution: ConvolutionForm = "auto"

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Float[Array, "b c"]:
        """Returns logits, float32 [b c], of normalised images, float [b h w ch]."""
        check_images(images, self)
        x = images
        for width in self.widths:
            x = nn.relu(conv(width, 3, dtype=self.dtype, form=self.convolution, train=train)(x))
            x = nn.relu(conv(width, 3, 2, dtype=self.dtype, form=self.convolution, train=train)(x))
        last = last_dtype(self.dtype)
        return nn.Dense(self.num_classes, dtype=last)(x.mean((1, 2), dtype=last))


class SmallCNN(nn.Module):
    """A network for a few CPU cores: every convolution has stride 2. Not in the paper.

    Example:
        >>> import jax
        >>> logits, _ = SmallCNN(num_classes=10).init_with_output(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
        >>> logits.shape
        (1, 10)
    """

    num_classes: int
    widths: tuple[int, ...] = (16, 32, 64)
    dtype: Any = jnp.float32
    convolution: ConvolutionForm = "auto"

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Float[Array, "b c"]:
        """Returns logits, float32 [b c], of normalised images, float [b h w ch]."""
        check_images(images, self)
        x = images
        for width in self.widths:
            x = nn.relu(conv(width, 3, 2, dtype=self.dtype, form=self.convolution, train=train)(x))
        return nn.Dense(self.num_classes, dtype=last_dtype(self.dtype))(
            x.reshape(x.shape[0], math.prod(x.shape[1:]))
        )
