"""Training states on disk, by step. A missing or wrong step is an error, never another step."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.devices.mesh import fetch
from diet_jax.devices.processes import from_writer
from diet_jax.errors import InputError
from diet_jax.files.writing import cannot_write
from diet_jax.options.plain import differences
from diet_jax.training.checkpoint_files import (
    damaged,
    read_checkpoint,
    remedy,
    remove_staged,
    write_checkpoint,
)
from diet_jax.training.orbax_words import one_error_only
from diet_jax.training.step import TrainState

_POSITION = "position in the data"
# Of more differences a message names the first ones.
_NAMED = 3


class Checkpoints:
    """The checkpoints of one training, in a folder of its own: one per chosen step, step 0 included.

    A checkpoint is written to a temporary folder and renamed when complete, so a killed process leaves
    either all of it or nothing that counts. Its files hold at most 16 MiB each, and the folder can be moved.
    Whenever one is read, its contents are compared with the digests that it was written with, and what it
    belongs to with what is asked for.
    Of several processes, which all make the same calls, the first one has the folder and reads for all.

    Args:
        folder: of this training.
        facts: what decides the training, JSON values: written along, and compared when a state is read.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any] | None = None) -> None:
        self.folder = folder.absolute()
        self.facts: dict[str, Any] = json.loads(json.dumps(dict(facts or {})))

    def steps(self) -> list[int]:
        """Returns the steps that have a complete checkpoint, ascending."""
        return from_writer(self._steps)

    def save(self, state: TrainState, position: dict[str, Any] | None = None) -> None:
        """Writes a state under its own step; a step that is there already is left alone.

        Args:
            state: of a training.
            position: where the training stands in data that it streams, JSON values, stored along.
        """
        step = int(state.step)
        if step in self.steps():
            return
        leaves, _ = _leaves(state)
        if position is not None:
            leaves[_POSITION] = np.frombuffer(json.dumps(position).encode(), np.uint8)
        from_writer(lambda: self._save(step, leaves))

    def _steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        names = [p.name for p in self.folder.iterdir() if p.name.isdecimal() and p.is_dir()]
        return sorted(int(name) for name in names if name == str(int(name)))

    def _save(self, step: int, leaves: dict[str, np.ndarray]) -> None:
        try:
            with one_error_only():
                write_checkpoint(self.folder / str(step), leaves, {**self.facts, "step": step})
        except (OSError, ValueError, RuntimeError) as error:
            # What is half there takes room, and the next start would take it away.
            remove_staged(self.folder)
            raise cannot_write(f"the checkpoint of step {step} in {self.folder}", error) from error

    def remove(self, which: Callable[[int], bool]) -> None:
        """Removes the checkpoints of the steps for which `which` holds, and the folder if none is left."""
        from_writer(lambda: self._remove(which))

    def _remove(self, which: Callable[[int], bool]) -> None:
        for step in filter(which, self._steps()):
            # Renamed first: half a checkpoint must not count as one.
            trash = self.folder / f"removing-{step}"
            shutil.rmtree(trash, ignore_errors=True)
            (self.folder / str(step)).rename(trash)
            shutil.rmtree(trash)
        if self.folder.is_dir() and not self._steps():
            shutil.rmtree(self.folder)

    def restore(self, step: int, like: TrainState) -> TrainState:
        """Reads the state of exactly this step.

        Args:
            step: number of updates done.
            like: a state of the same shapes and dtypes (values are not used).

        Raises:
            InputError: there is no such step (the message lists those that exist), the checkpoint is
                damaged, or it is of another step, training or network.
        """
        return self.restore_with_position(step, like)[0]

    def restore_with_position(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any] | None]:
        """Reads the state of exactly this step as `restore` does, and its position in the data, if any."""
        leaves, structure = _leaves(like)
        wanted = {name: (a.shape, str(a.dtype)) for name, a in leaves.items()}
        stored = from_writer(lambda: self._restore(step, wanted))
        # Copies: training overwrites the state in place.
        plain = jax.tree.unflatten(structure, [jnp.array(stored[name]) for name in leaves])
        position = stored.get(_POSITION)
        return (
            jax.tree.map(_as_key_again, plain, like),
            None if position is None else json.loads(position.tobytes()),
        )

    def _restore(self, step: int, wanted: dict[str, tuple[Any, str]]) -> dict[str, np.ndarray]:
        if step not in self._steps():
            raise InputError(
                f"no checkpoint of step {step} in {self.folder}; "
                f"steps there: {', '.join(map(str, self._steps())) or 'none'}"
            )
        path = self.folder / str(step)
        leaves, belongs_to = read_checkpoint(path)
        there = {name: (a.shape, str(a.dtype)) for name, a in leaves.items() if name != _POSITION}
        for name in sorted({*there, *wanted}):
            if there.get(name) != wanted.get(name):
                raise InputError(
                    f"checkpoint {path} belongs to another network ({name}: stored {there.get(name)}, wanted "
                    f"{wanted.get(name)}); {remedy(path)}"
                )
        if int(leaves["step"]) != step:
            raise damaged(path, f"its state is that of step {int(leaves['step'])}")
        changed = differences({name: belongs_to.get(name) for name in self.facts}, self.facts)
        if changed:
            more = f"; and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
            raise InputError(
                f"checkpoint {path} belongs to another training ({'; '.join(changed[:_NAMED])}{more}); it "
                f"was moved or copied: {remedy(path)}"
            )
        return leaves


def _leaves(state: TrainState) -> tuple[dict[str, np.ndarray], Any]:
    # Typed keys, those of optimisers too, are stored as their data. NumPy copies, since training overwrites
    # the state in place.
    plain = fetch(jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state))
    leaves, structure = jax.tree.flatten_with_path(plain)
    names = (jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)
    return {name: np.array(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}, structure


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_key_again(stored: Any, like: Any) -> Any:
    return jax.random.wrap_key_data(stored, impl=jax.random.key_impl(like)) if _is_key(like) else stored
