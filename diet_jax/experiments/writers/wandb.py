"""Weights & Biases, offline unless WANDB_MODE says otherwise."""

import importlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diet_jax.devices.progress import say
from diet_jax.experiments.writers.writer import ABOUT, WRITERS, RecordWriter, Writer
from diet_jax.files.writing import write_atomically


class WandbWriter(RecordWriter):
    """Logs the numbers of a record as UNIT/NAME, each unit against its own UNIT/step."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._units: set[str] = set()

    def write(self, record: Mapping[str, Any]) -> None:
        """Takes a record."""
        unit = record["unit"]
        axis = f"{unit}/step"
        if "step" in record and unit not in self._units:
            self._units.add(unit)
            self._run.define_metric(axis)
            self._run.define_metric(f"{unit}/*", step_metric=axis)
        values = {f"{unit}/{name}": value for name, value in record.items() if name not in ABOUT}
        self._run.log(values | ({axis: record["step"]} if "step" in record else {}))

    def close(self) -> None:
        """Ends the run; a later one goes on in it."""
        self._run.finish()


def _open(folder: Path, name: str, config: Mapping[str, Any]) -> WandbWriter:
    wandb: Any = importlib.import_module("wandb")
    # A folder that was copied goes on in the same run; two folders with one config are two.
    file = folder / "id"
    if not file.is_file():
        write_atomically(file, secrets.token_hex(8))
    # Its folder is not in the run folder, which may hold no symbolic links: WANDB_DIR, or wandb/ here.
    mode: Any = os.environ.get("WANDB_MODE") or "offline"
    about: Any = {"id": file.read_text(), "resume": "allow", "name": name, "config": dict(config)}
    run = wandb.init(project=os.environ.get("WANDB_PROJECT") or "diet_jax", mode=mode, **about)
    say(f"Weights & Biases: {mode}, {run.dir}" + "; wandb sync sends it" * (mode == "offline"))
    return WandbWriter(run)


WRITERS.register(Writer("wandb", package="wandb", extra="wandb", open=_open))
