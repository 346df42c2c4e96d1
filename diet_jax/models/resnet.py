"""ResNet-v1: the paper's networks for small images, and the same with ImageNet's stem."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from diet_jax.models.convolution import ConvolutionForm
from diet_jax.models.layers import batch_norm, check_images, conv, last_dtype
from diet_jax.types import Images

_Activations = Float[Array, "b h w f"]

Stem = Literal["small", "imagenet"]


def _conv(filters: int, size: int, stride: int, dtype: Any, form: ConvolutionForm, train: bool) -> nn.Conv:
    """A bias would be cancelled by the BatchNorm after it. 'SAME' pads stride 2 by (0, 1), unlike PyTorch."""
    return conv(filters, size, stride, use_bias=False, dtype=dtype, form=form, train=train)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions (basic), or 1x1, 3x3, 1x1 (bottleneck), and a way around them (section 3).

    Example:
        >>> import jax
        >>> block = ResidualBlock(filters=4, stride=2, bottleneck=True, zero_init=True, dtype=jnp.float32)
        >>> y, _ = block.init_with_output(jax.random.key(0), jnp.ones((1, 8, 8, 4)), train=False)
        >>> y.shape
        (1, 4, 4, 16)
    """

    filters: int
    stride: int
    bottleneck: bool
    zero_init: bool
    dtype: Any
    convolution: ConvolutionForm = "auto"

    @nn.compact
    def __call__(self, x: _Activations, *, train: bool) -> Float[Array, "b h2 w2 f2"]:
        """Returns the block's output, float [b h/stride w/stride filters or 4 filters]."""
        # Filters, size and stride of each convolution.
        layers = [(self.filters, 3, self.stride), (self.filters, 3, 1)]
        if self.bottleneck:
            layers = [(self.filters, 1, 1), (self.filters, 3, self.stride), (4 * self.filters, 1, 1)]

        y = x
        for filters, size, stride in layers[:-1]:
            y = _conv(filters, size, stride, self.dtype, self.convolution, train)(y)
            y = nn.relu(batch_norm(y, train=train, dtype=self.dtype))
        y = _conv(*layers[-1], self.dtype, self.convolution, train)(y)
        last_scale = nn.initializers.zeros if self.zero_init else nn.initializers.ones
        y = batch_norm(y, train=train, dtype=self.dtype, scale_init=last_scale)

        shortcut = x.astype(self.dtype)
        if x.shape != y.shape:
            shortcut = _conv(y.shape[-1], 1, self.stride, self.dtype, self.convolution, train)(x)
            shortcut = batch_norm(shortcut, train=train, dtype=self.dtype)
        return nn.relu(shortcut + y)


class ResNet(nn.Module):
    """ResNet-v1, with a 3x3 stem without stride for small images (section 3), or ImageNet's stem.

    ImageNet's is a 7x7 convolution of stride 2, BatchNorm, relu and a 3x3 max-pool of stride 2. 'SAME' pads
    them by (2, 3) and (0, 1) where sizes are even; PyTorch's ResNet by (3, 3) and (1, 1).

    Example:
        >>> import jax
        >>> net = ResNet(num_classes=10, stage_sizes=(1, 1), width=4)
        >>> logits, _ = net.init_with_output(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
        >>> logits.shape
        (1, 10)
    """

    num_classes: int
    stage_sizes: tuple[int, ...]
    bottleneck: bool = False
    zero_init: bool = False
    width: int = 64
    stem: Stem = "small"
    dtype: Any = jnp.float32
    convolution: ConvolutionForm = "auto"

    @nn.compact
    def __call__(self, images: Images, *, train: bool = False) -> Float[Array, "b c"]:
        """Returns logits, float32 [b c], of normalised images, float [b h w ch]."""
        check_images(images, self)
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = _conv(self.width, size, stride, self.dtype, self.convolution, train)(images)
        x = nn.relu(batch_norm(x, train=train, dtype=self.dtype))
        if self.stem == "imagenet":
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for stage, size in enumerate(self.stage_sizes):
            for block in range(size):
                x = ResidualBlock(
                    filters=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    bottleneck=self.bottleneck,
                    zero_init=self.zero_init,
                    dtype=self.dtype,
                    convolution=self.convolution,
                )(x, train=train)
        last = last_dtype(self.dtype)
        return nn.Dense(self.num_classes, dtype=last)(x.mean((1, 2), dtype=last))


def resnet18(
    *,
    num_classes: int,
    dtype: Any = jnp.float32,
    width: int = 64,
    zero_init: bool = False,
    stem: Stem = "small",
    convolution: ConvolutionForm = "auto",
) -> ResNet:
    """Returns ResNet18: basic blocks [2, 2, 2, 2], every BatchNorm scale starting at one.

    Args:
        num_classes: number of logits.
        dtype: dtype to compute in.
        width: filters of the stem and the first stage.
        zero_init: whether the last BatchNorm scale of each block starts at zero instead.
        stem: "small" for images of about 32 pixels, "imagenet" for about 224.
        convolution: how convolutions are computed; see `create_model`.

    Returns:
        The linen module, 11,173,962 parameters with 10 classes and the small stem.

    Example:
        >>> resnet18(num_classes=10).stage_sizes
        (2, 2, 2, 2)
    """
    return ResNet(
        num_classes,
        (2, 2, 2, 2),
        bottleneck=False,
        zero_init=zero_init,
        width=width,
        stem=stem,
        dtype=dtype,
        convolution=convolution,
    )


def resnet50(
    *,
    num_classes: int,
    dtype: Any = jnp.float32,
    width: int = 64,
    zero_init: bool = True,
    stem: Stem = "small",
    convolution: ConvolutionForm = "auto",
) -> ResNet:
    """Returns ResNet50: bottleneck blocks [3, 4, 6, 3], each block starting as the identity (zero init).

    Args:
        num_classes: number of logits.
        dtype: dtype to compute in.
        width: filters of the stem and the first stage.
        zero_init: whether the last BatchNorm scale of each block starts at zero.
        stem: "small" for images of about 32 pixels, "imagenet" for about 224.
        convolution: how convolutions are computed; see `create_model`.

    Returns:
        The linen module: 23,705,252 parameters with 100 classes and the small stem, 25,557,032 with 1000
        classes and ImageNet's.

    Example:
        >>> resnet50(num_classes=100).stage_sizes
        (3, 4, 6, 3)
    """
    return ResNet(
        num_classes,
        (3, 4, 6, 3),
        bottleneck=True,
        zero_init=zero_init,
        width=width,
        stem=stem,
        dtype=dtype,
        convolution=convolution,
    )
