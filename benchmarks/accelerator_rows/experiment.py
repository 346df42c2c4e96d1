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
# What the command may take beyond its minutes, and what this process keeps for its own end.
END_S = 10
SHOWN_LINES = 25


def experiment(visit: Visit, data_dir: Path | None) -> list[Task]:
    """One slice of `configs/cifar10.py`, if there is data."""
    return [Task("CIFAR-10", CONFIG.name, partial(_slice, visit, data_dir), "run")]


def _slice(visit: Visit, data_dir: Path | None) -> Row:
    if data_dir is None:
        raise Skipped("no data: --data-dir says where a prepared CIFAR-10 is")
    seconds = visit.left() - END_S
    if seconds < LEAST_S:
        raise Skipped(f"{max(0, seconds):.0f} s were left, and a slice wants {LEAST_S}")
    folder = visit.folder / "run"
    command = [sys.executable, "-m", "diet_jax", "run", str(CONFIG), "--run-dir", str(folder)]
    command += ["--data.data-dir", str(data_dir), "--minutes", f"{seconds / 60:.2f}"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    child = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    visit.children.append(child)
    lines: list[str] = []
    for line in child.stdout or ():
        print(line, end="", flush=True)
        lines.append(line)
    code = child.wait()
    table = folder / "table.md"
    if table.exists():
        return {"exit_code": code, "text": table.read_text(encoding="utf-8")}
    return {"exit_code": code, "text": "".join(lines[-SHOWN_LINES:]), "goes_on": True}
