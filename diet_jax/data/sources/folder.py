"""Image folders: train/CLASS/*.png and test/CLASS/*.png."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.cache import SourceFiles
from diet_jax.data.dataset import Splits
from diet_jax.data.kinds import Normalization
from diet_jax.data.reader import Record
from diet_jax.data.sources.source import SOURCES, Source
from diet_jax.data.stored import StoredDataset, StoredSplits
from diet_jax.errors import InputError

_SUFFIXES = (".png", ".jpg", ".jpeg")
_VALIDATION = ("valid", "validation", "val")


@dataclass(frozen=True, eq=False)
class FolderReader:
    """The image files of one split."""

    split: str
    root: Path
    paths: np.ndarray
    """Relative to the root, `[n]`; they are the ids."""
    labels: np.ndarray
    """int `[n]`."""

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, number: int) -> str:
        """Returns the path of an image."""
        return str(self.root / str(self.paths[number]))

    def records(self, numbers: np.ndarray) -> list[Record]:
        """Reads some files."""
        found = []
        for number in numbers.tolist():
            name = self.name(number)
            try:
                content = Path(name).read_bytes()
            except OSError as error:
                raise InputError(
                    f"cannot read image {name}: {error.strerror or error}; restore it, or load the dataset "
                    "again without it"
                ) from error
            found.append(Record(name, content, int(self.labels[number]), str(self.paths[number])))
        return found

    def ids(self, given: list[str | int | None]) -> tuple[np.ndarray, str]:
        """Returns the relative paths."""
        return self.paths, "path relative to the image folder"


def load_folder(path: str, *, data_dir: Any = None, **options: Any) -> Splits:
    """Loads the image folders `train/CLASS` and `test/CLASS` under a path.

    A folder `valid`, `validation` or `val` beside them joins the train split. Ids are relative paths such as
    `train/cat/0001.png`, in sorted order; classes are the sorted folder names. Grey images become colour
    where any image is in colour.

    Raises:
        InputError: a folder is missing or empty, the splits have different classes, an image is damaged, or
            images differ in size.
    """
    return _stored(path).load(**options)


def stream_folder(path: str, *, data_dir: Any = None, **options: Any) -> Splits:
    """Loads the same with its images on disk."""
    return _stored(path).stream(**options)


SOURCES.register(
    Source(
        name="folder",
        argument="PATH",
        about="image folders of your own, train/CLASS/*.png (or jpg) and test/CLASS/*.png",
        load=load_folder,
        stream=stream_folder,
    )
)


def _stored(path: str) -> StoredDataset:
    root = Path(path).expanduser().absolute()
    return stored_folder(root, f"folder:{root.name}")


def stored_folder(root: Path, name: str, normalization: Normalization | None = None) -> StoredDataset:
    """Returns the data set in the folders `train`, `test` and, if there is one, that of validation.

    Raises:
        InputError: a folder is missing or empty.
    """
    missing = [split for split in Splits._fields if not (root / split).is_dir()]
    if missing:
        raise InputError(
            f"folder {root} must hold train/CLASS/*.png and test/CLASS/*.png; there is no folder "
            f"{' and no folder '.join(missing)} in it"
        )
    folders = {"train": ("train", *(v for v in _VALIDATION if (root / v).is_dir())), "test": ("test",)}
    paths = {split: sorted(p for f in found for p in _images(root, f)) for split, found in folders.items()}

    def open_splits() -> StoredSplits:
        class_names = _class_names(root, *paths.values())
        label_of = {class_name: label for label, class_name in enumerate(class_names)}
        train, test = (
            FolderReader(split, root, np.asarray(found), np.asarray([label_of[_class_of(p)] for p in found]))
            for split, found in paths.items()
        )
        return StoredSplits((train, test), class_names, channels=None, normalization=normalization)

    return StoredDataset(SourceFiles(name, root, [root / p for f in paths.values() for p in f]), open_splits)


def _images(root: Path, split: str) -> Iterable[str]:
    """Yields paths such as train/cat/0001.png."""
    folders = [f for f in (root / split).iterdir() if f.is_dir() and not f.name.startswith(".")]
    if not folders:
        raise InputError(f"folder {root / split} holds no class folders; expected {split}/CLASS/*.png")
    for folder in folders:
        files = [f for f in folder.iterdir() if f.suffix.lower() in _SUFFIXES and not f.name.startswith(".")]
        if not files:
            raise InputError(
                f"class folder {folder} holds no image ({', '.join(_SUFFIXES)}); fill or remove it"
            )
        yield from (f"{split}/{folder.name}/{file.name}" for file in files)


def _class_of(path: str) -> str:
    return path.split("/")[1]


def _class_names(root: Path, train: Sequence[str], test: Sequence[str]) -> list[str]:
    """The sorted class names, which must be those of both splits."""
    train_names, test_names = ({_class_of(path) for path in paths} for paths in (train, test))
    if train_names != test_names:
        raise InputError(
            f"train and test in {root} must have the same class folders: train has {len(train_names)}, "
            f"test has {len(test_names)}; only in train: {sorted(train_names - test_names)[:5]}, "
            f"only in test: {sorted(test_names - train_names)[:5]}"
        )
    return sorted(train_names)
