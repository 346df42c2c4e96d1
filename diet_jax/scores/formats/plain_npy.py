"""A bare array of scores in an order that is said."""

from collections.abc import Iterable

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.scores.formats.format import FORMATS, Asked, Format, Found, Peek, load_npy
from diet_jax.scores.formats.identity import rows_in_order


def recognises(looked: Peek) -> int:
    """Any .npy may be one."""
    return 1


def read(looked: Peek, dataset: Dataset, asked: Asked) -> Iterable[Found]:
    """One score, `[n]` or `[s n]` of several seeds."""
    values = np.asarray(load_npy(looked.path))
    if asked.order is None or asked.high_means is None:
        raise InputError(
            f"{looked.path} says neither which value is of which example nor what a high one means: say "
            f"--order rows (of the dataset here) or original (of its files), and --high-means hard or easy"
        )
    rows, matched = rows_in_order(dataset, asked.order, str(looked.path))
    yield Found("score", values, asked.high_means, "a score of another program", matched, rows=rows)


PLAIN_NPY = FORMATS.register(
    Format(
        name="npy",
        about=".npy with one value for each example, or a line of them for each seed",
        reference="numpy.save",
        kind="npy",
        recognises=recognises,
        read=read,
        asks=("order", "high_means"),
    )
)
