"""The state of a `DynamicsLog` on disk, with what it must be of."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.checks.arrays import plain_array
from diet_jax.checks.values import check_path
from diet_jax.devices.processes import from_writer
from diet_jax.errors import InputError
from diet_jax.files.arrays import load_arrays, save_arrays
from diet_jax.scores.score import Score

KIND = "dynamics log"
FACTS = ("num_classes", "definitions", "keeps_paths")
REMEDY = "log the loop anew, or take an older one"


class SavedLog(NamedTuple):
    """What a file of a log holds."""

    num_classes: int
    definitions: dict[str, str]
    """Of its scores, by name."""
    keeps_paths: bool
    arrays: dict[str, np.ndarray]
    """"labels" and "times" `[n]`, "ids" `[n]` where it has some, and the leaves of its state by number."""

    def state_like(self, like: Any, file: Any) -> Any:
        """Returns the state, of the shapes of another one.

        Raises:
            InputError: it has other shapes: it is of another version.
        """
        leaves, structure = jax.tree.flatten(like)
        found = [self.arrays.get(_leaf(number)) for number in range(len(leaves))]
        shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
        if [None if leaf is None else (leaf.shape, leaf.dtype) for leaf in found] != shapes:
            raise InputError(f"{file} was written by another version of diet_jax; {REMEDY}")
        return jax.tree.unflatten(structure, [jnp.array(leaf) for leaf in found])


def _leaf(number: int) -> str:
    return f"state_{number}"


def save_log(
    path: str | os.PathLike[str],
    scores: Iterable[Score],
    num_classes: int,
    arrays: Mapping[str, np.ndarray],
    state: Any,
    keeps_paths: bool,
) -> None:
    """Writes a log as one .npz, whole or not at all; see `SavedLog`."""
    leaves = {_leaf(number): np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(state))}
    facts = {"num_classes": num_classes, "keeps_paths": keeps_paths}
    facts["definitions"] = {score.name: score.definition for score in scores}
    check_path(path, "path")
    from_writer(lambda: save_arrays(path, KIND, {**arrays, **leaves}, facts))


def read_log(path: str | os.PathLike[str]) -> SavedLog:
    """Reads what `save_log` wrote.

    Raises:
        InputError: it is missing, damaged or no log.
    """
    check_path(path, "file")
    load = {"known": FACTS, "made_by": "DynamicsLog.save(path)", "remedy": REMEDY}
    arrays, facts = from_writer(lambda: load_arrays(path, KIND, None, **load))
    return SavedLog(**facts, arrays=arrays)


def check_definitions(path: Any, scores: Iterable[Score], saved: Mapping[str, str]) -> None:
    """Raises InputError unless scores are those of a log, defined as they were."""
    here = {score.name: score.definition for score in scores}
    if set(here) != set(saved):
        raise InputError(
            f"{path} is a log of {', '.join(saved)}, not of {', '.join(here)}; give it its scores"
        )
    for name, definition in saved.items():
        if here[name] != definition:
            raise InputError(
                f"{path} logged {name} as {definition!r}, here it is {here[name]!r}; give those that the log "
                f"was made with, scores="
            )


def checked_ids(ids: Any, count: int) -> np.ndarray:
    """Returns ids `[n]` of all examples; InputError unless they are different integers or texts."""
    found = plain_array(ids, "ids")
    if found.ndim != 1 or found.dtype.kind not in "iuU":
        raise InputError(f"ids must be integers or text [{count}], got {found.dtype} of shape {found.shape}")
    if len(found) != count or len(set(found.tolist())) != count:
        raise InputError(
            f"ids must be {count:,} different ones, one for each example; got {len(found):,}, of which "
            f"{len(set(found.tolist())):,} differ"
        )
    return found
