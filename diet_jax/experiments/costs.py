"""What the functions of a run take, from their shapes alone, and how fast this machine is."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.devices.batching import peak_bytes
from diet_jax.experiments.setup import Setup, config_model
from diet_jax.training.dynamic_pruning.methods import rows_per_step, without_pruning
from diet_jax.training.loop import steps_per_call
from diet_jax.training.step import Program, TrainState, init_state, train_on_batch
from diet_jax.types import Examples, Model

SECONDS = 1.0
# A call of the measured program does at most so much, if one example allows: a second or two on two cores.
CPU_MEASURED_FLOPS = 2**36
ACCELERATOR_MEASURED_FLOPS = 2**43


class Cost(NamedTuple):
    """What one call of a function takes."""

    flops: float
    """Floating-point operations as XLA counts them before optimising; the body of a loop counts once."""
    temporaries: int
    """Bytes of intermediate arrays at once, as traced; XLA took 0.4 to 2.5 times that to train on CPUs."""


class Rate(NamedTuple):
    """How fast one device is."""

    flops_per_second: float
    source: str
    """Where the number comes from, in words."""


def cost_of(fn: Callable[..., Any], *shapes: Any) -> Cost:
    """Returns the cost of `fn(*shapes)`, whose arguments are pytrees of shapes; nothing is compiled.

    Example:
        >>> a, b = jax.ShapeDtypeStruct((3, 5), "float32"), jax.ShapeDtypeStruct((5, 7), "float32")
        >>> cost_of(lambda a, b: a @ b, a, b)
        Cost(flops=210.0, temporaries=84)
    """
    traced = jax.jit(fn).trace(*shapes)
    return Cost(_flops(traced.lower()), peak_bytes(traced.jaxpr.jaxpr))


def step_cost(setup: Setup, size: int | None = None) -> Cost:
    """Returns the cost of one training step, or of one without dynamic pruning on so many examples."""
    program = setup.program() if size is None else _plain_program(setup)
    program = dataclasses.replace(program, model=counted_model(setup))
    step = functools.partial(train_on_batch, program=program)
    return cost_of(step, state_shapes(setup), *batch_shapes(setup, size or rows_per_step(setup.config.train)))


def counted_model(setup: Setup) -> Model:
    """Returns the setup's network in a form whose operations can be counted, the same numbers."""
    named = setup.own.model is None and setup.config.model.name != "mlp"
    if not named or setup.config.model.convolution is not None:
        return setup.model
    # The form for CPUs has loops of its own, whose bodies would count once.
    model = dataclasses.replace(setup.config.model, convolution="lax")
    return config_model(dataclasses.replace(setup.config, model=model), setup.splits.train.num_classes)


def state_shapes(setup: Setup) -> TrainState:
    """Returns the shapes of one network's training state."""
    train = setup.splits.train
    start = functools.partial(init_state, program=setup.program())
    return jax.eval_shape(lambda: start(jax.random.key(0), train.spec, len(train)))


def batch_shapes(setup: Setup, size: int) -> tuple[Examples, Any]:
    """Returns the shapes of a batch of stored train examples and of their rows in the dataset."""
    train, shaped = setup.splits.train, jax.ShapeDtypeStruct
    stats: Any = shaped((len(train.normalization.mean),), "float32")
    images: Any = shaped((size, *train.shape), train.inputs.dtype)
    labels: Any = shaped((size,), "int32")
    return Examples(images, labels, stats, stats), labels


def nbytes(tree: Any) -> int:
    """Returns the bytes of a pytree of arrays or their shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def measured_batch(setup: Setup, step: Cost) -> int:
    """Returns the examples of the step that `measured_rate` compiles, given the cost of a full one."""
    full = setup.config.train.batch_size
    fitting = max(1, int(_most_flops() / step.flops * full))
    return min(full, 2 ** int(math.log2(fitting)))


def measured_rate(setup: Setup, step: Cost) -> Rate:
    """Compiles a training step on random numbers, of a small batch for a large network, and times it.

    Small networks do as many steps in the call as the run's own calls do.
    """
    size = measured_batch(setup, step)
    program, rng = _plain_program(setup), np.random.default_rng(0)
    looped = 1 if setup.config.data.streaming else steps_per_call(program, setup.splits.train.spec)

    def steps(state: TrainState, batch: Examples, rows: Any, count: Any) -> TrainState:
        def one(state: TrainState) -> TrainState:
            return train_on_batch(state, batch, rows, program=program)[0]

        # As in training: a loop on the device is slow for some networks.
        return one(state) if looped == 1 else jax.lax.fori_loop(0, count, lambda _, state: one(state), state)

    def drawn(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        # Kernels that keep activations in range: what overflows or vanishes may take another time.
        scale = max(1, math.prod(leaf.shape[:-1])) ** -0.5
        return jnp.asarray(scale * rng.standard_normal(leaf.shape, np.float32), leaf.dtype)

    arguments = jax.tree.map(drawn, (state_shapes(setup), *batch_shapes(setup, size)))
    flops, compiled = step_cost(setup, size).flops, jax.jit(steps).lower(*arguments, 1).compile()
    count = min(looped, max(1, int(_most_flops() / flops)))
    jax.block_until_ready(compiled(*arguments, count))  # Memory is taken for the first time.
    began, calls, seconds = time.monotonic(), 0, 0.0
    while seconds < SECONDS:  # What else the machine does comes and goes.
        jax.block_until_ready(compiled(*arguments, count))
        calls, seconds = calls + 1, time.monotonic() - began
    times = f"{calls * count} steps" if calls * count > 1 else "one step"
    return Rate(calls * count * flops / seconds, f"measured here in {times} of training on {size} examples")


def _plain_program(setup: Setup) -> Program:
    program = setup.program()
    return dataclasses.replace(program, config=without_pruning(program.config))


def _flops(lowered: Any) -> float:
    return float(lowered.cost_analysis()["flops"])


def _most_flops() -> int:
    return CPU_MEASURED_FLOPS if jax.default_backend() == "cpu" else ACCELERATOR_MEASURED_FLOPS
