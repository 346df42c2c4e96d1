"""Normalisation and random crop and flip: pure, on the device, one key per batch."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from diet_jax.checks.rows import check_rows_within
from diet_jax.checks.values import check_array
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.errors import InputError
from diet_jax.types import Array, PRNGKey

CropOffsets = Literal["example", "batch"]


def normalize(
    inputs: Shaped[Array, "b ..."], mean: Float[Array, "ch"], std: Float[Array, "ch"]
) -> Shaped[Array, "b ..."]:
    """Returns `(inputs - mean) / std` in float32, for each channel or feature: along the last axis.

    Args:
        inputs: uint8, float or integers `[b ... ch]`, as stored.
        mean: float32 `[ch]`, in the unit that is stored; `[0]` where nothing is to be normalised.
        std: float32 `[ch]`, likewise.

    Returns:
        float32 `[b ... ch]`: what models take. Without means, tokens int32 as they are, all else as float32.

    Raises:
        InputError: `mean` or `std` does not have one entry per channel.

    Example:
        >>> import jax.numpy as jnp
        >>> image = jnp.full((1, 2, 2, 1), 255, jnp.uint8)
        >>> normalize(image, jnp.array([127.5]), jnp.array([127.5])).ravel().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    inputs = jnp.asarray(check_array(inputs, "inputs", "b ...", "anything"))
    mean = jnp.asarray(check_array(mean, "mean", "ch", "numbers"))
    std = jnp.asarray(check_array(std, "std", "ch", "numbers"))
    if mean.shape == std.shape == (0,):
        return inputs if inputs.dtype == jnp.int32 else inputs.astype(jnp.float32)
    if not mean.shape == std.shape == inputs.shape[-1:]:
        raise InputError(
            f"mean and std must have one entry for each channel ({inputs.shape[-1]}), "
            f"got shapes {mean.shape} and {std.shape}"
        )
    shape = (*(1,) * (inputs.ndim - 1), -1)
    mean, std = (values.astype(jnp.float32).reshape(shape) for values in (mean, std))
    return (inputs.astype(jnp.float32) - mean) / std


def random_flip(key: PRNGKey, images: Shaped[Array, "b h w ch"]) -> Shaped[Array, "b h w ch"]:
    """Mirrors each image left to right with probability one half.

    Args:
        key: one key for the batch.
        images: any dtype `[b h w ch]`.

    Returns:
        The images, shape and dtype unchanged.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> random_flip(jax.random.key(0), jnp.zeros((2, 4, 4, 1), jnp.uint8)).dtype
        dtype('uint8')
    """
    flip = jax.random.bernoulli(key, jnp.float32(0.5), (images.shape[0], 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)


def normalized_inputs(dataset: Dataset, rows: Any = None) -> Shaped[Array, "b ..."]:
    """Returns examples of a dataset as networks see them in eval mode: normalised, not augmented.

    Args:
        dataset: any split.
        rows: int `[b]`, which rows, in the order wanted; by default all.

    Returns:
        float32 `[b ...]`, or int32 for tokens.

    Example:
        >>> import diet_jax as dj
        >>> normalized_inputs(dj.load_dataset("digits").train, [0, 5]).shape
        (2, 8, 8, 1)
    """
    check_dataset(dataset)
    if rows is not None:
        rows = np.asarray(check_array(rows, "rows", "b", "integers"))
        check_rows_within(rows, len(dataset))
    mean, std = (jnp.asarray(values, jnp.float32) for values in dataset.normalization)
    inputs = dataset.inputs if rows is None else dataset.inputs[rows]
    return normalize(jnp.asarray(inputs), mean, std)


def normalized_images(dataset: Dataset, rows: Any = None) -> Float[Array, "b h w ch"]:
    """Returns `normalized_inputs` of a dataset of images.

    Args:
        dataset: any split.
        rows: int `[b]`, which rows, in the order wanted; by default all.

    Returns:
        float32 `[b h w ch]`.

    Raises:
        InputError: the examples are no images.

    Example:
        >>> import diet_jax as dj
        >>> normalized_images(dj.load_dataset("digits").train, [0, 5]).shape
        (2, 8, 8, 1)
    """
    check_dataset(dataset)
    _ = dataset.image_shape  # Says so where there are no images.
    return normalized_inputs(dataset, rows)


def random_crop(
    key: PRNGKey,
    images: Shaped[Array, "b h w ch"],
    *,
    padding: int = 4,
    offsets: CropOffsets = "example",
) -> Shaped[Array, "b h w ch"]:
    """Pads by reflection and cuts a window of the old size at a random place.

    Args:
        key: one key for the batch.
        images: any dtype `[b h w ch]`, height and width above `padding`.
        padding: pixels added on every side.
        offsets: "example" draws one window per image; "batch" draws one for the whole batch, as the
            authors' code did (`tf.image.random_crop` on a batch).

    Returns:
        The images, shape and dtype unchanged.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> random_crop(jax.random.key(0), jnp.zeros((2, 8, 8, 1)), padding=2).shape
        (2, 8, 8, 1)
    """
    batch, height, width, channels = images.shape
    pad = (padding, padding)
    padded = jnp.pad(images, ((0, 0), pad, pad, (0, 0)), mode="reflect")
    first = jnp.int32(0)
    if offsets == "batch":
        top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1, jnp.int32)
        return jax.lax.dynamic_slice(padded, (first, top, left, first), images.shape)
    corners = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1, jnp.int32)

    def cut(image: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], first), (height, width, channels))

    return jax.vmap(cut)(padded, corners)
