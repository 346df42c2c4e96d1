"""JSON objects that carry a checksum: whole files of one, and files of one in each line."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from diet_jax.errors import InputError
from diet_jax.files.writing import append

CHECKSUM = "checksum"
_ENDS_A_LINE = re.compile(rb'"checksum": "[0-9a-f]{16}"}')


def with_checksum(values: dict[str, Any]) -> dict[str, Any]:
    """Returns JSON values with a checksum of all of them as the last."""
    return {**values, CHECKSUM: _checksum(values)}


def from_record(text: bytes | str) -> dict[str, Any]:
    """Returns the values of a JSON object that `with_checksum` had made, without the checksum.

    Raises:
        ValueError: it is damaged.
    """
    values = json.loads(text)
    if not isinstance(values, dict) or CHECKSUM not in values:
        raise ValueError("it has no checksum")
    if values.pop(CHECKSUM) != _checksum(values):
        raise ValueError("its checksum is another")
    return values


def text_of_lines(lines: list[dict[str, Any]]) -> str:
    """Returns JSON values as lines, each with its checksum."""
    return "".join(f"{json.dumps(with_checksum(values))}\n" for values in lines)


def append_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Appends lines with checksums, after cutting off one that a killed process left unfinished.

    Raises:
        InputError: the file cannot be written, or its last line is damaged.
    """
    content, whole = text_of_lines(lines).encode(), None
    if not _ends_in_a_line(path):
        whole, tail = _split(path)[1:]
        content = b"\n" * len(tail) + content
    append(path, content, whole)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns what lines hold; one that a killed process left unfinished does not count. No file has none.

    Raises:
        InputError: another line is damaged.
    """
    if not path.is_file():
        return []
    lines, _, tail = _split(path)
    return [_read(path, number, line) for number, line in enumerate([*lines, *tail], 1)]


def _ends_in_a_line(path: Path) -> bool:
    if not path.is_file():
        return True
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        return file.read(1) in (b"", b"\n")


def _split(path: Path) -> tuple[list[bytes], int, list[bytes]]:
    """The lines of a file, the bytes before an unfinished one, and a last one without its line feed."""
    content = path.read_bytes()
    *lines, last = content.split(b"\n")
    whole = _ENDS_A_LINE.search(last)
    if whole is None:
        return lines, len(content) - len(last), []
    _read(path, len(lines) + 1, last)
    return lines, len(content), [last]


def _read(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return from_record(line)
    except (ValueError, RecursionError) as error:
        raise damaged_line(path, number) from error


def damaged_line(path: Path, number: int) -> InputError:
    """Returns the error that names a damaged line."""
    return InputError(f"line {number} of {path} is damaged; delete that line")


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
