"""Joining by id: which row of one list of examples is which of another."""

from collections import Counter
from typing import Any

import numpy as np

from diet_jax.errors import InputError

# So many ids are named in a message.
NAMED = 3


def check_unique(ids: np.ndarray, what: Any) -> None:
    """Raises InputError where an id occurs more than once."""
    if len(set(names := ids.tolist())) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        raise InputError(f"{what}: {len(twice):,} ids occur more than once ({_some(twice)})")


def rows_by_id(ids: np.ndarray, wanted: np.ndarray, what: Any, whose: str) -> np.ndarray:
    """Returns the rows int64 `[k]` of some ids: `ids[rows]` equals `wanted`, whatever the order of both.

    Args:
        ids: `[k]`, text or integers.
        wanted: `[k]`, the same ids in another order.
        what: what `ids` are of, for messages, such as a path.
        whose: what `wanted` are of.

    Raises:
        InputError: an id is missing, doubled, or not among those wanted; it counts them and names three.
    """
    if np.array_equal(ids, wanted):
        return np.arange(len(ids))
    names, known = ids.tolist(), wanted.tolist()
    row_of = dict(zip(names, range(len(names)), strict=True))
    there = set(known)
    missing = [name for name in known if name not in row_of]
    strange = [name for name in row_of if name not in there]
    twice = [] if len(row_of) == len(names) else [name for name, n in Counter(names).items() if n > 1]
    problems = [
        f"{len(some):,} {words} ({_some(some)})"
        for some, words in (
            (missing, f"of {len(known):,} ids are missing"),
            (strange, "ids are others"),
            (twice, "ids occur more than once"),
        )
        if some
    ]
    if problems:
        kinds = {"U": "text"}
        theirs, ours = (kinds.get(array.dtype.kind, "numbers") for array in (ids, wanted))
        problems += [f"they are {theirs} here and {ours} there"] if theirs != ours else []
        raise InputError(f"{what}: its ids are not those of {whose}: {'; '.join(problems)}")
    return np.array([row_of[name] for name in known], np.int64)


def _some(names: list[Any]) -> str:
    return ", ".join(map(repr, names[:NAMED])) + (", ..." if len(names) > NAMED else "")
