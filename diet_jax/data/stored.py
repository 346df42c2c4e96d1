"""Data sets that lie on disk as encoded images: decoded once and held, or decoded when asked for."""

import contextlib
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
from diet_jax.data.decode import (
    ALPHA,
    COLOUR,
    GREY,
    DamagedImageError,
    decode,
    different_sizes,
    encoding,
)
from diet_jax.data.image_files import named, printable
from diet_jax.data.kinds import Normalization
from diet_jax.data.reader import ImageReader, Record, read_all
from diet_jax.data.remarks import remarks
from diet_jax.data.streaming.encoded import EncodedImages
from diet_jax.data.streaming.index import Part, examine, indexed
from diet_jax.data.streaming.streamed import StreamedDataset, measure
from diet_jax.devices.progress import Progress, say
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
        notes: lines to say whenever it is loaded, such as what was left out.
    """

    files: SourceFiles
    open: Callable[[], StoredSplits]
    notes: Sequence[str] = ()

    def load(self, *, cache_dir: str | os.PathLike[str] | None, quiet: bool) -> Splits:
        """Returns the data set in memory: its decoded copy, or else decoded once."""

        self._say(self.notes)
        found: list[str] = []

        def build() -> Splits:
            stored, unseen = self.open(), Progress("", quiet=True)
            with _every_damaged_image_named(self.files.name, stored, quiet):
                parts = [examine(r, unseen) for r in stored.readers] if stored.channels is None else None
                channels = stored.channels or _channels(stored, parts or ())
                contents = _decoded(self.files.name, stored, channels, quiet)
                splits = self._splits(stored, contents, Dataset.from_arrays)
            found.extend(_remarks(stored, parts, splits))
            return splits

        splits = cached(self.files, build, cache_folder(cache_dir), found)
        self._say(found)
        return splits

    def stream(
        self, *, cache_dir: str | os.PathLike[str] | None, image_size: int | None, workers: int
    ) -> Splits:
        """Returns the data set with its images on disk; see `load_streamed`."""
        self._say(self.notes)
        stored = self.open()
        readers = dict(zip(Splits._fields, stored.readers, strict=True))
        make = functools.partial(StreamedDataset, workers=workers)
        with _every_damaged_image_named(self.files.name, stored, quiet=False):
            parts = tuple(indexed(self.files, readers, cache_folder(cache_dir)).values())
            splits = self._splits(stored, _encoded(stored, parts, image_size), make)
        self._say(_remarks(stored, parts, splits))
        return splits

    def _say(self, lines: Iterable[str]) -> None:
        """Says what is no progress, and so is said to those too who want none shown."""
        for line in lines:
            say(f"{self.files.name}: {line}")

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


def _remarks(stored: StoredSplits, parts: Sequence[Part] | None, splits: Splits) -> list[str]:
    """What is odd about pictures; of published data sets it is known."""
    background = stored.readers[0].background
    return [] if parts is None or background is None else remarks(parts, splits, background)


@contextlib.contextmanager
def _every_damaged_image_named(name: str, stored: StoredSplits, quiet: bool) -> Iterator[None]:
    """Where one image is damaged, looks through all of them: they are to be mended in one go."""
    try:
        yield
    except DamagedImageError as error:
        damaged: list[DamagedImageError] = []
        for reader in stored.readers:
            about = f"looking for damaged images of {name} {reader.split}"
            with Progress(about, len(reader), quiet=quiet, brief=True) as progress:
                read_all(reader, functools.partial(_try, reader, damaged), progress)
        if len(damaged) < 2:
            raise
        listed = named(f"{e.name} ({e.reason})" for e in sorted(damaged, key=lambda e: e.name))
        raise InputError(
            f"{len(damaged):,} images are damaged or no images: {listed}; repair or remove them"
        ) from error


def _try(reader: ImageReader, damaged: list[DamagedImageError], _: int, record: Record) -> None:
    try:
        decode(record, 3, background=reader.background)
    except DamagedImageError as error:
        damaged.append(error)


def _decoded(name: str, stored: StoredSplits, channels: int, quiet: bool) -> Iterator[_Contents]:
    (first,) = stored.readers[0].records(np.arange(1))
    for reader in stored.readers:
        about = f"decoding {name} {reader.split} (once)"
        with Progress(about, len(reader), quiet=quiet, brief=True) as progress:
            yield _decoded_split(reader, first, channels, progress)


def _decoded_split(reader: ImageReader, first: Record, channels: int, progress: Progress) -> _Contents:
    count, shape = len(reader), decode(first, channels, background=reader.background).shape
    try:
        images, labels = np.empty((count, *shape), np.uint8), np.empty(count, np.int32)
    except MemoryError as error:
        raise InputError(
            f"{count:,} images as large as {printable(first.name)}, {shape[0]}x{shape[1]} (height x width), "
            "do not fit in memory; leave them on disk: load_streamed, --data.streaming"
        ) from error
    ids: list[str | int | None] = [None] * count

    def keep(row: int, record: Record) -> None:
        image = decode(record, channels, background=reader.background)
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
    """3 if any image or the background of transparent ones is in colour, else 1."""
    wrong = [
        f"{reader.name(row)} (Pillow mode {str(part.modes[row])!r})"
        for reader, part in zip(stored.readers, parts, strict=True)
        for row in np.flatnonzero(~np.isin(part.modes, (*GREY, *COLOUR))).tolist()
    ]
    if wrong:
        raise InputError(
            f"pixels must have 8 or 16 bits per channel, those of {len(wrong):,} images have another range: "
            f"{named(wrong)}; convert them"
        )
    tinted = len(set(stored.readers[0].background or (0,))) > 1
    coloured = any(
        np.isin(part.modes, COLOUR).any() or (tinted and (part.traits & ALPHA).any()) for part in parts
    )
    return 3 if coloured else 1
