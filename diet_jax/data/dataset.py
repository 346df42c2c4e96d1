"""Dataset: inputs and labels whose rows keep their identity. Row i is example i, for ever."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from diet_jax.checks.arrays import plain_array
from diet_jax.checks.rows import checked_rows
from diet_jax.checks.values import check_type, shown
from diet_jax.data.classes import checked_labels
from diet_jax.data.kinds import (
    WORDS,
    Kind,
    Normalization,
    checked_inputs,
    checked_normalization,
    far_from,
    is_of_tokens,
    statistics,
)
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.types import Examples, Mask, Rows


class Whole(NamedTuple):
    """What a dataset was before examples were taken of it."""

    fingerprint: str
    ids: np.ndarray


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
        conversions: what `from_arrays` made of the arrays that it was given, in words; printed along.
        taken_from: the dataset whose rows these are, if it is another one.
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
    conversions: tuple[str, ...] = ()
    taken_from: Whole | None = None
    streamed: ClassVar[bool] = False
    """Whether images are decoded when they are asked for; see `load_streamed`."""

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        what, how = WORDS[self.kind]
        examples = f"{len(self):,} {what.format('x'.join(map(str, self.shape)))}"
        how = how if self.normalization.mean else "not normalised"
        classes = f"{self.num_classes} class{'es' * (self.num_classes != 1)}"
        said = "".join(f"; {conversion}" for conversion in self.conversions)
        return f"<{self.name}/{self.split}: {examples}, {how}; {classes}{said}>"

    @property
    def whole(self) -> Whole:
        """The dataset whose rows these are: `taken_from`, or this one."""
        return self.taken_from or Whole(self.fingerprint, self.ids)

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

    def take(self, rows: Rows | Mask) -> "Dataset":
        """Returns a dataset of some rows, int `[k]` in the order given or a mask bool `[n]`.

        They keep ids and normalisation.

        Raises:
            InputError: rows are no distinct rows of the dataset, or none.
        """
        rows = checked_rows(rows, len(self))
        return self._with(
            inputs=self.inputs[rows], labels=self.labels[rows], ids=self.ids[rows], taken_from=self.whole
        )

    def with_labels(self, labels: Any) -> "Dataset":
        """Returns the dataset with other labels, and their fingerprint.

        Args:
            labels: integers `[n]` in `0 .. num_classes - 1`, or the names of classes.

        Raises:
            InputError: another number of labels, or one that is no class.
        """
        checked = checked_labels(labels, len(self), self.name, class_names=self.class_names)
        # What was scored of the whole was scored with its labels: it belongs to these no more.
        return self._with(labels=checked.labels, taken_from=None)

    def _with(self, **changes: Any) -> "Dataset":
        """Returns the dataset with other arrays, which no one else holds, and their fingerprint."""
        arrays = {name: changes.get(name, getattr(self, name)) for name in ("inputs", "labels", "ids")}
        for array in arrays.values():
            array.flags.writeable = False
        return dataclasses.replace(self, fingerprint=fingerprint(*arrays.values()), **changes)

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
        | integers `[n t]` | "tokens"; "table" of a data frame | not at all; models get int32 |
        | floating `[n t ch]` or more axes | "signals", which must be said | for each channel |

        What could be several of these is refused until `kind` says which. Floats are stored as float32.
        Arrays may be anything that is one: of NumPy or JAX, tensors, tables, columns, lists. What was made of
        them is in `conversions` and printed with the dataset; what would have to be guessed is refused, with
        the line of code that makes it clear.

        Args:
            inputs: one array for each example, by the table.
            labels: integers `[n]` in `0 .. num_classes - 1`; text, numbered in the order of `class_names`,
                by default sorted; or True and False.
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
        for word, value in (("name", name), ("split", split), ("encoding", encoding)):
            check_type(value, word, str, "text")
        check_type(id_source, "id_source", (str, type(None)), "text")
        _check_order(inputs=inputs, labels=labels, ids=ids)
        dtype = str(getattr(inputs, "dtype", ""))
        halves = (f"inputs were {dtype}, stored as float32",) if "float16" in dtype else ()
        if ids is None:
            _say_names_of_rows(inputs=inputs, labels=labels)
        given, inputs = inputs, plain_array(inputs, "inputs")
        has_columns = hasattr(given, "columns")
        if kind is None and is_of_tokens(inputs):
            # What has named columns is a table, whatever its numbers are.
            kind = "table" if has_columns else None
            halves += ("inputs were a table of integers, taken for features",) if has_columns else ()
            if not has_columns:
                _say_once(
                    f"inputs are integers {list(inputs.shape)}, taken for tokens; say kind='table' if they "
                    f"are features, kind='tokens' if not"
                )
        inputs, kind = checked_inputs(inputs, kind)
        _check_examples_first(inputs, labels)
        known = checked_labels(labels, len(inputs), name, class_names=class_names, num_classes=num_classes)
        if ids is None:
            ids, id_source = np.arange(len(inputs)), id_source or "row number in the given arrays"
        ids = _checked_ids(plain_array(ids, "ids"), len(inputs))
        normalization = statistics(inputs, kind) if normalization is None else normalization
        normalization = checked_normalization(normalization, inputs, kind)
        if far := far_from(normalization, inputs, kind):
            say(f"warning: {name}/{split}: {far}")
        # The fingerprint must stay true: no one else holds these arrays, and no one writes to them.
        inputs, labels, ids = (np.array(array) for array in (inputs, known.labels, ids))
        for array in (inputs, labels, ids):
            array.flags.writeable = False
        return cls(
            inputs=inputs,
            labels=labels,
            ids=ids,
            num_classes=len(known.class_names),
            class_names=known.class_names,
            name=name,
            split=split,
            normalization=normalization,
            id_source=id_source or "given with the arrays",
            fingerprint=fingerprint(inputs, labels, ids),
            encoding=encoding,
            kind=kind,
            conversions=(*halves, *known.said),
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


def check_dataset(dataset: Any, name: str = "dataset") -> None:
    """Raises InputError unless it is a dataset, in memory or on disk."""
    if not hasattr(dataset, "fingerprint") or not hasattr(dataset, "read_batches"):
        raise InputError(
            f"{name} must be a dj.Dataset, such as load_dataset(name).train or "
            f"dj.Dataset.from_arrays(inputs, labels); got {shown(dataset)}"
        )


def _check_order(**given: Any) -> None:
    """Raises InputError where two tables name their rows, and not in one order."""
    indexes: list[tuple[str, Any]] = [(name, getattr(table, "index", None)) for name, table in given.items()]
    named = [(name, index) for name, index in indexes if hasattr(index, "equals")]
    for name, index in named[1:]:
        first, other = named[0]
        if len(index) == len(other) and not index.equals(other):
            raise InputError(
                f"{first} and {name} name their rows differently (index); give {name}.loc[{first}.index] to "
                f"join them by name, or {name}.to_numpy() if row i is row i"
            )


def _say_names_of_rows(**given: Any) -> None:
    """Says that a table names its rows and no one asked for these names."""
    for name, table in given.items():
        index: Any = getattr(table, "index", None)
        if not hasattr(index, "equals") or not hasattr(index, "to_numpy"):
            continue
        names = index.to_numpy()
        if not np.array_equal(names, np.arange(len(names))):
            _say_once(
                f"{name} name their rows (index), such as {str(names[0])!r}: these are no ids, row numbers "
                f"are; give ids={name}.index to keep them"
            )
            return


@functools.cache
def _say_once(text: str) -> None:
    say(text)


def _check_examples_first(inputs: np.ndarray, labels: Any) -> None:
    """Raises InputError where there is a label for each entry of the last axis, not of the first."""
    shape = getattr(labels, "shape", None)
    count = shape[0] if shape else len(labels) if isinstance(labels, Sequence) else 0
    if len(inputs) != count == inputs.shape[-1] and count > 1:
        code = "inputs.T" if inputs.ndim == 2 else "np.moveaxis(inputs, -1, 0)"
        raise InputError(
            f"inputs of shape {inputs.shape} with {count} labels look like examples last; give them first: "
            f"{code}"
        )


def _checked_ids(ids: np.ndarray, count: int) -> np.ndarray:
    if ids.shape != (count,):
        raise InputError(f"ids must have shape ({count},), one per example; got {ids.shape}")
    if ids.dtype.kind not in "iuU":
        remedy = "np.char.decode(ids)" if ids.dtype.kind == "S" else "ids.astype(str)"
        raise InputError(f"ids must be strings or integers, got {ids.dtype}; give {remedy}")
    codes = (
        np.array(ids, f"U{max(1, ids.dtype.itemsize // 4)}").view(np.uint32)
        if ids.dtype.kind == "U"
        else ids[:0]
    )
    if ((codes >= 0xD800) & (codes <= 0xDFFF)).any():
        raise InputError("ids must be text, got lone surrogates, which no file can hold; name them otherwise")
    values, counts = np.unique(ids, return_counts=True)
    if len(values) != count:
        twice = values[counts > 1]
        raise InputError(
            f"ids must be unique: {len(twice)} occur more than once, such as {twice[0].item()!r}"
        )
    return ids
