"""What a training step of many networks becomes on a GPU, counted without one: compiled for an H100.

Command: python benchmarks/counts_training.py [--seeds K] [--dtype float32] [--json PATH] [--table PATH]
Floor:   the step of one network, as many times as there are networks.

As in counts.py nothing is run: XLA's compiler for GPUs makes the program, and its training loop is read.
"""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import counts
import jax
import jax.numpy as jnp
import tyro
from measure import PACKAGES, environment

import diet_jax as dj
from diet_jax.training import step as training
from diet_jax.training.step import Program, init_state, train_steps

CALLS = {
    "convolutions": ("__cudnn$convForward", "__cudnn$convBiasActivationForward"),
    "gradients of inputs": ("__cudnn$convBackwardInput",),
    "gradients of kernels": ("__cudnn$convBackwardFilter",),
}
COLUMNS = ("kernels", "gb", *CALLS, "in groups", "temporary_mib", "compile_s")
HEADINGS = ("kernels", "GB read and written", *CALLS, "in groups", "temporary MiB", "compiler, s")


@dataclass(frozen=True)
class Options:
    """Kernels, bytes and convolutions of a training step on an H100, counted."""

    seeds: int = 4
    """Networks in one program."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """What the network computes in."""
    batch_size: int = 128
    """Images of one network's step."""
    width: int = 64
    """Filters of ResNet18's first stage."""
    json: Path | None = None
    """Where to write the numbers."""
    table: Path | None = None
    """Where to write the table as Markdown."""


def plain(fn: Any) -> Any:
    """JAX's own rule for the gradient under `vmap`: what the library's is compared with."""
    return jax.value_and_grad(fn, has_aux=True)


OURS = training.value_and_grad
# What is written in the table: seeds by vmap or alone, the form, the rule for the gradient under vmap.
CASES: dict[str, tuple[bool, Any, Any]] = {
    "one network": (False, "lax", OURS),
    "vmap, lax, gradients by JAX's rule": (True, "lax", plain),
    "vmap, lax": (True, "lax", OURS),
    "vmap, matmul": (True, "matmul", OURS),
    "vmap, unrolled": (True, "unrolled", OURS),
}


def compiled(options: Options, many: bool, form: Any, gradient: Any) -> tuple[Any, float]:
    """Returns a call of some steps, compiled for an H100, and the compiler's processor seconds."""
    config = dj.TrainConfig(batch_size=options.batch_size, steps=100)
    model = dj.create_model(
        "resnet18", num_classes=10, dtype=options.dtype, convolution=form, width=options.width
    )
    program, count, steps = Program(model, config, 100, side_by_side=many), 2000, 4
    shape = jax.ShapeDtypeStruct
    examples = dj.Examples(
        *(shape((count, 32, 32, 3), "uint8"), shape((count,), "int32")),
        *(shape((3,), "float32"), shape((3,), "float32")),
    )

    def bare(state: Any) -> Any:
        return state._replace(key=jax.random.key_data(state.key))

    def run(state: Any, examples: Any, rows: Any) -> Any:
        state = state._replace(key=jax.random.wrap_key_data(state.key))
        state, metrics = train_steps(state, examples, rows, program=program)
        return bare(state), metrics

    backend = mock.patch.object(jax, "default_backend", return_value="gpu")
    with backend, mock.patch.object(training, "value_and_grad", gradient):
        like = partial(init_state, jax.random.key(0), examples.spec, count, program=program)
        state, rows = jax.eval_shape(lambda: bare(like())), shape((steps, options.batch_size), jnp.int32)
        if many:
            state, rows = jax.tree.map(lambda a: shape((options.seeds, *a.shape), a.dtype), (state, rows))
            run = jax.vmap(run, in_axes=(0, None, 0))
        begin = time.process_time()
        made = counts.for_h100(run, state, examples, rows)
    return made, time.process_time() - begin


def loop_of(hlo: str) -> str:
    """Returns the body of the loop over training steps: the longest body of any loop."""
    bodies = dict(re.findall(r"^(?:ENTRY )?%([\w.-]+) \(.*?\{\n(.*?)^\}", hlo, re.M | re.S))
    return max((bodies[name] for name in re.findall(r"body=%([\w.-]+)", hlo)), key=len)


def counted(hlo: str) -> dict[str, Any]:
    """Counts what one step of a compiled call does.

    Args:
        hlo: the text of a compiled program.
    """
    body = loop_of(hlo)
    others = re.sub(r"^ENTRY .*?^\}", "", hlo, flags=re.M | re.S)
    found = counts.counted(f"{others}\nENTRY %step () -> () {{\n{body}")
    targets = Counter(re.findall(r'custom_call_target="([^"]+)"', body))
    calls = [line for line in body.splitlines() if "__cudnn$conv" in line and "BackwardFilter" not in line]
    grouped = [line for line in calls if "feature_group_count" in line]
    return {
        "kernels": found["kernels"],
        "gb": 1e-9 * found["bytes"],
        **{what: sum(targets[name] for name in names) for what, names in CALLS.items()},
        "in groups": len(grouped),
    }


def table(options: Options, rows: list[dict[str, Any]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    lines = [
        f"ResNet18 of width {options.width}, {options.dtype}, batch {options.batch_size} each, "
        f"{options.seeds} networks by vmap; one training step, compiled for an H100. Counted, not measured.",
        "",
        f"| program | {' | '.join(HEADINGS)} |",
        f"|---|{'---:|' * len(HEADINGS)}",
    ]
    for row in rows:
        cells = [f"{row[name]:.1f}" if name == "gb" else f"{row[name]:,.0f}" for name in COLUMNS]
        lines.append(f"| {row['program']} | {' | '.join(cells)} |")
    return lines


def main(options: Options) -> None:
    if not counts.plugin_is_there():
        print("Nothing is compiled: jax-cuda12-plugin is not installed; see counts.py.")
        return
    rows = []
    for name, case in CASES.items():
        program, seconds = compiled(options, *case)
        memory = program.memory_analysis().temp_size_in_bytes / 2**20
        rows.append({"program": name, **counted(program.as_text()), "temporary_mib": memory})
        rows[-1]["compile_s"] = seconds
    lines = table(options, rows)
    print("\n".join(lines))
    if options.table is not None:
        options.table.write_text("\n".join(lines) + "\n")
    if options.json is not None:
        numbers = {"environment": environment(PACKAGES), "options": str(options), "programs": rows}
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
