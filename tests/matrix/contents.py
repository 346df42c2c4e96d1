"""What a run folder holds, so that two of them can be compared bit for bit; times and places are left out."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.experiments.provenance import read_provenance
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.training.checkpoint_files import RECORD, read_checkpoint

# One that is started twice has more starts, and may be told more often how long a stage took; costs.csv has
# the seconds that selecting took, and report.html all of these.
LEFT_OUT = (
    "config.json",
    "metrics.jsonl",
    "starts.jsonl",
    "provenance.json",
    "costs.csv",
    "report.html",
    ".lock",
)
TIMED = ("stage/", "select/")


def _bits(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return str(array.dtype), array.shape, np.ascontiguousarray(array).tobytes()


def _archive(path: Path) -> dict[str, Any]:
    with np.load(path) as archive:
        header = json.loads(str(archive["header"]))
        # Where the run lies, and when it ran.
        header.pop("provenance", None)
        # It is of these facts too.
        header.pop("checksum", None)
        return {"header": header, **{name: _bits(archive[name]) for name in archive if name != "header"}}


def _checkpoint(path: Path) -> dict[str, Any]:
    leaves, belongs_to = read_checkpoint(path)
    belongs_to["config"] = {k: v for k, v in belongs_to["config"].items() if k != "run_dir"}
    return {"belongs_to": belongs_to, **{name: _bits(leaf) for name, leaf in leaves.items()}}


def log_of(folder: Path) -> list[str]:
    """The lines of metrics.jsonl without times, sorted: seeds that are done again come later."""
    lines = [
        {k: v for k, v in line.items() if k not in ("time", "seconds")}
        for line in RunFolder(folder).metrics()
    ]
    return sorted(json.dumps(line) for line in lines if not line["unit"].startswith(TIMED))


def contents(folder: Path) -> dict[str, Any]:
    """Tables and figures as they are, arrays and facts of files, leaves of checkpoints, and the log."""
    found: dict[str, Any] = {"metrics.jsonl": log_of(folder)}
    checkpoints = [record.parent for record in folder.rglob(RECORD)]
    for path in checkpoints:
        found[str(path.relative_to(folder))] = _checkpoint(path)
    for path in folder.rglob("*"):
        inside = any(path.is_relative_to(place) for place in checkpoints)
        if path.is_file() and not inside and path.name not in LEFT_OUT:
            found[str(path.relative_to(folder))] = (
                _archive(path) if path.suffix == ".npz" else path.read_bytes()
            )
    made = read_provenance(RunFolder(folder))
    made["config"].pop("run_dir")
    # The commit may change between two starts, as the tests themselves are edited.
    made.pop("code")
    for name in ("finished", "starts"):
        made.pop(name)
    made["files"].pop("costs.csv")
    found["provenance.json"] = made
    header = RunFolder(folder).header()
    header["config"].pop("run_dir", None)
    found["config.json"] = header["config"], header["resolved"].get("fingerprint")
    return found


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """The names of what differs, is missing or is there beside."""
    return sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))


def flip(path: Path) -> None:
    """Changes a bit in the middle of a file, of an archive within what is stored."""
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    if path.suffix == ".npz":
        # Beside it an archive has bytes that say nothing, such as dates.
        largest = max(zipfile.ZipFile(path).infolist(), key=lambda member: member.compress_size)
        place = largest.header_offset + 30 + len(largest.filename) + largest.compress_size // 2
    content[place] ^= 1
    path.write_bytes(content)
