"""What a fresh process waits for: imports, a dataset, and compiling before the first training step.

Command: python benchmarks/startup.py [--dataset NAME] [--starts N] [--json PATH]
Floor:   a fresh process that imports jax; of a command, its first start.

A command's first start finds no compiled program, its second one those of the first. The first training step
begins when the first program that trains is compiled, or read. Processor time is that of all threads.
ResNet18 scores 128 random images of 32x32 pixels.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from measure import Timing, interleaved, report, rows

IMPORT_JAX = "import jax"
PROGRAMS = {
    "python, nothing imported": "pass",
    IMPORT_JAX: IMPORT_JAX,
    "import diet_jax": "import diet_jax",
    "from diet_jax import score_ensemble": "from diet_jax import create_model, score_ensemble",
}
COMMANDS = {
    "diet-jax run (digits)": ("run",),
    "diet-jax score (ResNet18)": (
        *("score", "--data.name", "random", "--model.name", "resnet18", "--train.epochs", "2"),
        *("--train.batch-size", "32", "--score.epoch", "1", "--score.num-seeds", "1"),
    ),
}
FIRST, SECOND = "first start", "second start"
# Of what the command has done: when its first training step began, and all of it.
STAGES = {"step": "to the first training step", "end": "whole"}
CHILD = """
import json, os, sys, time
import jax
import numpy as np
from diet_jax.cli.main import main
from diet_jax.data.dataset import Dataset, Splits
from diet_jax.data.sources.source import SOURCES, Source

begun, path, *command = sys.argv[1:]
TRAINS = ("score_program", "train_program", "train_step", "train_steps")
found = {"compiled": 0}


def now():
    return {"wall": time.time() - float(begun), "processor": time.process_time()}


def on_event(event, **_):
    found["compiled"] += event.endswith("/cache_misses")


def on_duration(event, seconds, fun_name="", **_):
    if event.endswith("/backend_compile_duration") and any(f"({name})" in fun_name for name in TRAINS):
        found.setdefault("step", now())


def random(*, data_dir, cache_dir, quiet):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (256, 32, 32, 3), dtype=np.uint8), np.arange(256) % 10
    about = {"class_names": tuple("0123456789")}
    train = Dataset.from_arrays(images[:128], labels[:128], split="train", **about)
    stats = {"normalization": train.normalization}
    return Splits(train, Dataset.from_arrays(images[128:], labels[128:], split="test", **about, **stats))


SOURCES.register(Source(name="random", about="made up", load=random))
jax.monitoring.register_event_listener(on_event)
jax.monitoring.register_event_duration_secs_listener(on_duration)
main(command)
with open(path, "w") as file:
    json.dump({**found, "end": now()}, file)
"""


@dataclass(frozen=True)
class Options:
    """Seconds of fresh processes."""

    dataset: str = "digits"
    """What to load; decoded copies are cached, except for the embedded digits."""
    data_dir: str | None = None
    """Where prepared datasets are; by default TFDS's own folder."""
    rounds: int = 7
    """Processes of each kind after the first, which reads the files from disk."""
    starts: int = 3
    """Pairs of a first and a second start of each command; 0 leaves them out."""
    json: Path | None = None
    """Where to write the numbers."""


def start(code: str, cache: str) -> None:
    """Runs a fresh interpreter of this environment, away from the sources, with a cache folder of its own."""
    env = {**os.environ, "DIET_JAX_CACHE": cache}
    subprocess.run([sys.executable, "-c", code], env=env, cwd=cache, check=True)


def first_start(code: str, folder: str) -> None:
    """Runs with an empty cache."""
    start(code, tempfile.mkdtemp(dir=folder))


def run_command(command: tuple[str, ...], cache: str) -> dict[str, Any]:
    """Runs a command in a fresh process: its seconds at each stage, and how many programs it compiled."""
    out = Path(tempfile.mkdtemp(dir=cache))
    # JAX's own settings would choose another cache, or none.
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    env |= {name: value for name, value in os.environ.items() if name == "JAX_PLATFORMS"}
    env["DIET_JAX_CACHE"] = cache
    arguments = [str(time.time()), str(out / "times.json"), *command, "--run-dir", str(out / "run")]
    quiet = subprocess.DEVNULL
    subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], env=env, cwd=out, check=True, stdout=quiet, stderr=quiet
    )
    return json.loads((out / "times.json").read_text())


def command_rows(name: str, command: tuple[str, ...], starts: int) -> list[dict[str, Any]]:
    """Rows of a command's first and second starts: wall-clock and processor time at each stage."""
    found: dict[str, list[dict[str, Any]]] = {FIRST: [], SECOND: []}
    for _ in range(starts):
        with tempfile.TemporaryDirectory() as cache:
            for which in found:
                found[which].append(run_command(command, cache))
    table = []
    for stage, words in STAGES.items():
        for clock in ("wall", "processor"):
            taken = {which: [one[stage][clock] for one in runs] for which, runs in found.items()}
            timings = {which: Timing(seconds[0], seconds) for which, seconds in taken.items()}
            table += rows(f"{name}, {words}, {clock} time", timings, FIRST)
    for row in table:
        row["compiled"] = max(one["compiled"] for one in found[row["variant"]])
    return table


def main(options: Options) -> None:
    arguments = f"{options.dataset!r}, data_dir={options.data_dir!r}, quiet=True"
    load = f"import diet_jax; diet_jax.load_dataset({arguments})"
    with tempfile.TemporaryDirectory() as folder:
        kept = tempfile.mkdtemp(dir=folder)
        start(load, kept)
        variants: dict[str, Callable[[], None]] = {
            name: partial(start, code, kept) for name, code in PROGRAMS.items()
        }
        variants[f"load {options.dataset}, empty cache"] = partial(first_start, load, folder)
        variants[f"load {options.dataset}, cached"] = partial(start, load, kept)
        timings = interleaved(variants, options.rounds)
    table = rows("a fresh process", timings, IMPORT_JAX)
    if options.starts:
        for name, command in COMMANDS.items():
            table += command_rows(name, command, options.starts)
    compiled = {"compiled": ("programs compiled", "d")}
    report("Start-up", table, unit="s", path=options.json, columns=compiled)


if __name__ == "__main__":
    main(tyro.cli(Options))
