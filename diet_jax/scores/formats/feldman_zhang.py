"""Memorisation and influence as estimated by Feldman and Zhang."""

from collections.abc import Iterable

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.scores.formats.format import FORMATS, Asked, Format, Found, Peek, decoded, load_npz
from diet_jax.scores.formats.identity import rows_in_order


def recognises(looked: Peek) -> int:
    """By its array of memorisation values."""
    return 2 * ("tr_mem" in looked.names)


def read(looked: Peek, dataset: Dataset, asked: Asked) -> Iterable[Found]:
    """Memorisation, and of files with matrices the influence on the test examples of the same class."""
    names = [name for name in ("tr_labels", "tr_filenames") if name in looked.names]
    arrays = load_npz(looked.path, ("tr_mem", *names))
    labels = arrays.get("tr_labels")
    if "tr_filenames" in arrays:
        ids = decoded(arrays["tr_filenames"], looked.path)
        # Class numbers are in another order than the folders' names elsewhere; the names tell the image.
        common = {"matched": "by tr_filenames", "ids": ids}
    else:
        rows, matched = rows_in_order(dataset, asked.order or "original", str(looked.path))
        common = {"matched": matched, "rows": rows, "labels": labels}
    formula = "memorisation: how much likelier the label is predicted with the example than without it"
    yield Found(name="memorisation", values=arrays["tr_mem"], high_means="hard", formula=formula, **common)
    if matrices := [name for name in looked.names if name.startswith("infl_matrix_class")]:
        greatest, total = _influences(looked, matrices, len(arrays["tr_mem"]))
        formula = "influence on the test examples of the same class: {}"
        for name, values, which in (
            ("influence_max", greatest, "the largest"),
            ("influence_sum_abs", total, "the sum of absolute values"),
        ):
            yield Found(name=name, values=values, high_means="hard", formula=formula.format(which), **common)


def _influences(looked: Peek, matrices: list[str], count: int) -> tuple[np.ndarray, np.ndarray]:
    greatest, total = np.full(count, np.nan), np.full(count, np.nan)
    for name in matrices:
        index = f"tr_classidx_{name.removeprefix('infl_matrix_class')}"
        arrays = load_npz(looked.path, [name, index])
        matrix, rows = arrays[name], arrays[index]
        if (
            matrix.ndim != 2
            or matrix.dtype.kind not in "iuf"
            or not matrix.shape[1]
            or rows.shape != matrix.shape[:1]
            or rows.dtype.kind not in "iu"
            or (rows.size and not 0 <= rows.min() <= rows.max() < count)
        ):
            raise InputError(
                f"{looked.path}: {name}, {matrix.dtype} of shape {matrix.shape}, does not fit {index} of "
                f"{rows.shape}"
            )
        greatest[rows], total[rows] = matrix.max(axis=1), np.abs(matrix).sum(axis=1)
    return greatest, total


FELDMAN_ZHANG = FORMATS.register(
    Format(
        name="feldman_zhang",
        about=".npz with tr_mem, such as cifar100_infl_matrix.npz and imagenet_index.npz",
        reference="pluskid.github.io/influence-memorization",
        kind="npz",
        recognises=recognises,
        read=read,
        asks=("order",),
    )
)
