"""VGG16, for transfer of scores between architectures."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from diet_jax.errors import InputError
from diet_jax.models.convolution import ConvolutionForm
from diet_jax.models.layers import batch_norm, check_images, conv, last_dtype
from diet_jax.types import Images

# Convolutions per stage, and filters as a multiple of `width`; a max-pool ends each stage.
_STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))


class VGG16(nn.Module):
    """VGG16 with BatchNorm in its CIFAR form: 13 convolutions and one dense layer (section 5, models).

    Example:
        >>> import jax
        >>> net = VGG16(num_classes=10, width=4)
        >>> logits, _ = net.init_with_output(jax.random.key(0), jnp.ones((1, 32, 32, 3)))
        >>> logits.shape
        (1, 10)
    """

    num_classes: int
    width: int = 64
    dtype: Any = jnp.float32
    convolution: ConvolutionForm = "auto"

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Float[Array, "b c"]:
        """Returns logits, float32 [b c], of normalised images, float [b h w ch], 32 pixels or more a side."""
        check_images(images, self)
        height, width = images.shape[1:3]
        if min(height, width) < 32:
            raise InputError(
                f"images: vgg16 halves them five times and so needs 32 x 32 pixels or more, got {height} x "
                f"{width}. Remedy: resize them, or choose another model, e.g. resnet18."
            )
        x = images
        for depth, multiple in _STAGES:
            for _ in range(depth):
                filters = self.width * multiple
                layer = conv(filters, 3, use_bias=False, dtype=self.dtype, form=self.convolution, train=train)
                x = layer(x)
                x = nn.relu(batch_norm(x, train=train, dtype=self.dtype))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        # One pixel is left of 32; the mean lets larger images through with the same parameters.
        last = last_dtype(self.dtype)
        return nn.Dense(self.num_classes, dtype=last)(x.mean((1, 2), dtype=last))
