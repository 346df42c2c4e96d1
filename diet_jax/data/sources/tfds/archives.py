"""The public archives of CIFAR and MNIST, parsed with NumPy: nothing is unpickled or unpacked to disk."""

import gzip
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diet_jax.errors import InputError


class Contents(NamedTuple):
    """What the archives of a data set hold, in their own order.

    `images` maps a split to uint8 `[n h w ch]`, `labels` maps it to the label features, each `[n]`, and
    `class_names` maps a label feature to its names where the archives tell them.
    """

    images: dict[str, np.ndarray]
    labels: dict[str, dict[str, np.ndarray]]
    class_names: dict[str, list[str]]


class Recipe(NamedTuple):
    """The archives of a data set, by file name, how to parse them, and whether TFDS gives it ids."""

    files: tuple[str, ...]
    parse: Callable[[Mapping[str, Path]], Contents]
    has_ids: bool


def read_cifar10(files: Mapping[str, Path]) -> Contents:
    """Parses `cifar-10-binary.tar.gz`; the training images are those of its five batches, in order."""
    batches = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    names = {"label": "batches.meta.txt"}
    return _read_cifar(files["cifar-10-binary.tar.gz"], "cifar-10-batches-bin", batches, names)


def read_cifar100(files: Mapping[str, Path]) -> Contents:
    """Parses `cifar-100-binary.tar.gz`, with its 20 coarse and 100 fine labels."""
    batches = {"train": ["train.bin"], "test": ["test.bin"]}
    names = {"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"}
    return _read_cifar(files["cifar-100-binary.tar.gz"], "cifar-100-binary", batches, names)


def read_mnist(files: Mapping[str, Path]) -> Contents:
    """Parses the four IDX files of MNIST or Fashion-MNIST."""
    images, labels = {}, {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        pixels = _read_idx(files[f"{prefix}-images-idx3-ubyte.gz"], dimensions=3)
        classes = _read_idx(files[f"{prefix}-labels-idx1-ubyte.gz"], dimensions=1)
        if len(pixels) != len(classes):
            raise InputError(f"the {split} archives hold {len(pixels)} images but {len(classes)} labels")
        images[split], labels[split] = pixels[..., None], {"label": classes}
    return Contents(images, labels, {})


_MNIST_FILES = tuple(
    f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)

RECIPES = {
    "cifar10": Recipe(("cifar-10-binary.tar.gz",), read_cifar10, True),
    "cifar100": Recipe(("cifar-100-binary.tar.gz",), read_cifar100, True),
    "mnist": Recipe(_MNIST_FILES, read_mnist, False),
    "fashion_mnist": Recipe(_MNIST_FILES, read_mnist, False),
}


def _read_cifar(
    archive: Path, folder: str, batches: dict[str, list[str]], name_files: dict[str, str]
) -> Contents:
    with tarfile.open(archive) as tar:

        def member(file: str) -> bytes:
            try:
                content = tar.extractfile(f"{folder}/{file}")
            except KeyError:
                content = None
            if content is None:
                raise InputError(f"archive {archive} holds no file {folder}/{file}")
            return content.read()

        names = {key: member(file).decode().split("\n") for key, file in name_files.items()}
        raw = {split: b"".join(member(file) for file in files) for split, files in batches.items()}
    images, labels = {}, {}
    for split, content in raw.items():
        record = len(names) + 3 * 32 * 32
        if not content or len(content) % record:
            raise InputError(f"archive {archive}: {split} has {len(content)} bytes, no multiple of {record}")
        # A record is one byte per label, then the red, green and blue plane.
        rows = np.frombuffer(content, np.uint8).reshape(-1, record)
        labels[split] = {key: rows[:, i] for i, key in enumerate(names)}
        images[split] = rows[:, len(names) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Contents(images, labels, {key: [name for name in lines if name] for key, lines in names.items()})


def _read_idx(archive: Path, dimensions: int) -> np.ndarray:
    """An IDX file: two zeros, the type (8: unsigned byte), the number of axes, their lengths, the data."""
    with gzip.open(archive) as file:
        content = file.read()
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise InputError(f"archive {archive} is no IDX file of unsigned bytes with {dimensions} axes")
    shape = np.frombuffer(content, ">u4", dimensions, offset=4).astype(int).tolist()
    if len(content) != header + np.prod(shape):
        raise InputError(
            f"archive {archive} should have {header + np.prod(shape)} bytes unpacked, for shape {shape}; "
            f"it has {len(content)}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
