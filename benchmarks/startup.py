"""What a fresh process waits for: imports, and the first and second start of a dataset.

Command: python benchmarks/startup.py [--dataset NAME] [--json PATH]
Floor:   a fresh process that imports jax.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro
from measure import interleaved, report, rows

IMPORT_JAX = "import jax"
PROGRAMS = {
    "python, nothing imported": "pass",
    IMPORT_JAX: IMPORT_JAX,
    "import diet_jax": "import diet_jax",
    "from diet_jax import score_ensemble": "from diet_jax import create_model, score_ensemble",
}


@dataclass(frozen=True)
class Options:
    """Seconds of fresh processes."""

    dataset: str = "digits"
    """What to load; decoded copies are cached, except for the embedded digits."""
    data_dir: str | None = None
    """Where prepared datasets are; by default TFDS's own folder."""
    rounds: int = 7
    """Processes of each kind after the first, which reads the files from disk."""
    json: Path | None = None
    """Where to write the numbers."""


def start(code: str, cache: str) -> None:
    """Runs a fresh interpreter of this environment, away from the sources, with a cache folder of its own."""
    env = {**os.environ, "DIET_JAX_CACHE": cache}
    subprocess.run([sys.executable, "-c", code], env=env, cwd=cache, check=True)


def first_start(code: str, folder: str) -> None:
    """Runs with an empty cache."""
    start(code, tempfile.mkdtemp(dir=folder))


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
    report("Start-up", table, unit="s", path=options.json)


if __name__ == "__main__":
    main(tyro.cli(Options))
