"""Training: milliseconds for each step of `dj.train` and of a bare loop that does the same updates.

Command: python benchmarks/train_step.py [--json PATH]
Floor:   a step written by hand with Optax and nothing around it, called from a Python loop. It gathers the
         same rows of the same arrays on the device, normalises them, and updates. It counts no forgetting,
         keeps no metrics and is given its batches.

Whole trainings are timed, initialisation included, and divided by their steps. Both must end with the same
parameters, or there are no numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import tyro
from measure import interleaved, report, rows
from workloads import Workload, workload

import diet_jax as dj
from diet_jax.training.step import batch_rows, run_keys

# Steps of the training that is timed; few where a step takes long.
STEPS = {"mlp, digits": 400, "small_cnn, 28x28": 100, "resnet18, 32x32": 3}
FLOOR = "bare Optax step"
PER_CALL = 100


@dataclass(frozen=True)
class Options:
    """Milliseconds per training step against a bare Optax loop."""

    workloads: tuple[str, ...] = tuple(STEPS)
    """Network and images."""
    rounds: int = 5
    """Trainings of each after the first."""
    json: Path | None = None
    """Where to write the numbers."""


def bare_training(work: Workload, key: Any) -> Callable[[], Any]:
    """Returns a training by hand: the paper's SGD with a cosine schedule, in Optax's own parts."""
    config, steps, model = work.config, work.config.steps, work.model
    examples = work.train.examples()
    keys = run_keys(key)
    # Drawn beforehand: the floor pays for no shuffling.
    all_rows = np.asarray(
        batch_rows(keys.order, np.arange(len(work.train)), 0, num_steps=steps, batch_size=config.batch_size)
    )
    # The library counts updates from 1, Optax from 0.
    cosine = optax.cosine_decay_schedule(config.learning_rate, steps)
    optimizer = optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(lambda count: cosine(count + 1), momentum=config.momentum, nesterov=config.nesterov),
    )
    init, init_optimizer = jax.jit(model.init, static_argnums=1), jax.jit(optimizer.init)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(variables: dj.Variables, opt_state: Any, examples: dj.Examples, rows: Any) -> Any:
        images = dj.normalize(examples.images[rows], examples.mean, examples.std)

        def loss(params: Any) -> Any:
            logits, model_state = model.apply(variables._replace(params=params), images, train=True)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, examples.labels[rows])
            return losses.mean(), model_state

        gradient, model_state = jax.grad(loss, has_aux=True)(variables.params)
        updates, opt_state = optimizer.update(gradient, opt_state, variables.params)
        return dj.Variables(optax.apply_updates(variables.params, updates), model_state), opt_state

    def train() -> Any:
        variables = init(keys.init, work.train.image_shape)
        opt_state = init_optimizer(variables.params)
        for batch in all_rows:
            variables, opt_state = step(variables, opt_state, examples, batch)
        return jax.block_until_ready(variables)

    return train


def library_training(work: Workload, key: Any, steps_per_call: int) -> Callable[[], Any]:
    """Returns a training by `dj.train`."""
    config = replace(work.config, steps_per_call=steps_per_call)

    def train() -> Any:
        state, _ = dj.train(key, work.model, work.train, config=config)
        return jax.block_until_ready(state.variables)

    return train


def largest_difference(one: Any, other: Any) -> float:
    """Returns the largest difference of two trees, relative to the largest entry of the same leaf."""
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(np.abs(a - b).max() / max(1e-3, np.abs(a).max())) for a, b in leaves)


def main(options: Options) -> None:
    table = []
    for name in options.workloads:
        steps = STEPS.get(name, 10)
        work, key = workload(name, steps=steps), jax.random.key(0)
        variants = {
            FLOOR: bare_training(work, key),
            "dj.train, 1 step a call": library_training(work, key, 1),
        }
        if not name.startswith(("small_cnn", "resnet18")):
            # With convolutions a loop inside a call is slow on a CPU, and not the default.
            variants[f"dj.train, {PER_CALL} steps a call"] = library_training(work, key, PER_CALL)
        ends = {variant: train() for variant, train in variants.items()}
        for variant, end in ends.items():
            difference = largest_difference(ends[FLOOR], end)
            if difference > 0.01:
                raise SystemExit(f"{name}: {variant} ends elsewhere than the floor, by {difference:.1e}")
        timings = interleaved(variants, options.rounds)
        table += rows(f"{name}, {steps} steps", timings, FLOOR, divide_by=steps)
    report("A training step", table, unit="ms", path=options.json, first_call=False)


if __name__ == "__main__":
    main(tyro.cli(Options))
