"""Encoded images to one uint8 array, in threads."""

import collections
import io
import itertools
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from diet_jax.devices.progress import Progress
from diet_jax.errors import InputError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name of an 8-bit image by its number of channels."""

_PER_TASK = 64  # images of one task: enough to make the cost of a task small beside that of small images
_AHEAD = 32  # tasks read before the first of them must be done: bounds the memory for encoded images


def decode_images(
    sources: Iterable[tuple[str, bytes | Path]], count: int, channels: int, progress: Progress
) -> np.ndarray:
    """Decodes images of one size.

    Args:
        sources: for each image its name in error messages, and its encoded bytes or its file.
        count: number of images.
        channels: 1, 3 or 4; images of another kind are converted.
        progress: told of each batch of images.

    Returns:
        uint8 `[count h w channels]`, in the order of `sources`.

    Raises:
        InputError: an image is damaged, or two have different sizes.
    """
    sources = iter(sources)
    first = next(sources)
    first_image = _decode(first, channels)
    images = np.empty((count, *first_image.shape), np.uint8)

    def decode(start: int, batch: Sequence[tuple[str, bytes | Path]]) -> int:
        for row, source in enumerate(batch, start):
            image = _decode(source, channels)
            if image.shape != first_image.shape:
                raise different_sizes(first[0], first_image.shape[:2], source[0], image.shape[:2])
            images[row] = image
        return len(batch)

    pending: collections.deque[Future[int]] = collections.deque()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for index, batch in enumerate(_batches(itertools.chain([first], sources))):
            pending.append(pool.submit(decode, index * _PER_TASK, batch))
            if len(pending) > _AHEAD:
                progress.update(pending.popleft().result())
        for task in pending:
            progress.update(task.result())
    return images


def different_sizes(
    first: str, first_size: tuple[int, ...], second: str, second_size: tuple[int, ...]
) -> InputError:
    """The error for two images of different (height, width)."""
    return InputError(
        f"images must all have one size: {first} is {first_size[0]}x{first_size[1]} (height x width), "
        f"{second} is {second_size[0]}x{second_size[1]}; resize them first, or let "
        f"--data.streaming --data.image-size SIZE do it"
    )


def damaged(name: str, error: Exception) -> InputError:
    """The error for an image that does not decode."""
    return InputError(f"image {name} is damaged or no image: {error}; repair or remove it")


def _decode(source: tuple[str, bytes | Path], channels: int) -> np.ndarray:
    from PIL import Image

    name, content = source
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
            mode = MODES[channels]
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        raise damaged(name, error) from error
    return pixels.reshape(*pixels.shape[:2], channels)


def _batches(items: Iterable[tuple[str, bytes | Path]]) -> Iterable[list[tuple[str, bytes | Path]]]:
    items = iter(items)
    while batch := list(itertools.islice(items, _PER_TASK)):
        yield batch
