"""Seeds over devices: what an ensemble costs when its seeds are spread over fake devices or processes.

Command: python benchmarks/scaling.py [--json PATH]
Floor:   how="mesh" on one device, in one process.

Each number of devices is a process of its own, with `--xla_force_host_platform_device_count`. The devices
share the cores of the machine: with more devices than cores the ratio is the overhead of spreading,
not a speed-up. So it is with processes, which have a device each and exchange over the loopback interface
(gloo). The largest difference of any score to those of the first row stands beside it.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from measure import interleaved, report, rows, seconds
from workloads import workload

import diet_jax as dj
from diet_jax.devices import processes

SEEDS = 8
STEP = 165
NOTES = (
    "devices and processes share the cores of this machine: the ratio is overhead, not a speed-up",
    "difference: the largest of any EL2N or GraNd score to the first row of the group",
)


@dataclass(frozen=True)
class Options:
    """Seconds for scoring an ensemble (training, EL2N, GraNd), its seeds over devices or processes."""

    rounds: int = 3
    """Calls of each after the first."""
    devices: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of devices; ratios are to the first."""
    processes: tuple[int, ...] = (1, 2)
    """Numbers of processes with one device each; ratios are to the first."""
    json: Path | None = None
    """Where to write the numbers."""
    serve: Path | None = None
    """Be the process of `devices[0]` devices: score once for each line read, write the scores there."""
    process: tuple[int, str] | None = None
    """With --serve: be this one of `processes[0]` processes, which meet at this HOST:PORT."""


def serve(options: Options) -> None:
    """Answers each line on stdin, of process 0 if there are several, with the seconds of one call."""
    if options.process is not None:
        processes.start(options.process[1], options.processes[0], options.process[0])
    work = workload("mlp, digits", steps=8 * STEP)
    keys = dj.seed_keys(0, "score", SEEDS)
    with jax.set_mesh(dj.make_mesh()):
        scores: dict[str, Any] = {}

        def call() -> None:
            result = dj.score_ensemble(
                keys, work.model, work.train, config=work.config, step=STEP, how="mesh"
            )
            jax.block_until_ready(result)
            scores.update(result.scores)

        while processes.from_writer(sys.stdin.readline):
            taken = seconds(call)
            if processes.is_writer():
                print(json.dumps({"seconds": taken}), flush=True)
        if processes.is_writer():
            np.savez(options.serve, **scores)
    processes.stop()


class Worker:
    """Processes with so many devices each that score together when asked to."""

    def __init__(self, scores: Path, *, devices: int = 1, processes: int = 1):
        flags = f"--xla_force_host_platform_device_count={devices}"
        command = [sys.executable, __file__, "--processes", str(processes), "--serve", str(scores)]
        env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        meeting = f"localhost:{free_port()}"
        self._scores = scores
        self._all = [
            subprocess.Popen(
                [*command, *(("--process", str(number), meeting) if processes > 1 else ())],
                env=env,
                stdin=subprocess.PIPE,
                # Gloo prints a line when it connects.
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(processes)
        ]
        self._process = self._all[0]

    def seconds(self) -> float:
        """Lets it score once and returns how long it took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        while line and not line.startswith("{"):
            line = self._process.stdout.readline()
        return json.loads(line)["seconds"]

    def close(self) -> dict[str, np.ndarray]:
        """Ends it and returns the scores of its last call."""
        for process in self._all:
            process.communicate()
        with np.load(self._scores) as scores:
            return dict(scores)


def free_port() -> int:
    """Returns a port that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]


def measured(what: str, workers: dict[str, Worker], rounds: int) -> list[dict[str, Any]]:
    """Times workers in turn; rows with the largest difference of their scores to those of the first."""
    timings = interleaved(
        {name: worker.seconds for name, worker in workers.items()}, rounds, timer=lambda fn: fn()
    )
    table = rows(what, timings, next(iter(workers)))
    scores = [worker.close() for worker in workers.values()]
    for row, own in zip(table, scores, strict=True):
        row["difference"] = max(float(np.abs(own[name] - scores[0][name]).max()) for name in own)
    return table


def main(options: Options) -> None:
    if options.serve is not None:
        serve(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        what = f"mlp, digits, {SEEDS} seeds: score, {STEP} steps"
        table = []
        for kind, counts in {"device": options.devices, "process": options.processes}.items():
            workers = {}
            for count in counts:
                spread: Any = {"devices" if kind == "device" else "processes": count}
                plural = "" if count == 1 else "es" if kind == "process" else "s"
                path = Path(folder) / f"{kind}{count}.npz"
                workers[f"{count} {kind}{plural}"] = Worker(path, **spread)
            table += measured(f"{what} ({kind})", workers, options.rounds)
    report(
        "Seeds over the devices and processes of one machine",
        table,
        unit="s",
        path=options.json,
        columns={"difference": ("difference", ".1e")},
        notes=NOTES,
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
