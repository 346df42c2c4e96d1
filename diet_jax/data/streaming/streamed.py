"""Data sets larger than memory: labels and ids are held, images are decoded when they are asked for."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diet_jax.data.dataset import (
    Dataset,
    Normalization,
    Splits,
    fingerprint,
    statistics_of_counts,
    value_counts,
)
from diet_jax.data.sources.cache import Source as Files
from diet_jax.data.sources.cache import cache_folder
from diet_jax.data.sources.decode import different_sizes
from diet_jax.data.sources.folder import (
    COLOUR,
    GREY,
    ID_SOURCE,
    ImageFile,
    find_cinic10,
    find_classes,
    find_files,
    wrong_mode,
)
from diet_jax.data.sources.names import PAPER_NORMALIZATIONS, parse_name
from diet_jax.data.sources.prepared import image_and_label, named, plain_id, prepared_source, test_split_of
from diet_jax.data.streaming.encoded import EncodedImages, FolderSource, RecordSource, Source
from diet_jax.data.streaming.index import Part, Read, Record, chunks, indexed
from diet_jax.data.streaming.reading import check_grain, read_ahead
from diet_jax.errors import InputError
from diet_jax.types import Examples

IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""The usual constants of ImageNet, in units of 8-bit pixels."""

MEASURED_PIXELS = 2**28
"""Normalisation is measured on evenly spaced rows with about so many pixels, or on the whole train split."""


@dataclass(frozen=True, eq=False)
class StreamedDataset(Dataset):
    """A `Dataset` whose images stay encoded on disk.

    `images[rows]` decodes these rows; everything else is in memory. Where a function needs all images on the
    device at once it raises InputError.

    Attributes:
        images: `EncodedImages`, with the shape, dtype and row indexing of uint8 `[n h w ch]`.
        fingerprint: SHA-256 of the image shape, the labels, the ids and a hash of each image's encoded bytes.
            It is not that of the same dataset in memory, which covers the decoded pixels.
        workers: processes that decode while a network computes; 0 decodes in threads.
    """

    images: Any
    workers: int = 0
    streamed: ClassVar[bool] = True

    def examples(self) -> Examples:
        """Raises InputError: the images are not to be held at once."""
        return Examples(np.asarray(self.images), *(np.zeros(0),) * 3)  # type: ignore[arg-type]

    def read_batches(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the stored images of each batch of rows, reading ahead."""
        return read_ahead(self.images, list(batches), workers=self.workers)

    def take(self, rows: np.ndarray) -> "StreamedDataset":
        """Returns a dataset of some rows, still on disk; they keep ids and normalisation."""
        return _dataset(self, self.images.take(rows), self.labels[rows], self.ids[rows])

    def with_labels(self, labels: np.ndarray) -> "StreamedDataset":
        """Returns the dataset with other labels, int32 `[n]` in range, and their fingerprint."""
        return _dataset(self, self.images, np.array(labels), self.ids)


def load_streamed(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    workers: int = 0,
) -> Splits:
    """Loads a data set by name whose images are decoded only when they are asked for.

    Rows, ids, labels and pixels are those of `load_dataset`. The first load reads every encoded image once,
    to hash it, and keeps an index in the cache folder; later loads look at names, sizes and times of files.

    Normalisation is the paper's for CIFAR-10, CIFAR-100 and CINIC-10, ImageNet's usual one for imagenet2012,
    else measured: on the whole train split up to 2**28 pixels, beyond that on evenly spaced rows with as
    many.

    Args:
        name: `folder:PATH`, `cinic10`, or a TFDS image classifier prepared in array_record format.
        data_dir: folder of prepared data sets; by default TFDS's own.
        cache_dir: folder of indexes; by default DIET_JAX_CACHE or the user's cache folder.
        image_size: cut images of any size to this height and width: the shorter side becomes 256/224 of it,
            then the centre is cut out. By default all images must have one size.
        workers: processes that decode; 0 decodes in threads of this process.

    Returns:
        The train and test split.

    Raises:
        InputError: the data is not on disk, is no image classification data set, or is embedded; images
            differ in size without `image_size`; Grain is not installed.

    Example:
        >>> import tempfile, pathlib, numpy as np
        >>> from PIL import Image
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for split in ("train", "test"):
        ...     for kind in ("cat", "dog"):
        ...         (root / split / kind).mkdir(parents=True)
        ...         Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(root / split / kind / "0.png")
        >>> train = load_streamed(f"folder:{root}", cache_dir=root / "cache").train
        >>> train.images.shape, train.images[[1, 0]].shape
        ((2, 8, 9, 3), (2, 8, 9, 3))
    """
    check_grain()
    if image_size is not None and image_size < 1:
        raise InputError(f"image_size must be at least 1, got {image_size}")
    if workers < 0:
        raise InputError(f"workers must be at least 0, got {workers}")
    options = {"image_size": image_size, "workers": workers}
    cache = cache_folder(cache_dir)
    if name == "digits":
        raise InputError("digits is embedded and small: it cannot be streamed; load it without streaming")
    if name.startswith("folder:"):
        root = Path(name.removeprefix("folder:")).expanduser().absolute()
        return _load_folder(root, f"folder:{root.name}", cache, None, options)
    if name == "cinic10":
        return _load_folder(find_cinic10(data_dir), name, cache, PAPER_NORMALIZATIONS[name], options)
    return _load_records(prepared_source(name, data_dir), cache, options)


def _load_folder(
    root: Path, name: str, cache: Path, known: Normalization | None, options: dict[str, Any]
) -> Splits:
    files = dict(zip(Splits._fields, find_files(root), strict=True))
    class_names = find_classes(root, files["train"], files["test"])
    place = {class_name: label for label, class_name in enumerate(class_names)}
    sources = {s: FolderSource(root, np.asarray([f.id for f in found])) for s, found in files.items()}

    def reader(found: list[ImageFile], source: FolderSource) -> Read:
        def read(rows: np.ndarray) -> list[Record]:
            return [
                Record(str(found[row].path), content, place[found[row].class_name], None)
                for row, content in zip(rows, source.read(rows), strict=True)
            ]

        return read

    splits = {s: (len(found), reader(found, sources[s])) for s, found in files.items()}
    parts = indexed(
        Files(name, root, [f.path for found in files.values() for f in found]),
        splits,
        lambda split, _: (sources[split].paths, ID_SOURCE),
        cache,
    )
    for split, part in parts.items():
        wrong = np.flatnonzero(~np.isin(part.modes, (*GREY, *COLOUR)))
        if len(wrong):
            raise wrong_mode(sources[split].name(int(wrong[0])), str(part.modes[wrong[0]]))
    channels = 3 if any(np.isin(part.modes, COLOUR).any() for part in parts.values()) else 1
    return _splits(
        parts,
        sources,
        ("train", "test"),
        channels,
        known,
        {"class_names": class_names, "name": name},
        options,
    )


def _load_records(files: Files, cache: Path, options: dict[str, Any]) -> Splits:
    import tensorflow_datasets as tfds

    name, directory = files.name, files.directory
    builder: Any = tfds.builder_from_directory(directory)
    used = ("train", test_split_of(builder, name))
    keys = image_and_label(builder, name)
    origin = f"TFDS {name} {builder.info.version}"
    sources = {
        s: RecordSource(directory, name, split, keys) for s, split in zip(Splits._fields, used, strict=True)
    }

    def reader(source: RecordSource) -> Read:
        def read(rows: np.ndarray) -> list[Record]:
            return [
                Record(source.name(int(row)), r[keys[0]], int(r[keys[1]]), plain_id(r.get("id")))
                for row, r in zip(rows, source.records(rows), strict=True)
            ]

        return read

    def finish(split: str, ids: list[str | int | None]) -> tuple[np.ndarray, str]:
        return named(ids, sources[split].split, origin)

    parts = indexed(files, {s: (len(source), reader(source)) for s, source in sources.items()}, finish, cache)
    features = builder.info.features
    dataset = parse_name(name).dataset
    known = IMAGENET if dataset == "imagenet2012" else PAPER_NORMALIZATIONS.get(name)
    return _splits(
        parts,
        sources,
        used,
        features[keys[0]].shape[-1] or 3,
        known,
        {"class_names": features[keys[1]].names, "name": name},
        options,
    )


def _splits(
    parts: dict[str, Part],
    sources: Any,
    names: tuple[str, str],
    channels: int,
    known: Normalization | None,
    about: dict[str, Any],
    options: dict[str, Any],
) -> Splits:
    size = options["image_size"]
    height, width = (int(v) for v in parts["train"].sizes[0]) if size is None else (size, size)
    for split, part in parts.items() if size is None else ():
        _check_sizes(sources["train"], (height, width), sources[split], part)
    num_classes = len(about["class_names"])
    for split, part in parts.items():
        wrong = np.flatnonzero((part.labels < 0) | (part.labels >= num_classes))
        if len(wrong):
            raise InputError(
                f"labels must lie in 0..{num_classes - 1}: {sources[split].name(int(wrong[0]))} has label "
                f"{part.labels[wrong[0]]}, {len(wrong)} of {len(part.labels)} are outside; is it labelled?"
            )
    made: list[StreamedDataset] = []
    for (split, part), split_name in zip(parts.items(), names, strict=True):
        images = EncodedImages(
            sources[split],
            np.arange(len(part.labels)),
            part.digests,
            (height, width, channels),
            resized=size is not None,
        )
        blank = StreamedDataset(
            images=images,
            labels=part.labels,
            ids=part.ids,
            num_classes=num_classes,
            class_names=tuple(about["class_names"]),
            name=about["name"],
            split=split_name,
            normalization=made[0].normalization if made else known or measure(images),
            id_source=str(part.id_source),
            fingerprint="",
            workers=options["workers"],
        )
        made.append(_dataset(blank, images, part.labels, part.ids))
    return Splits(*made)


def measure(images: EncodedImages) -> Normalization:
    """Measures the normalisation on all rows, or on evenly spaced ones with about `MEASURED_PIXELS`."""
    per_image = int(np.prod(images.shape[1:3]))
    count = min(len(images), max(1, MEASURED_PIXELS // per_image))
    rows = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
    batches = list(chunks(rows, max(1, 2**24 // (per_image * images.shape[3]))))
    counts = np.zeros((images.shape[3], 256), np.int64)
    for batch in read_ahead(images, batches):
        counts += value_counts(batch)
    return statistics_of_counts(counts)


def _dataset(
    like: StreamedDataset, images: EncodedImages, labels: np.ndarray, ids: np.ndarray
) -> StreamedDataset:
    """The same dataset of other rows or labels, with the fingerprint that belongs to them."""
    content = hashlib.sha256(repr((images.shape, images.resized)).encode() + images.digests.tobytes())
    hashed = np.frombuffer(content.digest(), np.uint8)
    for array in (labels, ids):
        array.flags.writeable = False
    return dataclasses.replace(
        like, images=images, labels=labels, ids=ids, fingerprint=fingerprint(hashed, labels, ids)
    )


def _check_sizes(first: Source, wanted: tuple[int, int], source: Source, part: Part) -> None:
    other = np.flatnonzero((part.sizes != wanted).any(axis=1))
    if len(other):
        size = tuple(int(v) for v in part.sizes[other[0]])
        error = different_sizes(first.name(0), wanted, source.name(int(other[0])), size)
        raise error
