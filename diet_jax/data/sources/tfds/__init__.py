"""TensorFlow Datasets: image classifiers in array_record format, read without TensorFlow."""

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.dataset import Splits
from diet_jax.data.decode import GREY, MODES, header
from diet_jax.data.image_files import as_text
from diet_jax.data.kinds import Normalization
from diet_jax.data.published import IMAGENET, PAPER_NORMALIZATIONS
from diet_jax.data.reader import Record
from diet_jax.data.sources.source import SOURCES, Source
from diet_jax.data.sources.tfds.metadata import (
    FEATURES,
    INFO,
    check_records,
    damaged,
    labels_file,
    open_builder,
    shard_files,
)
from diet_jax.data.sources.tfds.names import PREPARABLE
from diet_jax.data.sources.tfds.prepare import prepare_tfds
from diet_jax.data.sources.tfds.prepared import prepared_files
from diet_jax.data.stored import StoredDataset, StoredSplits
from diet_jax.errors import InputError, counted


def _is_not_about_group_size(record: logging.LogRecord) -> bool:
    return "group size" not in record.getMessage()


class RecordReader:
    """The images of one split that TFDS wrote."""

    background: None = None

    def __init__(
        self, directory: Path, dataset: str, split: str, keys: tuple[str, str], num_classes: int
    ) -> None:
        self.directory, self.dataset, self.split, self.keys = directory, dataset, split, keys
        self.num_classes = num_classes

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_opened"}

    @functools.cached_property
    def _opened(self) -> Any:
        import tensorflow_datasets as tfds

        # One error line for each file that is not written one record at a time; they are read all the same.
        logging.getLogger("absl").addFilter(_is_not_about_group_size)
        builder = open_builder(self.directory)
        decoders = {self.keys[0]: tfds.decode.SkipDecoding()}
        return builder.as_data_source(split=self.split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._opened)

    def name(self, number: int) -> str:
        """Returns the row, data set and split of an image."""
        return f"{number} of {self.dataset} {self.split}"

    def records(self, numbers: np.ndarray) -> list[Record]:
        """Reads some records."""
        rows = numbers.tolist()
        try:
            return self._records(rows)
        except Exception as error:  # array_record raises RuntimeError, ValueError, IndexError and more
            if isinstance(error, InputError):
                raise
            raise self._damaged(rows, error) from error

    def _records(self, rows: list[int]) -> list[Record]:
        image, label = self.keys
        found = self._opened.__getitems__(rows)
        # What a truncated file lacks comes back empty.
        if any(record[key] is None for record in found for key in self.keys):
            raise ValueError("a record is empty")
        records = [
            Record(self.name(row), record[image], int(record[label]), _plain_id(record.get("id")))
            for row, record in zip(rows, found, strict=True)
        ]
        for record in records:
            if record.label >= self.num_classes:
                classes = counted(self.num_classes, "class")
                what = f"it gives {classes}, the label of {record.name} is {record.label}"
                names = labels_file(self.directory, label)
                raise damaged(names if names.exists() else self.directory / FEATURES, what)
        return records

    def _damaged(self, rows: list[int], error: Exception) -> InputError:
        """The error for rows that cannot be read: it names the first file that cannot."""
        opened, start = self._opened, 0
        info = opened.dataset_info.splits[self.split]
        for file, length in zip(shard_files(info), info.shard_lengths, strict=True):
            for row in rows:
                if start <= row < start + length:
                    try:
                        self._records([row])
                    except InputError as found:
                        return found
                    except Exception as found:
                        return damaged(file, f"record {row - start}: {found}")
            start += length
        return damaged(self.directory, error)

    def ids(self, given: list[str | int | None]) -> tuple[np.ndarray, str]:
        """Returns the ids that all records came with, or positions where they have none."""
        origin = f"TFDS {self.dataset} {self.directory.name}"
        # Text ends at its last character that is not NUL in an array.
        if None not in given and len(np.unique(ids := np.asarray(given))) == len(given):
            return ids, f"the id feature of {origin}"
        positions = [f"{self.split}_{i:05d}" for i in range(len(given))]
        return np.asarray(positions), f"position in the prepared files of {origin}, which has no ids"


def stored_records(
    name: str, data_dir: str | os.PathLike[str] | None, normalizations: Mapping[str, Normalization]
) -> StoredDataset:
    """Returns a prepared data set that can be read here.

    Raises:
        InputError: it is unknown or not prepared, or in another format.
    """
    files = prepared_files(name, data_dir)

    def open_splits() -> StoredSplits:
        builder, directory = open_builder(files.directory), files.directory
        splits = ("train", _test_split(builder, files.name, directory / INFO))
        keys = image_key, label_key = _image_and_label(builder, files.name, directory / FEATURES)
        check_records(directory, builder, splits)
        features = builder.info.features
        class_names = features[label_key].names
        train, test = (RecordReader(directory, files.name, split, keys, len(class_names)) for split in splits)
        shape = features[image_key].shape
        for reader in (train, test):
            _check_channels(reader, shape)
        return StoredSplits(
            (train, test),
            class_names=class_names,
            channels=shape[-1] or 3,
            normalization=normalizations.get(files.name),
        )

    return StoredDataset(files, open_splits)


def load_tfds(name: str, *, data_dir: str | os.PathLike[str] | None, **options: Any) -> Splits:
    """Loads an image classifier: its train split, and its test split or, without one, its validation split.

    Raises:
        InputError: unknown or not prepared, not in array_record format, no image classifier, without a train
            or test split, or of images of different sizes.
    """
    return stored_records(name, data_dir, PAPER_NORMALIZATIONS).load(**options)


def stream_tfds(name: str, *, data_dir: str | os.PathLike[str] | None, **options: Any) -> Splits:
    """Loads the same with its images on disk."""
    return stored_records(name, data_dir, {**PAPER_NORMALIZATIONS, "imagenet2012": IMAGENET}).stream(
        **options
    )


SOURCES.register(
    Source(
        name="tfds",
        argument="NAME",
        about="any image classifier of TensorFlow Datasets (tfds: can be left out), prepared in array_record "
        f"format, such as emnist/balanced or mnist:3.0.1; diet-jax prepare makes {', '.join(PREPARABLE)}",
        load=load_tfds,
        stream=stream_tfds,
        prepare=prepare_tfds,
    )
)


def _test_split(builder: Any, name: str, path: Path) -> str:
    """The split to judge on, after checking that there is one to train on."""
    splits = builder.info.splits
    filled = [split for split in splits if splits[split].num_examples]
    test_split = next((split for split in ("test", "validation") if split in filled), None)
    if "train" not in filled or test_split is None:
        raise InputError(
            f"dataset {name!r} needs a split 'train' and a split 'test' or 'validation'; it has "
            f"{sorted(filled)} ({path}). Build the splits yourself with Dataset.from_arrays"
        )
    return test_split


def _image_and_label(builder: Any, name: str, path: Path) -> tuple[str, str]:
    """The names of the image and the label feature of an image classifier."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    top: dict[str, Any] = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}

    def choose(kind: type, usual: str) -> str:
        keys = [key for key, feature in top.items() if isinstance(feature, kind)]
        preferred = [key for key in (*(builder.info.supervised_keys or ()), usual) if key in keys]
        if not preferred and len(keys) != 1:
            raise InputError(
                f"dataset {name!r} is no image classifier: expected one {kind.__name__} feature, found "
                f"{len(keys)} among its features {sorted(top)} ({path}). Build a Dataset with "
                "Dataset.from_arrays"
            )
        return (preferred or keys)[0]

    image_key, label_key = choose(tfds.features.Image, "image"), choose(tfds.features.ClassLabel, "label")
    image = top[image_key]
    if image.np_dtype != np.uint8 or len(image.shape) != 3 or (image.shape[-1] or 3) not in MODES:
        raise InputError(
            f"dataset {name!r} has images of dtype {np.dtype(image.np_dtype)} and shape {image.shape} "
            f"({path}); expected 8-bit images with 1, 3 or 4 channels. Build a Dataset with "
            "Dataset.from_arrays"
        )
    return image_key, label_key


def _check_channels(reader: RecordReader, shape: tuple[int | None, ...]) -> None:
    """Raises InputError where the first image has other channels than TFDS gives all of them."""
    (first,) = reader.records(np.arange(1))
    mode = header(first, upright=False).mode
    channels = 1 if mode in GREY[:2] else 4 if mode == "RGBA" else 3
    # Files that were taken in as they are may be grey or transparent; arrays have what is declared.
    if channels != (shape[-1] or 3) and not (shape[-1] in (None, 3) and None in shape[:2]):
        raise damaged(
            reader.directory / FEATURES,
            f"it gives images {counted(shape[-1] or 3, 'channel')}, {first.name} has {channels} (Pillow mode "
            f"{mode!r})",
        )


def _plain_id(value: Any) -> str | int | None:
    """An id as a string or integer; bytes, str and 0-d arrays all occur."""
    value = value.item() if isinstance(value, np.ndarray | np.generic) and value.ndim == 0 else value
    if isinstance(value, bytes):
        return as_text(value.decode("utf-8", "surrogateescape"))
    return value if isinstance(value, str | int) else None
