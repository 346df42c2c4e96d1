"""One encoded image to pixels, and the images that are refused."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diet_jax.data.reader import Record
from diet_jax.errors import InputError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name of an 8-bit image by its number of channels."""

GREY = ("1", "L", "LA", "La")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
"""Pillow's names of all images with 8 bits per channel."""


def decode(record: Record, channels: int, cut: Callable[[Any], Any] | None = None) -> np.ndarray:
    """Returns the pixels of an image, uint8 `[h w channels]`; one of another kind is converted.

    `cut` makes the part that is wanted out of a Pillow image; by default all is.

    Raises:
        InputError: it is damaged or no image.
    """

    def pixels(image: Any) -> np.ndarray:
        image = image if image.mode == MODES[channels] else image.convert(MODES[channels])
        return np.asarray(image if cut is None else cut(image))

    image = _opened(record, pixels)
    return image.reshape(*image.shape[:2], channels)


def header(record: Record) -> tuple[tuple[int, int], str]:
    """Returns height and width of an image and Pillow's name of its kind of pixel, without decoding it."""
    return _opened(record, lambda image: ((image.height, image.width), image.mode))


def encoding(record: Record) -> str:
    """Returns Pillow's name of the format that an image is stored in, such as "PNG" or "JPEG"."""
    return _opened(record, lambda image: image.format or "")


def _opened(record: Record, look: Callable[[Any], Any]) -> Any:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(record.content)) as image:
            return look(image)
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        raise InputError(
            f"image {record.name} is damaged or no image: {error}; repair or remove it"
        ) from error


def different_sizes(
    first: str, first_size: Sequence[int], second: str, second_size: Sequence[int]
) -> InputError:
    """The error for two images of different height and width, the first numbers of their sizes."""
    return InputError(
        f"images must all have one size: {first} is {first_size[0]}x{first_size[1]} (height x width), "
        f"{second} is {second_size[0]}x{second_size[1]}; resize them first, or let "
        f"--data.streaming --data.image-size SIZE do it"
    )
