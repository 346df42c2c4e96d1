"""Which example of a dataset is meant, by an id of another program or by a place in an order."""

import hashlib
import re
from pathlib import PurePosixPath

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.files.ids import rows_by_id
from diet_jax.scores.formats.format import Order


def rows_of_ids(given: np.ndarray, dataset: Dataset, what: str) -> tuple[np.ndarray, str]:
    """Returns which value of a file is each example's, int `[n]`, and by what it was found.

    Ids are compared as they are; else as numbers and text of the same digits; else, of paths, by the name of
    the file without folders and ending.

    Raises:
        InputError: none of these makes them the dataset's ids.
    """
    ours, whose = dataset.ids, f"{dataset.name}/{dataset.split}"
    ways = [("by id", lambda ids: ids)]
    if (given.dtype.kind == "U") != (ours.dtype.kind == "U"):
        ways.append(("by id, numbers written as text", lambda ids: ids.astype(str)))
    ways.append(("by the names of files, without folders and endings", _stems))
    for how, made in ways:
        theirs, known = made(given), made(ours)
        if theirs.dtype.kind == known.dtype.kind and len(theirs) == len(known):
            row_of = {name: row for row, name in enumerate(theirs.tolist())}
            rows = [row_of.get(name, -1) for name in known.tolist()]
            if len(row_of) == len(set(rows)) == len(known) and min(rows) >= 0:
                return np.array(rows, np.int64), how
    return rows_by_id(given, ours, what, whose), "by id"


def _stems(ids: np.ndarray) -> np.ndarray:
    return np.array([PurePosixPath(str(name)).name.partition(".")[0] for name in ids.tolist()])


def original_numbers(dataset: Dataset) -> np.ndarray | None:
    """Returns each example's place in the files that its dataset was published as; None if ids do not say.

    Ids are integers 0 to n - 1, or text that ends in them, such as "train_00042" of TFDS's CIFAR.
    """
    if dataset.ids.dtype.kind in "iu":
        places = dataset.ids.astype(np.int64)
    else:
        found = [re.search(r"(\d+)$", name) for name in dataset.ids.tolist()]
        if not all(found):
            return None
        places = np.array([int(match[1]) for match in found if match], np.int64)
    return places if np.array_equal(np.sort(places), np.arange(len(places))) else None


def rows_in_order(dataset: Dataset, order: Order, what: str) -> tuple[np.ndarray, str]:
    """Returns the dataset's rows in the order of a file, int `[n]`, and says which order that is.

    Args:
        dataset: all of it.
        order: "rows": that of the dataset here; "original": that of the files it was published as, by ids.
        what: the file, for messages.

    Raises:
        InputError: the ids do not tell the original order.
    """
    if order == "rows":
        return np.arange(len(dataset)), "in the order of the dataset's rows"
    places = original_numbers(dataset)
    if places is None:
        raise InputError(
            f"{what} is in the order of the original files, which ids such as {dataset.ids[0]!r} of "
            f"{dataset.name} do not tell; say --order rows if that is the order of the rows here"
        )
    return np.argsort(places), "in the order of the original files, by the numbers in the ids"


def tfds_order(dataset: Dataset, what: str) -> np.ndarray:
    """Returns the dataset's rows in the order in which TFDS writes CIFAR-10 and CIFAR-100, int `[n]`.

    TFDS sorts by the MD5 of the split's name and the example's key, here its number in the original files.

    Raises:
        InputError: it is another dataset, or its ids do not tell the numbers.
    """
    places = original_numbers(dataset)
    if places is None or dataset.name.partition(":")[0].partition("/")[0] not in ("cifar10", "cifar100"):
        raise InputError(
            f"{what} began in TFDS's order, which is known of cifar10 and cifar100 with TFDS's ids, not of "
            f"{dataset.name}; say --order rows if that is the order of the rows here"
        )
    hashes = [hashlib.md5(f"{dataset.split}{place}".encode()).digest() for place in places.tolist()]
    return np.array(sorted(range(len(hashes)), key=hashes.__getitem__), np.int64)


def class_sorted(labels: np.ndarray) -> np.ndarray:
    """Returns the rows int `[n]` in the order of NumPy's default sort by class, as it was until 1.24.

    It is not stable, and now differs between processors for 32 and 64 bits; 16 bits are still sorted as all
    were.
    """
    return np.argsort(labels.astype(np.int16), kind="quicksort")
