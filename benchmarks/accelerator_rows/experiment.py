"""The time that is left: real trainings on CIFAR-10, a slice that goes on where the last ended."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from accelerator_rows.visit import Row, Skipped, Task, Visit

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "cifar10.py"
# A slice that begins with less would do little but compile.
LEAST_S = 60
# For what ends late in the command, a compiled call or a pass over the data.
LATE_S = 20
# What the command says when it has more to do.
GOES_ON = "the same command goes on"
SHOWN_LINES = 25


def experiment(visit: Visit, data_dir: Path | None) -> list[Task]:
    """One slice of `configs/cifar10.py`, if there is data."""
    return [Task("CIFAR-10", CONFIG.name, partial(_slice, visit, data_dir))]


def command(folder: Path, data_dir: Path, seconds: float) -> list[str]:
    """Returns the command line of a slice."""
    started = [sys.executable, "-m", "diet_jax", "run", str(CONFIG), "--run-dir", str(folder)]
    return [*started, "--data.data-dir", str(data_dir), "--minutes", f"{seconds / 60:.2f}"]


def _slice(visit: Visit, data_dir: Path | None) -> Row:
    if data_dir is None:
        raise Skipped("no data: --data-dir says where a prepared CIFAR-10 is")
    seconds = visit.left() - LATE_S
    if seconds < LEAST_S:
        raise Skipped(f"{max(0, seconds):.0f} s were left, and a slice wants {LEAST_S}")
    folder = (visit.folder / "run").resolve()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    lines: list[str] = []
    with subprocess.Popen(command(folder, data_dir.resolve(), seconds), env=env, **pipes) as child:
        visit.children.append(child)
        for line in child.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    if child.returncode:
        raise RuntimeError(f"the command ended with {child.returncode}: {''.join(lines[-SHOWN_LINES:])}")
    table = folder / "table.md"
    text = table.read_text(encoding="utf-8") if table.exists() else "".join(lines[-SHOWN_LINES:])
    unfinished = [line for line in lines if GOES_ON in line]
    return {"text": "\n".join([text, *unfinished]), **({"goes_on": True} if unfinished else {})}
