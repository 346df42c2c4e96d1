"""Ceilings of the device; one seed; several seeds by every way against one after the other; XLA's flags."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from ceilings import copied_bytes_per_second
from measure import Timing, interleaved
from programs import Program, convolution_calls, convolutions, loops

from accelerator_rows.setting import BATCHED_ONLY, FORMS, HOWS, Bench, Case
from accelerator_rows.visit import Row, Task

LOOP = "one after the other"
# A list here replaces XLA's own, which has no convolutions: its plus and minus signs are for XLA_FLAGS only.
GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION"
FLAGS: tuple[tuple[str, Any], ...] = (
    ("xla_gpu_enable_command_buffer", f"{GRAPHS},CONVOLUTION,WHILE"),
    ("xla_gpu_enable_command_buffer", f"{GRAPHS},CONVOLUTION"),
    ("xla_gpu_enable_command_buffer", ""),
    ("xla_gpu_experimental_enable_conv_fusion", True),
    ("xla_gpu_force_conv_nchw", True),
    ("xla_gpu_graph_min_graph_size", 1),
    ("xla_gpu_command_buffer_scheduling_mode", "CONCURRENT"),
)


def ceilings(bench: Bench) -> list[Task]:
    """Products of two matrices in each precision, and a copy."""
    size = bench.scale.matmul_size
    products = {"bfloat16": ("bfloat16", None), "float32": ("float32", None)}
    products["float32, highest precision"] = ("float32", "highest")

    def product(dtype: str, precision: str | None) -> Row:
        return {"tflops": 1e-12 * bench.peak(dtype, precision)}

    def copy() -> Row:
        return {"gb_per_s": 1e-9 * copied_bytes_per_second(bench.scale.copied_mib)}

    tasks = [
        Task("ceilings", f"matrix product {size}³, {name}", partial(product, *how), "ceiling")
        for name, how in products.items()
    ]
    what = f"copy of {bench.scale.copied_mib} MiB, bytes read and written"
    return [*tasks, Task("ceilings", what, copy, "ceiling")]


def one_seed(bench: Bench) -> list[Task]:
    """One network: in bfloat16, float32, and with large batches."""
    small, large = bench.scale.batch_size, bench.scale.large_batch_size
    cases = [
        Case(dtype, size) for dtype, size in (("bfloat16", small), ("float32", small), ("bfloat16", large))
    ]

    def measure(case: Case) -> Row:
        program, args = bench.training(case)
        timing = interleaved({"": partial(program, *args)}, bench.scale.rounds)[""]
        return {**_speed(bench, case, timing), **_facts(program)}

    return [
        Task("one seed", f"{case.dtype}, batch {case.batch_size}", partial(measure, case), "training")
        for case in cases
    ]


def many_seeds(bench: Bench) -> list[Task]:
    """Several networks in one program, bfloat16: by vmap in the newest form, by map, then the rest."""
    groups: tuple[list[Task], ...] = ([], [], [], [])
    for how, form, seeds in itertools.product(HOWS, FORMS, bench.scale.seeds):
        if how != "vmap" and form in BATCHED_ONLY:
            continue
        case = Case("bfloat16", bench.scale.batch_size, form, seeds, how)
        what = f"{seeds} seeds by {how}, convolution {form}"
        place = {("vmap", FORMS[0]): 0, ("map", "lax"): 1}.get((how, form), 2 if how == "vmap" else 3)
        groups[place].append(Task("several seeds", what, partial(_against_loop, bench, case), *_effort(case)))
    return [task for group in groups for task in group]


def flags(bench: Bench) -> list[Task]:
    """Each of XLA's flags alone: on one seed, and on several by the newest form."""
    size, seeds = bench.scale.batch_size, bench.scale.seeds[0]
    targets = {
        "one seed": Case("bfloat16", size),
        f"{seeds} seeds by vmap, convolution {FORMS[0]}": Case("bfloat16", size, FORMS[0], seeds, "vmap"),
    }

    def measure(case: Case, flag: tuple[str, Any]) -> Row:
        flagged = replace(case, flags=(flag,))
        variants = {name: _call(bench, one) for name, one in (("with", flagged), ("without", case))}
        timings = interleaved(variants, bench.scale.rounds)
        program, _ = bench.training(flagged)
        return {
            **_speed(bench, flagged, timings["with"]),
            **_ratio(timings, "without", "with"),
            **_facts(program),
        }

    return [
        Task("XLA's flags", f"{_shown(flag)}, {name}", partial(measure, case, flag), *_effort(case))
        for name, case in targets.items()
        for flag in FLAGS
    ]


def _shown(flag: tuple[str, Any]) -> str:
    return f"{flag[0]}={flag[1]}".replace(GRAPHS, "…")


def _effort(case: Case) -> tuple[str, float]:
    """Kind and weight of a task: convolutions that are written out are so much more to compile."""
    if case.how == "unroll" or case.form in BATCHED_ONLY:
        return "written out", case.trainings
    return "training", 1


def _against_loop(bench: Bench, case: Case) -> Row:
    program, args = bench.training(case)
    # The library's own form: what one seed after the other would do.
    one = _call(bench, Case(case.dtype, case.batch_size))

    def loop() -> None:
        for _ in range(case.trainings):
            one()

    timings = interleaved({"program": partial(program, *args), LOOP: loop}, bench.scale.rounds)
    return {
        **_speed(bench, case, timings["program"]),
        **_ratio(timings, LOOP, "program"),
        **_facts(program),
    }


def _call(bench: Bench, case: Case) -> Callable[[], Any]:
    program, args = bench.training(case)
    return partial(program, *args)


def _speed(bench: Bench, case: Case, timing: Timing) -> Row:
    """Images per second of all networks together, and the share of the peak of a matrix product."""
    steps = bench.scale.steps * case.trainings
    flops = steps * bench.flops(case.dtype, case.batch_size) / timing.median
    return {
        "images_per_s": steps * case.batch_size / timing.median,
        "step_ms": 1000 * timing.median / bench.scale.steps,
        "tflops": 1e-12 * flops,
        "of_peak": flops / bench.peak(case.dtype, None),
        "calls_s": timing.later,
    }


def _ratio(timings: dict[str, Timing], floor: str, name: str) -> Row:
    """How many times as fast as the floor."""
    ratio, low, high = timings[floor].ratio_to(timings[name])
    return {"ratio": ratio, "ratio_low": low, "ratio_high": high}


def _facts(program: Program) -> Row:
    known, all_of_them = loops(program)
    return {
        "trace_s": program.trace_s,
        "compile_s": program.compile_s,
        "temporary_mib": program.temporary_bytes / 2**20,
        "convolutions": convolutions(program),
        "calls": convolution_calls(program),
        "loops": {"known": known, "all": all_of_them},
    }
