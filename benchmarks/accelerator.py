"""Everything that is measured on an accelerator, in one short visit, needing no package index there.

Command: python benchmarks/accelerator.py --minutes 8 --out DIR [--data-dir DIR] [--parts NAME ...] [--tiny]
Floor:   one seed after the other, the ordinary gradient, the program without a flag, PyTorch: see each part.

The most telling rows come first; each is written at once, and one that fails is recorded as failed. What
would take longer than what is left is not begun, and the process ends in time whatever it is at. A second
visit with the same folder goes on where the first ended. It needs what the library imports, not the command's
packages, and the package itself only as it lies here. PyTorch is compared with where it is installed. The
trainings at the end need the command's packages and a prepared CIFAR-10. Away from an accelerator everything
is smaller, and with --tiny as small as can be.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
PARTS = ("first", "training", "scores", "flags", "torch", "layers", "rest", "run")


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, got {text}")
    return minutes


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the options; argparse, for the machine may have no other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--minutes", type=_minutes, default=8, help="how long, from the start of this process"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json, gpu.md and rows.jsonl")
    parser.add_argument(
        "--data-dir", type=Path, help="where a prepared CIFAR-10 is, for real trainings at the end"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these")
    parser.add_argument("--tiny", action="store_true", help="everything as small as can be, for the tests")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> str:
    """Measures; returns "done", or how it ended before, when work may be left in a thread."""
    begin, options = time.monotonic(), parsed(arguments)
    for path in (FOLDER, FOLDER.parent):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    # Room for PyTorch, or a training in a process of its own, beside this one.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
    # Imported here: PyTorch's process imports this file too.
    from accelerator_rows.visit import RESERVE_S, in_time

    deadline = begin + 60 * options.minutes
    visits: list[Any] = []
    seconds = deadline - RESERVE_S - time.monotonic()
    ended = in_time(lambda: measure(options, deadline, visits), seconds)
    for visit in visits:
        visit.close(ended)
    print(f"{ended}: {options.out.resolve()}", flush=True)
    return ended


def measure(options: argparse.Namespace, deadline: float, visits: list[Any]) -> None:
    """Does all tasks, and puts the visit where whoever waits can close it."""
    import jax
    from accelerator_rows import experiment, peers, report, scores, setting, training
    from accelerator_rows.visit import Visit

    # Compile times are measured.
    jax.config.update("jax_compilation_cache_dir", None)
    accelerated = jax.default_backend() != "cpu"
    scale = setting.TINY if options.tiny else setting.FULL if accelerated else setting.ON_CPU
    visit = Visit(options.out, surroundings(scale.name), report.markdown, deadline, scale.caution)
    visits.append(visit)
    bench = setting.Bench(scale)
    alone, together = training.one_seed(bench), training.many_seeds(bench)
    scored = scores.scores(bench)
    # What decides how the library works by default: one network, several at once, GraNd in each precision.
    number = len(scores.DTYPES)
    first = [alone[0], together[0], *scored[:number]]
    torch = peers.Peers(bench)
    parts = {
        "first": [*training.ceilings(bench), *first],
        "training": [*together[1:3], *alone[1:]],
        "scores": scored[number:],
        "flags": training.flags(bench),
        "torch": torch.tasks(),
        "layers": scores.layers(bench),
        "rest": together[3:],
    }
    visit.run(task for name, tasks in parts.items() if name in options.parts for task in tasks)
    torch.close()
    if "run" in options.parts:
        visit.run(experiment.experiment(visit, options.data_dir))


def surroundings(scale: str) -> dict[str, Any]:
    """Returns what the numbers depend on."""
    import jax
    from measure import environment

    found = environment(PACKAGES)
    found.pop("load_1min")
    client = jax.devices()[0].client
    return {
        "scale": scale,
        **found,
        "devices": jax.device_count(),
        "platform": " ".join(client.platform_version.split()) or client.platform,
        "commit": commit(),
        "sources": sources(),
    }


def commit() -> str:
    """Returns the commit that is checked out, as far as Git knows."""
    command = ["git", "-C", str(FOLDER), "rev-parse", "--short=10", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def sources() -> str:
    """Returns a fingerprint of the package's code, which Git may not know or have committed."""
    paths = sorted((FOLDER.parent / "diet_jax").rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


if __name__ == "__main__":
    if main() != "done":
        # What a compiler is still at cannot be stopped in any other way.
        os._exit(0)
