"""EL2N: time of the score of a batch.

Command: python benchmarks/el2n.py [--json PATH]
Floor:   the forward pass of the same batch alone, which returns the logits.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import tyro
from grand import CLASSES, IMAGE_SHAPE, NetworkName, batches
from measure import report
from programs import compiled, timed

import diet_jax as dj
from diet_jax.types import PredictFn

FLOOR = "forward pass"


@dataclass(frozen=True)
class Options:
    """Time of EL2N against the forward pass, float32, 32x32 images, random weights."""

    networks: tuple[NetworkName, ...] = ("mlp", "small_cnn", "resnet18")
    batch_size: int = 128
    """Examples of one call."""
    rounds: int = 7
    """Timings of each after the first; a timing is the mean of the calls in 0.2 s."""
    json: Path | None = None
    """Where to write the numbers."""


def forward(predict: PredictFn, variables: dj.Variables, images: Any, labels: Any) -> Any:
    """Only the logits; the labels are an argument so that both programs are called alike."""
    return predict(variables, images)


def main(options: Options) -> None:
    table = []
    batch = next(batches(1, options.batch_size))
    for network in options.networks:
        model = dj.create_model(network, num_classes=CLASSES)
        variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), IMAGE_SHAPE)
        fns = {FLOOR: partial(forward, model.predict), "el2n": partial(dj.el2n, model.predict)}
        programs = {name: compiled(fn, variables, *batch) for name, fn in fns.items()}
        what, size = f"{network}, batch {options.batch_size}", options.batch_size
        table += timed(what, programs, (variables, *batch), FLOOR, options.rounds, examples=size)
    report(
        "EL2N: a batch's scores",
        table,
        unit="ms",
        path=options.json,
        first_call=False,
        columns={"images_per_s": ("img/s", ".3g")},
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
