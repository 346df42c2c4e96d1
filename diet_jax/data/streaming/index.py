"""The index of encoded images: one pass over their bytes, kept on disk, that decodes nothing."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from diet_jax.data.cache import SourceFiles
from diet_jax.data.decode import header
from diet_jax.data.reader import ImageReader, Record, read_all
from diet_jax.data.streaming.encoded import DIGEST_BYTES, digest
from diet_jax.devices.progress import Progress, say
from diet_jax.errors import InputError
from diet_jax.files.arrays import load_checked, save_arrays

_KIND = "index"


class Part(NamedTuple):
    """What the index says of the images of one split, row by row."""

    digests: np.ndarray
    """uint8 `[n 16]`, hash of the encoded bytes."""
    sizes: np.ndarray
    """int32 `[n 2]`, height and width."""
    modes: np.ndarray
    """`[n]`, Pillow's name of the kind of pixel."""
    traits: np.ndarray
    """uint8 `[n]`, sums of `ALPHA`, `FRAMES` and `DEEP`."""
    labels: np.ndarray
    """int32 `[n]`."""
    ids: np.ndarray
    """`[n]`."""
    id_source: np.ndarray
    """Where they come from, one text."""


def indexed(files: SourceFiles, readers: dict[str, ImageReader], cache: Path) -> dict[str, Part]:
    """Reads the index of a data set, or makes it and keeps it beside the decoded copies.

    It is made again when the name, size or modification time of a source file has changed, or when it is
    damaged.

    Raises:
        InputError: a file cannot be read, or is no image.
    """
    path = cache / f"{files.entry_name()}.index.npz"
    facts = {"state": files.state()}
    names = tuple(f"{split}_{field}" for split in readers for field in Part._fields)
    if path.is_file():
        try:
            arrays = load_checked(path, _KIND, names, facts)
            return {split: Part(*(arrays[f"{split}_{f}"] for f in Part._fields)) for split in readers}
        except InputError:  # of other files, or damaged
            pass
    parts = {}
    for split, reader in readers.items():
        with Progress(f"indexing {files.name} {split} (once)", len(reader), brief=True) as progress:
            parts[split] = examine(reader, progress)
    arrays = {f"{split}_{f}": getattr(part, f) for split, part in parts.items() for f in Part._fields}
    try:
        save_arrays(path, _KIND, arrays, facts)
    except InputError as error:
        say(f"warning: no index of {files.name} kept: {error}; set DIET_JAX_CACHE")
    return parts


def examine(reader: ImageReader, progress: Progress) -> Part:
    """Reads every image of a split once, without decoding it."""
    count = len(reader)
    digests = np.empty((count, DIGEST_BYTES), np.uint8)
    sizes, labels = np.empty((count, 2), np.int32), np.empty(count, np.int32)
    modes, ids = np.empty(count, "U8"), np.empty(count, object)
    traits, upright = np.empty(count, np.uint8), reader.background is not None

    def note(row: int, record: Record) -> None:
        digests[row] = np.frombuffer(digest(record.content), np.uint8)
        sizes[row], modes[row], traits[row] = header(record, upright=upright)
        labels[row], ids[row] = record.label, record.id

    read_all(reader, note, progress)
    ids, id_source = reader.ids(ids.tolist())
    return Part(digests, sizes, modes, traits, labels, ids, np.asarray(id_source))
