"""What a compiled program costs before it runs, and what can be read in its text."""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
from measure import interleaved, rows, seconds_per_call


class Program(NamedTuple):
    """A compiled program and its price."""

    call: Callable[..., Any]
    """Takes arguments of the compiled shapes; does not wait for the result."""
    trace_s: float
    """From Python to XLA's input: tracing and lowering."""
    compile_s: float
    """From there to machine code."""
    temporary_bytes: int
    """Memory for intermediate arrays."""
    total_bytes: int
    """That and the memory of arguments and results."""
    lowered: Any = None
    """The program as it was written, before XLA."""

    def __call__(self, *args: Any) -> Any:
        """Runs the program and waits for the result."""
        return jax.block_until_ready(self.call(*args))


def compiled(
    fn: Callable[..., Any], *args: Any, compiler_options: Mapping[str, Any] | None = None
) -> Program:
    """Compiles a function for arguments of given shapes, with no cache to help; nothing is run.

    Args:
        fn: a pure function of arrays.
        *args: trees of arrays or of `jax.ShapeDtypeStruct`.
        compiler_options: XLA's flags for this program alone, by name.
    """
    jax.clear_caches()
    begin = time.perf_counter()
    lowered = jax.jit(fn).lower(*args)
    traced = time.perf_counter()
    program = lowered.compile(compiler_options and dict(compiler_options))
    done = time.perf_counter()
    memory = program.memory_analysis()
    temporary = memory.temp_size_in_bytes
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Program(program, traced - begin, done - traced, temporary, temporary + held, lowered)


def timed(
    what: str,
    programs: Mapping[str, Program],
    args: Any,
    floor: str,
    rounds: int,
    *,
    examples: int,
    timer: Callable[[Callable[[], Any]], float] = seconds_per_call,
    divide_by: int = 1,
) -> list[dict[str, Any]]:
    """Times programs that take the same arguments; a row for each, with its memory and compile time.

    Args:
        what: is timed.
        programs: by name.
        args: of each.
        floor: name of the program that ratios are taken to.
        rounds: timings of each after the first.
        examples: of a call, or of one of its parts.
        timer: as `interleaved` takes it.
        divide_by: parts of a call, as `rows` takes it.
    """
    calls = {name: partial(program, *args) for name, program in programs.items()}
    table = rows(what, interleaved(calls, rounds, timer=timer), floor, divide_by=divide_by)
    for row in table:
        program = programs[row["variant"]]
        row["images_per_s"] = examples / row["median_s"]
        row["temporary_mib"] = program.temporary_bytes / 2**20
        row["trace_s"], row["compile_s"] = program.trace_s, program.compile_s
    return table


def convolutions(program: Program) -> dict[str, int]:
    """Counts the convolutions of a program as written: plain ones, and those in groups of either kind.

    A grouped convolution (`feature_group_count`) is what batching makes of one; weight gradients are better
    grouped by the batch (`batch_group_count`), in which XLA's GPU backend sees what they are.
    """
    kinds = {"plain": 0, "batch_grouped": 0, "grouped": 0}
    for line in program.lowered.as_text().splitlines():
        if "stablehlo.convolution" in line:
            batch, feature = (
                int(re.search(rf"{name}_group_count = (\d+)", line)[1]) for name in ("batch", "feature")
            )
            kinds["grouped" if feature > 1 else "batch_grouped" if batch > 1 else "plain"] += 1
    return kinds


def convolution_calls(program: Program) -> dict[str, int]:
    """Counts the calls of the vendor's convolutions in a compiled program, by XLA's names for them."""
    targets = re.findall(r'custom_call_target="([^"]*)"', program.call.as_text())
    return dict(sorted(Counter(name for name in targets if "conv" in name.lower()).items()))


def loops(program: Program) -> tuple[int, int]:
    """Returns how many loops of a compiled program have a length that is known beforehand, and all loops."""
    lines = [line for line in program.call.as_text().splitlines() if " while(" in line]
    return sum("known_trip_count" in line for line in lines), len(lines)


def shapes_of(tree: Any) -> Any:
    """Returns the same tree with shapes and dtypes in place of arrays."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def largest_that_fits(
    size_of: Callable[[int], int], limit: int, *, first: int, step: int, most_calls: int = 8
) -> tuple[int, int | None]:
    """Finds how many fit: a line through the sizes known so far says where to look next.

    Args:
        size_of: bytes for a count; each call is expensive.
        limit: bytes at hand.
        first: where to begin; `2 * first` comes next.
        step: how close is close enough; later counts are multiples of it.
        most_calls: of `size_of`.

    Returns:
        The largest count found to fit, 0 if none did, and the smallest found not to fit, None if all did.
    """
    known = {count: size_of(count) for count in (first, 2 * first)}
    while True:
        fits = max((n for n in known if known[n] <= limit), default=0)
        too_many = min((n for n in known if known[n] > limit), default=None)
        if len(known) >= most_calls or (too_many is not None and too_many - fits <= step):
            return fits, too_many
        # The two counts whose sizes are nearest to the limit.
        a, b = sorted(known, key=lambda n: abs(known[n] - limit))[:2]
        slope = (known[b] - known[a]) / (b - a)
        guess = a + (limit - known[a]) / slope if slope > 0 else 2 * max(known)
        guess = max(int(guess) // step * step, fits + step)
        if too_many is not None:
            guess = min(guess, max(too_many - step, fits + 1))
        known[guess] = size_of(guess)
