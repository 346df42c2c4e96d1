"""What a score file must be, beyond its checksum: arrays that fit each other, and facts of their kinds."""

from typing import Any

import numpy as np

from diet_jax.checks.values import check_count
from diet_jax.errors import InputError
from diet_jax.files.ids import check_unique

ARRAYS = ("scores", "per_seed", "ids", "labels", "rows")
FACTS = ("name", "dataset", "fingerprint", "step", "provenance")
# Of the provenance, what every file has, and its kind.
EXPLAINS = {"definition": str, "parameters": dict, "high_means": str, "versions": dict}


def checked_parts(path: Any, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of a score file in the order of the dataset's rows.

    Raises:
        InputError: they do not fit each other, ids or rows are doubled, the scores are not the mean of the
            seeds', or a fact is missing or of another kind.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    if [len(shape) for shape in shapes.values()] != [1, 2, 1, 1, 1] or (
        len({shape[-1] for shape in shapes.values()}) != 1
    ):
        raise InputError(f"{path} is damaged: its arrays do not fit each other: {shapes}")
    kinds = {name: array.dtype.kind for name, array in arrays.items()}
    if any(kinds[name] != "f" for name in ("scores", "per_seed")):
        raise InputError(f"{path} is damaged: its scores are no floating-point numbers")
    if kinds["labels"] not in "iu" or (arrays["labels"] < 0).any():
        raise InputError(f"{path} is damaged: its labels are no class numbers")
    if kinds["ids"] not in "iuU":
        raise InputError(f"{path} is damaged: its ids are neither text nor integers")
    rows = arrays["rows"]
    in_order = kinds["rows"] in "iu" and bool((rows[1:] > rows[:-1]).all())
    distinct = in_order or len(np.unique(rows)) == len(rows)
    if kinds["rows"] not in "iu" or not distinct or (rows < 0).any():
        raise InputError(f"{path} is damaged: its rows are not those of distinct examples")
    check_unique(arrays["ids"], f"{path} is damaged")
    if not len(arrays["per_seed"]):
        raise InputError(f"{path} is damaged: it has the scores of no seed")
    with np.errstate(invalid="ignore"):
        mean = arrays["per_seed"].mean(axis=0, dtype=np.float64)
    if not np.array_equal(arrays["scores"], mean, equal_nan=True):
        raise InputError(f"{path} is damaged: its scores are not the mean of those of its seeds")
    _check_facts(path, facts)
    if in_order:
        return arrays
    order = np.argsort(rows)
    return {name: array[..., order] for name, array in arrays.items()}


def _check_facts(path: Any, facts: dict[str, Any]) -> None:
    for name in ("name", "dataset", "fingerprint"):
        if not isinstance(facts[name], str):
            raise InputError(f"{path} is damaged: its {name} is {facts[name]!r}, no text")
    try:
        if facts["step"] is not None:
            check_count(facts["step"], "step", least=0)
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    provenance = facts["provenance"]
    if not isinstance(provenance, dict):
        raise InputError(f"{path} is damaged: its provenance is {provenance!r:.80}, no object")
    for name, kind in EXPLAINS.items():
        if not isinstance(provenance.get(name), kind):
            raise InputError(f"{path} is damaged: it does not say its {name}")
    for name in ("missing_seeds", "stopped"):
        if not isinstance(provenance.get(name, {}), dict):
            raise InputError(f"{path} is damaged: its {name} is {provenance[name]!r:.80}, no object")
