"""Data sets that lie on disk as encoded images: decoded once and held, or decoded when asked for."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diet_jax.data.cache import SourceFiles, cache_folder, cached
from diet_jax.data.classes import check_label_range
from diet_jax.data.dataset import Dataset, Splits
from diet_jax.data.decode import COLOUR, GREY, decode, different_sizes, encoding
from diet_jax.data.kinds import Normalization
from diet_jax.data.reader import ImageReader, Record, read_all
from diet_jax.data.streaming.encoded import EncodedImages
from diet_jax.data.streaming.index import Part, examine, indexed
from diet_jax.data.streaming.streamed import StreamedDataset, measure
from diet_jax.devices.progress import Progress
from diet_jax.errors import InputError


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of prepared data sets: `data_dir`, or TFDS's own default."""
    if data_dir is None:
        data_dir = os.environ.get("TFDS_DATA_DIR") or Path("~", "tensorflow_datasets")
    return Path(data_dir).expanduser().absolute()


class StoredSplits(NamedTuple):
    """The encoded images of both splits, and what is known of them before one is read."""

    readers: tuple[ImageReader, ImageReader]
    """Of the train and the test split."""
    class_names: Sequence[str]
    channels: int | None
    """Of every image; None: 3 if any image of the two splits is in colour, else 1."""
    normalization: Normalization | None
    """None: measured on the train split."""


_Contents = tuple[Any, np.ndarray, np.ndarray, str]
"""Images, labels and ids of a split, and where the ids come from."""


@dataclass(frozen=True)
class StoredDataset:
    """A data set of encoded images. Rows, ids, labels and pixels are the same, held or streamed.

    Images that are damaged or differ in size raise InputError, here or when they are first read.

    Attributes:
        files: what it is read from; decoded copy and index are made again when they change.
        open: returns its splits; a decoded copy is read without.
    """

    files: SourceFiles
    open: Callable[[], StoredSplits]

    def load(self, *, cache_dir: str | os.PathLike[str] | None, quiet: bool) -> Splits:
        """Returns the data set in memory: its decoded copy, or else decoded once."""

        def build() -> Splits:
            stored = self.open()
            return self._splits(stored, _decoded(self.files.name, stored, quiet), Dataset.from_arrays)

        return cached(self.files, build, cache_folder(cache_dir))

    def stream(
        self, *, cache_dir: str | os.PathLike[str] | None, image_size: int | None, workers: int
    ) -> Splits:
        """Returns the data set with its images on disk; see `load_streamed`."""
        stored = self.open()
        readers = dict(zip(Splits._fields, stored.readers, strict=True))
        parts = tuple(indexed(self.files, readers, cache_folder(cache_dir)).values())
        make = functools.partial(StreamedDataset, workers=workers)
        return self._splits(stored, _encoded(stored, parts, image_size), make)

    def _splits(
        self, stored: StoredSplits, contents: Iterable[_Contents], make: Callable[..., Dataset]
    ) -> Splits:
        made: list[Dataset] = []
        for reader, (images, labels, ids, id_source) in zip(stored.readers, contents, strict=True):
            check_label_range(labels, len(stored.class_names), reader.name)
            known = made[0].normalization if made else stored.normalization
            (first,) = reader.records(np.arange(1))
            dataset = make(
                inputs=images,
                labels=labels,
                ids=ids,
                num_classes=len(stored.class_names),
                class_names=tuple(stored.class_names),
                name=self.files.name,
                split=reader.split,
                normalization=known or measure(images),
                id_source=id_source,
                encoding=encoding(first),
            )
            made.append(dataset)
        return Splits(*made)


def _decoded(name: str, stored: StoredSplits, quiet: bool) -> Iterator[_Contents]:
    channels = stored.channels
    if channels is None:
        channels = _channels(stored, [examine(r, Progress("", quiet=True)) for r in stored.readers])
    (first,) = stored.readers[0].records(np.arange(1))
    for reader in stored.readers:
        about = f"decoding {name} {reader.split} (once)"
        with Progress(about, len(reader), quiet=quiet) as progress:
            yield _decoded_split(reader, first, channels, progress)


def _decoded_split(reader: ImageReader, first: Record, channels: int, progress: Progress) -> _Contents:
    count, shape = len(reader), decode(first, channels).shape
    images, labels = np.empty((count, *shape), np.uint8), np.empty(count, np.int32)
    ids: list[str | int | None] = [None] * count

    def keep(row: int, record: Record) -> None:
        image = decode(record, channels)
        if image.shape != shape:
            raise different_sizes(first.name, shape, record.name, image.shape)
        images[row], labels[row], ids[row] = image, record.label, record.id

    read_all(reader, keep, progress)
    return images, labels, *reader.ids(ids)


def _encoded(stored: StoredSplits, parts: Sequence[Part], image_size: int | None) -> Iterator[_Contents]:
    channels = stored.channels or _channels(stored, parts)
    height, width = parts[0].sizes[0].tolist() if image_size is None else (image_size, image_size)
    for reader, part in zip(stored.readers, parts, strict=True):
        other = np.flatnonzero((part.sizes != (height, width)).any(axis=1))
        if len(other) and image_size is None:
            row = int(other[0])
            first, size = stored.readers[0].name(0), part.sizes[row].tolist()
            raise different_sizes(first, (height, width), reader.name(row), size)
        shape, rows = (height, width, channels), np.arange(len(part.labels))
        images = EncodedImages(reader, rows, part.digests, shape, resized=image_size is not None)
        yield images, part.labels, part.ids, str(part.id_source)


def _channels(stored: StoredSplits, parts: Sequence[Part]) -> int:
    """3 if any image is in colour, else 1."""
    for reader, part in zip(stored.readers, parts, strict=True):
        wrong = np.flatnonzero(~np.isin(part.modes, (*GREY, *COLOUR)))
        if len(wrong):
            raise InputError(
                f"image {reader.name(int(wrong[0]))} has Pillow mode {str(part.modes[wrong[0]])!r}; expected "
                "8 bits per channel: convert it"
            )
    return 3 if any(np.isin(part.modes, COLOUR).any() for part in parts) else 1
