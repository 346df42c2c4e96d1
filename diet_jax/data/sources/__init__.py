"""Data sets by name, from disk. Nothing heavy is imported before a name needs it."""

import os
from pathlib import Path
from typing import Any

from diet_jax.checks.values import check_count, check_path
from diet_jax.data.dataset import Splits
from diet_jax.data.remarks import empty_classes
from diet_jax.data.sources.source import MOST_PIXELS, MOST_WORKERS, find_source
from diet_jax.data.streaming.reading import check_grain, check_main_guard
from diet_jax.devices.progress import say
from diet_jax.errors import InputError


def load_dataset(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Splits:
    """Loads a data set by name. No name needs the network or TensorFlow; what is not on disk is not fetched.

    Normalisation is the paper's for CIFAR-10, CIFAR-100 (CIFAR-10's constants, as in the paper's code) and
    CINIC-10, else measured on the train split; the test split carries the same.

    Args:
        name: what a source in `SOURCES` answers to, such as `digits` or `folder:PATH`; every other name is
            one of TensorFlow Datasets, such as `cifar10`, `emnist/balanced` or `mnist:3.0.1`.
        data_dir: folder of prepared data sets; by default TFDS's: TFDS_DATA_DIR or ~/tensorflow_datasets.
        cache_dir: folder of decoded copies; by default DIET_JAX_CACHE or the user's cache folder.
        quiet: show no progress on stderr.

    Returns:
        The train and test split.

    Raises:
        InputError: the name is unknown, the data is not on disk, or it is no image classification data set.

    Example:
        >>> load_dataset("digits").train.image_shape
        (8, 8, 1)
    """
    source, arguments = find_source(name)
    return _told(source.load(*arguments, data_dir=data_dir, cache_dir=cache_dir, quiet=quiet))


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
        name: see `load_dataset`.
        data_dir: folder of prepared data sets; by default TFDS's own.
        cache_dir: folder of indexes; by default DIET_JAX_CACHE or the user's cache folder.
        image_size: cut images of any size to this height and width: the shorter side becomes 256/224 of it,
            then the centre is cut out. By default all images must have one size.
        workers: processes that decode; 0 decodes in threads of this process.

    Returns:
        The train and test split.

    Raises:
        InputError: the data is not on disk, is no image classification data set, or cannot be streamed;
            images differ in size without `image_size`; Grain is not installed.

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
    check_places(data_dir, cache_dir)
    if image_size is not None:
        check_count(image_size, "image_size", most=MOST_PIXELS)
    check_count(workers, "workers", least=0, most=MOST_WORKERS)
    if workers:
        check_main_guard()
    source, arguments = find_source(name)
    if source.stream is None:
        raise InputError(
            f"name {name!r} cannot be streamed (it is {source.about}); load it without streaming: "
            "load_dataset, or no --data.streaming"
        )
    return _told(
        source.stream(
            *arguments, data_dir=data_dir, cache_dir=cache_dir, image_size=image_size, workers=workers
        )
    )


def check_places(*folders: Any) -> None:
    """Raises InputError for a folder of data or of caches that is no path; None is the usual one."""
    for name, folder in zip(("data_dir", "cache_dir"), folders, strict=False):
        if folder is not None:
            check_path(folder, name)


def _told(splits: Splits) -> Splits:
    for line in empty_classes(splits):
        say(line)
    return splits


def prepare_dataset(
    name: str, *, data_dir: str | os.PathLike[str] | None = None, quiet: bool = False, **options: Any
) -> Path:
    """Does what has to be done once before a data set can be loaded; what is done already is left alone.

    Of TensorFlow Datasets, cifar10, cifar100, mnist and fashion_mnist are downloaded and written as TFDS
    would, without TensorFlow: without loss, in their original order.

    Args:
        name: see `load_dataset`.
        data_dir: folder of prepared data sets; by default TFDS's: TFDS_DATA_DIR or ~/tensorflow_datasets.
        quiet: print nothing.
        **options: of the source, such as `archives` of TensorFlow Datasets: the `Archive`s to download, for a
            mirror.

    Returns:
        The folder of the prepared data set, such as `data_dir/cifar10/3.0.2`.

    Raises:
        InputError: the name needs no preparing or cannot be prepared here, a download fails, or a folder
            cannot be written. Nothing half-written is left behind.
    """
    source, arguments = find_source(name)
    if source.prepare is None:
        raise InputError(
            f"name {name!r} needs no preparing (it is {source.about}); load it as it is: load_dataset, or "
            f"--data.name {source.usage}"
        )
    return source.prepare(*arguments, data_dir=data_dir, quiet=quiet, **options)
