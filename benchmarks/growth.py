"""How the cost of scoring grows with examples and seeds: time, peak memory, and the slopes of both.

Command: python benchmarks/growth.py [--data-dir DIR] [--json PATH] [--figure PATH] [--table PATH]
Floor:   the cell with the fewest examples and seeds, to which slopes and ratios refer.

Each cell is a process of its own. Calls are made twice: the first compiles, the second is what is reported.
Times are processor seconds of the process, which other work on the machine disturbs less than the clock.
Without a folder of prepared Fashion-MNIST, images of its size are made up.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

NetworkName = Literal["mlp", "small_cnn"]
WORK = {
    "pass": "a scoring pass at initialisation",
    "ensemble": "one epoch of training and a scoring pass",
}


@dataclass(frozen=True)
class Options:
    """Processor time and memory of score_ensemble (EL2N and GraNd) against examples and seeds."""

    networks: tuple[NetworkName, ...] = ("mlp", "small_cnn")
    sizes: tuple[int, ...] = (5000, 10000, 20000, 40000)
    """Numbers of examples."""
    seeds: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of seeds."""
    data_dir: str | None = None
    """Folder that holds a prepared Fashion-MNIST."""
    json: Path | None = None
    """Where to write the numbers."""
    figure: Path | None = None
    """Where to draw them."""
    table: Path | None = None
    """Where to write them as a Markdown table."""
    cell: str | None = None
    """Used by the benchmark itself: measure one cell, such as mlp,5000,1, and print JSON."""


def megabytes() -> float:
    """Returns the most memory that this process has held so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class Recorder:
    """Takes the place of a compiled function and tells what its program's intermediate arrays take."""

    def __init__(self, jitted: Any):
        self.jitted, self.lowered, self.compiled, self.temporary = jitted, None, None, None

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Compiles once and calls."""
        return self.lower(*args, **options).compile()(*args)

    def lower(self, *args: Any, **options: Any) -> "Recorder":
        """As of a jitted function, for callers that compile themselves; always the first program."""
        if self.lowered is None:
            self.lowered = self.jitted.lower(*args, **options)
        return self

    def compile(self) -> Any:
        """As of a lowered function, once."""
        if self.compiled is None:
            self.compiled = self.lowered.compile()
            self.temporary = self.compiled.memory_analysis().temp_size_in_bytes / 2**20
        return self.compiled


def measure_cell(network: str, size: int, seeds: int, data_dir: str | None) -> list[dict[str, Any]]:
    """Measures both kinds of work in this process, the smaller one first: memory only ever rises."""
    import jax
    from workloads import synthetic

    import diet_jax as dj
    from diet_jax.data.dataset import first_examples
    from diet_jax.ensemble import scoring

    if data_dir is None:
        data = synthetic((28, 28, 1), size, 10)[0]
    else:
        data = first_examples(dj.load_dataset("fashion_mnist", data_dir=data_dir).train, size)
    model = dj.create_model(network, num_classes=10)
    config = dj.TrainConfig(epochs=2, batch_size=100, learning_rate=0.05, schedule="cosine", augment="none")
    keys = dj.seed_keys(0, "score", seeds)
    before = megabytes()
    result = []
    for what, step in {"pass": 0, "ensemble": size // config.batch_size}.items():
        recorder = Recorder(program := scoring.score_program)
        scoring.score_program = recorder
        run = partial(dj.score_ensemble, keys, model, data, config=config, step=step, names=("el2n", "grand"))
        first = _seconds(run)
        second = _seconds(run)
        scoring.score_program = program
        result.append(
            {
                "network": network,
                "what": what,
                "examples": size,
                "seeds": seeds,
                "cpu_s": second[0],
                "clock_s": second[1],
                "first_call_cpu_s": first[0],
                "peak_mib": megabytes(),
                "before_mib": before,
                "temporary_mib": recorder.temporary,
                "device": jax.devices()[0].device_kind,
            }
        )
    return result


def _seconds(run: Callable[[], Any]) -> tuple[float, float]:
    cpu, clock = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - clock


def slopes(rows: Sequence[dict[str, Any]], key: str) -> dict[str, float]:
    """Fits `log value = a + b log examples + c log seeds` by least squares and returns b and c."""
    design = np.array([[1, np.log(row["examples"]), np.log(row["seeds"])] for row in rows])
    (_, by_examples, by_seeds), *_ = np.linalg.lstsq(design, np.log([row[key] for row in rows]))
    return {"examples": float(by_examples), "seeds": float(by_seeds)}


def largest_slopes(rows: Sequence[dict[str, Any]], key: str) -> dict[str, float]:
    """Returns the slopes between the two largest sizes, and numbers of seeds: fixed costs count least."""
    sizes, seeds = (sorted({row[name] for row in rows}) for name in ("examples", "seeds"))
    value = {(row["examples"], row["seeds"]): row[key] for row in rows}

    def between(a: tuple[int, int], b: tuple[int, int], ratio: float) -> float:
        return float(np.log(value[b] / value[a]) / np.log(ratio)) if a != b else float("nan")

    n, s = sizes[-1], seeds[-1]
    m, r = sizes[max(len(sizes) - 2, 0)], seeds[max(len(seeds) - 2, 0)]
    return {"examples": between((m, s), (n, s), n / m), "seeds": between((n, r), (n, s), s / r)}


def groups(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Returns the rows of each network and kind of work."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["network"], row["what"]), []).append(row)
    return found


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the slopes and all cells as Markdown tables."""
    lines = [
        "| network | work | exponent of time in examples | in seeds | between the two largest | in seeds |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for (network, what), part in groups(rows).items():
        fit, last = slopes(part, "cpu_s"), largest_slopes(part, "cpu_s")
        lines.append(
            f"| {network} | {WORK[what]} | {fit['examples']:.2f} | {fit['seeds']:.2f} | "
            f"{last['examples']:.2f} | {last['seeds']:.2f} |"
        )
    lines += [
        "",
        "| network | work | examples | seeds | processor s | peak MiB | before the call | XLA's temporary |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        temporary = "" if row["temporary_mib"] is None else f"{row['temporary_mib']:.0f}"
        lines.append(
            f"| {row['network']} | {row['what']} | {row['examples']:,} | {row['seeds']} | "
            f"{row['cpu_s']:.2f} | {row['peak_mib']:.0f} | {row['before_mib']:.0f} | {temporary} |"
        )
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[dict[str, Any]], note: str) -> Any:
    """Draws time against examples, a line for each number of seeds, and peak memory beside it."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    from diet_jax.plotting.style import NOTE, ORDER_END, ORDER_MARKERS, TITLE, plain

    found = groups(rows)
    networks = list(dict.fromkeys(network for network, _ in found))
    panels_of = [("ensemble", "cpu_s", "processor seconds"), ("ensemble", "peak_mib", "peak memory (MiB)")]
    figure = Figure(figsize=(8.5, 3.4 * len(networks)), layout="constrained")
    grid = figure.subplots(len(networks), len(panels_of), squeeze=False)
    all_seeds = sorted({row["seeds"] for row in rows})
    colors = matplotlib.colormaps["viridis"]
    for line_of_panels, network in zip(grid, networks, strict=True):
        for panel, (what, key, label) in zip(line_of_panels, panels_of, strict=True):
            part = found[network, what]
            sizes = sorted({row["examples"] for row in part})
            for i, seeds in enumerate(all_seeds):
                line = sorted((r for r in part if r["seeds"] == seeds), key=lambda r: r["examples"])
                if not line:
                    continue
                panel.plot(
                    [row["examples"] for row in line],
                    [row[key] for row in line],
                    color=colors(ORDER_END * i / max(len(all_seeds) - 1, 1)),
                    marker=ORDER_MARKERS[i],
                    label=f"{seeds} seed{'s' if seeds > 1 else ''}",
                )
            panel.set_xscale("log", base=2)
            if key == "cpu_s":
                panel.set_yscale("log", base=2)
            panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
            panel.yaxis.set_major_formatter("{x:,.4g}")
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xlabel("examples")
            panel.set_ylabel(label)
            slope = slopes(part, key)
            found_slopes = f"examples^{slope['examples']:.2f} seeds^{slope['seeds']:.2f}"
            # Most of the memory is there before the call: a power of it says nothing.
            panel.set_title(
                f"{network}: {found_slopes}" if key == "cpu_s" else network, fontsize=9.5, loc="left"
            )
            if key == "peak_mib":
                panel.axhline(np.median([row["before_mib"] for row in part]), color="#555555", ls="--", lw=1)
                panel.set_ylim(bottom=0)
            panel.grid(color="#E5E5E5", linewidth=0.7)
            plain(panel)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False, fontsize=9)
    figure.suptitle("Cost of one epoch of training, EL2N and GraNd", **TITLE)
    figure.supxlabel(note, x=0.01, ha="left", **NOTE)
    return figure


def main(options: Options) -> None:
    if options.cell is not None:
        network, size, seeds = options.cell.split(",")
        print(json.dumps(measure_cell(network, int(size), int(seeds), options.data_dir)))
        return
    rows: list[dict[str, Any]] = []
    for network in options.networks:
        for size in options.sizes:
            for seeds in options.seeds:
                command = [sys.executable, __file__, "--cell", f"{network},{size},{seeds}"]
                command += [] if options.data_dir is None else ["--data-dir", options.data_dir]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                rows += (new := json.loads(done.stdout.splitlines()[-1]))
                print(
                    f"{network}, {size:,} examples, {seeds} seeds: "
                    + ", ".join(f"{r['what']} {r['cpu_s']:.2f} s {r['peak_mib']:.0f} MiB" for r in new),
                    flush=True,
                )
    print(markdown(rows))
    from measure import PACKAGES, environment

    machine = environment(PACKAGES)
    kind = "Fashion-MNIST" if options.data_dir else "made-up images of 28x28"
    if options.json is not None:
        numbers = {"environment": machine, "data": kind, "options": asdict(options), "rows": rows}
        options.json.write_text(json.dumps(numbers, indent=1, default=str))
    if options.table is not None:
        options.table.write_text(markdown(rows))
    if options.figure is not None:
        from diet_jax.plotting.style import save_figure

        note = f"{kind}, {machine['cores']} cores of {machine['cpu']}. Dashed: memory before the first call."
        save_figure(draw(rows, note), options.figure)


if __name__ == "__main__":
    main(tyro.cli(Options))
