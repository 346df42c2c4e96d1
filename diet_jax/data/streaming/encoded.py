"""Images that stay encoded on disk and are decoded when they are asked for."""

import functools
import hashlib
import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from diet_jax.data.sources.decode import MODES, damaged
from diet_jax.data.streaming.crops import central_crop, random_resized_crop
from diet_jax.errors import InputError

DIGEST_BYTES = 16


@runtime_checkable
class Source(Protocol):
    """Encoded images by number. Pickled for worker processes, so it opens files when it first reads."""

    def __len__(self) -> int:
        """Returns the number of images."""
        ...

    def name(self, number: int | np.integer) -> str:
        """Returns what error messages call an image."""
        ...

    def read(self, numbers: np.ndarray) -> list[bytes]:
        """Returns the encoded bytes of some images."""
        ...


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Image files under one folder."""

    root: Path
    paths: np.ndarray
    """Relative to the root, `[n]`."""

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, number: int | np.integer) -> str:
        """Returns the path of an image."""
        return str(self.root / str(self.paths[number]))

    def read(self, numbers: np.ndarray) -> list[bytes]:
        """Returns the contents of some files."""
        contents = []
        for number in numbers:
            try:
                contents.append(Path(self.name(number)).read_bytes())
            except OSError as error:
                raise InputError(
                    f"cannot read image {self.name(number)}: {error.strerror or error}; restore it, or load "
                    "the dataset again without it"
                ) from error
        return contents


def _is_not_about_group_size(record: logging.LogRecord) -> bool:
    return "group size" not in record.getMessage()


class RecordSource:
    """Images of one split that TFDS wrote in array_record format."""

    def __init__(self, directory: Path, dataset: str, split: str, keys: tuple[str, str]) -> None:
        self.directory, self.dataset, self.split, self.keys = directory, dataset, split, keys

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_opened"}

    @functools.cached_property
    def _opened(self) -> Any:
        import tensorflow_datasets as tfds

        # One error line for each file that is not written one record at a time; they are read all the same.
        logging.getLogger("absl").addFilter(_is_not_about_group_size)
        builder: Any = tfds.builder_from_directory(self.directory)
        decoders = {self.keys[0]: tfds.decode.SkipDecoding()}
        return builder.as_data_source(split=self.split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._opened)

    def name(self, number: int | np.integer) -> str:
        """Returns the row, data set and split of an image."""
        return f"{number} of {self.dataset} {self.split}"

    def records(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        """Returns some records whole, their images encoded."""
        try:
            records = list(self._opened.__getitems__([int(number) for number in numbers]))
            # What a truncated file lacks comes back empty.
            if any(record[key] is None for record in records for key in self.keys):
                raise ValueError("a record is empty")
            return records
        except Exception as error:  # array_record raises RuntimeError, ValueError, IndexError and more
            raise InputError(
                f"cannot read {self.dataset} {self.split} in {self.directory}: {error}; restore its files"
            ) from error

    def read(self, numbers: np.ndarray) -> list[bytes]:
        """Returns the encoded images of some records."""
        return [record[self.keys[0]] for record in self.records(numbers)]


class EncodedImages:
    """Images of a dataset as an array that is decoded row by row: `images[rows]` is uint8 `[b h w ch]`.

    It has the shape, dtype and row indexing of the array, and never holds it. Every image that is read must
    be the one that was there when the dataset was loaded.

    Attributes:
        source: the encoded images.
        numbers: int `[n]`, which image of the source each row is.
        digests: uint8 `[n 16]`, hash of each row's encoded bytes.
        shape: `(n, h, w, ch)`.
        resized: whether images of any size are cut to that size, or all have it.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        source: Source,
        numbers: np.ndarray,
        digests: np.ndarray,
        image_shape: tuple[int, int, int],
        *,
        resized: bool,
    ) -> None:
        self.source, self.numbers, self.digests = source, numbers, digests
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
        raise InputError(
            "the images of a streamed dataset are not read as a whole: train and score seed by seed "
            '(how="loop") with stream_between and score_streamed, or load the dataset without streaming'
        )

    def take(self, rows: np.ndarray) -> "EncodedImages":
        """Returns the images of some rows, still encoded."""
        return EncodedImages(
            self.source,
            self.numbers[rows],
            self.digests[rows],
            self.shape[1:],  # type: ignore[arg-type]
            resized=self.resized,
        )

    def load(self, rows: np.ndarray, crop_seed: tuple[int, ...] | None = None) -> np.ndarray:
        """Reads and decodes some rows.

        Args:
            rows: int `[b]`.
            crop_seed: cut each image at random as `random_resized_crop` does, seeded by these and its row; by
                default nothing is random.

        Returns:
            uint8 `[b h w ch]`.

        Raises:
            InputError: an image is missing, damaged or not the one that it was.
        """
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        contents = self.source.read(self.numbers[rows])
        for place, (row, content) in enumerate(zip(rows, contents, strict=True)):
            name = self.source.name(int(self.numbers[row]))
            if digest(content) != self.digests[row].tobytes():
                raise InputError(
                    f"image {name} is not the one that was indexed: it has changed since; touch its file, so "
                    f"that its time of change is new, and load the dataset again"
                )
            rng = None if crop_seed is None else np.random.default_rng([*crop_seed, int(row)])
            images[place] = self._decode(name, content, rng)
        return images

    def _decode(self, name: str, content: bytes, rng: np.random.Generator | None) -> np.ndarray:
        from PIL import Image

        height, width, channels = self.shape[1:]
        try:
            with Image.open(io.BytesIO(content)) as opened:
                image = opened if opened.mode == MODES[channels] else opened.convert(MODES[channels])
                if rng is not None:
                    image = random_resized_crop(image, (height, width), rng)
                elif self.resized:
                    image = central_crop(image, height)
                pixels = np.asarray(image)
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
            raise damaged(name, error) from error
        return pixels.reshape(height, width, channels)


def digest(content: bytes) -> bytes:
    """A hash of 16 bytes of an encoded image."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
