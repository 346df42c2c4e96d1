"""Reading ahead with Grain: batches of images in a given order, in threads or in worker processes."""

import ast
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.streaming.encoded import EncodedImages
from diet_jax.errors import InputError

# What is read and decoded ahead of use, and the part of a batch that is decoded in one go: small parts keep
# all threads busy without many batches in memory.
AHEAD_BYTES = 2**27
PIECE_BYTES = 2**22
MOST_AHEAD = 64


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Grain's source: all pieces of batches in order, decoded; pickled for the worker processes."""

    images: EncodedImages
    batches: Sequence[np.ndarray]
    places: np.ndarray
    """int `[p 3]`: place of the batch, first and last (exclusive) place in it."""
    first: int
    crop_seed: tuple[int, ...] | None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> np.ndarray:
        batch, start, stop = self.places[int(index)].tolist()
        seed = None if self.crop_seed is None else (*self.crop_seed, self.first + batch)
        return self.images.load(self.batches[batch][start:stop], seed)


def read_ahead(
    images: EncodedImages,
    batches: Sequence[np.ndarray],
    *,
    first: int = 0,
    crop_seed: tuple[int, ...] | None = None,
    workers: int = 0,
) -> Iterator[np.ndarray]:
    """Yields the images of each batch of rows, in that order, while the next ones are read and decoded.

    The images do not depend on threads or workers. Rows in no batch are not read.

    Args:
        images: on disk.
        batches: int `[b]` each, or int `[t b]`.
        first: number of the first batch, such as its step, which random crops depend on.
        crop_seed: cut images at random, by these numbers, the batch's number and the row.
        workers: processes that decode; 0 decodes in threads of this one.

    Yields:
        uint8 `[b h w ch]`.

    Raises:
        InputError: Grain is not installed, or an image is missing, damaged or changed.
    """
    check_grain()
    if not len(batches):
        return
    import grain
    from absl import flags

    per_image = int(np.prod(images.shape[1:]))
    size = max(1, PIECE_BYTES // per_image)
    places = np.asarray(
        [
            (number, start, min(start + size, len(rows)))
            for number, rows in enumerate(batches)
            for start in range(0, len(rows), size)
        ]
    )
    longest = min(size, max(len(rows) for rows in batches))
    ahead = int(np.clip(AHEAD_BYTES // (longest * per_image), 1, MOST_AHEAD))
    threads = 1 if workers else min(ahead, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=1 if workers else ahead)
    pieces: Any = _Pieces(images, batches, places, first, crop_seed)
    iterable = grain.MapDataset.source(pieces).to_iter_dataset(options)
    if workers:
        # Grain's worker processes ask absl for flags, which only absl's own programs have parsed.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        workers = min(workers, len(places))
        buffered = max(1, ahead // workers)
        iterable = iterable.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=buffered)
        )
        # Shared memory is freed by a thread of Grain's that may be late at exit, which Python then warns of.
        through_pipes = grain.experimental.DatasetOptions(min_shm_size=2**62)
        iterable = grain.experimental.WithOptionsIterDataset(iterable, through_pipes)
    iterator = iter(iterable)
    try:
        for rows in batches:
            batch = np.empty((len(rows), *images.shape[1:]), np.uint8)
            for start in range(0, len(rows), size):
                batch[start : start + size] = next(iterator)
            yield batch
    finally:
        iterator.close()


def check_main_guard() -> None:
    """Raises InputError where a worker process would run the caller's script again, and start workers too.

    A worker imports the module that was started: what is running there must stand under a guard. `__main__`
    of a package, such as `python -m diet_jax`, it does not import, nor what has no file, such as a notebook.
    """
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    name = "" if spec is None else spec.name
    if file is None or name == "__main__" or name.endswith(".__main__"):
        return
    if not os.path.isfile(file) and spec is None:
        raise InputError(
            f"workers are processes that import the script again, which came through a pipe or is gone "
            f"({file}): save it as a file that puts what it does under `if __name__ == '__main__':`, or "
            f"read with workers=0"
        )
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    line = _running_line(main)
    # Of a thread or a debugger it is not known which line runs: any guard will do.
    if not any(line is None or node.lineno <= line <= (node.end_lineno or line) for node in _guards(tree)):
        raise InputError(
            f"workers are processes that import {file} again: put what it does"
            f"{'' if line is None else f' in line {line}'} under `if __name__ == '__main__':`, or read with "
            f"workers=0"
        )


def _guards(tree: ast.Module) -> Iterator[ast.If]:
    """Yields the statements of a script that ask for its `__name__`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If):
            asked = (part.id for part in ast.walk(node.test) if isinstance(part, ast.Name))
            if "__name__" in asked:
                yield node


def _running_line(module: types.ModuleType) -> int | None:
    """The line that a module's own statements have come to, if they run in this thread."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals is vars(module) and frame.f_code.co_name == "<module>":
            return frame.f_lineno
        frame = frame.f_back
    return None


def check_grain() -> None:
    """Raises InputError unless Grain is installed."""
    if importlib.util.find_spec("grain") is None:
        raise InputError("streaming needs the package grain: pip install grain")
