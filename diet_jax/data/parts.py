"""Files of a dataset and of what was taken from it: which of their rows are its examples."""

from typing import Any

import numpy as np

from diet_jax.data.dataset import Dataset, Whole
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.files.ids import rows_by_id


def rows_in_file(path: Any, facts: dict[str, Any], ids: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Returns which rows of a file are a dataset's examples, by id: all, or, of the whole, those taken.

    Raises:
        InputError: the file is of neither, by its fingerprint, or its ids are not those of it.
    """
    for whole in (Whole(dataset.fingerprint, dataset.ids), dataset.whole):
        if facts["fingerprint"] != whole.fingerprint:
            continue
        of_whole = rows_by_id(ids, whole.ids, f"{path} is damaged", f"{dataset.name}/{dataset.split}")
        if whole.ids is dataset.ids:
            return of_whole
        row_of = {name: row for row, name in enumerate(ids.tolist())}
        rows = np.array([row_of[name] for name in dataset.ids.tolist()], np.int64)
        if len(rows) < len(ids):
            say(f"{path}: {len(rows):,} of its {len(ids):,} examples are those of this part of the data")
        return rows
    here = f"{dataset.name}/{dataset.split}"
    if facts["dataset"] == here:
        here = "what is called so now"
    cause = ""
    if np.array_equal(ids, dataset.ids):
        cause = ": the ids are the same, so labels or inputs are others"
    elif len(ids) < len(dataset) and np.isin(ids, dataset.ids).all():
        cause = f": it holds {len(ids):,} of the {len(dataset):,} examples"
    elif len(ids) > len(dataset) and np.isin(dataset.ids, ids).all():
        cause = f": it holds {len(ids):,} examples, all of these {len(dataset):,} among them"
    raise InputError(
        f"{path} belongs to {facts['dataset']} (fingerprint {str(facts['fingerprint'])[:12]}), not to "
        f"{here} (fingerprint {dataset.fingerprint[:12]}){cause}"
    )
