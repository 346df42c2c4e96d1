"""Data sets that TensorFlow Datasets wrote in array_record format, read without TensorFlow."""

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.dataset import Dataset, Splits
from diet_jax.data.sources.cache import Source, cached
from diet_jax.data.sources.decode import MODES, decode_images
from diet_jax.data.sources.names import (
    PAPER_NORMALIZATIONS,
    PREPARABLE,
    data_folder,
    not_prepared,
    parse_name,
    tensorflow_route,
    tfds_names,
    unknown_name,
)
from diet_jax.data.streaming.encoded import RecordSource
from diet_jax.devices.progress import Progress
from diet_jax.errors import InputError

_READ = 1024  # records of one read


def load_prepared(
    name: str, data_dir: str | os.PathLike[str] | None, cache: Path, *, quiet: bool = False
) -> Splits:
    """Loads a prepared TFDS image classifier.

    Args:
        name: TFDS name: `name`, `name/config`, `name:version` or `name/config:version`.
        data_dir: folder of prepared data sets; by default TFDS's own.
        cache: folder of decoded copies.
        quiet: show no progress.

    Returns:
        Its train split, and its test split or, without one, its validation split.

    Raises:
        InputError: unknown or not prepared, not in array_record format, no image classifier, without a train
            or test split, or of images of different sizes.
    """
    source = prepared_source(name, data_dir)
    return cached(source, lambda: _read(source.name, source.directory, quiet), cache)


def prepared_source(name: str, data_dir: str | os.PathLike[str] | None) -> Source:
    """Returns the name, folder and files of a prepared data set that can be read here."""
    folder = data_folder(data_dir)
    directory = find_prepared(name, folder)
    if directory is None:
        parsed = parse_name(name)
        raise not_prepared(parsed, folder) if parsed.dataset in tfds_names() else unknown_name(name)
    check_readable(directory)
    dataset_name = directory.parent.relative_to(folder).as_posix()
    return Source(dataset_name, directory, sorted(f for f in directory.iterdir() if f.is_file()))


def find_prepared(name: str, folder: Path) -> Path | None:
    """Finds the newest prepared version of a data set, without importing TFDS.

    Args:
        name: TFDS name.
        folder: folder of prepared data sets.

    Returns:
        The folder of the version, or None.

    Raises:
        InputError: the name has several prepared configs and names none of them.
    """
    dataset, config, version = parse_name(name)
    base = folder / dataset / (config or "")
    versions = _versions(base)
    if not versions and config is None and base.is_dir():
        configs = {
            sub.name: found for sub in sorted(base.iterdir()) if sub.is_dir() and (found := _versions(sub))
        }
        if len(configs) > 1:
            choices = ", ".join(f"{dataset}/{c}" for c in configs)
            raise InputError(f"name {name!r} has several prepared configs in {base}: name one of {choices}")
        versions = next(iter(configs.values()), {})
    if version is not None:
        return versions.get(tuple(int(v) if v.isdigit() else -1 for v in version.split(".")))
    return versions[max(versions)] if versions else None


def check_readable(directory: Path) -> None:
    """Raises InputError unless a prepared data set is in array_record format and that can be read here."""
    info = json.loads((directory / "dataset_info.json").read_text(encoding="utf-8"))
    file_format = info.get("fileFormat", "tfrecord")
    if file_format != "array_record":
        name, other = info["name"], directory.parent.parent / "array_record"
        if name in PREPARABLE:
            remedy = f"diet-jax prepare {name} --data-dir {other}"
        else:
            remedy = tensorflow_route(name, other)
        raise InputError(
            f"{directory} is in {file_format} format, which only TensorFlow reads; expected array_record. "
            f"Prepare it again in another folder, and give that as data_dir: {remedy}"
        )
    if importlib.util.find_spec("array_record") is None:
        raise InputError(
            f"{directory} needs the package array_record (pip install array_record), for Linux and macOS; "
            "'digits' and 'folder:PATH' need nothing"
        )


def _versions(base: Path) -> dict[tuple[int, ...], Path]:
    if not base.is_dir():
        return {}
    return {
        tuple(int(part) for part in sub.name.split(".")): sub
        for sub in base.iterdir()
        if re.fullmatch(r"\d+\.\d+\.\d+", sub.name) and (sub / "dataset_info.json").is_file()
    }


def _read(name: str, directory: Path, quiet: bool) -> Splits:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(directory)
    test_split = test_split_of(builder, name)
    train = _read_split(builder, name, "train", None, quiet)
    return Splits(train, _read_split(builder, name, test_split, train, quiet))


def test_split_of(builder: Any, name: str) -> str:
    """Returns the split to judge on, after checking that there is one to train on."""
    splits = builder.info.splits
    filled = [split for split in splits if splits[split].num_examples]
    test_split = next((split for split in ("test", "validation") if split in filled), None)
    if "train" not in filled or test_split is None:
        raise InputError(
            f"dataset {name!r} needs a split 'train' and a split 'test' or 'validation'; it has "
            f"{sorted(filled)}. Build the splits yourself with Dataset.from_arrays"
        )
    return test_split


def _read_split(builder: Any, name: str, split: str, train: Dataset | None, quiet: bool) -> Dataset:

    image_key, label_key = image_and_label(builder, name)
    features = builder.info.features
    source = RecordSource(Path(builder.data_path), name, split, (image_key, label_key))
    labels: list[int] = []
    ids: list[str | int | None] = []

    def encoded() -> Iterator[tuple[str, bytes]]:
        for start in range(0, len(source), _READ):
            for row in source.records(np.arange(start, min(start + _READ, len(source)))):
                labels.append(int(row[label_key]))
                ids.append(plain_id(row.get("id")))
                yield f"{len(labels) - 1} of {name} {split}", row[image_key]

    channels = features[image_key].shape[-1] or 3
    with Progress(f"decoding {name} {split} (once)", len(source), quiet=quiet) as progress:
        images = decode_images(encoded(), len(source), channels, progress)
    ids_array, id_source = named(ids, split, f"TFDS {name} {builder.info.version}")
    normalization = train.normalization if train else PAPER_NORMALIZATIONS.get(name)
    return Dataset.from_arrays(
        images,
        np.asarray(labels),
        ids_array,
        class_names=features[label_key].names,
        name=name,
        split=split,
        normalization=normalization,
        id_source=id_source,
    )


def named(ids: list[str | int | None], split: str, source: str) -> tuple[np.ndarray, str]:
    """Returns the ids that records came with, or positions where they have none, and what they are."""
    if None not in ids and len(set(ids)) == len(ids):
        return np.asarray(ids), f"the id feature of {source}"
    positions = [f"{split}_{i:05d}" for i in range(len(ids))]
    return np.asarray(positions), f"position in the prepared files of {source}, which has no ids"


def image_and_label(builder: Any, name: str) -> tuple[str, str]:
    """Returns the names of the image and the label feature of an image classifier."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    top: dict[str, Any] = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}

    def choose(kind: type, usual: str) -> str:
        keys = [key for key, feature in top.items() if isinstance(feature, kind)]
        preferred = [key for key in (*(builder.info.supervised_keys or ()), usual) if key in keys]
        if not preferred and len(keys) != 1:
            raise InputError(
                f"dataset {name!r} is no image classifier: expected one {kind.__name__} feature, found "
                f"{len(keys)} among its features {sorted(top)}. Build a Dataset with Dataset.from_arrays"
            )
        return (preferred or keys)[0]

    image_key, label_key = choose(tfds.features.Image, "image"), choose(tfds.features.ClassLabel, "label")
    image = top[image_key]
    if image.np_dtype != np.uint8 or (image.shape[-1] or 3) not in MODES:
        raise InputError(
            f"dataset {name!r} has images of dtype {np.dtype(image.np_dtype)} and shape {image.shape}; "
            "expected 8-bit images with 1, 3 or 4 channels. Build a Dataset with Dataset.from_arrays"
        )
    return image_key, label_key


def plain_id(value: Any) -> str | int | None:
    """An id as a string or integer; bytes, str and 0-d arrays all occur."""
    value = value.item() if isinstance(value, np.ndarray | np.generic) and value.ndim == 0 else value
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str | int) else None
