"""TensorFlow Datasets, read and for some names prepared without TensorFlow."""

import os

from diet_jax.data.dataset import Splits
from diet_jax.data.published import IMAGENET, PAPER_NORMALIZATIONS
from diet_jax.data.sources.source import SOURCES, Source
from diet_jax.data.sources.tfds.names import PREPARABLE
from diet_jax.data.sources.tfds.prepare import prepare_tfds
from diet_jax.data.sources.tfds.records import stored_records


def load_tfds(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
    quiet: bool,
) -> Splits:
    """Loads an image classifier: its train split, and its test split or, without one, its validation split.

    Args:
        name: `name`, `name/config`, `name:version` or `name/config:version`.
        data_dir: folder of prepared data sets; by default TFDS's own.
        cache_dir: folder of decoded copies.
        quiet: show no progress.

    Raises:
        InputError: unknown or not prepared, not in array_record format, no image classifier, without a train
            or test split, or of images of different sizes.
    """
    stored = stored_records(name, data_dir, PAPER_NORMALIZATIONS)
    return stored.load(cache_dir=cache_dir, quiet=quiet)


def stream_tfds(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
    image_size: int | None,
    workers: int,
) -> Splits:
    """Loads the same with its images on disk."""
    stored = stored_records(name, data_dir, {**PAPER_NORMALIZATIONS, "imagenet2012": IMAGENET})
    return stored.stream(cache_dir=cache_dir, image_size=image_size, workers=workers)


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
