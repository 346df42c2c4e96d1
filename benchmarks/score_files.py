"""Score files of a million examples and twenty seeds: seconds and peak memory of what is done with one.

Command: python benchmarks/score_files.py [--examples N] [--seeds N] [--json PATH] [--table PATH]
Floor:   the per-seed scores in memory, float32, to which peak memory is a ratio.

Each row is a process of its own. Seconds are those of the processor, which other work on the machine disturbs
less than the clock, of the first call, with what it imports and compiles. Memory is the most that Python and
NumPy allocate in a second call, beside the file that it begins with. Scores are a common part and noise for
each seed, half of each; ids are text of 13 characters.
"""

import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro


@dataclass(frozen=True)
class Options:
    """Seconds and memory of saving, loading, joining, selecting, exporting and measuring the stability."""

    examples: int = 1_000_000
    seeds: int = 20
    json: Path | None = None
    """Where to write the numbers."""
    table: Path | None = None
    """Where to write them as a Markdown table."""
    cell: str | None = None
    """Used by the benchmark itself: measure one row, and print JSON."""
    file: Path | None = None
    """Used by the benchmark itself: the score file."""


def made(options: Options) -> Any:
    """Returns a score file of the size that is asked for."""
    import diet_jax as dj

    rng = np.random.default_rng(0)
    ids = np.char.add("train_", np.char.zfill(np.arange(options.examples).astype(str), 6 + 1))
    labels = np.arange(options.examples) % 1000
    dataset = dj.Dataset.from_arrays(np.zeros((options.examples, 1), np.float32), labels, ids, kind="table")
    per_seed = rng.standard_normal((options.seeds, options.examples), np.float32)
    per_seed += rng.standard_normal(options.examples, np.float32)
    return dj.ScoreFile.from_seeds("mine", per_seed, dataset, step=1000)


def works(options: Options) -> dict[str, Callable[[Any, Path], Callable[[], Any]]]:
    """Returns what is measured, by name: given the file and its place, what to call."""
    import dataclasses

    import diet_jax as dj

    def joined(file: Any, path: Path) -> Callable[[], Any]:
        rows = np.random.default_rng(1).permutation(options.examples)
        arrays = {n: getattr(file, n)[..., rows] for n in ("scores", "per_seed", "ids", "labels", "rows")}
        other = dataclasses.replace(file, **arrays)
        return lambda: dj.ScoreFile.join([file, other])

    return {
        "save": lambda file, path: lambda: file.save(path.with_name("again.npz")),
        "load, all of it verified": lambda file, path: lambda: dj.ScoreFile.load(path),
        "join a file in another order by id": joined,
        "keep the highest half": lambda file, path: lambda: dj.keep_highest(file.scores, 0.5),
        "write CSV": lambda file, path: lambda: file.to_csv(path.with_name("again.csv")),
        "stability, 10 pairs of each size": lambda file, path: lambda: dj.stability(file.per_seed),
        "stability of halves, 5 pairs (stop_when_stable)": lambda file, path: (
            lambda: dj.stability(file.per_seed, groups=[options.seeds // 2], pairs=5)
        ),
    }


def measure_row(options: Options) -> dict[str, Any]:
    """Measures one kind of work in this process."""
    assert options.file is not None
    path = options.file
    work = works(options)[options.cell or ""](made(options), path)
    begin = time.process_time()
    work()
    seconds = time.process_time() - begin
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    return {"what": options.cell, "seconds": seconds, "peak_mib": peak}


def main(options: Options) -> None:
    if options.cell is not None:
        print(json.dumps(measure_row(options)))
        return
    floor = options.examples * options.seeds * 4 / 2**20
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.npz"
        made(options).save(path)
        size = path.stat().st_size / 2**20
        for name in works(options):
            asked = ["--examples", str(options.examples), "--seeds", str(options.seeds), "--cell", name]
            command = [sys.executable, __file__, *asked, "--file", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            row["peak_over_floor"] = row["peak_mib"] / floor
            rows.append(row)
            print(f"{name}: {row['seconds']:.2f} s, {row['peak_mib']:.0f} MiB at the most", flush=True)
    about = {"examples": options.examples, "seeds": options.seeds, "floor_mib": floor, "file_mib": size}
    if options.json is not None:
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    if options.table is not None:
        options.table.write_text(table(about, rows))


def table(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Returns the numbers as a Markdown table."""
    lines = [
        f"{about['examples']:,} examples, {about['seeds']} seeds: {about['floor_mib']:.0f} MiB of scores, "
        f"a file of {about['file_mib']:.0f} MiB.",
        "",
        "| what | processor seconds | peak memory beside the file (MiB) | over the scores' |",
        "|---|---:|---:|---:|",
        *(
            f"| {row['what']} | {row['seconds']:.2f} | {row['peak_mib']:.0f} | {row['peak_over_floor']:.2f} |"
            for row in rows
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Options))
