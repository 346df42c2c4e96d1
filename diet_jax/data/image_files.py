"""Which files of a folder are images, by class folder; what is not read is counted by kind and named."""

import collections
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diet_jax.errors import InputError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""How names of images end, in upper or lower case."""

MOST_NAMED = 5
MOST_KINDS = 10
_NO_TEXT = "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
# The second part is what the first one becomes: paths that look so must not be taken for it.
_STRANGE = re.compile(rf"[{_NO_TEXT}]|\\(x[89a-f][0-9a-f]|u[0-9a-f]{{4}})")
_STRANGER = re.compile(rf"[{_NO_TEXT}\\]")
_NOT_DATA = ("thumbs.db", "desktop.ini", "__macosx")  # what systems leave, beside names with a dot first


@dataclass
class FoundFiles:
    """The files of a data set by what becomes of them; paths are relative to its root."""

    images: list[str] = field(default_factory=list)
    """Below SPLIT/CLASS, sorted."""
    class_folders: list[str] = field(default_factory=list)
    """SPLIT/CLASS, with or without images."""
    links: list[str] = field(default_factory=list)
    """What was followed, and where to: "a -> b"."""
    left_out: dict[str, list[str]] = field(default_factory=lambda: collections.defaultdict(list))
    """By kind, such as ".txt"."""
    folders_left_out: list[str] = field(default_factory=list)
    """Beside the splits."""
    passed_over: list[str] = field(default_factory=list)
    """Names with a dot first, and what systems leave."""

    def remarks(self) -> list[str]:
        """Returns what was left out, in words: nothing, or a line for files and one for folders."""
        said = []
        if self.left_out:
            count = sum(map(len, self.left_out.values()))
            by_count = sorted(self.left_out.items(), key=lambda item: (-len(item[1]), item[0]))
            # A suffix says what a file is; of other kinds the first one is named.
            listed = [
                f"{len(paths):,} {printable(kind)}"
                + ("" if kind[0] == "." else f" (such as {printable(min(paths))})")
                for kind, paths in by_count[:MOST_KINDS]
            ]
            rest = sum(len(paths) for _, paths in by_count[MOST_KINDS:])
            listed += [f"{rest:,} of other kinds"] if rest else []
            files = (
                "1 file was"
                if count == 1
                else f"{count:,} files of {len(by_count)} kind{'s' * (len(by_count) > 1)} were"
            )
            said.append(f"{files} left out: {', '.join(listed)}")
        if self.folders_left_out:
            said.append(f"no split and left out: {named(f'{name}/' for name in self.folders_left_out)}")
        if self.passed_over:
            count = len(self.passed_over)
            names = "1 name was" if count == 1 else f"{count:,} names were"
            said.append(
                f"{names} passed over, hidden or left by a system (such as "
                f"{printable(min(self.passed_over))})"
            )
        return said


def find_images(root: Path, splits: Sequence[str]) -> FoundFiles:
    """Finds the images of all class folders, at any depth, through links to files and folders.

    Names with a dot first, Thumbs.db, desktop.ini and __MACOSX are passed over and counted. A link to a
    folder that it lies in is not followed.

    Raises:
        InputError: a folder cannot be read; a link in the place of an image or a class folder leads nowhere.
    """
    found, nowhere = FoundFiles(), []
    # Through no link is a folder entered that it lies in, be it above the root.
    above = frozenset(_identity(folder) for folder in (root, *root.resolve().parents))
    pending = []
    for name, entry in _entries(root, "", found):
        if _what(entry) != "folder":
            _note(found, nowhere, name, entry, "root")
        elif name in splits:
            pending.append((name, entry, above))
        else:
            found.folders_left_out.append(name)
    while pending:
        folder, entry, above = pending.pop()
        depth = folder.count("/")
        if entry.is_symlink():
            found.links.append(f"{folder} -> {os.readlink(entry.path)}")
        inside = above | {_identity(root / folder)}
        if inside == above:
            found.left_out["linked back to a folder above"].append(folder)
            continue
        if depth == 1:
            found.class_folders.append(folder)
        for name, entry in _entries(root, folder, found):
            if _what(entry) == "folder":
                pending.append((name, entry, inside))
            else:
                _note(found, nowhere, name, entry, "class" if depth else "split")
    if nowhere:
        count = f"{len(nowhere)} links lead" if len(nowhere) > 1 else "a link leads"
        raise InputError(
            f"folder {printable(str(root))}: {count} nowhere: {named(sorted(nowhere))}; restore what is "
            f"meant, or remove {'them' if len(nowhere) > 1 else 'it'}"
        )
    found.images.sort()
    found.links.sort()
    return found


def named(names: Iterable[str]) -> str:
    """Returns the first five of some names, and how many more there are."""
    names = list(names)
    more = len(names) - MOST_NAMED
    return ", ".join(map(printable, names[:MOST_NAMED])) + (f" and {more:,} more" if more > 0 else "")


def printable(name: str) -> str:
    """Returns a name on one line, as it is wherever that is possible."""
    return name if name.isprintable() else ascii(name)[1:-1]


def as_text(path: str) -> str:
    r"""Returns a path as one line that any file can hold, another one for each path.

    Bytes that are not UTF-8, control characters and ends of lines become \xNN or \uNNNN, and where there are
    any, a backslash becomes two. All other paths are as they were, unless they look like that.
    """
    if not _STRANGE.search(path):
        return path
    return _STRANGER.sub(lambda found: _escaped(found[0]), path)


def as_line(text: str) -> str:
    """Returns an id as one line of a list of ids: as it is, unless it has several."""
    return text if text.splitlines() == [text] else as_text(text)


def _escaped(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # as Python reads bytes of a name that are not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}"


def _note(found: FoundFiles, nowhere: list[str], name: str, entry: os.DirEntry[str], place: str) -> None:
    """Puts down what becomes of what is no folder, and lies in the root, in a split or in a class."""
    suffix, what = os.path.splitext(entry.name)[1].lower(), _what(entry)
    is_image = suffix in SUFFIXES
    # Beside the class folders of a split a link may stand for a class.
    if what == "nothing" and (place == "split" or (place == "class" and is_image)):
        nowhere.append(name)
    elif what == "nothing":
        found.left_out["linked to nothing"].append(name)
    elif what == "special":
        found.left_out["not a regular file"].append(name)
    elif is_image and place != "class":
        found.left_out["outside any class folder"].append(name)
    elif is_image:
        found.images.append(name)
        if entry.is_symlink():
            found.links.append(f"{name} -> {os.readlink(entry.path)}")
    else:
        found.left_out[suffix or "without a suffix"].append(name)


def _entries(root: Path, folder: str, found: FoundFiles) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yields what is in a folder with its path relative to the root, but for what systems leave there."""
    try:
        with os.scandir(root / folder) as entries:
            listed = list(entries)
    except OSError as error:
        raise InputError(
            f"cannot read folder {printable(str(root / folder))}: {error.strerror or error}; repair or "
            "remove it"
        ) from error
    for entry in listed:
        name = f"{folder}/{entry.name}" if folder else entry.name
        if entry.name.startswith(".") or entry.name.lower() in _NOT_DATA:
            found.passed_over.append(name)
        else:
            yield name, entry


def _what(entry: os.DirEntry[str]) -> str:
    """What a path is, after links: "folder", "file", "special" or "nothing"."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a circle of links
        return "nothing"
    return "special" if os.path.exists(entry.path) else "nothing"


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino
