"""The index of encoded images: one pass over their bytes, kept on disk, that decodes nothing."""

import collections
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diet_jax.data.sources.cache import Source as Files
from diet_jax.data.sources.cache import entry_name, source_state
from diet_jax.data.sources.decode import damaged
from diet_jax.data.streaming.encoded import DIGEST_BYTES, digest
from diet_jax.devices.progress import Progress, say
from diet_jax.errors import InputError
from diet_jax.files.arrays import load_checked, save_arrays

_KIND = "index"

_PER_TASK = 64
_AHEAD = 32  # tasks read before the first of them must be done


class Part(NamedTuple):
    """What the index says of the images of one split, row by row."""

    digests: np.ndarray
    """uint8 `[n 16]`, hash of the encoded bytes."""
    sizes: np.ndarray
    """int32 `[n 2]`, height and width."""
    modes: np.ndarray
    """`[n]`, Pillow's name of the kind of pixel."""
    labels: np.ndarray
    """int32 `[n]`."""
    ids: np.ndarray
    """`[n]`."""
    id_source: np.ndarray
    """Where they come from, one text."""


class Record(NamedTuple):
    """One encoded image with what comes with it."""

    name: str
    content: bytes
    label: int
    id: str | int | None


Read = Callable[[np.ndarray], list[Record]]


def indexed(
    files: Files,
    splits: dict[str, tuple[int, Read]],
    finish: Callable[[str, list[Any]], tuple[np.ndarray, str]],
    cache: Path,
) -> dict[str, Part]:
    """Reads the index of a data set, or makes it and keeps it beside the decoded copies.

    It is made again when the name, size or modification time of a source file has changed, or when it is
    damaged.

    Args:
        files: what the data set is read from.
        splits: number of images of each split, and what reads some of them.
        finish: makes ids and their source out of the ids that were read, which may be None.
        cache: folder to keep it in.

    Returns:
        The part of each split.

    Raises:
        InputError: a file cannot be read, or is no image.
    """
    path = cache / f"{entry_name(files)}.index.npz"
    facts = {"state": source_state(files)}
    names = tuple(f"{split}_{field}" for split in splits for field in Part._fields)
    if path.is_file():
        try:
            arrays = load_checked(path, _KIND, names, facts)
            return {split: Part(*(arrays[f"{split}_{f}"] for f in Part._fields)) for split in splits}
        except InputError:  # of other files, or damaged
            pass
    parts = {}
    for split, (count, read) in splits.items():
        with Progress(f"indexing {files.name} {split} (once)", count) as progress:
            part = _examine(count, read, progress)
        ids, id_source = finish(split, part.ids.tolist())
        parts[split] = part._replace(ids=ids, id_source=np.asarray(id_source))
    arrays = {f"{split}_{f}": getattr(part, f) for split, part in parts.items() for f in Part._fields}
    try:
        save_arrays(path, _KIND, arrays, facts)
    except InputError as error:
        say(f"warning: no index of {files.name} kept: {error}; set DIET_JAX_CACHE")
    return parts


def _examine(count: int, read: Read, progress: Progress) -> Part:
    digests = np.empty((count, DIGEST_BYTES), np.uint8)
    sizes, labels = np.empty((count, 2), np.int32), np.empty(count, np.int32)
    modes, ids = np.empty(count, "U8"), np.empty(count, object)

    def examine(start: int) -> int:
        rows = np.arange(start, min(start + _PER_TASK, count))
        for row, record in zip(rows, read(rows), strict=True):
            digests[row] = np.frombuffer(digest(record.content), np.uint8)
            sizes[row], modes[row] = _header(record)
            labels[row], ids[row] = record.label, record.id
        return len(rows)

    pending: collections.deque[Future[int]] = collections.deque()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, count, _PER_TASK):
            pending.append(pool.submit(examine, start))
            if len(pending) > _AHEAD:
                progress.update(pending.popleft().result())
        for task in pending:
            progress.update(task.result())
    return Part(digests, sizes, modes, labels, ids, np.asarray(""))


def _header(record: Record) -> tuple[tuple[int, int], str]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(record.content)) as image:
            return (image.height, image.width), image.mode
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        raise damaged(record.name, error) from error


def chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cuts rows into pieces of at most `size`."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
