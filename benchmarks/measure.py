"""Interleaved timing, and one table and JSON format for every benchmark.

Variants take turns within every round, so that a machine that slows down slows them all. Ratios are taken
within a round and only then summarised by their median: other work on the machine disturbs them least.
"""

import datetime
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

TIMED_S = 0.2
PACKAGES = ("diet_jax", "jax", "jaxlib", "flax", "numpy")


@dataclass(frozen=True)
class Timing:
    """Seconds of one variant: its first call, and one call in each later round."""

    first: float
    later: list[float]

    @property
    def median(self) -> float:
        """Median of the later calls."""
        return float(np.median(self.later))

    def ratio_to(self, floor: "Timing") -> tuple[float, float, float]:
        """Median, lowest and highest of the ratios within each round."""
        ratios = np.array(self.later) / np.array(floor.later)
        return float(np.median(ratios)), float(ratios.min()), float(ratios.max())


def seconds(fn: Callable[[], Any]) -> float:
    """Returns the wall-clock time of one call."""
    begin = time.perf_counter()
    fn()
    return time.perf_counter() - begin


def seconds_per_call(fn: Callable[[], Any]) -> float:
    """Calls a function until 0.2 s have passed and returns the mean of the calls: for short ones."""
    calls, begin = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - begin < TIMED_S:
        fn()
        calls += 1
    return (time.perf_counter() - begin) / calls


def interleaved(
    variants: dict[str, Callable[[], Any]],
    rounds: int,
    *,
    timer: Callable[[Callable[[], Any]], float] = seconds,
) -> dict[str, Timing]:
    """Times every variant once, then all of them in turn, starting with another one in each round.

    Args:
        variants: functions by name; each must return only when its result is there.
        rounds: how many calls of each after the first.
        timer: calls a function and returns its seconds.
    """
    names = list(variants)
    first = {name: timer(variants[name]) for name in names}
    later: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            later[name].append(timer(variants[name]))
    return {name: Timing(first[name], later[name]) for name in names}


def rows(what: str, timings: dict[str, Timing], floor: str, *, divide_by: int = 1) -> list[dict[str, Any]]:
    """Turns timings into table rows.

    Args:
        what: what was timed.
        timings: from `interleaved`.
        floor: name of the variant that ratios are taken to.
        divide_by: such as the number of steps of a call, for seconds per step; the first call is not
            divided, for most of it is compiling.
    """
    result = []
    for name, timing in timings.items():
        ratio, low, high = timing.ratio_to(timings[floor])
        result.append(
            {
                "what": what,
                "variant": name,
                "first_call_s": timing.first,
                "median_s": timing.median / divide_by,
                "floor": floor,
                "ratio": ratio,
                "ratio_low": low,
                "ratio_high": high,
                "later_calls_s": timing.later,
            }
        )
    return result


def environment(packages: tuple[str, ...]) -> dict[str, Any]:
    """Returns what the numbers depend on: machine, versions, date, and the load when asked."""
    import jax

    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "load_1min": load,
    }


def report(
    title: str,
    table_rows: list[dict[str, Any]],
    *,
    unit: str,
    path: Path | None,
    packages: tuple[str, ...] = PACKAGES,
    first_call: bool = True,
    columns: dict[str, tuple[str, str]] | None = None,
    notes: Sequence[str] = (),
    extra: dict[str, Any] | None = None,
) -> None:
    """Prints the rows as a table with machine and versions, and writes them as JSON.

    Args:
        title: what was measured.
        table_rows: from `rows`; further entries may have been added to some of them.
        unit: "s" or "ms", of the median column.
        path: where to write the JSON; None writes nothing.
        packages: whose versions to tell.
        first_call: show the column of first calls.
        columns: heading and format of further entries of the rows that are to be shown.
        notes: lines to print below the table.
        extra: further entries of the JSON.
    """
    machine = environment(packages)
    scale = {"s": 1, "ms": 1000}[unit]
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("variant")
    if first_call:
        table.add_column("first call (s)", justify="right")
    table.add_column(f"median ({unit})", justify="right")
    table.add_column("ratio (lowest to highest)", justify="right")
    table.add_column("to")
    columns = columns or {}
    for heading, _ in columns.values():
        table.add_column(heading, justify="right")
    last = None
    for row in table_rows:
        if last not in (None, row["what"]):
            table.add_section()
        last = row["what"]
        first = [f"{row['first_call_s']:.2f}"] if first_call else []
        ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        median = f"{scale * row['median_s']:.3g}"
        more = [format(row[key], form) if key in row else "" for key, (_, form) in columns.items()]
        table.add_row(row["what"], row["variant"], *first, median, ratio, row["floor"], *more)
    # Not cut to the terminal: a table in a log file is read later.
    console = Console(width=200)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    versions = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    console.print(
        f"{machine['date']}; {machine['cores']} cores of {machine['cpu']}, device {machine['device']}; "
        f"Python {machine['python']}, {versions}; load average at the end {machine['load_1min']}",
        highlight=False,
    )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = {"title": title, "environment": machine, "rows": table_rows, **(extra or {})}
        path.write_text(json.dumps(numbers, indent=1))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # Such as this package itself, used where it lies.
        return "not installed"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
