"""Where TensorFlow Datasets prepared a data set, found without importing it."""

import importlib.util
import os
import re
from pathlib import Path

from diet_jax.data.cache import SourceFiles
from diet_jax.data.sources.tfds.metadata import read_info
from diet_jax.data.sources.tfds.names import PREPARABLE, not_prepared, parse_name, tensorflow_route
from diet_jax.data.stored import data_folder
from diet_jax.errors import InputError


def prepared_files(name: str, data_dir: str | os.PathLike[str] | None) -> SourceFiles:
    """Returns the name, folder and files of a prepared data set that can be read here.

    Raises:
        InputError: it is unknown or not prepared, or in another format.
    """
    folder = data_folder(data_dir)
    directory = find_prepared(name, folder)
    if directory is None:
        raise not_prepared(name, folder)
    check_readable(directory)
    dataset_name = directory.parent.relative_to(folder).as_posix()
    return SourceFiles(dataset_name, directory, sorted(f for f in directory.iterdir() if f.is_file()))


def find_prepared(name: str, folder: Path) -> Path | None:
    """Returns the folder of the newest prepared version of a data set, or None.

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
    info = read_info(directory)
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
