"""Image folders: train/CLASS/*.png and test/CLASS/*.png."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diet_jax.data.dataset import Dataset, Normalization, Splits
from diet_jax.data.sources.cache import Source, cached
from diet_jax.data.sources.decode import damaged, decode_images, different_sizes
from diet_jax.data.sources.names import PAPER_NORMALIZATIONS, data_folder
from diet_jax.devices.progress import Progress
from diet_jax.errors import InputError, NotOnDiskError

_SUFFIXES = (".png", ".jpg", ".jpeg")
ID_SOURCE = "path relative to the image folder"
_VALIDATION = ("valid", "validation", "val")
GREY = ("1", "L", "LA", "La")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")


class ImageFile(NamedTuple):
    """One image of a folder: its file, its id and its class."""

    path: Path
    id: str
    class_name: str


def load_folder(path: str | os.PathLike[str], cache: Path, *, quiet: bool = False) -> Splits:
    """Loads the image folders `train/CLASS` and `test/CLASS` under a path.

    A folder `valid`, `validation` or `val` beside them joins the train split. Ids are relative paths such as
    `train/cat/0001.png`, in sorted order. Grey images become colour where any image is in colour.

    Args:
        path: folder that holds `train` and `test`.
        cache: folder of decoded copies.
        quiet: show no progress.

    Returns:
        The splits; classes are the sorted folder names.

    Raises:
        InputError: a folder is missing or empty, the splits have different classes, an image is damaged, or
            images differ in size.
    """
    root = Path(path).expanduser().absolute()
    return _load(root, f"folder:{root.name}", cache, None, quiet)


def load_cinic10(data_dir: str | os.PathLike[str] | None, cache: Path, *, quiet: bool = False) -> Splits:
    """Loads CINIC-10 as its archive unpacks: 180,000 images of train and valid, 90,000 of test.

    Args:
        data_dir: folder that holds `cinic10` or `CINIC-10`; by default TFDS's own.
        cache: folder of decoded copies.
        quiet: show no progress.

    Returns:
        The splits, normalised with the paper's constants.

    Raises:
        InputError: neither folder exists, or as for `load_folder`.
    """
    root = find_cinic10(data_dir)
    return _load(root, "cinic10", cache, PAPER_NORMALIZATIONS["cinic10"], quiet)


def find_cinic10(data_dir: str | os.PathLike[str] | None) -> Path:
    """Returns the folder of CINIC-10."""
    candidates = [data_folder(data_dir) / folder for folder in ("cinic10", "CINIC-10")]
    root = next((folder for folder in candidates if folder.is_dir()), None)
    if root is None:
        raise NotOnDiskError(
            f"dataset 'cinic10' is not here: found neither {candidates[0]} nor {candidates[1]}\n"
            f"  either unpack CINIC-10 (https://github.com/BayesWatch/cinic-10) to {candidates[0]}\n"
            "  or point to a copy: --data.data-dir DIR (reproduce: --data-dir; Python: data_dir=); "
            "DIR/cinic10 holds train, valid and test"
        )
    return root


def _load(root: Path, name: str, cache: Path, normalization: Normalization | None, quiet: bool) -> Splits:
    train, test = find_files(root)
    class_names = find_classes(root, train, test)

    def build() -> Splits:
        channels = _channels([*train, *test])

        def split(
            files: Sequence[ImageFile], split_name: str, normalization: Normalization | None
        ) -> Dataset:
            with Progress(f"decoding {name} {split_name} (once)", len(files), quiet=quiet) as progress:
                sources = ((str(f.path), f.path) for f in files)
                images = decode_images(sources, len(files), channels, progress)
            return Dataset.from_arrays(
                images,
                np.asarray([class_names.index(f.class_name) for f in files]),
                np.asarray([f.id for f in files]),
                class_names=class_names,
                name=name,
                split=split_name,
                normalization=normalization,
                id_source=ID_SOURCE,
            )

        train_split = split(train, "train", normalization)
        return Splits(train_split, split(test, "test", train_split.normalization))

    return cached(Source(name, root, [f.path for f in (*train, *test)]), build, cache)


def find_files(root: Path) -> tuple[list[ImageFile], list[ImageFile]]:
    """Lists the images of the train and the test split, each sorted by id."""
    missing = [split for split in Splits._fields if not (root / split).is_dir()]
    if missing:
        raise InputError(
            f"folder {root} must hold train/CLASS/*.png and test/CLASS/*.png; there is no folder "
            f"{' and no folder '.join(missing)} in it"
        )
    train = [f for split in ("train", *_VALIDATION) if (root / split).is_dir() for f in _images(root, split)]
    return sorted(train, key=lambda f: f.id), sorted(_images(root, "test"), key=lambda f: f.id)


def _images(root: Path, split: str) -> Iterable[ImageFile]:
    folders = [f for f in (root / split).iterdir() if f.is_dir() and not f.name.startswith(".")]
    if not folders:
        raise InputError(f"folder {root / split} holds no class folders; expected {split}/CLASS/*.png")
    for folder in folders:
        files = [f for f in folder.iterdir() if f.suffix.lower() in _SUFFIXES and not f.name.startswith(".")]
        if not files:
            raise InputError(
                f"class folder {folder} holds no image ({', '.join(_SUFFIXES)}); fill or remove it"
            )
        for file in files:
            yield ImageFile(file, f"{split}/{folder.name}/{file.name}", folder.name)


def find_classes(root: Path, train: Sequence[ImageFile], test: Sequence[ImageFile]) -> list[str]:
    """Returns the sorted class names, which must be those of both splits."""
    train_names, test_names = {f.class_name for f in train}, {f.class_name for f in test}
    if train_names != test_names:
        raise InputError(
            f"train and test in {root} must have the same class folders: train has {len(train_names)}, "
            f"test has {len(test_names)}; only in train: {sorted(train_names - test_names)[:5]}, "
            f"only in test: {sorted(test_names - train_names)[:5]}"
        )
    return sorted(train_names)


def _channels(files: Sequence[ImageFile]) -> int:
    """3 if any image is in colour, else 1. Reads headers only: a wrong size is found before decoding."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        headers = list(pool.map(_header, files, chunksize=256))
    for file, (size, mode) in zip(files, headers, strict=True):
        if size != headers[0][0]:
            raise different_sizes(str(files[0].path), headers[0][0], str(file.path), size)
        if mode not in (*GREY, *COLOUR):
            raise wrong_mode(str(file.path), mode)
    return 3 if any(mode in COLOUR for _, mode in headers) else 1


def wrong_mode(name: str, mode: str) -> InputError:
    """The error for an image that is not of 8 bits per channel."""
    return InputError(f"image {name} has Pillow mode {mode!r}; expected 8 bits per channel: convert it")


def _header(file: ImageFile) -> tuple[tuple[int, int], str]:
    from PIL import Image

    try:
        with Image.open(file.path) as image:
            return (image.height, image.width), image.mode
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        raise damaged(str(file.path), error) from error
