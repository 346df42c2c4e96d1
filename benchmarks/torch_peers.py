"""GraNd against PyTorch, on the CPU: the same network, weights and batch in both.

Command: python benchmarks/torch_peers.py [--batch-size B] [--json PATH]
Floor:   PyTorch's ordinary gradient of the mean loss; then PyTorch's ghost norm, its fastest way to the
         gradient norm of every example that we could write (torch_ghost.py).

Each framework has a process of its own that lives through all rounds. They take turns, so only one computes
at a time, on all cores. Without PyTorch (the extra "bench") there is nothing to compare with.
"""

import importlib.util
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from measure import PACKAGES, interleaved, report, rows
from remote import Remote

MOST_DIFFERENCE = 1e-5  # median, relative, in float32


@dataclass(frozen=True)
class Options:
    """Time of GraNd in PyTorch and in JAX: ResNet18 on 32x32 images, float32, eval mode."""

    batch_size: int = 32
    """Examples of one call."""
    width: int = 64
    """Filters of the first stage; 64 is ResNet18."""
    channels_last: bool = False
    """PyTorch's other memory layout."""
    rounds: int = 5
    """Calls of each after the first."""
    json: Path | None = None
    """Where to write the numbers."""


def differences(norms: dict[str, np.ndarray], reference: str) -> dict[str, dict[str, float]]:
    """Returns the median and largest relative difference of each way's norms to those of one of them.

    Rounding decides on which side of 0 a relu's input falls, and with it a whole example's gradient: the
    largest difference says less about a formula than the median does.
    """
    exact = norms[reference].astype(float)
    result = {}
    for name, values in norms.items():
        relative = np.abs(values - exact) / exact
        result[name] = {"difference": float(np.median(relative)), "difference_most": float(relative.max())}
    return result


def main(options: Options) -> None:
    if importlib.util.find_spec("torch") is None:
        print("torch_peers: skipped, PyTorch is not installed: pip install 'diet_jax[bench]'")
        return
    # Both compute on the CPU; a child inherits this.
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Only for what they name: nothing is computed in this process.
    import jax_ways
    import torch_ways

    size, width = options.batch_size, options.width
    with Remote(jax_ways.build, size, width) as jax_process:
        data = [jax_process.result(name) for name in ("weights", "images", "labels")]
        with Remote(torch_ways.build, *data, width, options.channels_last) as torch_process:
            owner = {
                **dict.fromkeys(torch_ways.TIMED, torch_process),
                **dict.fromkeys(jax_ways.TIMED, jax_process),
            }
            scores = {name: owner[name].result(name) for name in owner if "ordinary" not in name}
            differ = differences(scores, torch_ways.VMAP)
            variants = {name: partial(process.seconds, name) for name, process in owner.items()}
            # Timed in the child, so that the way to it and back does not count.
            timings = interleaved(variants, options.rounds, timer=lambda seconds: seconds())
            layers, threads = torch_process.result("layers"), torch_process.result("threads")
    what = f"width {width}, batch {size}"
    table = rows(what, timings, torch_ways.ORDINARY)
    ghosts = {name: timings[name] for name in (torch_ways.GHOST, jax_ways.GRAND)}
    table += rows(what, ghosts, torch_ways.GHOST)
    for row in table:
        row["images_per_s"] = options.batch_size / row["median_s"]
        row.update(differ.get(row["variant"], {}))
    used = {way: [name for name in layers if layers[name] == way] for way in sorted(set(layers.values()))}
    ways = "; ".join(f"{way} in {', '.join(names)}" for way, names in used.items())
    report(
        "GraNd of ResNet18, float32, in PyTorch and in JAX",
        table,
        unit="ms",
        path=options.json,
        packages=(*PACKAGES, "torch"),
        first_call=False,
        columns={
            "images_per_s": ("img/s", ".3g"),
            "difference": ("difference", ".1e"),
            "difference_most": ("most", ".1e"),
        },
        notes=[
            "difference: of an example's norm to that from torch.func, relative, median and largest",
            f"PyTorch used {threads} threads",
            f"ghost norm, fastest way of each convolution: {ways}",
        ],
        extra={"options": {**vars(options), "json": None}, "ghost_ways": layers},
    )
    if max(entry["difference"] for entry in differ.values()) > MOST_DIFFERENCE:
        raise SystemExit("torch_peers: the norms differ, so the times above are not of the same computation")


if __name__ == "__main__":
    main(tyro.cli(Options))
