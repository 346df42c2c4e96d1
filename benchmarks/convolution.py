"""Convolutions by JAX, as a matrix product, or with gradients made for CPUs: what each costs where.

Command: python benchmarks/convolution.py [--json PATH]
Floor:   the same program with the first of the forms, by default `convolution="lax"`, JAX's own convolution.

Each program is one compiled call: one gradient of the loss of a batch in train mode; the same in a loop on
the device, time of one pass; the same under `vmap` over four seeds, time of all; EL2N and GraNd of the
batch, in eval mode. Where PyTorch is installed (the extra "bench"), the gradient of resnet18 is also timed
there, in a process of its own, on the same cores and in both of its memory layouts.
"""

import importlib.util
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from measure import interleaved, report, rows
from programs import compiled
from remote import Clock, Remote
from workloads import SYNTHETIC

import diet_jax as dj
from diet_jax.models.convolution import ConvolutionForm

LOOP = 3
SEEDS = 4


@dataclass(frozen=True)
class Options:
    """Time, memory and compile time of programs with convolutions in either form."""

    workloads: tuple[str, ...] = ("small_cnn, 28x28", "cnn, 32x32")
    """Network and images."""
    batch_size: int = 32
    """Examples."""
    width: int | None = None
    """Filters of the first stage, for resnet18, resnet50 and vgg16."""
    dtype: str = "float32"
    """Dtype to compute in: float32 or bfloat16."""
    forms: tuple[ConvolutionForm, ...] = ("lax", "matmul", "cpu")
    """Which forms; "lax" takes minutes for a gradient of resnet18 in a loop."""
    uses: tuple[str, ...] = ("gradient", "gradient in a loop", "gradient of 4 seeds, vmap", "EL2N", "GraNd")
    """Which programs."""
    clock: Clock = "perf_counter"
    """"process_time" is that of all threads, for machines with other work on them."""
    rounds: int = 5
    """Calls of each after the first."""
    json: Path | None = None
    """Where to write the numbers."""


def uses_of(model: dj.Model, images: Any, labels: Any) -> dict[str, Callable[[Any], Any]]:
    """Returns the programs by name; each takes the variables of one network."""

    def gradient(variables: Any) -> Any:
        def loss(params: Any) -> Any:
            logits, _ = model.apply(variables._replace(params=params), images, train=True)
            return dj.cross_entropy(logits, labels).mean()

        return jax.grad(loss)(variables.params)

    def step(_: Any, variables: Any) -> Any:
        moved = jax.tree.map(lambda w, g: w - 0.01 * g, variables.params, gradient(variables))
        return variables._replace(params=moved)

    def four(variables: Any) -> Any:
        stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * SEEDS), variables)
        return jax.vmap(gradient)(stacked)

    return {
        "gradient": gradient,
        "gradient in a loop": lambda variables: jax.lax.fori_loop(0, LOOP, step, variables),
        "gradient of 4 seeds, vmap": four,
        "EL2N": lambda variables: dj.el2n(model.predict, variables, images, labels),
        "GraNd": lambda variables: dj.grand(model.predict, variables, images, labels),
    }


def clocked(clock: Clock, fn: Callable[..., Any], *args: Any) -> float:
    """Returns the seconds of one call."""
    now = getattr(time, clock)
    begin = now()
    fn(*args)
    return now() - begin


def times(count: int, fn: Callable[..., float], *args: Any) -> float:
    """Returns what as many calls would take as there are passes in the loop."""
    return count * fn(*args)


def main(options: Options) -> None:
    if options.clock == "process_time":
        # Threads of PyTorch that wait would count.
        os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"] = "passive", "0"
    table: list[dict[str, Any]] = []
    has_torch = importlib.util.find_spec("torch") is not None and options.dtype == "float32"
    for name in options.workloads:
        network, size = name.split(", ")
        shape = SYNTHETIC[size]
        chosen = {} if options.width is None else {"width": options.width}
        models = {
            form: dj.create_model(network, num_classes=10, dtype=options.dtype, convolution=form, **chosen)
            for form in options.forms
        }
        rng = np.random.default_rng(0)
        images = jnp.asarray(rng.normal(size=(options.batch_size, *shape)), jnp.float32)
        labels = jnp.arange(options.batch_size) % 10
        variables = jax.jit(models[options.forms[0]].init, static_argnums=1)(jax.random.key(0), shape)
        for use in options.uses:
            programs = {
                form: compiled(uses_of(model, images, labels)[use], variables)
                for form, model in models.items()
            }
            passes = LOOP if use == "gradient in a loop" else 1
            variants = {form: partial(clocked, options.clock, p, variables) for form, p in programs.items()}
            with ExitStack() as stack:
                if network == "resnet18" and use in ("gradient", "gradient in a loop") and has_torch:
                    import torch_gradient  # Imports nothing but what the child needs.

                    size_and_width = options.batch_size, options.width or 64
                    child = stack.enter_context(Remote(torch_gradient.build, *size_and_width))
                    variants |= {
                        way: partial(times, passes, child.seconds, way, options.clock)
                        for way in torch_gradient.TIMED
                    }
                # Timed where it runs.
                timings = interleaved(variants, options.rounds, timer=lambda timed: timed())
            for row in rows(
                f"{name}, batch {options.batch_size}: {use}", timings, options.forms[0], divide_by=passes
            ):
                if program := programs.get(row["variant"]):
                    row["temporary_mib"] = program.temporary_bytes / 2**20
                    row["compile_s"] = program.trace_s + program.compile_s
                table.append(row)
    report(
        "Convolutions: by JAX, as a matrix product, with gradients for CPUs",
        table,
        unit="ms",
        path=options.json,
        first_call=False,
        columns={"temporary_mib": ("temporary (MiB)", ",.0f"), "compile_s": ("trace, compile (s)", ".1f")},
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
