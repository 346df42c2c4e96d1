"""Training states on disk, by step. A missing or wrong step is an error, never another step."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from diet_jax.devices.mesh import fetch
from diet_jax.devices.processes import from_writer, is_alone
from diet_jax.errors import InputError
from diet_jax.files.writing import cannot_write, make_folder
from diet_jax.training.orbax_words import one_error_only
from diet_jax.training.step import TrainState

_POSITION = "position in the data"
# What is written must travel: a file holds up to one chunk, of this size too, more than this.
FILE_BYTES = 7 * 2**20


class Checkpoints:
    """The checkpoints of one training, in a folder of its own: one per chosen step, step 0 included.

    A checkpoint is written to a temporary folder and renamed when complete, so a killed process leaves
    either all of it or nothing that counts. Its files hold at most 16 MiB each, and the folder can be moved.
    Of several processes, which all make the same calls, the first one has the folder and reads for all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

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
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit() and p.is_dir())

    def _save(self, step: int, leaves: dict[str, np.ndarray]) -> None:
        try:
            with one_error_only(), _manager(self.folder, create=True) as manager:
                content = ocp.args.PyTreeSave(leaves, ocdbt_target_data_file_size=FILE_BYTES)
                # Without force Orbax leaves out, without a word, a step before the latest one.
                saved = manager.save(step, args=content, force=True)
                manager.wait_until_finished()
        except (OSError, ValueError, RuntimeError) as error:
            # What is half there takes room, and the next start would take it away.
            for part in self.folder.glob(f"{step}.*"):
                shutil.rmtree(part, ignore_errors=True)
            raise cannot_write(f"the checkpoint of step {step} in {self.folder}", error) from error
        if not saved:
            raise InputError(f"the checkpoint of step {step} was not saved in {self.folder}")

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
                damaged or of another network, or the step stored inside is another one.
        """
        return self.restore_with_position(step, like)[0]

    def restore_with_position(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any] | None]:
        """Reads the state of exactly this step as `restore` does, and its position in the data, if any."""
        leaves, structure = _leaves(like)
        target = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in leaves.items()}
        stored = from_writer(lambda: self._restore(step, target))
        state: TrainState = jax.tree.unflatten(structure, [stored[name] for name in leaves])
        if int(state.step) != step:
            raise InputError(
                f"checkpoint {self.folder / str(step)} holds step {int(state.step)}, not {step}; it was "
                f"moved or renamed: delete it"
            )
        position = stored.get(_POSITION)
        return (
            jax.tree.map(_as_key_again, state, like),
            None if position is None else json.loads(np.asarray(position).tobytes()),
        )

    def _restore(self, step: int, target: dict[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
        if step not in self._steps():
            raise InputError(
                f"no checkpoint of step {step} in {self.folder}; "
                f"steps there: {', '.join(map(str, self._steps())) or 'none'}"
            )
        try:
            with _manager(self.folder, create=False) as manager:
                metadata = dict(manager.item_metadata(step))
                if _POSITION in metadata:
                    target = {**target, _POSITION: jax.ShapeDtypeStruct(metadata[_POSITION].shape, "uint8")}
                # Orbax would cut or fill up arrays of other shapes without a word.
                _check_shapes(metadata, target)
                stored = manager.restore(step, args=ocp.args.StandardRestore(target))
        except (ValueError, KeyError, TypeError, OSError, AttributeError) as error:
            reason = str(error).strip().splitlines()
            raise InputError(
                f"checkpoint {self.folder / str(step)} is damaged or belongs to another network "
                f"({reason[0][:200] if reason else type(error).__name__}); "
                f"delete that folder to train from an earlier step"
            ) from error
        return stored


def _manager(folder: Path, *, create: bool) -> ocp.CheckpointManager:
    # Of several processes the first one is here alone: Orbax must not wait for the others.
    one = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes=None if is_alone() else {0}, barrier_sync_key_prefix=None
    )
    if create:
        make_folder(folder)
    options = ocp.CheckpointManagerOptions(
        create=False, enable_async_checkpointing=False, multiprocessing_options=one
    )
    # Only the one limits the size of files, which needs Zarr 3, and only the other checks what it reads.
    handler = (
        ocp.PyTreeCheckpointHandler(use_zarr3=True, multiprocessing_options=one)
        if create
        else ocp.StandardCheckpointHandler(multiprocessing_options=one)
    )
    return ocp.CheckpointManager(folder, options=options, item_handlers=handler)


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


def _check_shapes(stored: Any, target: dict[str, jax.ShapeDtypeStruct]) -> None:
    there = {name: (tuple(a.shape), str(np.dtype(a.dtype))) for name, a in dict(stored).items()}
    wanted = {name: (tuple(a.shape), str(np.dtype(a.dtype))) for name, a in target.items()}
    for name in sorted({*there, *wanted}):
        if there.get(name) != wanted.get(name):
            raise ValueError(f"{name}: stored {there.get(name)}, wanted {wanted.get(name)}")
