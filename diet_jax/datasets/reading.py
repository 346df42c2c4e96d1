"""Reading ahead with Grain: batches of images in a given order, in threads or in worker processes."""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.datasets.encoded import EncodedImages
from diet_jax.errors import InputError

# What is read ahead beside the batch in use.
AHEAD_BYTES = 2**28
MOST_AHEAD = 16


@dataclass(frozen=True, eq=False)
class _Load:
    """Decodes one batch; pickled for the worker processes."""

    images: EncodedImages
    crop_seed: tuple[int, ...] | None

    def __call__(self, batch: tuple[int, np.ndarray]) -> np.ndarray:
        step, rows = batch
        return self.images.load(rows, None if self.crop_seed is None else (*self.crop_seed, step))


@dataclass(frozen=True, eq=False)
class _Batches:
    """Grain's source: the number of each batch, from the first one on, and its rows."""

    rows: Sequence[np.ndarray]
    first: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> tuple[int, np.ndarray]:
        return self.first + int(index), self.rows[int(index)]


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

    size = max(1, max(len(rows) for rows in batches) * int(np.prod(images.shape[1:])))
    ahead = int(np.clip(AHEAD_BYTES // size, 1, MOST_AHEAD))
    threads = min(ahead, os.cpu_count() or 1) if not workers else 1
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead if not workers else 1)
    # Batches are whole before they are dealt out to workers, so they are the same with any number of them.
    pipeline = grain.MapDataset.source(_Batches(batches, first)).map(_Load(images, crop_seed))  # type: ignore[arg-type]
    iterable = pipeline.to_iter_dataset(options)
    if workers:
        # Grain's worker processes ask absl for flags, which only absl's own programs have parsed.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        buffered = max(1, ahead // workers)
        iterable = iterable.mp_prefetch(
            grain.MultiprocessingOptions(
                num_workers=min(workers, len(batches)), per_worker_buffer_size=buffered
            )
        )
    iterator = iter(iterable)
    try:
        yield from iterator
    finally:
        iterator.close()


def check_grain() -> None:
    """Raises InputError unless Grain is installed."""
    if importlib.util.find_spec("grain") is None:
        raise InputError("streaming needs the package grain: pip install 'diet_jax[stream]'")
