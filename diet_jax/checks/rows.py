"""Rows and masks of a dataset: what says which examples are meant, checked in one place."""

from typing import Any

import numpy as np
from jax.core import Tracer

from diet_jax.checks.arrays import in_code, plain_array
from diet_jax.errors import InputError


def checked_rows(rows: Any, count: int, name: str = "rows") -> np.ndarray:
    """Returns row numbers int32 `[k]`, of integers in the order given or of a mask bool `[n]`.

    Raises:
        InputError: they are neither, none, out of range, or one occurs twice.
    """
    values = plain_array(rows, name) if not isinstance(rows, slice) else np.asarray(None)
    if values.dtype == bool and values.shape == (count,):
        values = np.flatnonzero(values)
    if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values):
        remedy = f"[{name}] makes a list of one row, np.arange({count})[{name}] of a slice"
        if values.ndim == 1 and not len(values):
            remedy = "name one"
        elif values.dtype == bool:
            remedy = "use the mask that belongs to this dataset"
        elif values.dtype.kind == "f":
            remedy = f"{in_code(rows, name)}.astype(int) makes integers"
        elif values.dtype.kind in "SU":
            remedy = f"np.flatnonzero(np.isin(dataset.ids, {name})) makes rows of ids"
        raise InputError(
            f"{name} must be integers, at least one, or a mask of all {count} rows; got {values.dtype} of "
            f"shape {values.shape}: {remedy}"
        )
    distinct = len(np.unique(values))
    if values.min() < 0 or values.max() >= count or distinct < len(values):
        remedy = f"np.unique({name} % {count}) makes such of negative and repeated ones"
        if values.shape == (count,) and values.min() >= 0 and values.max() <= 1:
            remedy = f"np.flatnonzero({name}) makes rows of a mask of 0 and 1"
        elif values.max() >= count:
            remedy = f"np.flatnonzero(np.isin(dataset.ids, {name})) makes rows of ids"
        raise InputError(
            f"{name} must be distinct, from 0 to {count - 1}; got {len(values)} rows, {distinct} distinct, "
            f"from {values.min()} to {values.max()}: {remedy}"
        )
    return values.astype(np.int32)


def check_rows_within(rows: Any, count: int, name: str = "rows") -> None:
    """Raises InputError where rows that are not traced are out of range: JAX would take others, or none."""
    if isinstance(rows, Tracer) or not len(rows):
        return
    values = np.asarray(rows)
    if values.min() < 0 or values.max() >= count:
        raise InputError(f"{name} must go from 0 to {count - 1}; got {values.min()} to {values.max()}")


def checked_mask(keep: Any, count: int | None = None, name: str = "keep", of: str = "") -> np.ndarray:
    """Returns a mask bool `[n]` of as many examples as are asked for.

    Raises:
        InputError: it is none; the message has the line of code that makes one of numbers, rows or ids.
    """
    mask = plain_array(keep, name)
    if mask.dtype == bool and mask.ndim == 1 and count in (None, len(mask)):
        return mask
    must = f"{name} must be a boolean vector [n], got {mask.dtype} of shape {mask.shape}"
    if count is not None:
        whose = f" of {of}" if of else ""
        must = (
            f"{name} must be a boolean vector with one entry for each of the {count} examples{whose}, "
            f"got {mask.dtype} of shape {mask.shape}"
        )
    raise InputError(f"{must}; {_remedy(mask, count, name, in_code(keep, name))}")


def _remedy(mask: np.ndarray, count: int | None, name: str, code: str) -> str:
    if mask.dtype == bool:
        several = mask.ndim == 2 and count in (None, mask.shape[1])
        return f"take one of its masks: {name}[0]" if several else "use the mask that belongs to this dataset"
    if mask.dtype.kind in "SU":
        return f"of ids make a mask: np.isin(dataset.ids, {name})"
    if mask.dtype.kind not in "iuf" or mask.ndim != 1 or not len(mask):
        return "make a mask of True and False, one for each example"
    if set(np.unique(mask).tolist()) <= {0, 1} and (count is None or len(mask) == count):
        return f"of 0 and 1 make True and False: {code}.astype(bool)"
    if mask.dtype.kind == "f":
        return f"of scores make a mask: dj.keep_highest({name}, 0.5)"
    if count is None or (mask.min() >= 0 and mask.max() < count):
        return f"of rows make a mask: np.isin(np.arange({'n' if count is None else count}), {name})"
    return f"of ids make a mask: np.isin(dataset.ids, {name})"
