"""The tangent kernel: time and memory of the exact kernel in blocks, and the error of its estimate.

Command: python benchmarks/ntk.py [--images N] [--width W] [--block-mib M ...] [--json PATH]
Floor:   the whole Jacobian by `jax.jacrev` and its product with itself, in one program.

Times are those of the loop on the host. Memory is what XLA plans for intermediate arrays of the same loop
inside `jit`, which keeps the same rows.
"""

import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from grand import CLASSES, IMAGE_SHAPE
from measure import PACKAGES, environment, interleaved, rows
from programs import compiled, shapes_of

import diet_jax as dj
from diet_jax.analysis.ntk import BLOCK_BYTES, estimate_logit_gram, logit_gram
from diet_jax.types import PredictFn

FLOOR = "whole Jacobian"
PAPER_IMAGES = 100
MIB = 2**20


@dataclass(frozen=True)
class Options:
    """Exact and estimated tangent kernels of ResNet18, float32, 32x32 images, random weights, eval mode."""

    images: int = 12
    width: int = 16
    """Filters of the first stage; the paper's network has 64."""
    block_mib: tuple[int, ...] = (512, 128)
    """Budgets for rows of the Jacobian, in MiB."""
    projections: tuple[int, ...] = (16, 64)
    """Of the estimates."""
    rounds: int = 2
    """Calls of each exact kernel after the first."""
    json: Path | None = None
    """Where to write the numbers."""


def whole_jacobian(predict: PredictFn, variables: dj.Variables, images: Any) -> Any:
    """The kernel as it is defined: all rows of the Jacobian at once."""
    jacobian = jax.jacrev(lambda params: predict(variables._replace(params=params), images))(variables.params)
    flat = [leaf.reshape(CLASSES * len(images), -1) for leaf in jax.tree.leaves(jacobian)]
    return sum(jnp.matmul(leaf, leaf.T, precision="highest") for leaf in flat)


def jacobian_mib(variables: Any, images: int) -> float:
    """Size of all rows of the Jacobian, in MiB."""
    leaves = jax.tree.leaves(variables.params)
    return images * CLASSES * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / MIB


def exact(options: Options, predict: PredictFn, variables: dj.Variables, images: Any) -> list[dict[str, Any]]:
    """Times the kernel in blocks of each size against the whole Jacobian."""
    blocks = {
        f"blocks of {mib} MiB": partial(logit_gram, predict, block_bytes=mib * MIB)
        for mib in options.block_mib
    }
    shapes = shapes_of((variables, images))
    whole = partial(whole_jacobian, predict)
    memory = {name: compiled(fn, *shapes).temporary_bytes for name, fn in {FLOOR: whole, **blocks}.items()}

    def call(fn: Any) -> None:
        jax.block_until_ready(fn(variables, images))

    # The blocks compile by themselves.
    variants = {name: partial(call, fn) for name, fn in {FLOOR: jax.jit(whole), **blocks}.items()}
    table = rows("exact", interleaved(variants, options.rounds), FLOOR)
    for row in table:
        row["temporary_mib"] = memory[row["variant"]] / MIB
    return table


def estimates(
    options: Options, predict: PredictFn, variables: dj.Variables, images: Any
) -> list[dict[str, Any]]:
    """Compares estimates with the exact kernel: norms of the difference, relative to the kernel's."""
    kernel = logit_gram(predict, variables, images)
    jax.block_until_ready(
        estimate_logit_gram(jax.random.key(2), predict, variables, images, num_projections=2)
    )
    table = []
    for count in options.projections:
        begin = time.perf_counter()
        estimate = jax.block_until_ready(
            estimate_logit_gram(jax.random.key(3), predict, variables, images, num_projections=count)
        )
        size = jnp.linalg.norm(kernel)
        table.append(
            {
                "what": "estimate",
                "variant": f"{count} projections",
                "median_s": time.perf_counter() - begin,
                "error": float(jnp.linalg.norm(estimate.gram - kernel) / size),
                "reported_error": float(jnp.linalg.norm(estimate.standard_error) / size),
            }
        )
    return table


def print_table(table: list[dict[str, Any]]) -> None:
    """Prints markdown; what a row does not have stays empty."""
    columns = {
        "kernel": lambda row: row["variant"],
        "first call (s)": lambda row: f"{row['first_call_s']:.1f}",
        "s": lambda row: f"{row['median_s']:.2f}",
        "ratio (lowest to highest)": lambda row: (
            f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        ),
        "temporary MiB": lambda row: f"{row['temporary_mib']:.0f}",
        "error": lambda row: f"{row['error']:.3f}",
        "reported error": lambda row: f"{row['reported_error']:.3f}",
    }

    def cell(form: Any, row: dict[str, Any]) -> str:
        try:
            return form(row)
        except KeyError:
            return ""

    print(f"| {' | '.join(columns)} |")
    print("|---" + "|--:" * (len(columns) - 1) + "|")
    for row in table:
        print(f"| {' | '.join(cell(form, row) for form in columns.values())} |")


def main(options: Options) -> None:
    model = dj.create_model("resnet18", num_classes=CLASSES, width=options.width)
    variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), IMAGE_SHAPE)
    images = jax.random.normal(jax.random.key(1), (options.images, *IMAGE_SHAPE))
    table = exact(options, model.predict, variables, images)
    table += estimates(options, model.predict, variables, images)
    print_table(table)
    print(
        f"\nResNet18 of width {options.width}, {options.images} images, {CLASSES} classes: its Jacobian has "
        f"{jacobian_mib(variables, options.images):.0f} MiB."
    )
    paper = dj.create_model("resnet18", num_classes=CLASSES)
    shapes = jax.eval_shape(lambda: paper.init(jax.random.key(0), IMAGE_SHAPE))
    paper_mib = jacobian_mib(shapes, PAPER_IMAGES)
    print(
        f"The Jacobian of the paper's ResNet18 for {PAPER_IMAGES} images has {paper_mib * MIB / 1e9:.1f} GB, "
        f"{jacobian_mib(shapes, 1) * MIB / 1e9:.2f} GB each; in blocks {BLOCK_BYTES / 1e9:.1f} GB by default."
    )
    machine = environment(PACKAGES)
    print(", ".join(f"{name} {value}" for name, value in machine.items() if name != "packages"))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        numbers = {"environment": machine, "rows": table, "paper_jacobian_mib": paper_mib}
        options.json.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options))
