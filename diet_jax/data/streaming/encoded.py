"""Images that stay encoded on disk and are decoded when they are asked for."""

import hashlib
from functools import partial
from typing import Any

import numpy as np

from diet_jax.data.decode import decode
from diet_jax.data.image_files import printable
from diet_jax.data.reader import ImageReader, Record
from diet_jax.data.streaming.crops import central_crop, random_resized_crop
from diet_jax.errors import InputError

DIGEST_BYTES = 16


class EncodedImages:
    """Images of a dataset as an array that is decoded row by row: `images[rows]` is uint8 `[b h w ch]`.

    It has the shape, dtype and row indexing of the array, and never holds it. Every image that is read must
    be the one that was there when the dataset was loaded.

    Attributes:
        reader: of the encoded images.
        numbers: int `[n]`, which image of the reader each row is.
        digests: uint8 `[n 16]`, hash of each row's encoded bytes.
        shape: `(n, h, w, ch)`.
        resized: whether images of any size are cut to that size, or all have it.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        reader: ImageReader,
        numbers: np.ndarray,
        digests: np.ndarray,
        image_shape: tuple[int, int, int],
        *,
        resized: bool,
    ) -> None:
        self.reader, self.numbers, self.digests = reader, numbers, digests
        self.shape = (len(numbers), *image_shape)
        self.resized = resized

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, tuple):
            raise InputError(
                "images on disk are indexed by rows only; index the result further: images[rows]"
            )
        # NumPy's own rules for integers, slices, arrays, masks and what is out of range.
        chosen = np.arange(len(self))[rows]
        images = self.load(np.ravel(chosen))
        return images.reshape(*np.shape(chosen), *self.shape[1:])

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise not_as_a_whole()

    def take(self, rows: np.ndarray) -> "EncodedImages":
        """Returns the images of some rows, still encoded."""
        return EncodedImages(
            self.reader,
            self.numbers[rows],
            self.digests[rows],
            self.shape[1:],  # type: ignore[arg-type]
            resized=self.resized,
        )

    def load(self, rows: np.ndarray, crop_seed: tuple[int, ...] | None = None) -> np.ndarray:
        """Reads and decodes some rows, int `[b]`: uint8 `[b h w ch]`.

        With a `crop_seed` each is cut at random as `random_resized_crop` does, seeded by these and its row.

        Raises:
            InputError: an image is missing, damaged or not the one that it was.
        """
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        records = self.reader.records(self.numbers[rows])
        for place, (row, record) in enumerate(zip(rows, records, strict=True)):
            if digest(record.content) != self.digests[row].tobytes():
                raise InputError(
                    f"image {printable(record.name)} is not the one that was indexed: it has changed since; "
                    f"touch its file, so that its time of change is new, and load the dataset again"
                )
            rng = None if crop_seed is None else np.random.default_rng([*crop_seed, int(row)])
            images[place] = self._decode(record, rng)
        return images

    def _decode(self, record: Record, rng: np.random.Generator | None) -> np.ndarray:
        height, width, channels = self.shape[1:]
        cut = partial(central_crop, size=height) if self.resized else None
        if rng is not None:
            cut = partial(random_resized_crop, shape=(height, width), rng=rng)
        return decode(record, channels, cut, background=self.reader.background)


def not_as_a_whole() -> InputError:
    """The error where all images are asked for at once."""
    return InputError(
        "the images of a streamed dataset are not read as a whole: train and score seed by seed "
        '(how="loop") with stream_between and score_streamed, or load the dataset without streaming'
    )


def digest(content: bytes) -> bytes:
    """A hash of 16 bytes of an encoded image."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
