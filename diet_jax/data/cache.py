"""Decoded copies of data sets: decode once, start fast ever after.

An entry is a folder with the arrays of both splits as `.npy` files and `meta.json`. The metadata names the
state of the source files (names, sizes, modification times) and each split's fingerprint: an entry whose
source changed is rewritten, and one whose contents do not hash to the fingerprints is rebuilt.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diet_jax.data.dataset import Dataset, Splits
from diet_jax.data.kinds import Normalization
from diet_jax.devices.progress import say
from diet_jax.errors import InputError

_FORMAT = 3
_ARRAYS = ("images", "labels", "ids")
_FACTS = ("name", "split", "class_names", "id_source", "encoding")


class SourceFiles(NamedTuple):
    """What a data set is read from: its name, its folder and the files in it."""

    name: str
    directory: Path
    files: Sequence[Path]
    facts: Sequence[str] = ()
    """What else it depends on, such as class folders without a file, and where links lead."""

    def entry_name(self) -> str:
        """The name of what is kept of the data set: of its name and its folder."""
        name_hash = _sha256(f"{self.name}\n{self.directory.resolve()}")[:16]
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', self.name)}-{name_hash}"

    def state(self) -> str:
        """A hash of the names, sizes and modification times of the files, and of the facts.

        Raises:
            InputError: one cannot be read.
        """
        files = [self._file_state(file) for file in self.files]
        return _sha256(json.dumps([_FORMAT, self.name, str(self.directory.resolve()), files, *self.facts]))

    def _file_state(self, file: Path) -> tuple[str, int, int]:
        try:
            stat = file.stat()
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}; repair or remove it") from error
        return file.relative_to(self.directory).as_posix(), stat.st_size, stat.st_mtime_ns


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder of what can be made again: `cache_dir`, `DIET_JAX_CACHE`, or the user's cache folder."""
    folder = cache_dir or os.environ.get("DIET_JAX_CACHE")
    if folder:
        return Path(folder).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("diet_jax", appauthor=False)


def cached(
    source: SourceFiles, build: Callable[[], Splits], folder: Path, remarks: list[str] | None = None
) -> Splits:
    """Reads the decoded copy of a data set, or builds it and leaves a copy.

    A damaged copy is rebuilt, and a folder that cannot be written is done without, with one line on stderr.

    Args:
        source: what it is read from.
        build: reads and decodes it.
        folder: of decoded copies.
        remarks: lines that `build` adds, kept with the copy, and added when that is read.

    Raises:
        InputError: a source file is not there, or from `build`.
    """
    from filelock import FileLock

    remarks = [] if remarks is None else remarks
    entry, state = folder / source.entry_name(), source.state()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Held while decoding: a second process waits, then reads what the first one wrote.
            stack.enter_context(FileLock(folder / f"{entry.name}.lock"))
            unwritable = None
        except (OSError, NotImplementedError) as error:
            unwritable = error
        splits = _read_or_warn(entry, state, remarks)
        if splits is None:
            splits = build()
            try:
                if unwritable:
                    raise unwritable
                _write(entry, state, splits, remarks)
            except (OSError, NotImplementedError) as error:
                say(
                    f"warning: no decoded copy of {source.name} kept in {folder}: {error}; set DIET_JAX_CACHE"
                )
        return splits


def _read_or_warn(entry: Path, state: str, remarks: list[str]) -> Splits | None:
    if not entry.exists():
        return None
    try:
        return _read(entry, state, remarks)
    except Exception as error:  # damaged bytes can raise anything, and decoding again repairs everything
        say(f"warning: the decoded copy {entry} is damaged ({type(error).__name__}: {error}); decoding again")
        return None


def _read(entry: Path, state: str, remarks: list[str]) -> Splits | None:
    for file in entry.iterdir():
        if not file.is_file():  # a pipe would be waited for
            raise ValueError(f"{file.name} is no regular file")
    meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
    if meta["checksum"] != _checksum(meta):
        raise ValueError("meta.json does not match its checksum")
    if meta["state"] != state:
        return None
    splits = Splits(*(_read_split(entry, prefix, meta[prefix]) for prefix in Splits._fields))
    remarks.extend(meta["remarks"])
    return splits


def _read_split(entry: Path, prefix: str, meta: dict[str, Any]) -> Dataset:
    arrays = (np.load(entry / f"{prefix}_{array}.npy", allow_pickle=False) for array in _ARRAYS)
    normalization = Normalization(tuple(meta["mean"]), tuple(meta["std"]))
    dataset = Dataset.from_arrays(*arrays, **{f: meta[f] for f in _FACTS}, normalization=normalization)
    if dataset.fingerprint != meta["fingerprint"]:
        raise ValueError(f"{prefix} does not match its fingerprint")
    return dataset


def _write(entry: Path, state: str, splits: Splits, remarks: list[str]) -> None:
    for abandoned in entry.parent.glob(f"{entry.name}.*/"):  # by a process killed while it wrote
        shutil.rmtree(abandoned, ignore_errors=True)
    # Written beside the entry, then renamed: a half-written entry never has the entry's name.
    temporary = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", dir=entry.parent))
    try:
        meta: dict[str, Any] = {"state": state, "remarks": remarks}
        for prefix, dataset in splits._asdict().items():
            for array in _ARRAYS:
                np.save(temporary / f"{prefix}_{array}.npy", getattr(dataset, array), allow_pickle=False)
            facts = {fact: getattr(dataset, fact) for fact in (*_FACTS, "fingerprint")}
            meta[prefix] = {**facts, **dataset.normalization._asdict()}
        meta["checksum"] = _checksum(meta)
        (temporary / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
        if entry.exists():
            shutil.rmtree(entry)
        os.replace(temporary, entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _checksum(meta: dict[str, Any]) -> str:
    return _sha256(json.dumps({k: v for k, v in meta.items() if k != "checksum"}, sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
