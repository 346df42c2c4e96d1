"""GraNd: time, memory and compile time of the gradient norm of every example of a batch.

Command: python benchmarks/grand.py [--network NAME] [--batch-size B] [--dtype bfloat16] [--json PATH]
Floor:   the ordinary gradient of the mean loss of the same batch in the same (eval) mode.

Two more comparisons: the formula of the GraNd authors' code, written anew, against `grand` on a smaller
batch, for its cost grows with the square of the batch; and the largest batch whose program fits in a given
memory, found by compiling without running.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from measure import report
from programs import Program, compiled, largest_that_fits, shapes_of, timed

import diet_jax as dj
from diet_jax.types import PredictFn

IMAGE_SHAPE = (32, 32, 3)
CLASSES = 10
FLOOR = "ordinary gradient"
REFERENCE = "grand_vmap"
Way = Callable[[dj.Variables, Any, Any], Any]
NetworkName = Literal["resnet18", "resnet50", "cnn", "small_cnn", "vgg16", "mlp"]


@dataclass(frozen=True)
class Options:
    """Time, memory, compile time and exactness of GraNd, with random weights in eval mode."""

    network: NetworkName = "resnet18"
    """On 32x32 images with 10 classes."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in; scores are compared with those of the float32 network."""
    batch_size: int = 32
    """Examples of one call."""
    check_examples: int = 128
    """Examples whose scores are compared, at least; whole batches."""
    jacrev_batch: int = 16
    """Batch size of the authors' formula; 0 leaves it out."""
    limit_gib: float = 8.0
    """Memory for the largest batch, in GiB; 0 leaves it out."""
    rounds: int = 5
    """Timings of each after the first; a timing is the mean of the calls in 0.2 s."""
    json: Path | None = None
    """Where to write the numbers."""


class Batch(NamedTuple):
    """Random images and labels."""

    images: jax.Array
    labels: jax.Array


def ordinary_gradient(predict: PredictFn, variables: dj.Variables, images: Any, labels: Any) -> Any:
    """The gradient of one training step, the batch in eval mode."""

    def loss(params: Any) -> jax.Array:
        return dj.cross_entropy(predict(variables._replace(params=params), images), labels).mean()

    return jax.grad(loss)(variables.params)


def authors_formula(predict: PredictFn, variables: dj.Variables, images: Any, labels: Any) -> Any:
    """The Jacobian of the vector of losses, a row for each example, then the norm of each row."""

    def losses(params: Any) -> jax.Array:
        return dj.cross_entropy(predict(variables._replace(params=params), images), labels)

    leaves = jax.tree.leaves(jax.jacrev(losses)(variables.params))
    jacobian = jnp.concatenate([leaf.reshape(len(labels), -1) for leaf in leaves], axis=1)
    return jnp.linalg.norm(jacobian, axis=1)


def ways_of(predict: PredictFn) -> dict[str, Way]:
    """What is compared, by name."""
    return {
        "forward only (el2n)": partial(dj.el2n, predict),
        FLOOR: partial(ordinary_gradient, predict),
        "grand": partial(dj.grand, predict),
        REFERENCE: partial(dj.grand_vmap, predict),
    }


def batches(count: int, size: int, shape: tuple[int, int, int] = IMAGE_SHAPE) -> Iterator[Batch]:
    """Yields random images; their contrast differs, and so do their scores."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        images = rng.normal(size=(size, *shape)) * rng.uniform(0.25, 2, (size, 1, 1, 1))
        labels = rng.integers(0, CLASSES, size)
        yield Batch(jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32))


def differences(scores: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Returns the largest relative difference, of all and of the tenth with the lowest reference scores."""
    relative = np.abs(scores - reference) / reference
    lowest = np.argsort(reference)[: max(1, len(reference) // 10)]
    return float(relative.max()), float(relative[lowest].max())


def largest_batches(options: Options, variables: Any, programs: dict[str, Program]) -> dict[str, Any]:
    """Finds the largest batch of `grand` and of `grand_vmap` in the memory; compiles, but runs nothing."""
    limit = int(options.limit_gib * 2**30)
    ways = ways_of(model_of(options, options.dtype).predict)
    result: dict[str, Any] = {"limit_gib": options.limit_gib}
    for name in ("grand", REFERENCE):
        sizes = {options.batch_size: programs[name].total_bytes}

        def size_of(count: int, way: Way = ways[name], sizes: dict[int, int] = sizes) -> int:
            if count not in sizes:
                images = jax.ShapeDtypeStruct((count, *IMAGE_SHAPE), jnp.float32)
                labels = jax.ShapeDtypeStruct((count,), jnp.int32)
                sizes[count] = compiled(way, shapes_of(variables), images, labels).total_bytes
            return sizes[count]

        fits, too_many = largest_that_fits(size_of, limit, first=options.batch_size, step=16)
        result[name] = {"fits": fits, "too_many": too_many, "bytes": sizes}
    result["ratio"] = result["grand"]["fits"] / max(1, result[REFERENCE]["fits"])
    return result


def model_of(options: Options, dtype: str) -> dj.Model:
    return dj.create_model(options.network, num_classes=CLASSES, dtype=dtype)


def main(options: Options) -> None:
    model = model_of(options, options.dtype)
    variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), IMAGE_SHAPE)
    size = options.batch_size
    all_batches = list(batches(-(-options.check_examples // size), size))

    args = (variables, *all_batches[0])
    programs = {name: compiled(way, *args) for name, way in ways_of(model.predict).items()}
    what = f"{options.network}, {options.dtype}, batch {size}"
    table = timed(what, programs, args, FLOOR, options.rounds, examples=size)

    exact = programs[REFERENCE]
    if options.dtype != "float32":
        exact = compiled(ways_of(model_of(options, "float32").predict)[REFERENCE], *args)

    def scores(program: Program) -> np.ndarray:
        return np.concatenate([program(variables, *batch) for batch in all_batches]).astype(float)

    reference = scores(exact)
    for row in table:
        if row["variant"] in ("grand", REFERENCE):
            differ = differences(scores(programs[row["variant"]]), reference)
            row["difference"], row["difference_lowest"] = differ

    if options.jacrev_batch:
        size = options.jacrev_batch
        batch = next(batches(1, size))
        ways = {"grand": partial(dj.grand, model.predict)}
        ways["authors' formula (jacrev)"] = partial(authors_formula, model.predict)
        few = {name: compiled(way, variables, *batch) for name, way in ways.items()}
        what = f"{options.network}, {options.dtype}, batch {size}"
        rounds = max(1, options.rounds // 2)
        table += timed(what, few, (variables, *batch), "grand", rounds, examples=size)

    notes = [
        "difference: largest relative difference to grand_vmap of the float32 network over "
        f"{len(reference)} examples; lowest: over the tenth of them with the lowest scores"
    ]
    extra: dict[str, Any] = {"options": {**vars(options), "json": None}}
    if options.limit_gib:
        largest = largest_batches(options, variables, programs)
        extra["largest_batch"] = largest
        notes.append(
            f"largest batch in {options.limit_gib:g} GiB (with arguments and results, to 16 examples): "
            f"grand {largest['grand']['fits']}, grand_vmap {largest[REFERENCE]['fits']}, "
            f"{largest['ratio']:.2f} times as large"
        )
    report(
        "GraNd: the gradient norm of every example",
        table,
        unit="ms",
        path=options.json,
        first_call=False,
        columns={
            "images_per_s": ("img/s", ".3g"),
            "temporary_mib": ("temporary MiB", ".0f"),
            "trace_s": ("trace s", ".1f"),
            "compile_s": ("compile s", ".1f"),
            "difference": ("difference", ".1e"),
            "difference_lowest": ("lowest", ".1e"),
        },
        notes=notes,
        extra=extra,
    )


if __name__ == "__main__":
    # Imported here: what is compared is used on machines without it.
    import tyro

    main(tyro.cli(Options))
