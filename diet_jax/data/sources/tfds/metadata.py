"""What a prepared folder says of itself, checked before TFDS reads it: a folder is data, not code."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.image_files import named, printable
from diet_jax.errors import InputError

INFO, FEATURES = "dataset_info.json", "features.json"
_FORMATS = ("array_record", "bagz", "parquet", "riegeli", "tfrecord")
_TENSOR = "tensorflow_datasets.core.features.feature.Tensor"  # as earlier versions wrote it
_NAMES_OF_CLASSES = ("pythonClassName", "python_class_name", "type")
_CONTROLS = [chr(code) for code in (*range(9), 11, 12, *range(14, 32), 127)]
_MOST_RECORDS = 2**40
_MOST_CLASSES = 2**20


def damaged(path: Path, what: Any) -> InputError:
    """The error for a file that is not what TFDS wrote."""
    # Messages of TFDS and its readers have several lines.
    reason = " ".join(str(what).split())
    reason = reason if len(reason) <= 300 else f"{reason[:297]}..."
    return InputError(
        f"{path} is damaged: {printable(reason)}; restore it, or prepare the dataset again in another folder"
    )


def read_info(directory: Path) -> dict[str, Any]:
    """Returns dataset_info.json, in which name, format and splits are what they must be.

    Raises:
        InputError: they are not, or the file cannot be read.
    """
    path = directory / INFO
    info = _json_object(path)
    splits, file_format = info.get("splits"), info.get("fileFormat", "tfrecord")
    if not isinstance(info.get("name"), str) or not isinstance(info.get("version"), str):
        raise damaged(path, "it does not say the dataset's name and version")
    if file_format not in _FORMATS or ("fileFormat" not in info and any(_record_files(directory))):
        given = info.get("fileFormat")
        raise damaged(path, f"fileFormat is {given!r}, expected one of {', '.join(_FORMATS)}")
    if not isinstance(splits, list) or not all(isinstance(split, dict) for split in splits):
        raise damaged(path, "it has no list of splits")
    for split in splits:
        name, lengths = split.get("name"), split.get("shardLengths", [])
        template = split.get("filepathTemplate", "")
        if not isinstance(name, str) or not isinstance(template, str) or {*name, *template} & {"/", "\\"}:
            raise damaged(path, f"a split has the name {name!r} and the files {template!r}")
        if not isinstance(lengths, list) or not all(map(_is_count, lengths)):
            raise damaged(path, f"shardLengths of {name!r} are {lengths!r}, expected numbers of records")
    names = [split["name"] for split in splits]
    if len(set(names)) < len(names):
        raise damaged(path, f"splits occur twice among {names}")
    return info


def open_builder(directory: Path) -> Any:
    """Returns TFDS's builder of a prepared folder whose files agree.

    TFDS imports the module of every feature class that a folder names: only its own are let through.

    Raises:
        InputError: a file is damaged, names foreign code, or says something else than another one.
    """
    import tensorflow_datasets as tfds

    info, path = read_info(directory), directory / FEATURES
    features = _json_object(path)
    own = {f"{kind.__module__}.{kind.__qualname__}" for kind in _types(tfds.features)} | {_TENSOR}
    for place, content in ((path, features), (directory / INFO, info.get("features"))):
        if foreign := sorted({*_values(content, _NAMES_OF_CLASSES)} - own):
            raise InputError(
                f"{place} names {named(foreign)}, no feature class of TensorFlow Datasets: its code is not "
                "run. Restore the file, or build a Dataset with Dataset.from_arrays"
            )
    _check_features(directory, features)
    try:
        made: Any = tfds.features.FeatureConnector.from_config(str(directory))
        # Without names TFDS makes one for each class.
        counts = {name: getattr(f, "num_classes", 1) for name, f in getattr(made, "items", dict)()}
    except Exception as error:  # whatever Protocol Buffers and TFDS raise on what is not theirs
        raise damaged(path, error) from error
    for name, count in counts.items():
        if not 0 < (count or 0) <= _MOST_CLASSES:
            raise damaged(path, f"{name} has {count} classes, expected 1 to {_MOST_CLASSES:,}")
    try:
        builder: Any = tfds.builder_from_directory(str(directory))
        _ = builder.info.supervised_keys, [builder.info.splits[split["name"]] for split in info["splits"]]
    except Exception as error:
        raise damaged(directory / INFO, error) from error
    return builder


def check_records(directory: Path, builder: Any, used: tuple[str, ...]) -> None:
    """Raises InputError unless the record files are those of the splits, with the records that were written.

    Args:
        directory: of the prepared data set.
        builder: TFDS's.
        used: splits that will be read; files of others may be missing.
    """
    listed = set()
    for name in builder.info.splits:
        try:
            lengths = list(builder.info.splits[name].shard_lengths)
            shards = shard_files(builder.info.splits[name])
        except Exception as error:
            raise damaged(directory / INFO, error) from error
        listed |= set(shards)
        for shard, length in zip(shards, lengths, strict=True):
            if not shard.is_file() and (name in used or shard.exists()):
                raise damaged(shard, f"{INFO} lists it, and it is missing, or no regular file")
            if shard.is_file():
                _check_shard(directory, shard, length, set(builder.info.features or ()))
    if unlisted := sorted(set(_record_files(directory)) - listed):
        raise damaged(directory / INFO, f"no split has the files {named(file.name for file in unlisted)}")


def labels_file(directory: Path, feature: str) -> Path:
    """Returns where the names of the classes are, if they have any."""
    return directory / f"{feature}.labels.txt"


def shard_files(split: Any) -> list[Path]:
    """Returns the record files of one of TFDS's splits, in the order of its records."""
    return [Path(file) for file in split.filename_template.sharded_filepaths(len(split.shard_lengths))]


def _check_shard(directory: Path, shard: Path, length: int, keys: set[str]) -> None:
    from array_record.python.array_record_module import ArrayRecordReader
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        reader: Any = ArrayRecordReader(str(shard))
        try:
            count = reader.num_records()
            first = reader.read([0])[0] if count else b""
            example: Any = tf_example_pb2
            found = {key.split("/")[0] for key in example.Example.FromString(first).features.feature}
        finally:
            reader.close()
    except Exception as error:  # array_record raises RuntimeError, ValueError, IndexError and more
        raise damaged(shard, error) from error
    if count != length:
        raise InputError(
            f"{shard} has {count:,} records, {directory / INFO} says {length:,}: one of them is damaged; "
            "restore it, or prepare the dataset again in another folder"
        )
    if lacking := found - keys:
        raise damaged(directory / FEATURES, f"it lacks {named(sorted(lacking))}, which the records have")


def _check_features(directory: Path, features: dict[str, Any]) -> None:
    """Raises InputError where something lacks for which TFDS has a default, or asks TensorFlow."""
    path, listed = directory / FEATURES, features.get("featuresDict")
    for dtype in _values(features, ("dtype",)):
        try:
            np.dtype("str" if dtype == "string" else dtype)
        except TypeError as error:
            raise damaged(path, f"dtype {dtype!r} is none of NumPy") from error
    listed = listed.get("features") if isinstance(listed, dict) else None
    for name, feature in listed.items() if isinstance(listed, dict) else ():
        image = feature.get("image") if isinstance(feature, dict) else None
        shape = image.get("shape") if isinstance(image, dict) else None
        if image is not None and not (isinstance(shape, dict) and {"dtype"} <= image.keys() and shape):
            raise damaged(path, f"the image {name} has no dtype or no shape")
        names = labels_file(directory, name)
        if not names.exists():
            continue
        text = _text(names)
        if not text.endswith("\n") or not set(text).isdisjoint(_CONTROLS):
            raise damaged(names, "its last line has no end, or there are control characters in it")
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        if len(set(lines)) < (count := len(lines)):
            raise damaged(names, f"it has {count - len(set(lines))} names more than once")
        said = feature.get("classLabel") if isinstance(feature, dict) else None
        said = said.get("numClasses", count) if isinstance(said, dict) else count
        if str(said) != str(count):
            raise damaged(names, f"it has {count} names, {path} says {said} classes")


def _record_files(directory: Path) -> Iterator[Path]:
    return (file for file in directory.iterdir() if ".array_record-" in file.name)


def _is_count(value: Any) -> bool:
    # Protocol Buffers write 64-bit integers as text.
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < _MOST_RECORDS


def _types(module: Any) -> Iterator[type]:
    return (value for value in vars(module).values() if isinstance(value, type))


def _values(value: Any, keys: tuple[str, ...]) -> Iterator[str]:
    """Yields all texts under some keys, also in JSON within JSON."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str) and key in keys:
                yield inner
            else:
                yield from _values(inner, keys)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, keys)
    elif isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):  # a description, which may look so
            return
        yield from _values(inner, keys)


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, f"it is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise damaged(path, f"expected a JSON object, got {type(content).__name__}")
    return content


def _text(path: Path) -> str:
    if not path.is_file():  # a pipe would be waited for
        raise damaged(path, "it is missing, or no regular file")
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; repair it") from error
    except UnicodeDecodeError as error:
        raise damaged(path, "it is not UTF-8") from error
