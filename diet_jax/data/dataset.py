"""Dataset: inputs and labels whose rows keep their identity. Row i is example i, for ever."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from diet_jax.data.kinds import WORDS, Kind, Normalization, checked_inputs, checked_normalization, statistics
from diet_jax.errors import InputError
from diet_jax.types import Examples


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a classification dataset. Never reordered; pruning never copies it.

    Build one with `Dataset.from_arrays` or `load_dataset`; both check every field.

    Attributes:
        inputs: uint8, float32 or int32 `[n ...]`, one array for each example, as stored: not normalised.
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
        kind: what an example is: an image, a row of a table, a signal, tokens.
    """

    inputs: np.ndarray
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
    kind: Kind = "images"
    streamed: ClassVar[bool] = False
    """Whether images are decoded when they are asked for; see `load_streamed`."""

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        what, how = WORDS[self.kind]
        examples = f"{len(self):,} {what.format('x'.join(map(str, self.shape)))}"
        how = how if self.normalization.mean else "not normalised"
        return f"<{self.name}/{self.split}: {examples}, {how}; {self.num_classes} classes>"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.inputs.shape[1:])

    @property
    def spec(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of one example as models take it: normalised float32, or int32 tokens."""
        kept = not self.normalization.mean and self.inputs.dtype == np.int32
        return jax.ShapeDtypeStruct(self.shape, "int32" if kept else "float32")

    @property
    def images(self) -> Any:
        """The inputs, if they are images `[n h w ch]`.

        Raises:
            InputError: they are something else.
        """
        if self.kind != "images":
            raise InputError(f"{self.name} holds {self.kind} of shape {self.shape}, no images; use inputs")
        return self.inputs

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image; see `images`."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def examples(self) -> Examples:
        """Returns the arrays that device code needs, on the default device."""
        mean, std = (np.asarray(values, np.float32) for values in self.normalization)
        # Unlike jnp.asarray, device_put compiles nothing.
        return Examples(*jax.device_put((self.inputs, self.labels, mean, std)))

    def read_batches(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the stored inputs of each batch of rows: `inputs[rows]`, one batch after the other."""
        for rows in batches:
            yield self.inputs[rows]

    def take(self, rows: np.ndarray) -> "Dataset":
        """Returns a dataset of some rows, in the order given; they keep ids and normalisation."""
        return Dataset.from_arrays(
            self.inputs[rows],
            self.labels[rows],
            self.ids[rows],
            kind=self.kind,
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
            self, labels=labels, fingerprint=fingerprint(self.inputs, labels, self.ids)
        )

    @classmethod
    def from_arrays(
        cls,
        inputs: Any,
        labels: Any,
        ids: Any = None,
        *,
        kind: Kind | None = None,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
        split: str = "train",
        normalization: Normalization | None = None,
        id_source: str | None = None,
        encoding: str = "",
    ) -> "Dataset":
        """Checks arrays and wraps them as a dataset.

        | inputs | kind | normalised |
        |---|---|---|
        | uint8 or floating `[n h w ch]` or `[n h w]` | "images" | for each channel |
        | floating `[n f]` | "table" | for each feature |
        | integers `[n t]` | "tokens" | not at all; models get int32 |
        | floating `[n t ch]` or more axes | "signals", which must be said | for each channel |

        What could be several of these is refused until `kind` says which. Floats are stored as float32.

        Args:
            inputs: one array for each example, by the table.
            labels: integers `[n]` in `0 .. num_classes - 1`.
            kind: what an example is; by default by shape and dtype.
            ids: unique strings or integers `[n]`; by default the row numbers 0 .. n-1.
            num_classes: number of classes; by default that of `class_names`, else `max(labels) + 1`.
            class_names: one name per class; by default "0", "1", ...
            name: name of the dataset, stored with everything derived from it.
            split: name of the split. Give a test split the train split's `normalization`.
            normalization: by default the mean and standard deviation of `inputs` by the table;
                `dj.Normalization((), ())` leaves them as they are.
            id_source: where the ids come from; by default said from `ids`.
            encoding: how images were stored before, such as "JPEG"; "" if that is not known.

        Returns:
            The dataset, rows in the given order.

        Raises:
            InputError: a shape, dtype or length is wrong or could be several kinds, a label is out of range,
                an id occurs twice, or a number is not finite.

        Example:
            >>> import numpy as np
            >>> dataset = Dataset.from_arrays(np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1])
            >>> dataset.image_shape, len(dataset), dataset.num_classes
            ((8, 8, 1), 4, 2)
        """
        inputs, kind = checked_inputs(np.asarray(inputs), kind)
        labels = _checked_labels(np.asarray(labels), len(inputs))
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
            ids, id_source = np.arange(len(inputs)), id_source or "row number in the given arrays"
        ids = _checked_ids(np.asarray(ids), len(inputs))
        normalization = statistics(inputs, kind) if normalization is None else normalization
        normalization = checked_normalization(normalization, inputs)
        # The fingerprint must stay true: no one else holds these arrays, and no one writes to them.
        inputs, labels, ids = (np.array(array) for array in (inputs, labels, ids))
        for array in (inputs, labels, ids):
            array.flags.writeable = False
        return cls(
            inputs=inputs,
            labels=labels,
            ids=ids,
            num_classes=num_classes,
            class_names=class_names,
            name=name,
            split=split,
            normalization=normalization,
            id_source=id_source or "given with the arrays",
            fingerprint=fingerprint(inputs, labels, ids),
            encoding=encoding,
            kind=kind,
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


def _checked_labels(labels: np.ndarray, count: int) -> np.ndarray:
    if labels.shape != (count,):
        raise InputError(f"labels must have shape ({count},), one per example; got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels must be integers, got {labels.dtype}")
    return labels


def _checked_ids(ids: np.ndarray, count: int) -> np.ndarray:
    if ids.shape != (count,):
        raise InputError(f"ids must have shape ({count},), one per example; got {ids.shape}")
    if ids.dtype.kind not in "iuU":
        raise InputError(f"ids must be strings or integers, got {ids.dtype}")
    values, counts = np.unique(ids, return_counts=True)
    if len(values) != count:
        twice = values[counts > 1]
        raise InputError(f"ids must be unique: {len(twice)} occur more than once, such as {twice[0]!r}")
    return ids
