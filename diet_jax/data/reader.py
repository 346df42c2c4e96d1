"""Encoded images by number: what a source offers of each split, and one pass over it, in threads."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from diet_jax.devices.progress import Progress

_PER_TASK = 64  # images of one task: enough to make the cost of a task small beside that of small images
_AHEAD = 32  # tasks begun before the first result is taken: bounds memory, and what an interrupt waits for

Background = tuple[int, int, int]
"""A colour, three times 0..255."""

WHITE: Background = (255, 255, 255)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Record(NamedTuple):
    """One encoded image with what comes with it."""

    name: str
    """What error messages call it."""
    content: bytes
    label: int
    id: str | int | None


@runtime_checkable
class ImageReader(Protocol):
    """The encoded images of one split. Pickled for worker processes: it opens files when it reads."""

    @property
    def split(self) -> str:
        """The name of the split."""
        ...

    @property
    def background(self) -> Background | None:
        """What transparent pictures are composed on; None: images are decoded as they are stored."""
        ...

    def __len__(self) -> int:
        """Returns the number of images."""
        ...

    def name(self, number: int) -> str:
        """Returns what error messages call an image."""
        ...

    def records(self, numbers: np.ndarray) -> list[Record]:
        """Reads some images; InputError where that fails. Called from several threads at once."""
        ...

    def ids(self, given: list[str | int | None]) -> tuple[np.ndarray, str]:
        """Returns the ids `[n]`, from those of all records, and where they come from."""
        ...


def read_all(reader: ImageReader, work: Callable[[int, Record], None], progress: Progress) -> None:
    """Calls `work(row, record)` for every image, in threads; `progress` is told of each batch of images."""

    def piece(rows: np.ndarray) -> int:
        for row, record in zip(rows.tolist(), reader.records(rows), strict=True):
            work(row, record)
        return len(rows)

    for count in in_threads(piece, chunks(np.arange(len(reader)), _PER_TASK)):
        progress.update(count)


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields `work(item)` for each item, in the order of the items."""
    pending: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cuts rows into pieces of at most `size`."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
