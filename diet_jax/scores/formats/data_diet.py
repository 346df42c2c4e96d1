"""Scores of the paper's own code: one .npy of values whose examples are sorted by class."""

import re
from collections.abc import Iterable

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.scores.formats.format import FORMATS, Asked, Format, Found, Peek, load_npy
from diet_jax.scores.formats.identity import class_sorted, rows_in_order, tfds_order

# The folders that its scripts write to.
SCORES = {
    "error_l2_norm_scores": ("el2n", "EL2N: L2 norm of softmax minus one-hot label"),
    "grad_norm_scores": ("grand", "GraNd: L2 norm of the loss gradient"),
    "forget_scores": ("forgetting", "forgetting events; infinite where never learned"),
}


def recognises(looked: Peek) -> int:
    """An .npy: surely in a folder of the authors' names, else perhaps."""
    return 1 + (looked.path.parent.name in SCORES)


def read(looked: Peek, dataset: Dataset, asked: Asked) -> Iterable[Found]:
    """Undoes the sort by class, which the labels tell; before it came TFDS's order, or what is said."""
    values = load_npy(looked.path)
    if values.shape != (len(dataset),):
        raise InputError(
            f"{looked.path} must hold one score for each of the {len(dataset):,} examples of {dataset.name}, "
            f"got shape {list(values.shape)}; name the dataset that was scored (--data.name)"
        )
    what = str(looked.path)
    if asked.order is None:
        before, how = tfds_order(dataset, what), "TFDS's order"
    else:
        before, how = rows_in_order(dataset, asked.order, what)
    rows = before[class_sorted(dataset.labels[before])]
    name, formula = SCORES.get(looked.path.parent.name, ("score", "a score of the paper's own code"))
    step = re.fullmatch(r"ckpt_(\d+)", looked.path.stem)
    yield Found(
        name=name,
        values=np.asarray(values),
        high_means="hard",
        formula=formula,
        matched=f"by place: {how}, then sorted by class as NumPy did; the file has nothing to check it by",
        rows=rows,
        step=int(step[1]) if step else None,
    )


DATA_DIET = FORMATS.register(
    Format(
        name="data_diet",
        about=".npy of the paper's own code, sorted by class",
        reference="github.com/mansheej/data_diet, data_diet/data.py and scripts/get_mean_score.py",
        kind="npy",
        recognises=recognises,
        read=read,
        asks=("order",),
    )
)
