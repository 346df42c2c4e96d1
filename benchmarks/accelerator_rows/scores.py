"""Gradient norms of every example: time, memory, compile time and exactness, and each form of each layer."""

from functools import partial

import jax
import numpy as np
from forms import FLOOR as GRADIENT
from forms import Layer, layers_of, measured
from grand import FLOOR, REFERENCE, differences, ways_of
from measure import interleaved, seconds_per_call

from accelerator_rows.setting import Bench
from accelerator_rows.visit import Row, Task

DTYPES = ("float32", "bfloat16")
WAYS = tuple(ways_of(lambda *_: None))


def scores(bench: Bench) -> list[Task]:
    """Each way to score in each precision, then how far their norms are from full precision."""
    size = bench.scale.score_batch_size
    found = [
        Task("scores", f"{way}, {dtype}, batch {size}", partial(_timed, bench, dtype, way), "scores")
        for dtype in DTYPES
        for way in WAYS
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
    kept = ("median_s", "ratio", "temporary_mib", "mega_multiply_adds", "mega_elements", "chosen")
    return {
        "ms": 1000 * floor["median_s"],
        "layers": count,
        "forms": {name: {key: row[key] for key in kept if key in row} for name, row in table.items()},
    }


def _timed(bench: Bench, dtype: str, way: str) -> Row:
    """Times one way against the ordinary gradient."""
    # What is to be compared directly takes turns.
    beside = (way, FLOOR, "grand") if way == REFERENCE else (way, FLOOR)
    programs = {name: bench.scoring(dtype, name) for name in beside}
    calls = {name: partial(program, *bench.scored) for name, program in programs.items()}
    timings = interleaved(calls, bench.scale.rounds, timer=seconds_per_call)
    ratio, low, high = timings[way].ratio_to(timings[FLOOR])
    program = programs[way]
    to_grand = {"over_grand": timings[way].ratio_to(timings["grand"])[0]} if way == REFERENCE else {}
    return {
        "ms": 1000 * timings[way].median,
        "images_per_s": bench.scale.score_batch_size / timings[way].median,
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        **to_grand,
        "trace_s": program.trace_s,
        "compile_s": program.compile_s,
        "temporary_mib": program.temporary_bytes / 2**20,
    }


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
