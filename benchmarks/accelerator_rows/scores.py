"""Gradient norms of every example: time, memory, compile time and exactness, and each form of each layer."""

from functools import partial

import jax
import numpy as np
from forms import FLOOR as GRADIENT
from forms import Layer, layers_of, measured
from grand import FLOOR, REFERENCE, differences
from programs import timed

from accelerator_rows.setting import Bench, ways_to_score
from accelerator_rows.visit import Row, Task

DTYPES = ("float32", "bfloat16")
WAYS = tuple(ways_to_score(None))


def scores(bench: Bench) -> list[Task]:
    """Each way to score in each precision, then how far their norms are from full precision."""
    size = bench.scale.score_batch_size
    found = [
        Task(
            "scores", f"{way}, {dtype}, batch {size}", partial(_against_gradient, bench, dtype, way), "scores"
        )
        for way in sorted(WAYS, key=lambda way: way != "grand")
        for dtype in DTYPES
    ]
    return [*found, Task("exactness of the norms", "all ways", partial(_exactness, bench), "scores")]


def layers(bench: Bench) -> list[Task]:
    """Each form of the norms of each convolution of the network, in float32."""
    found = list(layers_of(bench.scale.network).items())[: bench.scale.layers]
    size = bench.scale.score_batch_size
    return [
        Task("layers", f"{layer.label}, batch {size}", partial(_forms, bench, layer, count), "layers")
        for layer, count in found
    ]


def _forms(bench: Bench, layer: Layer, count: int) -> Row:
    size, rounds = bench.scale.score_batch_size, bench.scale.rounds
    table = {row["variant"]: row for row in measured(layer, count, size, rounds, rtol=bench.scale.rtol)}
    floor = table.pop(GRADIENT)
    kept = ("median_s", "ratio", "temporary_mib", "counts", "examples", "chosen")
    return {
        "median_s": floor["median_s"],
        "layers": count,
        "forms": {name: {key: row[key] for key in kept if key in row} for name, row in table.items()},
    }


def _against_gradient(bench: Bench, dtype: str, way: str) -> Row:
    # What is to be compared directly takes turns.
    beside = (way, FLOOR, "grand") if way == REFERENCE else (way, FLOOR)
    programs = {name: bench.scoring(dtype, name) for name in beside}
    size, rounds = bench.scale.score_batch_size, bench.scale.rounds
    rows = timed(f"{way}, {dtype}, batch {size}", programs, bench.scored, FLOOR, rounds, examples=size)
    table = {row["variant"]: row for row in rows}
    if way == REFERENCE:
        times = (np.array(table[name]["later_calls_s"]) for name in (way, "grand"))
        table[way]["over_grand"] = float(np.median(np.divide(*times)))
    return table[way]


def _exactness(bench: Bench) -> list[Row]:
    """Compares all norms with those of vmap(grad) in full float32."""
    with jax.default_matmul_precision("highest"):
        exact = np.asarray(bench.scoring("float32", REFERENCE, "highest")(*bench.scored), np.float64)
    found = []
    for dtype in DTYPES:
        for way in (way for way in WAYS if "grand" in way):
            norms = np.asarray(bench.scoring(dtype, way)(*bench.scored), np.float64)
            most, lowest = differences(norms, exact)
            median = float(np.median(np.abs(norms - exact) / exact))
            found.append({"what": f"{way}, {dtype}", "median": median, "most": most, "lowest": lowest})
    return found
