"""Pictures of the examples as atlases: many in one WebP, in pieces that a page decodes one by one."""

import io
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from diet_jax.data.dataset import Dataset
from diet_jax.plotting.pictures import pictures_of

# Pixels of the longer side of a picture at most, and pictures in a piece.
LARGEST, PER_PIECE, ACROSS = 64, 1600, 40
# From best to least; None is without any loss. Below the last a picture of 28 pixels is a smear.
QUALITIES = (None, 80, 65, 50, 40, 30, 20)
# Of images on disk, which are decoded one after the other, so many are looked at.
MOST_STREAMED = 2000
# Evenly chosen pictures tell how large all will be, nearly.
RESERVE = 0.97


class Thumbnails(NamedTuple):
    """Pieces of pictures, and how they were made.

    Attributes:
        pieces: each a WebP of `PER_PIECE` pictures, row by row, `ACROSS` in a row; the last may have fewer.
        rows: int `[k]`, whose pictures they are, in this order.
        width: of a picture in pixels.
        height: of a picture in pixels.
        said: what was done to them, in words.
    """

    pieces: list[bytes]
    rows: np.ndarray
    width: int
    height: int
    said: str


def make_thumbnails(dataset: Dataset, rows: np.ndarray, budget: int) -> Thumbnails:
    """Makes pictures of examples within a number of bytes.

    The best quality that fits is taken; where none does, fewer pictures, chosen evenly.

    Args:
        dataset: of images.
        rows: int `[k]`, of which examples, rising.
        budget: bytes that all pieces may have.
    """
    height, width, _ = dataset.image_shape
    shrink = min(1.0, LARGEST / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    most = len(rows)
    if dataset.streamed:
        most = min(most, MOST_STREAMED)
    some = _evenly(rows, most)
    sample = _evenly(some, min(PER_PIECE, len(some)))
    picture = _small_pictures(dataset, size)
    first = _atlas(picture(sample))
    quality, bytes_each = QUALITIES[-1], 0.0
    for quality in QUALITIES:
        bytes_each = len(_webp(first, quality)) / len(sample)
        if bytes_each * len(some) <= RESERVE * budget:
            break
    else:
        some = _evenly(rows, max(1, int(RESERVE * budget / bytes_each)))
    starts = range(0, len(some), PER_PIECE)

    def piece(start: int) -> bytes:
        return _webp(_atlas(picture(some[start : start + PER_PIECE])), quality)

    with ThreadPoolExecutor(max_workers=2) as workers:
        pieces = list(workers.map(piece, starts))
    said = [f"{width} × {height} pixels" + (f", reduced to {size[0]} × {size[1]}" if shrink < 1 else "")]
    said.append("without loss" if quality is None else f"compressed to fit the page (WebP at {quality})")
    if len(some) < len(dataset):
        said.append(f"pictures of {len(some):,} of {len(dataset):,} examples, chosen evenly")
    return Thumbnails(pieces, some, *size, "; ".join(said))


def _evenly(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.arange(min(count, len(rows))) * len(rows) // min(count, len(rows))]


def _small_pictures(dataset: Dataset, size: tuple[int, int]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what makes pictures uint8 `[k h w]` or `[k h w 3]` of rows."""
    pictures = pictures_of(dataset)

    def small(rows: np.ndarray) -> np.ndarray:
        images = (255 * pictures(rows) + 0.5).astype(np.uint8)
        if images.shape[1:3] == size[::-1]:
            return images
        return np.stack(
            [np.asarray(Image.fromarray(each).resize(size, Image.Resampling.BOX)) for each in images]
        )

    return small


def _atlas(images: np.ndarray) -> np.ndarray:
    count, height, width = images.shape[:3]
    down = math.ceil(count / ACROSS)
    padded = np.zeros((down * ACROSS, *images.shape[1:]), np.uint8)
    padded[:count] = images
    grid = padded.reshape(down, ACROSS, *images.shape[1:]).swapaxes(1, 2)
    return grid.reshape(down * height, ACROSS * width, *images.shape[3:])


def _webp(atlas: np.ndarray, quality: int | None) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, Any] = (
        {"lossless": True, "method": 0} if quality is None else {"quality": quality, "method": 2}
    )
    Image.fromarray(atlas).save(buffer, "WEBP", **options)
    return buffer.getvalue()
