"""What a compiled program costs before it runs: seconds to trace and to compile, and bytes."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


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

    def __call__(self, *args: Any) -> Any:
        """Runs the program and waits for the result."""
        return jax.block_until_ready(self.call(*args))


def compiled(fn: Callable[..., Any], *args: Any) -> Program:
    """Compiles a function for arguments of given shapes, with no cache to help; nothing is run.

    Args:
        fn: a pure function of arrays.
        *args: trees of arrays or of `jax.ShapeDtypeStruct`.
    """
    jax.clear_caches()
    begin = time.perf_counter()
    lowered = jax.jit(fn).lower(*args)
    traced = time.perf_counter()
    program = lowered.compile()
    done = time.perf_counter()
    memory = program.memory_analysis()
    temporary = memory.temp_size_in_bytes
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Program(program, traced - begin, done - traced, temporary, temporary + held)


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
