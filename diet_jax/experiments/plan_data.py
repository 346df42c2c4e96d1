"""The data that a run is planned with: as it is, or zeros of the published sizes where it is not on disk."""

import dataclasses

import numpy as np

from diet_jax.data.dataset import Dataset, Normalization, Splits
from diet_jax.data.published import PAPER_NORMALIZATIONS, PUBLISHED
from diet_jax.errors import NotOnDiskError
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.setup import Setup, config_model, prepare
from diet_jax.selection.masks import num_kept
from diet_jax.training.recipe import total_steps


def setup_to_plan(config: RunConfig) -> tuple[Setup, tuple[str, ...]]:
    """Returns data and model of a config, with zeros for data that is not on disk but of known size."""
    notes: tuple[str, ...] = ()
    if config.data.streaming:
        notes = ("images are read from disk while training and scoring; the times are without reading",)
    try:
        return _without_reading(prepare(config)), notes
    except NotOnDiskError:
        if config.data.name not in PUBLISHED:
            raise
    sizes = PUBLISHED[config.data.name]
    side = config.data.image_size
    shape = sizes.image_shape if side is None else (side, side, sizes.image_shape[2])
    num_train = min(sizes.train, config.data.num_train or sizes.train)
    splits = Splits(
        *(
            _zeros(config.data.name, split, count, sizes.num_classes, shape)
            for split, count in (("train", num_train), (sizes.test_split, sizes.test))
        )
    )
    setup = Setup(config, splits, config_model(config, sizes.num_classes))
    _ = setup.resolved(), setup.score_step
    for _, num in kept_sizes(setup):
        total_steps(config.train, num_train, num)
    note = f"{config.data.name} is not on disk; sizes as published, zeros in place of its images"
    return _without_reading(setup), (note, *notes)


def _without_reading(setup: Setup) -> Setup:
    """The setup with crops that are made on the device, where the config's are made while reading."""
    if setup.config.train.augment != "resized_crop":
        return setup
    train = dataclasses.replace(setup.config.train, augment="crop_flip")
    return dataclasses.replace(setup, config=dataclasses.replace(setup.config, train=train))


def kept_sizes(setup: Setup) -> list[tuple[float, int]]:
    """Returns pairs (keep fraction, examples kept) of the pruned trainings, ascending."""
    count = len(setup.splits.train)
    return [(fraction, num_kept(count, fraction)) for fraction in sorted(setup.config.select.fractions)]


def _zeros(name: str, split: str, count: int, num_classes: int, shape: tuple[int, int, int]) -> Dataset:
    channels = shape[2]
    return Dataset(
        # One image stands for all: it takes no memory to speak of.
        images=np.broadcast_to(np.zeros((1, *shape), np.uint8), (count, *shape)),
        labels=(np.arange(count) % num_classes).astype(np.int32),
        ids=np.arange(count),
        num_classes=num_classes,
        class_names=tuple(str(c) for c in range(num_classes)),
        name=name,
        split=split,
        normalization=PAPER_NORMALIZATIONS.get(name, Normalization((127.5,) * channels, (127.5,) * channels)),
        id_source="row numbers",
        fingerprint="not on disk",
    )
