"""Data sets larger than memory: labels and ids are held, images are decoded when they are asked for."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from diet_jax.checks.rows import checked_rows
from diet_jax.data.classes import checked_labels
from diet_jax.data.dataset import Dataset, fingerprint
from diet_jax.data.kinds import Normalization, channel_statistics, statistics_of_counts, value_counts
from diet_jax.data.reader import WHITE, chunks
from diet_jax.data.streaming.encoded import EncodedImages, not_as_a_whole
from diet_jax.data.streaming.reading import read_ahead
from diet_jax.types import Examples, Mask, Rows

MEASURED_PIXELS = 2**28
"""Normalisation is measured on all images with fewer pixels in all, else on evenly spaced ones."""


@dataclass(frozen=True, eq=False)
class StreamedDataset(Dataset):
    """A `Dataset` whose images stay encoded on disk.

    `inputs[rows]` decodes these rows; everything else is in memory. Where a function needs all images on the
    device at once it raises InputError.

    Attributes:
        inputs: `EncodedImages`, with the shape, dtype and row indexing of uint8 `[n h w ch]`.
        fingerprint: SHA-256 of the image shape, the labels, the ids and a hash of each image's encoded bytes,
            and of the background of transparent images if it is not white.
            It is not that of the same dataset in memory, which covers the decoded pixels.
        workers: processes that decode while a network computes; 0 decodes in threads.
    """

    inputs: Any
    fingerprint: str = dataclasses.field(init=False)
    workers: int = 0
    streamed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        # The fingerprint must stay true: no one writes to these arrays.
        for array in (self.labels, self.ids):
            array.flags.writeable = False
        reader = self.inputs.reader
        ground = () if reader.background in (None, WHITE) else (reader.background,)
        shape = repr((self.inputs.shape, self.inputs.resized, *ground))
        content = hashlib.sha256(shape.encode() + self.inputs.digests.tobytes())
        hashed = np.frombuffer(content.digest(), np.uint8)
        object.__setattr__(self, "fingerprint", fingerprint(hashed, self.labels, self.ids))

    def examples(self) -> Examples:
        """Raises InputError: the images are not to be held at once."""
        raise not_as_a_whole()

    def read_batches(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the stored images of each batch of rows, reading ahead."""
        return read_ahead(self.inputs, list(batches), workers=self.workers)

    def take(self, rows: Rows | Mask) -> "StreamedDataset":
        """Returns a dataset of some rows, still on disk; see `Dataset.take`."""
        rows = checked_rows(rows, len(self))
        inputs, labels, ids = self.inputs.take(rows), self.labels[rows], self.ids[rows]
        return dataclasses.replace(self, inputs=inputs, labels=labels, ids=ids, taken_from=self.whole)

    def with_labels(self, labels: Any) -> "StreamedDataset":
        """Returns the dataset with other labels, and their fingerprint; see `Dataset.with_labels`."""
        checked = checked_labels(labels, len(self), self.name, class_names=self.class_names)
        return dataclasses.replace(self, labels=checked.labels, taken_from=None)


def measure(images: Any) -> Normalization:
    """Measures the normalisation: of images on disk on evenly spaced rows with about `MEASURED_PIXELS`."""
    if not isinstance(images, EncodedImages):
        return channel_statistics(images)
    per_image = int(np.prod(images.shape[1:3]))
    count = min(len(images), max(1, MEASURED_PIXELS // per_image))
    rows = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
    batches = list(chunks(rows, max(1, 2**24 // (per_image * images.shape[3]))))
    counts = np.zeros((images.shape[3], 256), np.int64)
    for batch in read_ahead(images, batches):
        counts += value_counts(batch)
    return statistics_of_counts(counts)
