"""TensorBoard's event files, by tensorboardX, which needs neither TensorFlow nor PyTorch."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from diet_jax.devices.progress import say
from diet_jax.experiments.writers.writer import ABOUT, WRITERS, RecordWriter, Writer


class TensorBoardWriter(RecordWriter):
    """Writes each number of a record as the scalar UNIT/NAME at its step; words as texts."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        # Without a purge of steps: trainings, each with steps of its own, share the file.
        self._events = SummaryWriter(logdir=str(folder))

    def write(self, record: Mapping[str, Any]) -> None:
        """Takes a record; without a step it stands at 0."""
        step, when = int(record.get("step", 0)), datetime.fromisoformat(record["time"]).timestamp()
        for name, value in record.items():
            if name in ABOUT:
                continue
            tag = f"{record['unit']}/{name}"
            if isinstance(value, (int, float)):
                self._events.add_scalar(tag, value, global_step=step, walltime=when)
            else:
                self._events.add_text(tag, str(value), global_step=step, walltime=when)

    def close(self) -> None:
        """Writes what is still held back."""
        self._events.close()


def _open(folder: Path, _: str, __: Mapping[str, Any]) -> TensorBoardWriter:
    say(f"TensorBoard: tensorboard --logdir {folder}")
    return TensorBoardWriter(folder)


WRITERS.register(Writer("tensorboard", package="tensorboardX", extra="tensorboard", open=_open))
