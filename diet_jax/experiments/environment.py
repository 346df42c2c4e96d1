"""What a process runs on: time, command, versions, devices, and the commits of the code."""

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import diet_jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
# Of one question to git: a folder on a slow disk must not hold up a start for long.
SECONDS = 5.0


def environment() -> dict[str, Any]:
    """Returns when, how and on what this process runs: command line, versions, devices."""
    versions: dict[str, str | None] = {"diet_jax": diet_jax.__version__}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "versions": versions,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "processes": jax.process_count(),
        "devices": [d.device_kind for d in jax.devices()],
    }


def versions_of_code() -> dict[str, dict[str, Any]]:
    """Returns commit and dirty flag of this package and of the current folder, where git keeps them.

    Returns:
        By "diet_jax" and "here": `commit`, and `dirty`, whether a file that git keeps differs from it.
    """
    package = Path(diet_jax.__file__)
    found = {"diet_jax": _commit(package.parent, package.name), "here": _commit(Path.cwd())}
    return {name: commit for name, commit in found.items() if commit is not None}


def _commit(folder: Path, file: str | None = None) -> dict[str, Any] | None:
    """What git says of a folder; None where it keeps nothing there, or not this file."""
    try:
        # An installed package may stand in a folder of a repository that does not keep it.
        if file is not None:
            _git(folder, "ls-files", "--error-unmatch", file)
        commit = _git(folder, "rev-parse", "HEAD").strip()
        return {
            "commit": commit,
            "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS).stdout
