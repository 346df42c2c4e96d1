"""Runs every set of benchmarks, one after the other, each in a process of its own.

Command: make bench, or: python benchmarks/run_all.py [--only NAME ...] [--rounds N] [--out DIR]

For each set it writes NAME.json and NAME.txt, the tables as printed, and a figure for cost. A set that fails
does not keep the others from running, but the exit code tells. All take about 20 minutes on two cores.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

FOLDER = Path(__file__).parent

# The script of each set and its options. Those that say most come first.
SETS: dict[str, tuple[str, ...]] = {
    "grand": ("grand.py",),
    "grand_small_cnn": ("grand.py", "--network", "small_cnn", "--batch-size", "128"),
    "grand_mlp": ("grand.py", "--network", "mlp", "--batch-size", "128"),
    "torch_peers": ("torch_peers.py",),
    "el2n": ("el2n.py",),
    "train_step": ("train_step.py",),
    "steps_per_call": ("steps_per_call.py",),
    "ensemble": ("ensemble.py",),
    "dynamics": ("dynamics.py",),
    "scaling": ("scaling.py",),
    "convolution": ("convolution.py",),
    "startup": ("startup.py",),
    "forms": ("forms.py", "--figure", "forms.png", "--table", "forms.md"),
    "cost": ("cost.py", "--figure", "cost.png"),
    "precision": ("precision.py",),
    "rounding": ("rounding.py",),
    "counts": ("counts.py",),
    "counts_training": ("counts_training.py",),
    "bfloat16": ("bfloat16.py",),
    "growth": ("growth.py", "--figure", "growth.png", "--table", "growth.md"),
    "ntk": ("ntk.py",),
    "noise_detection": ("noise_detection.py",),
    "selection": ("selection.py", "--table", "selection.md"),
    "score_files": ("score_files.py", "--table", "score_files.md"),
    "dynamic_pruning": ("dynamic_pruning.py",),
}
# What does not measure time.
WITHOUT_ROUNDS = {
    "precision",
    "rounding",
    "counts",
    "counts_training",
    "noise_detection",
    "growth",
    "score_files",
}


@dataclass(frozen=True)
class Options:
    """Every set of benchmarks; leave the machine alone meanwhile."""

    only: tuple[str, ...] = ()
    """Names of sets, by default all: see SETS in run_all.py."""
    rounds: int | None = None
    """Calls of each variant after the first; by default each set's own number."""
    out: Path = Path("build/bench")
    """Folder for the tables, numbers and figures."""


def command(name: str, options: Options) -> list[str]:
    """Returns the command line of a set; its files go to the folder in which it will run."""
    script, *more = SETS[name]
    timed = options.rounds is not None and name not in WITHOUT_ROUNDS
    rounds = [] if not timed else ["--rounds", str(options.rounds)]
    return [sys.executable, str(FOLDER / script), *more, *rounds, "--json", f"{name}.json"]


def run(name: str, options: Options) -> bool:
    """Runs one set, printing what it prints, and returns whether it succeeded."""
    # A compiled program from an earlier run would spoil the compile times and first calls.
    env = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    env["PYTHONUNBUFFERED"] = "1"
    with (options.out / f"{name}.txt").open("w") as log:
        process = subprocess.Popen(
            command(name, options), cwd=options.out, env=env, stdout=subprocess.PIPE, text=True
        )
        for line in process.stdout or ():
            print(line, end="", flush=True)
            log.write(line)
    return process.wait() == 0


def main(options: Options) -> None:
    names = options.only or tuple(SETS)
    unknown = sorted(set(names) - set(SETS))
    if unknown:
        raise SystemExit(f"no set is called {', '.join(unknown)}; there are {', '.join(SETS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    failed, begin = [], time.monotonic()
    for name in names:
        start = time.monotonic()
        print(f"\n{name}: {' '.join(SETS[name])} ...", flush=True)
        if not run(name, options):
            failed.append(name)
        print(f"{name}: {'FAILED' if name in failed else 'done'} after {time.monotonic() - start:.0f} s")
    minutes = (time.monotonic() - begin) / 60
    print(
        f"\n{len(names) - len(failed)} of {len(names)} sets in {minutes:.0f} minutes: {options.out.resolve()}"
    )
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main(tyro.cli(Options))
