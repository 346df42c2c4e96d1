"""Training states on disk, by step. A missing or wrong step is an error, never another step."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from diet_jax.errors import InputError
from diet_jax.training import TrainState


class Checkpoints:
    """The checkpoints of one training, in a folder of its own: one per chosen step, step 0 included.

    A checkpoint is written to a temporary folder and renamed when complete, so a killed process leaves
    either all of it or nothing that counts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def steps(self) -> list[int]:
        """Returns the steps that have a complete checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit() and p.is_dir())

    def save(self, state: TrainState) -> None:
        """Writes a state under its own step; a step that is there already is left alone."""
        step = int(state.step)
        if step in self.steps():
            return
        with _manager(self.folder, create=True) as manager:
            manager.save(step, args=ocp.args.StandardSave(_to_tree(state)))
            manager.wait_until_finished()

    def restore(self, step: int, like: TrainState) -> TrainState:
        """Reads the state of exactly this step.

        Args:
            step: number of updates done.
            like: a state of the same shapes and dtypes (values are not used).

        Raises:
            InputError: there is no such step (the message lists those that exist), the checkpoint is
                damaged or of another network, or the step stored inside is another one.
        """
        if step not in self.steps():
            raise InputError(
                f"no checkpoint of step {step} in {self.folder}; "
                f"steps there: {', '.join(map(str, self.steps())) or 'none'}"
            )
        target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), _to_tree(like))
        try:
            with _manager(self.folder, create=False) as manager:
                tree = manager.restore(step, args=ocp.args.StandardRestore(target))
        except (ValueError, KeyError, TypeError, OSError) as error:
            reason = str(error).strip().splitlines()
            raise InputError(
                f"checkpoint {self.folder / str(step)} is damaged or belongs to another network "
                f"({reason[0][:200] if reason else type(error).__name__}); "
                f"delete that folder to train from an earlier step"
            ) from error
        stored = int(tree["state"].step)
        if stored != step:
            raise InputError(
                f"checkpoint {self.folder / str(step)} holds step {stored}, not {step}; it was moved or "
                f"renamed: delete it"
            )
        state = tree["state"]
        return state._replace(key=jax.random.wrap_key_data(state.key))


def _manager(folder: Path, *, create: bool) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(create=create, enable_async_checkpointing=False)
    return ocp.CheckpointManager(folder, options=options)


def _to_tree(state: TrainState) -> dict[str, Any]:
    # Typed keys are stored as their data. NumPy copies, since training overwrites the state in place.
    data = jax.random.key_data(state.key)
    return {"state": jax.tree.map(np.array, state._replace(key=data))}
