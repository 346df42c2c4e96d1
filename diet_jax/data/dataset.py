"""Dataset: images and labels whose rows keep their identity. Row i is example i, for ever."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from diet_jax.errors import InputError
from diet_jax.types import Examples


class Normalization(NamedTuple):
    """Per-channel mean and standard deviation, in the unit of the stored pixels (0..255 for 8-bit images)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of an image-classification dataset. Never reordered; pruning never copies it.

    Build one with `Dataset.from_arrays` or `load_dataset`; both check every field.

    Attributes:
        images: uint8 or float32 `[n h w ch]`, as stored: not normalised.
        labels: int32 `[n]`, in `0 .. num_classes - 1`.
        ids: `[n]` unique strings or integers that name the examples outside this process.
        num_classes: number of classes.
        class_names: one name per class.
        name: dataset name, such as "cifar10".
        split: "train" or "test".
        normalization: what `normalize` subtracts and divides by; that of the train split, for both splits.
        id_source: where the ids come from, in words.
        fingerprint: SHA-256 of images, labels and ids: two datasets with equal fingerprints are equal.
        encoding: how the source stores the first image, such as "PNG" or "JPEG", which changes pixels; "" if
            that is not known. The others are taken to be stored alike.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    num_classes: int
    class_names: tuple[str, ...]
    name: str
    split: str
    normalization: Normalization
    id_source: str
    fingerprint: str
    encoding: str = ""
    streamed: ClassVar[bool] = False
    """Whether images are decoded when they are asked for; see `load_streamed`."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def examples(self) -> Examples:
        """Returns the arrays that device code needs, on the default device."""
        mean, std = (np.asarray(values, np.float32) for values in self.normalization)
        # Unlike jnp.asarray, device_put compiles nothing.
        return Examples(*jax.device_put((self.images, self.labels, mean, std)))

    def read_batches(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the stored images of each batch of rows: `images[rows]`, one batch after the other."""
        for rows in batches:
            yield self.images[rows]

    def take(self, rows: np.ndarray) -> "Dataset":
        """Returns a dataset of some rows, in the order given; they keep ids and normalisation."""
        return Dataset.from_arrays(
            self.images[rows],
            self.labels[rows],
            self.ids[rows],
            class_names=self.class_names,
            name=self.name,
            split=self.split,
            normalization=self.normalization,
            id_source=self.id_source,
            encoding=self.encoding,
        )

    def with_labels(self, labels: np.ndarray) -> "Dataset":
        """Returns the dataset with other labels, int32 `[n]` in range, and their fingerprint."""
        labels = np.array(labels)
        labels.flags.writeable = False
        return dataclasses.replace(
            self, labels=labels, fingerprint=fingerprint(self.images, labels, self.ids)
        )

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: Any,
        ids: Any = None,
        *,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
        split: str = "train",
        normalization: Normalization | None = None,
        id_source: str | None = None,
        encoding: str = "",
    ) -> "Dataset":
        """Checks arrays and wraps them as a dataset.

        Args:
            images: uint8 or floating `[n h w ch]` or `[n h w]` (one channel); floats become float32.
            labels: integers `[n]` in `0 .. num_classes - 1`.
            ids: unique strings or integers `[n]`; by default the row numbers 0 .. n-1.
            num_classes: number of classes; by default that of `class_names`, else `max(labels) + 1`.
            class_names: one name per class; by default "0", "1", ...
            name: name of the dataset, stored with everything derived from it.
            split: name of the split. Give a test split the train split's `normalization`.
            normalization: by default the per-channel mean and standard deviation of `images`.
            id_source: where the ids come from; by default said from `ids`.
            encoding: how images were stored before, such as "JPEG"; "" if that is not known.

        Returns:
            The dataset, rows in the given order.

        Raises:
            InputError: a shape, dtype or length is wrong, a label is out of range, an id occurs twice, or a
                pixel is not finite.

        Example:
            >>> import numpy as np
            >>> dataset = Dataset.from_arrays(np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1])
            >>> dataset.image_shape, len(dataset), dataset.num_classes
            ((8, 8, 1), 4, 2)
        """
        images = _checked_images(np.asarray(images))
        labels = _checked_labels(np.asarray(labels), len(images))
        if class_names is None:
            if num_classes is None and labels.max() >= len(labels):
                raise InputError(
                    f"labels go up to {labels.max()} with only {len(labels)} examples; "
                    f"give num_classes if that is meant"
                )
            class_count = num_classes if num_classes is not None else int(labels.max()) + 1
            class_names = tuple(str(c) for c in range(class_count))
        class_names = tuple(str(c) for c in class_names)
        if num_classes is not None and num_classes != len(class_names):
            raise InputError(f"num_classes is {num_classes} but class_names has {len(class_names)} names")
        num_classes = len(class_names)
        check_label_range(labels, num_classes)
        labels = labels.astype(np.int32)
        if ids is None:
            ids, id_source = np.arange(len(images)), id_source or "row number in the given arrays"
        ids = _checked_ids(np.asarray(ids), len(images))
        normalization = _checked_normalization(normalization or pixel_statistics(images), images.shape[-1])
        # The fingerprint must stay true: no one else holds these arrays, and no one writes to them.
        images, labels, ids = (np.array(array) for array in (images, labels, ids))
        for array in (images, labels, ids):
            array.flags.writeable = False
        return cls(
            images=images,
            labels=labels,
            ids=ids,
            num_classes=num_classes,
            class_names=class_names,
            name=name,
            split=split,
            normalization=normalization,
            id_source=id_source or "given with the arrays",
            fingerprint=fingerprint(images, labels, ids),
            encoding=encoding,
        )


def first_examples(dataset: Dataset, count: int) -> Dataset:
    """Returns a dataset of the first `count` examples, as evenly by class as the classes allow.

    The examples keep their ids and their order; the row numbers and the fingerprint are new ones.

    Args:
        dataset: any split.
        count: how many.

    Raises:
        InputError: there are fewer.

    Example:
        >>> import numpy as np
        >>> dataset = Dataset.from_arrays(np.zeros((5, 8, 8), np.uint8), [0, 0, 0, 1, 1])
        >>> first_examples(dataset, 3).ids.tolist()
        [0, 1, 3]
    """
    if not 1 <= count <= len(dataset):
        raise InputError(
            f"count must lie between 1 and the {len(dataset)} examples of {dataset.name}, got {count}"
        )
    # How many examples of its class come before each: the lowest of these are dealt out class by class.
    place = np.zeros(len(dataset), np.int64)
    for label in range(dataset.num_classes):
        rows = np.flatnonzero(dataset.labels == label)
        place[rows] = np.arange(len(rows))
    rows = np.sort(np.argsort(place, kind="stable")[:count])
    return dataset.take(rows)


def check_label_range(
    labels: np.ndarray, num_classes: int, name_of: Callable[[int], str] = "row {}".format
) -> None:
    """Raises InputError unless labels lie in `0 .. num_classes - 1`; `name_of` a row is for the message."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise InputError(
            f"labels must lie in 0..{num_classes - 1} (num_classes is {num_classes}): {len(wrong)} of "
            f"{len(labels)} do not, the first is {labels[wrong[0]]} in {name_of(int(wrong[0]))}; number the "
            "classes from 0, and leave out what has none"
        )


def check_belongs(path: Any, facts: dict[str, Any], ids: np.ndarray, dataset: Dataset | None) -> None:
    """Raises InputError unless a file's fingerprint and ids are those of a dataset, if one is given."""
    if dataset is None:
        return
    if facts["fingerprint"] != dataset.fingerprint:
        raise InputError(
            f"{path} belongs to {facts['dataset']} (fingerprint {str(facts['fingerprint'])[:12]}), not to "
            f"{dataset.name}/{dataset.split} (fingerprint {dataset.fingerprint[:12]})"
        )
    if not np.array_equal(ids, dataset.ids):
        raise InputError(f"{path} is damaged: its ids are not those of {dataset.name}/{dataset.split}")


class Splits(NamedTuple):
    """The two splits of a dataset: `.train` and `.test`."""

    train: Dataset
    test: Dataset


def fingerprint(*arrays: np.ndarray) -> str:
    """SHA-256 of the shapes, dtypes and contents of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.str};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def pixel_statistics(images: np.ndarray) -> Normalization:
    """Per-channel mean and standard deviation over all pixels; 1 stands in for a standard deviation of 0."""
    if images.dtype == np.uint8:
        # Counting the 256 values is exact and needs no float copy of the dataset.
        return statistics_of_counts(value_counts(images))
    means = images.mean(axis=(0, 1, 2), dtype=np.float64).tolist()
    stds = images.std(axis=(0, 1, 2), dtype=np.float64).tolist()
    return Normalization(tuple(means), tuple(s if s > 0 else 1.0 for s in stds))


def value_counts(images: np.ndarray) -> np.ndarray:
    """How often each of the 256 values occurs in each channel of 8-bit images: int64 `[ch 256]`."""
    channels = np.moveaxis(images, -1, 0)
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in channels])


def statistics_of_counts(counts: np.ndarray) -> Normalization:
    """Per-channel mean and standard deviation from `value_counts`; 1 stands in for a deviation of 0."""
    values = np.arange(256, dtype=np.float64)
    means, stds = [], []
    for channel in counts:
        share = channel / channel.sum()
        means.append(float(share @ values))
        stds.append(float(np.sqrt(share @ (values - means[-1]) ** 2)))
    return Normalization(tuple(means), tuple(s if s > 0 else 1.0 for s in stds))


def _checked_images(images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(f"images must have shape [n h w ch] or [n h w], none of them 0; got {images.shape}")
    if np.issubdtype(images.dtype, np.floating):
        images = images.astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
        if len(bad):
            raise InputError(
                f"images must be finite: {len(bad)} of {len(images)} have NaN or infinite pixels, "
                f"the first is row {bad[0]}"
            )
    elif images.dtype != np.uint8:
        raise InputError(f"images must be uint8 or floating, got {images.dtype}; convert them first")
    return images


def _checked_labels(labels: np.ndarray, count: int) -> np.ndarray:
    if labels.shape != (count,):
        raise InputError(f"labels must have shape ({count},), one per image; got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels must be integers, got {labels.dtype}")
    return labels


def _checked_ids(ids: np.ndarray, count: int) -> np.ndarray:
    if ids.shape != (count,):
        raise InputError(f"ids must have shape ({count},), one per image; got {ids.shape}")
    if ids.dtype.kind not in "iuU":
        raise InputError(f"ids must be strings or integers, got {ids.dtype}")
    values, counts = np.unique(ids, return_counts=True)
    if len(values) != count:
        twice = values[counts > 1]
        raise InputError(f"ids must be unique: {len(twice)} occur more than once, such as {twice[0]!r}")
    return ids


def _checked_normalization(normalization: Normalization, channels: int) -> Normalization:
    mean, std = (tuple(float(v) for v in values) for values in normalization)
    if len(mean) != channels or len(std) != channels:
        raise InputError(
            f"normalization must have {channels} means and stds, one per channel; "
            f"got {len(mean)} and {len(std)}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and min(std) > 0):
        raise InputError(f"normalization needs finite means and positive stds, got mean {mean}, std {std}")
    return Normalization(mean, std)
