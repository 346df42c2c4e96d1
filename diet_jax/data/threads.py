"""Many small tasks in threads: results in order, a bounded number of tasks ahead."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 32
"""Tasks begun before the first result is taken: bounds memory, and what an interrupt waits for."""


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields `work(item)` for each item, in the order of the items.

    Example:
        >>> list(in_threads(abs, [-1, 2]))
        [1, 2]
    """
    pending: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
