"""How files are written: whole or not at all, with the user's umask, never through a symbolic link."""

import contextlib
import errno
import functools
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from diet_jax.errors import InputError

PART = ".diet-jax-{}.part"
"""Name of a file on its way to its place, beside it; as short as it is, it fits wherever the file does."""
# Of a killed process; the latter two are of checkpoints, Orbax's and those that were being removed.
LEFTOVERS = re.compile(r"\.diet-jax-[0-9a-f]{16}\.part|.+\.orbax-checkpoint-tmp|removing-\d+|saving")
SECONDS_OF_A_WRITE = 3600.0
"""In folders that many processes may write to, an older part is nobody's."""
# The folders that this process holds, by their absolute paths: a handle on the lock in each, by which it is
# known again, also where all that was in it was deleted.
_held: dict[Path, int] = {}


def write_atomically(path: Any, content: bytes | str) -> None:
    """Writes a file whole or not at all.

    Raises:
        InputError: it cannot be written there, or is a symbolic link.
    """
    write_together({path: content})


def write_together(contents: Mapping[Any, bytes | str]) -> None:
    """Writes files, each whole; what can fail is done beside their places before the first is put in its own.

    Raises:
        InputError: one cannot be written there, or is a symbolic link.
    """
    staged: list[tuple[Path, Path]] = []
    path = Path()
    try:
        try:
            for place, content in contents.items():
                path = Path(place)
                make_folder(path.parent)
                check_place(path)
                _sweep(path.parent.absolute())
                temporary = path.parent / PART.format(secrets.token_hex(8))
                staged.append((temporary, path))
                # With the mode that the umask leaves, as of any file that a program makes.
                with open(temporary, "xb") as file:
                    file.write(content.encode() if isinstance(content, str) else content)
                    file.flush()
                    os.fsync(file.fileno())
            for temporary, path in staged:
                os.replace(temporary, path)
            for folder in {place.parent for _, place in staged}:
                keep_names(folder)
        except BaseException:
            for temporary, _ in staged:
                with contextlib.suppress(OSError):
                    temporary.unlink()
            raise
    except OSError as error:
        raise cannot_write(path, error) from error


def keep_names(folder: Path) -> None:
    """Makes what was renamed in a folder outlast a loss of power, on systems that can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders.
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def append(path: Path, content: bytes, after: int | None = None) -> None:
    """Appends to a file, all of the content or, where that fails, nothing; a killed process may do a part.

    Args:
        path: of the file.
        content: what is added.
        after: bytes of the file that stay; by default all.

    Raises:
        InputError: it cannot be written there, or is a symbolic link.
    """
    try:
        make_folder(path.parent)
        check_place(path)
        with open(path, "ab", buffering=0) as file:
            size = file.tell() if after is None else after
            file.truncate(size)
            try:
                while content:
                    content = content[file.write(content) :]
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise cannot_write(path, error) from error


def make_folder(path: Path) -> None:
    """Makes a folder with those above it, but not a held one that has gone.

    Raises:
        InputError: a held folder has gone, or a symbolic link leads out of it.
        OSError: it cannot be made.
    """
    check_still_there(path.absolute())
    path.mkdir(parents=True, exist_ok=True)


def check_place(path: Path) -> None:
    """Raises InputError where a file is a symbolic link, or its place in a held folder has gone."""
    check_still_there(path.absolute())
    if path.is_symlink():
        raise InputError(
            f"{path} is a symbolic link to {os.readlink(path)}, and what links point to is never changed: "
            f"delete the link, or choose another place"
        )


def check_still_there(path: Path) -> None:
    """Raises InputError where a held folder that has the path in it has gone, or a link leads out of it."""
    for root, handle in _held.items():
        if not path.is_relative_to(root):
            continue
        try:
            same = os.path.samestat(os.stat(root / ".lock"), os.fstat(handle))
        except OSError:
            same = False
        if not same:
            raise InputError(
                f"{root}, or what was in it, was deleted, moved or replaced while this command worked there, "
                f"and it stops; put the folder back and the same command goes on, or it begins anew"
            )
        for parent in path.parents[: len(path.parts) - len(root.parts) - 1]:
            if parent.is_symlink():
                raise InputError(
                    f"{parent} is a symbolic link to {os.readlink(parent)}, and what links point to is never "
                    f"changed: put there what it points to, or delete the link"
                )


def cannot_write(what: Any, error: BaseException) -> InputError:
    """Returns the error that says in one line why something could not be written, and what is left then."""
    # TensorStore has the number in its text.
    number = getattr(error, "errno", None) or re.search(r"os_error_code='(\d+)'", str(error))
    number = int(number[1]) if isinstance(number, re.Match) else number
    lines = str(error).strip().splitlines()
    reason = os.strerror(number) if number else lines[0][:200] if lines else type(error).__name__
    full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "; what was finished stays: make room, and the same command goes on" if full else ""
    return InputError(f"cannot write {what}: {reason}{remedy}")


@contextlib.contextmanager
def hold(path: Path, name: str) -> Iterator[None]:
    """Holds a folder, made if need be, for this process alone; what is written to it must find it there.

    Args:
        path: of the folder; it may be a symbolic link, but none may be in it.
        name: of the argument that chose it, for messages.

    Raises:
        InputError: it cannot be written, another process holds it, or there is a symbolic link in it.
    """
    root = path.absolute()
    for link in _inside(root, lambda entry: entry.is_symlink()):
        raise InputError(
            f"{name} {path}: {link} is a symbolic link to {os.readlink(link)}, and what links point to is "
            f"never changed: put there what it points to, or delete the link"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Made here, for the library that locks would give it a mode of its own.
        with open(root / ".lock", "ab") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
        lock = filelock.FileLock(root / ".lock", mode=mode)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise InputError(
            f"another process is working in {path}; wait for it or choose another {name}"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot write to {name} {path}: {error.strerror or error}; choose another"
        ) from error
    try:
        _held[root] = os.open(root / ".lock", os.O_RDONLY)
        yield
    finally:
        if root in _held:
            os.close(_held.pop(root))
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process of this machine holds a folder, as `hold` does.

    Where the system lists its locks none is taken to find out: a run that starts at that moment would be
    refused.
    """
    lock = path / ".lock"
    if not lock.is_file():
        return False
    inode = str(lock.stat().st_ino)
    try:
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        try:
            with filelock.FileLock(lock, timeout=0):
                return False
        except filelock.Timeout:
            return True
        except OSError:  # It cannot be written: nothing is known.
            return False
    return any("FLOCK" in line and line[-3].rpartition(":")[2] == inode for line in lines if len(line) > 5)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left half-written in a folder that this process holds."""
    for path in _inside(folder, lambda entry: bool(LEFTOVERS.fullmatch(entry.name))):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def is_leftover(path: Path) -> bool:
    """Whether a file or folder is what a killed process left half-written."""
    return bool(LEFTOVERS.fullmatch(path.name))


def _inside(folder: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[Path]:
    """The entries in and below a folder for which `wanted(entry)` holds; links are not followed."""
    found, folders = [], [folder]
    while folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if wanted(entry):
                    found.append(Path(entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
    return found


@functools.lru_cache(maxsize=1024)
def _sweep(folder: Path) -> None:
    """Removes old parts of killed processes from a folder, the first time that this process writes to it."""
    for path in folder.glob(PART.format("*")):
        with contextlib.suppress(OSError):
            if LEFTOVERS.fullmatch(path.name) and time.time() - path.stat().st_mtime > SECONDS_OF_A_WRITE:
                path.unlink()
