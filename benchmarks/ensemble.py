"""How to batch seeds: examples per second of an ensemble's training with each `how`.

Command: python benchmarks/ensemble.py [--json PATH]; on an accelerator: benchmarks/accelerator.py
Floor:   how="loop", the seeds one after the other through compiled steps.

Timed is `train_ensemble`: initialisation, training, and a prediction of 32 test images (digits: its test
split). "Gain" is how many times the examples per second of one seed trained alone.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import tyro
from ceilings import matmul_flops_per_second
from measure import interleaved, report, rows
from workloads import Workload, step_flops, workload

import diet_jax as dj
from diet_jax.ensemble.over_seeds import AnyHow, resolve_how
from diet_jax.models.convolution import ConvolutionForm

ONE = "one seed"

# Steps of the training that is timed; few where a step takes long.
STEPS = {"mlp, digits": 330, "small_cnn, 28x28": 30, "cnn, 32x32": 5}


@dataclass(frozen=True)
class Options:
    """Examples per second of an ensemble's training, by how seeds are batched."""

    workloads: tuple[str, ...] = tuple(STEPS)
    """Network and images."""
    seeds: tuple[int, ...] = (1, 4)
    """Sizes of the ensemble."""
    hows: tuple[AnyHow, ...] = ("loop", "auto", "map", "vmap", "unroll")
    """Which ways to compare."""
    convolutions: tuple[ConvolutionForm, ...] = ("lax", "auto", "matmul")
    """How networks with convolutions compute them, in training and in prediction; see create_model."""
    unroll_up_to: int = 2
    """Unroll no more seeds than this, for compiling takes so much longer with each."""
    steps: int | None = None
    """Steps of the training, by default some that take a second or so on a CPU."""
    batch_size: int = 32
    """Examples of a step."""
    width: int | None = None
    """Filters of the first stage, for resnet18, resnet50 and vgg16."""
    dtype: str = "float32"
    """Dtype to compute in: float32 or bfloat16."""
    matmul_size: int = 1024
    """The peak is that of a product of two square matrices of this size, in the same dtype."""
    rounds: int = 3
    """Calls of each after the first."""
    json: Path | None = None
    """Where to write the numbers."""


def main(options: Options) -> None:
    peak = matmul_flops_per_second(options.matmul_size, options.dtype)
    table: list[dict[str, Any]] = []
    for name in options.workloads:
        forms: tuple[Any, ...] = (None,) if name.startswith("mlp") else options.convolutions
        for form in forms:
            for seeds in options.seeds:
                table += measure(options, name, form, seeds, peak)
    report(
        "Ensembles: training, by how seeds are batched",
        table,
        unit="s",
        path=options.json,
        columns={
            "examples_per_s": ("examples/s of a seed", ",.0f"),
            "gain": ("gain over one seed", ".2f"),
            "of_peak": ("of peak", ".1%"),
        },
        notes=[
            f"Peak: {peak / 1e9:,.0f} GFLOP/s, a product of two {options.dtype} matrices of "
            f"{options.matmul_size} x {options.matmul_size}."
        ],
        extra={"peak_flops_per_s": peak},
    )


def measure(
    options: Options, name: str, form: ConvolutionForm | None, seeds: int, peak: float
) -> list[dict[str, Any]]:
    """Times every way to train so many seeds and returns the rows of the table."""
    steps = options.steps or STEPS.get(name, 10)
    asked = {"convolution": form, "width": options.width, "dtype": options.dtype}
    chosen = {option: value for option, value in asked.items() if value is not None}
    work = workload(name, steps=steps, batch_size=options.batch_size, num_test=32, **chosen)
    # Else a first call would find the programs of the case before it.
    jax.clear_caches()
    variants = {}
    for how in options.hows:
        if how != "unroll" or seeds <= options.unroll_up_to:
            variants[label(how, work)] = partial(train, work, seeds, how)
    if seeds > 1:
        variants[ONE] = partial(train, work, 1, "loop")
    timings = interleaved(variants, options.rounds)
    convolution = "" if form is None else f", convolution {form}"
    what = f"{name}{convolution}: {seeds} {'seed' if seeds == 1 else 'seeds'}, {steps} steps"
    table = rows(what, timings, next(iter(variants)))
    flops = step_flops(work)
    for row in table:
        count = 1 if row["variant"] == ONE else seeds
        row["examples_per_s"] = steps * options.batch_size / row["median_s"]
        row["of_peak"] = count * steps * flops / row["median_s"] / peak
        if seeds > 1:
            row["gain"] = count / timings[row["variant"]].ratio_to(timings[ONE])[0]
    return table


def label(how: AnyHow, work: Workload) -> str:
    """The name of a variant, which tells what auto means here."""
    return f"auto ({resolve_how(how, work.model, work.train)})" if how == "auto" else how


def train(work: Workload, seeds: int, how: AnyHow) -> Any:
    """Trains an ensemble and waits for it."""
    keys = dj.seed_keys(0, "retrain", seeds)
    return jax.block_until_ready(
        dj.train_ensemble(keys, work.model, work.train, work.test, config=work.config, how=how)
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
