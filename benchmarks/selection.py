"""What each selection rule takes: seconds and peak memory against the number of examples.

Command: python benchmarks/selection.py [--sizes 50000 1000000] [--rounds 3] [--json PATH] [--table PATH]
Floor:   the rule highest at the same size.

Each cell is a process of its own: its peak memory is that of Python, the data and the rule. Scores are gamma
distributed; features are normal around one of 100 class centres. Rules that read features run at the smallest
size alone. Times are processor seconds, which other work on the machine disturbs less than the clock.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import measure
import numpy as np
import tyro

CLASSES = 100


@dataclass(frozen=True)
class Options:
    """Seconds and memory of every rule."""

    sizes: tuple[int, ...] = (50_000, 1_000_000)
    """Numbers of examples; features at the smallest alone."""
    dimensions: int = 128
    """Of the features."""
    fraction: float = 0.1
    """Keep fraction."""
    rounds: int = 3
    """Calls after the first, of which the median is taken."""
    json: Path | None = None
    """Where to write the numbers."""
    table: Path | None = None
    """Where to write them as a Markdown table."""
    cell: str | None = None
    """Used by the benchmark itself: measure one cell, such as highest,50000, and print JSON."""


def megabytes() -> float:
    """Returns the most memory that this process has held so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def processor_seconds(run: Callable[[], Any]) -> float:
    """Returns the processor time of one call, of all threads."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


def measure_cell(name: str, size: int, options: Options) -> dict[str, Any]:
    """Calls a rule on made-up scores, labels and features."""
    import diet_jax as dj

    rule, rng = dj.RULES.find(name), np.random.default_rng(0)
    if name == "window":
        rule = rule.with_options(replace(rule.options, offset=0.5))
    labels = rng.integers(0, CLASSES, size)
    scores = (rng.gamma(2.0, size=size), rng.random(size))[: rule.num_scores]
    beside: dict[str, Any] = {"labels": labels, "class_errors": rng.random(CLASSES)}
    if "features" in rule.reads:
        centres = 2 * rng.normal(size=(CLASSES, options.dimensions)).astype(np.float32)
        noise = rng.standard_normal((size, options.dimensions), np.float32)
        beside["features"] = centres[labels] + noise
    before = megabytes()

    def run() -> None:
        rule(*scores, fraction=options.fraction, **beside)

    timing = measure.interleaved({name: run}, options.rounds, timer=processor_seconds)[name]
    return {
        "rule": name,
        "examples": size,
        "first_call_s": timing.first,
        "median_s": timing.median,
        "later_calls_s": timing.later,
        "peak_mib": megabytes(),
        "before_mib": before,
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the cells as a Markdown table."""
    floors = {row["examples"]: row["median_s"] for row in rows if row["rule"] == "highest"}
    lines = [
        "| rule | examples | processor s | over highest | peak MiB | before the call |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        floor = floors.get(row["examples"])
        ratio = "" if floor is None else f"{row['median_s'] / floor:.1f}"
        lines.append(
            f"| {row['rule']} | {row['examples']:,} | {row['median_s']:.3g} | {ratio} | "
            f"{row['peak_mib']:.0f} | {row['before_mib']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    if options.cell is not None:
        name, size = options.cell.split(",")
        print(json.dumps(measure_cell(name, int(size), options)))
        return
    import diet_jax as dj

    # The floor comes first.
    rules = sorted(dj.RULES, key=lambda rule: rule.name != "highest")
    rows = []
    for size in options.sizes:
        for rule in rules:
            if "features" in rule.reads and size > min(options.sizes):
                continue
            command = [sys.executable, __file__, "--cell", f"{rule.name},{size}"]
            command += ["--dimensions", str(options.dimensions), "--rounds", str(options.rounds)]
            command += ["--fraction", str(options.fraction)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{rule.name}, {size:,}: {rows[-1]['median_s']:.3g} s", flush=True)
    print(markdown(rows))
    if options.table is not None:
        options.table.write_text(markdown(rows), encoding="utf-8")
    if options.json is not None:
        values = {"environment": measure.environment(measure.PACKAGES), "rows": rows}
        options.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options))
