"""Image folders: train/CLASS and test/CLASS, each with images at any depth."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.cache import SourceFiles
from diet_jax.data.dataset import Splits
from diet_jax.data.image_files import SUFFIXES, FoundFiles, as_text, find_images, named, printable
from diet_jax.data.kinds import Normalization
from diet_jax.data.reader import WHITE, Background, Record
from diet_jax.data.sources.source import SOURCES, Source
from diet_jax.data.stored import StoredDataset, StoredSplits
from diet_jax.devices.progress import say
from diet_jax.errors import InputError, NotHereError

_VALIDATION = ("valid", "validation", "val")


@dataclass(frozen=True, eq=False)
class FolderReader:
    """The image files of one split."""

    split: str
    root: Path
    paths: np.ndarray
    """Relative to the root, `[n]`."""
    labels: np.ndarray
    """int `[n]`."""
    background: Background

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
                    f"cannot read image {printable(name)}: {error.strerror or error}; restore it, or load "
                    "the dataset again without it"
                ) from error
            found.append(Record(name, content, int(self.labels[number]), as_text(str(self.paths[number]))))
        return found

    def ids(self, given: list[str | int | None]) -> tuple[np.ndarray, str]:
        """Returns the relative paths."""
        return np.asarray(given), "path relative to the image folder"


def load_folder(path: str, *, data_dir: Any = None, **options: Any) -> Splits:
    """Loads the images below the folders `train/CLASS` and `test/CLASS` of a path, at any depth.

    A folder `valid`, `validation` or `val` beside them joins the train split; without a folder `test` it is
    the test split. Links to files and folders are followed. Ids are relative paths such as
    `train/cat/0001.png`, in sorted order; classes are the sorted names of the class folders of both
    splits, and may be without images.

    Images are turned upright as their EXIF orientation says; of animated ones the first frame is read, of 16
    bits per channel the upper 8. Transparent ones are composed on white, or on the colour that follows the
    path, as in `folder:PATH,background=black` (or `#ff8000`). Grey images become colour where any image is in
    colour. What was left out or converted is said on stderr, also if no progress is to be shown.

    Raises:
        InputError: a folder is missing or without images, the splits share no class, images are damaged or
            differ in size, or a link leads nowhere.
    """
    _say_unused(data_dir)
    return _stored(path).load(**options)


def stream_folder(path: str, *, data_dir: Any = None, **options: Any) -> Splits:
    """Loads the same with its images on disk."""
    _say_unused(data_dir)
    return _stored(path).stream(**options)


def _say_unused(data_dir: Any) -> None:
    if data_dir is not None:
        say(f"data_dir {printable(str(data_dir))} is not used: folder:PATH says itself where the images are")


SOURCES.register(
    Source(
        name="folder",
        argument="PATH",
        about="image folders of your own, train/CLASS and test/CLASS (png, jpg, webp, bmp, tif, gif, pnm)",
        load=load_folder,
        stream=stream_folder,
    )
)


def _stored(path: str) -> StoredDataset:
    path, _, colour = path.partition(",background=")
    background = _background(colour) if colour else WHITE
    root = Path(path).expanduser().absolute()
    name = as_text(f"folder:{root.name}") + ("" if background == WHITE else f",background={colour}")
    return stored_folder(root, name, background=background)


def _background(colour: str) -> Background:
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(colour)[:3]
    except ValueError as error:
        raise InputError(
            f"background {colour!r} is no colour; give a name such as black or a number such as #ff8000: "
            "folder:PATH,background=COLOUR"
        ) from error
    return red, green, blue


def stored_folder(
    root: Path, name: str, normalization: Normalization | None = None, background: Background = WHITE
) -> StoredDataset:
    """Returns the data set in the folders `train`, `test` and, if there is one, that of validation.

    Raises:
        InputError: a folder is missing or without images, the splits share no class, or a link leads nowhere.
    """
    folders, notes = _split_folders(root)
    found = find_images(root, [folder for of_split in folders for folder in of_split])
    paths = [[p for p in found.images if p.split("/", 1)[0] in of_split] for of_split in folders]
    for of_split, images in zip(folders, paths, strict=True):
        if not images:
            raise _no_images(root, of_split[0], found)
    class_names = sorted({as_text(_class_of(folder)) for folder in found.class_folders})
    _check_common_class(root, paths)
    notes += found.remarks() + _alike(class_names) + _only_class(found.images)
    strange = sum(as_text(path) != path for path in found.images)
    if strange:
        names = "file name has" if strange == 1 else "file names have"
        notes.append(
            f"{strange:,} {names} bytes or controls that are no text: ids have \\xNN or \\uNNNN for them"
        )

    def open_splits() -> StoredSplits:
        label_of = {class_name: label for label, class_name in enumerate(class_names)}
        train, test = (
            FolderReader(
                of_split[0],
                root,
                np.asarray(images),
                np.asarray([label_of[as_text(_class_of(path))] for path in images]),
                background,
            )
            for of_split, images in zip(folders, paths, strict=True)
        )
        return StoredSplits((train, test), class_names, channels=None, normalization=normalization)

    files = [root / path for images in paths for path in images]
    facts = [*class_names, *found.links]
    return StoredDataset(SourceFiles(name, root, files, facts), open_splits, notes)


def _split_folders(root: Path) -> tuple[tuple[list[str], list[str]], list[str]]:
    """The folders of the train and of the test split, and what to say about them."""
    # By what is listed: disks that do not tell upper from lower case have Train under the name train too.
    listed = [path.name for path in root.iterdir()] if root.is_dir() else []
    there = {
        folder for folder in ("train", "test", *_VALIDATION) if folder in listed and (root / folder).is_dir()
    }
    places: dict[Path, str] = {}
    for folder in sorted(there):
        other = places.setdefault((root / folder).resolve(), folder)
        if other != folder:
            raise InputError(
                f"folders {other} and {folder} in {root} are one and the same by a link: networks would be "
                f"judged on what they were trained on; remove one"
            )
    validation = [folder for folder in _VALIDATION if folder in there]
    if {"train", "test"} <= there:
        joins = f"{' and '.join(validation)} joined the train split; the test split is test"
        return (["train", *validation], ["test"]), [joins] if validation else []
    if "train" in there and len(validation) == 1:
        return (["train"], validation), [f"the test split is {validation[0]}, as there is no folder test"]
    if "train" in there and validation:
        raise InputError(
            f"folder {root} holds {' and '.join(validation)} and no folder test; rename the one to judge on "
            "to test, and the others join train"
        )
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise NotHereError(
            f"folder {printable(str(root))} {what}; give a folder with train/CLASS and test/CLASS"
        )
    missing = [split for split in Splits._fields if split not in there]
    beside = [f"{name}/" for name in sorted(listed)]
    holds = f"; it holds {named(beside)}: rename them, or give the folder that has the two" if beside else ""
    raise InputError(
        f"folder {root} must hold train/CLASS and test/CLASS (or val, valid, validation) with images; there "
        f"is no folder {' and no folder '.join(missing)} in it{holds}"
    )


def _no_images(root: Path, split: str, found: FoundFiles) -> InputError:
    if not any(folder.startswith(f"{split}/") for folder in found.class_folders):
        what = f"holds no class folders; expected {split}/CLASS with images"
    else:
        what = f"holds no image in its class folders ({', '.join(SUFFIXES)}); fill them"
    return InputError(f"folder {root / split} {what}" + "".join(f"\n  {line}" for line in found.remarks()))


def _check_common_class(root: Path, paths: list[list[str]]) -> None:
    """Raises InputError where every class has images in one split only."""
    train, test = ({as_text(_class_of(path)) for path in images} for images in paths)
    if not train & test:
        raise InputError(
            f"train and test in {printable(str(root))} share no class: train has {named(sorted(train))}, "
            f"test has {named(sorted(test))}; give each split one folder for each class, with the same names"
        )


def _alike(class_names: list[str]) -> list[str]:
    """What to say of classes whose names differ in case and spaces only."""
    alike: dict[str, list[str]] = {}
    for name in class_names:
        plain = " ".join(unicodedata.normalize("NFKC", name).split()).casefold()
        alike.setdefault(plain, []).append(repr(name))
    found = [" and ".join(names) for names in alike.values() if len(names) > 1]
    if not found:
        return []
    return [
        "warning: classes that differ in upper case, spaces or the form of their letters only: "
        f"{named(found)}; each is a class of its own"
    ]


def _only_class(images: list[str]) -> list[str]:
    """What to say where all images are of one class: often the classes are folders one deeper."""
    names = {_class_of(path) for path in images}
    if len(names) > 1:
        return []
    deeper = sorted({parts[2] for path in images if len(parts := path.split("/")) > 3})
    said = f"warning: all images are of one class, {as_text(names.pop())!r}: there is nothing to tell apart"
    if len(deeper) > 1:
        said += (
            f"; if {named(f'{name}/' for name in deeper)} in it are the classes, move them up, to "
            f"train/{as_text(deeper[0])}"
        )
    return [said]


def _class_of(path: str) -> str:
    return path.split("/", 2)[1]
