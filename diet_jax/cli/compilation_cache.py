"""Compiled programs on disk: what one start of the command has compiled, the next one reads.

JAX asks for programs by a key that holds the program, the compiler's version and its options; here is where
the command keeps them. JAX's own cache is not made to be on unasked: it runs damaged bytes where its
compression carries no checksum, never replaces an entry that cannot be read, takes a lock for every read and,
bounded in size, writes nothing ever again once a process was killed between two of its files.
"""

import contextlib
import functools
import hashlib
import os
import platform
import sys
import warnings
from pathlib import Path
from typing import Any

import jax

from diet_jax.data.cache import cache_folder
from diet_jax.devices.processes import is_alone
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.files.writing import write_atomically

LARGEST_BYTES = 2**30
"""All programs of all machines together take no more."""
# Of JAX, where the user has set nothing. Programs that are quick to compile are many: they are kept too. What
# a GPU's compiler has tuned would lie beside the programs without bound or check, and they hold it anyway.
SETTINGS = {
    "jax_compilation_cache_max_size": LARGEST_BYTES,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_enable_xla_caches": "none",
}
# Lines of /proc/cpuinfo that say which instructions a processor has, and which of them suit it.
PROCESSOR = (
    *("vendor_id", "cpu family", "model", "stepping", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features"),
)
DIGEST_BYTES = hashlib.sha256().digest_size


def keep_programs(*, wanted: bool) -> None:
    """Has JAX keep what it compiles in the user's cache folder, and say so once it compiles.

    Does nothing where the user has chosen JAX's own cache or none. Several processes keep nothing: those of
    GPUs compile together, and one that found its program would leave the others waiting for ever.

    Args:
        wanted: keep programs; else none is kept or read, whatever the environment says.
    """
    settings: Any = jax.config
    if not wanted:
        settings.update("jax_enable_compilation_cache", False)
    if not settings.jax_enable_compilation_cache or settings.jax_compilation_cache_dir or not is_alone():
        return
    from jax._src import compilation_cache

    # XLA before that took its own settings for a foreign processor's, and said so twice a program.
    if jax.__version_info__ < (0, 10, 2) or not hasattr(compilation_cache, "get_file_cache"):
        say(f"warning: compiled programs are not kept with jax {jax.__version__}")
        return
    for name, value in SETTINGS.items():
        if name.upper() not in os.environ:
            settings.update(name, value)
    # One for each program that cannot be packed or unpacked; it is compiled, as ever.
    warnings.filterwarnings("ignore", r"Error (reading|writing) persistent compilation cache entry")
    root = cache_folder() / "programs"
    settings.update("jax_compilation_cache_dir", str(root))
    compilation_cache.get_file_cache = functools.partial(_open, settings.jax_compilation_cache_max_size)


def _open(largest: int, path: str) -> tuple["ProgramStore", str] | None:
    """What JAX calls for its folder when the first program is due."""
    root = Path(path)
    try:
        store = ProgramStore(_private_folder(root), root, largest)
    except OSError as error:
        say(f"warning: compiled programs are not kept: {error}; --no-compilation-cache does not try")
        return None
    say(f"compiled programs are kept in {store.folder}; --no-compilation-cache does without")
    return store, path


def _private_folder(root: Path) -> Path:
    """The folder of this machine's programs. Who may write there may run code here: nobody but the user."""
    root.parent.mkdir(parents=True, exist_ok=True)
    root.mkdir(mode=0o700, exist_ok=True)
    status = root.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise OSError(f"others may write to {root}")
    folder = root / machine_name()
    folder.mkdir(exist_ok=True)
    return folder


@functools.cache
def machine_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Names what else a program depends on, for many machines may share the user's cache folder.

    That is the processor, which JAX's key knows by its instructions at most, the number of cores, and Python,
    by whose version JAX packs programs. Where nothing describes the processor the machine's own name counts.
    """
    try:
        first = cpuinfo.read_text(encoding="utf-8").split("\n\n")[0]
        lines = [line for line in first.splitlines() if line.split(":")[0].strip() in PROCESSOR]
    except OSError:
        lines = []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = [*(lines or [platform.node(), platform.processor()]), cores, sys.version_info[:2]]
    return f"{platform.system()}-{platform.machine()}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"


class ProgramStore:
    """A folder of programs as JAX asks for them: each with its checksum, written whole or not at all.

    What was not used for longest is deleted when there is too much. Many processes may read and write at
    once. It never raises: what cannot be read is not there, and what cannot be written is done without, with
    one line on stderr.

    Args:
        folder: of the programs.
        root: folder of all machines' folders, which `largest` is the size of.
        largest: bytes; -1 means any number.
    """

    def __init__(self, folder: Path, root: Path, largest: int) -> None:
        self.folder = folder
        self._root = root
        self._largest = largest
        self._bytes: int | None = None
        self._told = False
        self._writes = True

    def get(self, key: str) -> bytes | None:
        """Returns the program of a key, or None."""
        path = self._place(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        program = content[DIGEST_BYTES:]
        with contextlib.suppress(OSError):
            if hashlib.sha256(program).digest() == content[:DIGEST_BYTES]:
                os.utime(path, follow_symlinks=False)  # Used last, so deleted last.
            else:
                self._tell(f"{path} is damaged; its program is compiled again")
                path.unlink()
                return None
        return program

    def put(self, key: str, program: bytes) -> None:
        """Keeps the program of a key, if that can be."""
        size = DIGEST_BYTES + len(program)
        if not self._writes or 0 <= self._largest < size:
            return
        try:
            self._make_room(size)
            write_atomically(self._place(key), hashlib.sha256(program).digest() + program)
        except (OSError, InputError) as error:
            self._writes = False
            self._tell(f"compiled programs are not kept: {error}")

    def _place(self, key: str) -> Path:
        # It ends in a hash of all; the name of the function before it may be longer than a file's.
        return self.folder / key[-200:]

    def _make_room(self, size: int) -> None:
        if self._largest < 0:
            return
        if self._bytes is None or self._bytes + size > self._largest:
            self._bytes = self._shrink(self._largest - size)
        self._bytes += size

    def _shrink(self, most: int) -> int:
        """Deletes what was not used for longest until `most` bytes are left; returns how many are."""
        files = []
        for path in self._root.glob("*/*"):
            with contextlib.suppress(OSError):  # Another process may have deleted it.
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        if total <= most:
            return total
        for _, size, path in sorted(files):
            # A tenth more than must be: the next program should not have to look through all files again.
            if total <= 0.9 * most:
                break
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            total -= size
        return total

    def _tell(self, what: str) -> None:
        if not self._told:
            self._told = True
            say(f"warning: {what}")
