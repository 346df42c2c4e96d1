"""What selection rules read beside scores: labels, features, and how often each class is mistaken."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diet_jax.checks.arrays import plain_array
from diet_jax.errors import InputError

# By name: what it is, kinds of dtypes, axes.
BESIDE = {
    "labels": ("labels int [n], such as train.labels", "iu", 1),
    "features": ("features float [n d], such as what the last layer of a network is given", "iuf", 2),
    "class_errors": ("class_errors float [c], the share of each class that a network gets wrong", "iuf", 1),
}


def checked_beside(
    rule: str, reads: Sequence[str], given: Mapping[str, Any], count: int | None
) -> dict[str, np.ndarray]:
    """Returns what a rule reads beside scores, as arrays that cannot be written to.

    Args:
        rule: its name.
        reads: names of `BESIDE`.
        given: what there is, by these names; None where it is not given.
        count: how many examples there are, if scores tell.

    Raises:
        InputError: something is not given, of another shape or number of examples, not finite, out of range.
    """
    found: dict[str, np.ndarray] = {}
    for name in (name for name in BESIDE if name in reads):
        words, kinds, axes = BESIDE[name]
        if given[name] is None:
            raise InputError(f"the rule {rule} reads {name}, which are missing; give it {words}")
        array = plain_array(given[name], name).view()
        array.flags.writeable = False
        if array.dtype.kind not in kinds or array.ndim != axes or (axes == 2 and not array.shape[1]):
            raise InputError(f"the rule {rule} reads {words}; got {array.dtype} of shape {array.shape}")
        if name == "class_errors":
            _check_class_errors(array, found.get("labels"))
        else:
            if count is not None and len(array) != count:
                raise InputError(f"{name} of the rule {rule} are of {len(array)} examples, not of {count}")
            count = len(array)
        if name == "labels" and array.min(initial=0) < 0:
            raise InputError(f"labels must be at least 0, got {array.min()}")
        if name == "features" and not np.isfinite(array).all():
            wrong = (~np.isfinite(array)).any(axis=1)
            raise InputError(
                f"features must be finite: {int(wrong.sum())} of {len(array)} rows are not, first row "
                f"{int(wrong.argmax())}"
            )
        found[name] = array
    return found


def rows_beside(beside: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Returns the same of some of the examples; what is of classes stays as it is."""
    return {name: values if name == "class_errors" else values[rows] for name, values in beside.items()}


def _check_class_errors(errors: np.ndarray, labels: np.ndarray | None) -> None:
    classes = 0 if labels is None or not len(labels) else int(labels.max()) + 1
    outside = ~((errors >= 0) & (errors <= 1))
    if outside.any() or len(errors) < classes:
        raise InputError(
            f"class_errors must be shares from 0 to 1, of {classes} classes at least; got {len(errors)}, of "
            f"which {int(outside.sum())} are not (NaN, as of a class without examples: set it to 0)"
        )
