"""One checkpoint on disk: Orbax's files, and a record that proves them and says what they belong to."""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from diet_jax.devices.processes import is_alone
from diet_jax.errors import InputError
from diet_jax.files.arrays import DamagedFile
from diet_jax.files.digests import arrays_digest, file_digest
from diet_jax.files.writing import keep_names, make_folder, write_atomically

RECORD = "digest.json"
STAGING = "saving"
FORMAT = "diet_jax checkpoint 1"
# What is written must travel: a file holds up to one chunk, of this size too, more than this.
FILE_BYTES = 7 * 2**20
# For so long Orbax's threads may go on to write after it has said that it failed.
_LATE_SECONDS = 2.0


def write_checkpoint(path: Path, leaves: dict[str, np.ndarray], belongs_to: dict[str, Any]) -> None:
    """Writes arrays as a checkpoint that is not there yet, whole or not at all.

    Args:
        path: its folder, named by the step.
        leaves: arrays by name.
        belongs_to: JSON values, "step" among them.

    Raises:
        OSError, ValueError, RuntimeError: it cannot be written there.
    """
    # What a killed process left of another is in the way.
    beside = path.parent / STAGING
    remove_staged(path.parent)
    make_folder(beside)
    staged = beside / path.name
    with _checkpointer() as checkpointer:
        checkpointer.save(
            staged.absolute(), args=ocp.args.PyTreeSave(leaves, ocdbt_target_data_file_size=FILE_BYTES)
        )
    record = {
        "format": FORMAT,
        "belongs_to": belongs_to,
        "leaves": arrays_digest(leaves),
        "files": {name: file_digest(file) for name, file in sorted(_files(staged).items())},
    }
    write_atomically(staged / RECORD, _record_text(record))
    staged.rename(path)
    keep_names(path.parent)
    shutil.rmtree(beside)


def remove_staged(folder: Path) -> None:
    """Removes what an unfinished write left in a folder of checkpoints, what comes late included."""
    staging, until = folder / STAGING, time.monotonic() + _LATE_SECONDS
    shutil.rmtree(staging, ignore_errors=True)
    while staging.exists() and time.monotonic() < until:
        time.sleep(0.02)
        shutil.rmtree(staging, ignore_errors=True)


def verify_checkpoint(path: Path) -> dict[str, Any]:
    """Verifies a checkpoint, file by file and array by array.

    Args:
        path: its folder, named by the step.

    Returns:
        What it belongs to, JSON values: "step", and of a training in a run folder "unit", "key", "keep",
        "config" and "fingerprint".

    Raises:
        InputError: anything in it is not as it was written; the message names the folder and the file.
    """
    return read_checkpoint(path)[1]


def read_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads a checkpoint and verifies it: returns its arrays by name, and what it belongs to.

    Every file is verified before Orbax sees one, since damaged ones make it crash, or read other numbers.

    Raises:
        InputError: anything in it is not as it was written; the message names the folder and the file.
    """
    try:
        record = _verified_record(path)
        with _checkpointer() as checkpointer:
            stored = checkpointer.restore(path.absolute(), args=ocp.args.PyTreeRestore())
        leaves = {str(name): np.asarray(leaf) for name, leaf in stored.items()}
    except InputError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise damaged(path, lines[0][:200] if lines else type(error).__name__) from error
    if arrays_digest(leaves) != record["leaves"]:
        raise damaged(path, "its arrays are not those that were written")
    step = record["belongs_to"]["step"]
    if path.name != str(step):
        what = f"checkpoint {path} holds step {step}, not {path.name}; it was moved"
        raise DamagedFile(what, remedy(path))
    return leaves, record["belongs_to"]


def damaged(path: Path, what: str) -> DamagedFile:
    """Returns the error for a checkpoint that is not as it was written."""
    return DamagedFile(f"checkpoint {path} is damaged ({what})", remedy(path))


def remedy(path: Path) -> str:
    """Says what to do about a checkpoint that cannot be used."""
    return (
        f"delete the folder {path}, and the result of that network where it is there already: the training, "
        f"called again, then goes on from an earlier checkpoint of its own or from the start"
    )


def _verified_record(path: Path) -> dict[str, Any]:
    """The record of a checkpoint whose files are all as it says."""
    if not (path / RECORD).is_file():
        raise damaged(path, f"there is no {RECORD}")
    try:
        text = (path / RECORD).read_bytes()
        record = json.loads(text)
        del record["digest"]
        whole = record["format"] == FORMAT and text == _record_text(record).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise damaged(path, f"{RECORD} is not what was written")
    written, there = record["files"], _files(path)
    for name in sorted({*written, *there}):
        if name not in there:
            raise damaged(path, f"there is no {name}")
        # What a desktop leaves everywhere, such as .DS_Store, is no part of it.
        if name not in written and not Path(name).name.startswith("."):
            raise damaged(path, f"{name} is no part of it")
        if name in written and file_digest(there[name]) != written[name]:
            raise damaged(path, f"{name} is not what was written")
    return record


def _record_text(record: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return json.dumps({**record, "digest": digest}, indent=1) + "\n"


def _files(path: Path) -> dict[str, Path]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file for file in files if file != path / RECORD}


def _checkpointer() -> ocp.Checkpointer:
    # Of several processes the first one is here alone: Orbax must not wait for the others.
    one = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes=None if is_alone() else {0}, barrier_sync_key_prefix=None
    )
    # Zarr 3 limits the size of files.
    handler = ocp.PyTreeCheckpointHandler(use_zarr3=True, multiprocessing_options=one)
    return ocp.Checkpointer(handler, multiprocessing_options=one)
