"""Labels of every origin become class numbers here, or are refused with the line that converts them."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from diet_jax.checks.arrays import in_code, plain_array
from diet_jax.checks.values import check_count
from diet_jax.errors import InputError

# Each has a name.
MOST_CLASSES = 10**6


class ClassLabels(NamedTuple):
    """Labels as a dataset holds them."""

    labels: np.ndarray
    """int32 `[n]`, in `0 .. c - 1`."""
    class_names: tuple[str, ...]
    """One name per class."""
    said: tuple[str, ...]
    """What was made of labels that were no class numbers, in words."""


def checked_labels(
    labels: Any,
    count: int,
    of: str,
    *,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    name: str = "labels",
) -> ClassLabels:
    """Makes class numbers of labels: integers from 0 stay, text and True or False are numbered.

    Args:
        labels: `[n]` integers, text or booleans, or a categorical column.
        count: `n`.
        of: name of the dataset.
        class_names: which texts are the classes 0, 1, ...; by default those that occur, sorted.
        num_classes: number of classes; by default that of the names, else `max(labels) + 1`.
        name: of the argument.

    Raises:
        InputError: they are something else, of another number than the examples, or out of range.
    """
    if num_classes is not None:
        check_count(num_classes, "num_classes", most=MOST_CLASSES)
    if isinstance(class_names, Set | Mapping):
        order = (
            "sorted(class_names, key=class_names.get)"
            if isinstance(class_names, Mapping)
            else "sorted(class_names)"
        )
        raise InputError(
            f"class_names must be in the order of the classes 0, 1, ..., got a {type(class_names).__name__}, "
            f"which has none: give {order}, if that is the order"
        )
    if class_names is not None:
        if isinstance(class_names, str) or not hasattr(class_names, "__len__"):
            raise InputError(f"class_names must be a list of one name per class, got {class_names!r}")
        class_names = tuple(str(c) for c in class_names)
        if num_classes is not None and num_classes != len(class_names):
            raise InputError(f"num_classes is {num_classes} but class_names has {len(class_names)} names")
    categories = _categories(labels)
    values, code = plain_array(labels, name), in_code(labels, name)
    columns = getattr(labels, "columns", None)
    column = None if columns is None or len(columns) != 1 else next(iter(columns))
    _check_shape(values, count, of, name, code, column)
    if values.dtype.kind == "S":
        raise InputError(f"{name} must be integers or text, got bytes; np.char.decode({name}) makes text")
    said: tuple[str, ...] = ()
    if values.dtype.kind == "U":
        known = class_names
        if known is None and categories is not None:
            known, said = categories, (f"{name} were a categorical, whose categories are the classes",)
        elif known is None:
            known, said = _occurring(values, name), (f"{name} were text: its sorted values are the classes",)
        else:
            said = (f"{name} were text, looked up in class_names",)
        if num_classes is not None and num_classes != len(known):
            raise InputError(
                f"num_classes is {num_classes} but {name} hold {len(known)} names; give class_names= with all"
            )
        return ClassLabels(_numbered(values, known, name), known, said)
    if values.dtype == bool:
        classes = num_classes if class_names is None else len(class_names)
        if classes not in (None, 2):
            raise InputError(
                f"{name} are True and False but there are {classes} classes; a mask is no label, and "
                f"{code}.astype(int) means class 0 and class 1"
            )
        class_names = class_names or ("False", "True")
        return ClassLabels(values.astype(np.int32), class_names, (f"{name} were booleans: False is class 0",))
    if values.dtype.kind not in "iu":
        raise InputError(f"{name} must be integers, got {values.dtype}{_of_no_integers(values, name, code)}")
    if class_names is None:
        class_names = tuple(str(c) for c in range(_class_count(values, num_classes, name, code)))
    check_label_range(values, len(class_names), name=name, code=code)
    return ClassLabels(values.astype(np.int32), class_names, said)


def check_label_range(
    labels: np.ndarray,
    num_classes: int,
    name_of: Callable[[int], str] = "row {}".format,
    *,
    name: str = "labels",
    code: str = "labels",
) -> None:
    """Raises InputError unless labels lie in `0 .. num_classes - 1`; `name_of` a row is for the message."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        remedy = "number the classes from 0, and leave out what has none"
        if labels.min() == 1 and labels.max() == num_classes:
            remedy = f"they start from 1: {code} - 1"
        elif len(np.unique(labels)) <= num_classes:
            remedy += f": np.unique({name}, return_inverse=True)[1] numbers those that occur"
        raise InputError(
            f"{name} must lie in 0..{num_classes - 1} (num_classes is {num_classes}): {len(wrong)} of "
            f"{len(labels)} do not, the first is {labels[wrong[0]]} in {name_of(int(wrong[0]))}; {remedy}"
        )


def _class_count(labels: np.ndarray, num_classes: int | None, name: str, code: str) -> int:
    """How many classes there are where only numbers were given."""
    if num_classes is not None:
        return num_classes
    low, high = int(labels.min()), int(labels.max())
    if low == 1 and len(np.unique(labels)) == high:
        raise InputError(
            f"{name} go from 1 to {high} and class 0 never occurs; give {code} - 1, or num_classes="
            f"{high + 1} if they start from 0"
        )
    if high >= len(labels):
        raise InputError(
            f"{name} go up to {high} with only {len(labels)} examples; give num_classes if that is meant, or "
            f"np.unique({name}, return_inverse=True)[1], which numbers those that occur"
        )
    if low > 0:
        raise InputError(
            f"{name} go from {low} to {high} and class 0 never occurs; give num_classes={high + 1} if they "
            f"start from 0, or np.unique({name}, return_inverse=True)[1], which numbers those that occur"
        )
    return high + 1


def _check_shape(labels: np.ndarray, count: int, of: str, name: str, code: str, column: Any = None) -> None:
    if labels.shape == (count,):
        return
    remedy = ""
    if labels.shape == (count, 1):
        remedy = (
            f"; give the column: {code}[:, 0]" if column is None else f"; give the column: {name}[{column!r}]"
        )
    elif labels.ndim == 2 and len(labels) == count and labels.dtype.kind in "biuf":
        remedy = f"; {_of_columns(labels, code)}"
    elif labels.ndim == 2 and labels.shape[1] == count:
        remedy = f"; with a column for each example, turn them first: {code}.T"
    elif labels.ndim == 0:
        remedy = f"; one example needs a list: [{name}]"
    elif count != 1 and labels.shape == (1,):
        remedy = "; one example needs an axis of its own: inputs[None]"
    raise InputError(
        f"{name} must have shape ({count},), one for each of the {count} examples of {of}; got "
        f"{labels.shape}{remedy}"
    )


def _of_columns(labels: np.ndarray, code: str) -> str:
    """What labels with a column for each class are, and the line that makes class numbers of them."""
    sums = labels.sum(axis=1)
    if np.isin(labels, (0, 1)).all():
        if (sums == 1).all():
            return f"they are one-hot: {code}.argmax(1) makes class numbers"
        row = int(np.flatnonzero(sums != 1)[0])
        return (
            f"an example has one class, row {row} has {int(sums[row])}: choose a column, {code}[:, 0], or "
            f"keep the examples with one, {code}.sum(1) == 1"
        )
    if (labels >= 0).all() and np.allclose(sums, 1, atol=1e-3):
        return f"they are probabilities: {code}.argmax(1) takes the likeliest class"
    return f"an example has one label: choose a column, such as {code}[:, 0]"


def _of_no_integers(labels: np.ndarray, name: str, code: str) -> str:
    if labels.dtype.kind != "f":
        return f"; number what occurs: np.unique({name}, return_inverse=True)[1]"
    finite = np.isfinite(labels)
    if not finite.all():
        return (
            f" with {int((~finite).sum())} of {len(labels)} NaN or infinite, the first in row "
            f"{int(np.flatnonzero(~finite)[0])}; leave them out: inputs[np.isfinite({name})], "
            f"{code}[np.isfinite({name})].astype(int)"
        )
    if (labels == np.round(labels)).all():
        return f"; all are whole numbers: {code}.astype(int)"
    some = labels[labels != np.round(labels)][0]
    return f" such as {some:g}, no classes; np.digitize({name}, edges) makes classes of a quantity"


def _categories(labels: Any) -> tuple[str, ...] | None:
    """The categories of a categorical column of text, also those that do not occur; None if it is none."""
    dtype = getattr(labels, "dtype", None)
    # Of pandas and of polars; its own Categorical also has the categories of all other columns.
    known = type(dtype).__name__ in ("CategoricalDtype", "Enum")
    names = list(getattr(dtype, "categories", ())) if known else []
    return tuple(names) if names and all(isinstance(c, str) for c in names) else None


def _occurring(labels: np.ndarray, name: str) -> tuple[str, ...]:
    """The texts that occur, sorted, where they can only be names of classes."""
    names = np.unique(labels).tolist()
    if "" in names:
        row = int(np.flatnonzero(labels == "")[0])
        raise InputError(f"{name} has empty text, the first in row {row}; leave those examples out")
    if lacking := {"nan", "None", "<NA>", "NaT"} & set(names):
        raise InputError(
            f"{name} have {lacking.pop()!r} among their texts, as missing entries become; leave them "
            f"out, or give class_names= if it is a class"
        )
    numbers = [c for c in names if c.lstrip("-").isdigit()]
    if len(numbers) == len(names) and names != [str(c) for c in range(len(names))]:
        raise InputError(
            f"{name} are numbers written as text, such as {names[0]!r} and {names[-1]!r}, whose order as "
            f"text is another; give {name}.astype(int), or class_names= in the order that is meant"
        )
    alike = {" ".join(c.split()).casefold() for c in names}
    if len(alike) < len(names):
        raise InputError(
            f"{name} has {len(names)} names, {len(alike)} without upper case and spaces; clean them: "
            f"[c.strip().lower() for c in {name}], or give class_names= if they are different classes"
        )
    if len(names) == len(labels) and len(names) > 10:
        raise InputError(
            f"{name} has another text for each of the {len(labels)} examples, such as {names[0]!r}; are they "
            "ids? Give class_names= if they are classes"
        )
    return tuple(names)


def _numbered(labels: np.ndarray, names: tuple[str, ...], name: str) -> np.ndarray:
    number = {c: label for label, c in enumerate(names)}
    if len(number) < len(names):
        raise InputError(f"class_names has names that occur twice: give numbers as {name}, no text")
    occurring, places = np.unique(labels, return_inverse=True)
    unknown = [c for c in occurring.tolist() if c not in number]
    if unknown:
        row = int(np.flatnonzero(labels == unknown[0])[0])
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise InputError(
            f"{name} has {len(unknown)} texts that are none of the {len(names)} class_names ({some}), such "
            f"as {unknown[0]!r} in row {row}; write them alike, or give {name}.astype(int) if they are"
            " numbers"
        )
    return np.array([number[c] for c in occurring.tolist()], np.int32)[places]
