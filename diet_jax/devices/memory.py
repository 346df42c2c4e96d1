"""Fitting work into memory: plans from compiled programs, and smaller pieces where a plan was too large."""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax

from diet_jax.errors import InputError

Result = TypeVar("Result")

OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")


class BatchPlan(NamedTuple):
    """How many examples a program takes at a time, and why."""

    batch_size: int
    """Examples at a time."""
    needed: int
    """Bytes per device that the compiled program takes beyond what is there already."""
    limit: int
    """Bytes per device that it may take."""

    @property
    def fits(self) -> bool:
        """Whether the program is within its limit; one example at a time may not be."""
        return self.needed <= self.limit


def program_bytes(compiled: Any) -> int:
    """Returns the bytes per device of a compiled program's arguments, results and intermediate arrays.

    Args:
        compiled: what `jax.jit(fn).lower(...).compile()` returns.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> program_bytes(jax.jit(lambda x: x + 1).lower(jnp.zeros(256)).compile())
        2048
    """
    parts = compiled.memory_analysis()
    # What is donated is argument and result at once.
    results = parts.output_size_in_bytes - parts.alias_size_in_bytes
    return parts.argument_size_in_bytes + results + parts.temp_size_in_bytes


def temporary_bytes(compiled: Any) -> int:
    """Returns the bytes per device of a compiled program's intermediate arrays."""
    return compiled.memory_analysis().temp_size_in_bytes


def resident_bytes(*trees: Any) -> int:
    """Returns the bytes per device of the leaves that are on a device already.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> resident_bytes({"on device": jnp.zeros(4), "not yet": np.zeros(4)})
        16
    """
    arrays = [leaf for leaf in jax.tree.leaves(trees) if isinstance(leaf, jax.Array)]
    return sum(_bytes(leaf.sharding.shard_shape(leaf.shape), leaf.dtype) for leaf in arrays)


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return math.prod(shape) * dtype.itemsize


def fit_batch(
    compile_at: Callable[[int], Any], candidate: int, *, limit: int, resident: int = 0
) -> BatchPlan:
    """Returns the first of `candidate`, `candidate // 2`, ..., 1 whose compiled program fits the limit.

    Args:
        compile_at: returns the compiled program for a batch size.
        candidate: the largest batch size to try, at least 1.
        limit: bytes per device that the program may take.
        resident: bytes of its arguments that are on the device already.

    Returns:
        The batch size with its program's bytes and the limit. For 1 they may be beyond it: nothing smaller
        is left, and the program may still run.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> compile_at = lambda size: jax.jit(jnp.sin).lower(jnp.zeros(size)).compile()
        >>> fit_batch(compile_at, 256, limit=1000)
        BatchPlan(batch_size=64, needed=512, limit=1000)
    """
    size = candidate
    while True:
        try:
            needed = program_bytes(compile_at(size)) - resident
        except Exception as error:  # Compilers of accelerators refuse what cannot fit.
            if size == 1 or not is_out_of_memory(error):
                raise
            needed = limit + 1
        if needed <= limit or size == 1:
            return BatchPlan(size, needed, limit)
        size //= 2


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that the host or a device has no memory left.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError("shape"))
        (True, False)
    """
    if isinstance(error, MemoryError):
        return True
    # XLA reports it under the code RESOURCE_EXHAUSTED, on CPUs also inside an error of code INTERNAL.
    return isinstance(error, jax.errors.JaxRuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def halving(
    run: Callable[[int, int], Result],
    count: int,
    size: int,
    *,
    what: str,
    remedy: str,
    warn: Callable[[str], Any] = warnings.warn,
) -> list[tuple[int, Result]]:
    """Does `count` pieces of work `size` at a time, and with half of that wherever memory runs out.

    What is done is kept; the group that failed is done again in smaller ones, and so are those after it.

    Args:
        run: `run(first, size)` does the pieces `first .. first + size - 1` and returns when they are done;
            those from `count` on only fill up the last group.
        count: pieces of work.
        size: pieces at a time to begin with, at least 1.
        what: what the pieces are, in the plural, for messages.
        remedy: what to do where not even one piece fits, for the error.
        warn: is told of every smaller size.

    Returns:
        Pairs (number of pieces, what `run` returned for them), in order.

    Raises:
        InputError: one piece at a time does not fit, or memory runs out where other processes take part.

    Example:
        >>> def run(first, size):
        ...     if size > 2:
        ...         raise MemoryError
        ...     return list(range(first, first + size))
        >>> halving(run, 5, 4, what="examples", remedy="a smaller model", warn=lambda text: None)
        [(2, [0, 1]), (2, [2, 3]), (1, [4, 5])]
    """
    done: list[tuple[int, Result]] = []
    first = 0
    while first < count:
        try:
            result = run(first, size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise InputError(f"memory runs out with one of the {what} at a time; {remedy}") from error
            if jax.process_count() > 1:
                # The other processes would go on with the larger size and wait for this one for ever.
                raise InputError(
                    f"memory runs out with {size} {what} at a time; with several processes choose fewer at a "
                    f"time, {size // 2} for a start, or {remedy}"
                ) from error
        else:
            done.append((min(size, count - first), result))
            first += size
            continue
        # Outside `except`: the error's traceback holds the arrays of the attempt.
        warn(f"memory ran out with {size} {what} at a time, going on with {size // 2}")
        size //= 2
    return done
