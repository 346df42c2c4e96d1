"""JSON objects that carry a checksum: whole files of one, and files of one in each line.

A line says which run it belongs to and its number: lines of others, and lines taken away, are noticed.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diet_jax.errors import InputError
from diet_jax.files.writing import append

CHECKSUM = "checksum"
RUN, NUMBER = "run", "line"
DAMAGED, FOREIGN, MISPLACED = "damaged", "of another run", "not in its place"
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


class Lines(NamedTuple):
    """What a file of lines holds.

    Attributes:
        values: of the lines that are sound, in their order.
        numbers: by which these were written, ascending from 1.
        wrong: by their places in the file from 1, what the others are.
    """

    values: list[dict[str, Any]]
    numbers: list[int]
    wrong: dict[int, str]

    @property
    def missing(self) -> list[int]:
        """The numbers of lines that were taken away; while any is wrong nobody can say."""
        there = {*self.numbers}
        return [] if self.wrong else [n for n in range(1, max(there, default=0)) if n not in there]

    @property
    def count(self) -> int:
        """How many lines there are, sound or not."""
        return len(self.values) + len(self.wrong)


def text_of_lines(lines: Iterable[tuple[int, dict[str, Any]]], run: str) -> str:
    """Returns numbers and JSON values as lines, each with its run, its number and its checksum."""
    records = (with_checksum({**values, RUN: run, NUMBER: number}) for number, values in lines)
    return "".join(f"{json.dumps(record)}\n" for record in records)


def append_lines(path: Path, lines: list[dict[str, Any]], run: str) -> None:
    """Appends lines, after cutting off one that a killed process left unfinished.

    Args:
        path: of the file.
        lines: JSON values.
        run: what the file belongs to; each line says so.

    Raises:
        InputError: the file cannot be written, or its last line is damaged or of another run.
    """
    begun, whole, last = b"", None, _last_line(path)
    if not last.endswith(b"\n"):
        _, whole, tail = _split(path)
        begun = b"\n" * len(tail)
        last = b"".join(tail) or path.read_bytes()[:whole].rstrip(b"\n").rpartition(b"\n")[2]
    number = 0
    if last.strip():
        try:
            record = from_record(last)
            if record[RUN] != run:
                raise ValueError("it is of another run")
            number = int(record[NUMBER])
        except (ValueError, KeyError, TypeError, RecursionError):
            read_lines(path, run)
            raise
    append(path, begun + text_of_lines(enumerate(lines, number + 1), run).encode(), whole)


def read_lines(path: Path, run: str) -> Lines:
    """Returns what lines hold; one that a killed process left unfinished does not count. No file has none.

    Raises:
        InputError: a line is damaged, of another run, or out of its place.
    """
    found = scan_lines(path, run)
    if found.wrong:
        raise InputError(f"{path}: {words_of(found.wrong)}")
    return found


def scan_lines(path: Path, run: str) -> Lines:
    """Returns what lines hold as `read_lines` does, with what is wrong in place of an error."""
    found = Lines([], [], {})
    if path.is_file():
        lines, _, tail = _split(path)
        for place, line in enumerate([*lines, *tail], 1):
            try:
                values = from_record(line)
                of, number = values.pop(RUN, None), values.pop(NUMBER, None)
            except (ValueError, RecursionError):
                found.wrong[place] = DAMAGED
                continue
            if of != run:
                found.wrong[place] = FOREIGN
            elif not isinstance(number, int) or number <= (found.numbers or [0])[-1]:
                found.wrong[place] = MISPLACED
            else:
                found.numbers.append(number)
                found.values.append(values)
    return found


def words_of(wrong: Mapping[int, str]) -> str:
    """Says which lines are wrong, and what to do."""
    texts = []
    for what in dict.fromkeys(wrong.values()):
        places = [place for place, other in wrong.items() if other == what]
        more = f" (and {len(places) - 1:,} more)" if len(places) > 1 else ""
        texts.append(f"line {places[0]:,}{more} is {what}")
    lost = ", or, if there is none, delete such lines: what damaged ones said is lost"
    return f"{'; '.join(texts)}; bring the file back from a copy" + (
        lost if DAMAGED in wrong.values() else ", or delete such lines"
    )


def _last_line(path: Path) -> bytes:
    """The last line of a file, of one that ends in a line feed with it; of no file a line feed."""
    if not path.is_file():
        return b"\n"
    size, block = path.stat().st_size, 4096
    with open(path, "rb") as file:
        while True:
            file.seek(max(0, size - block))
            content = file.read()
            line = content[:-1].rpartition(b"\n")
            if line[1] or block >= size:
                return line[2] + content[-1:] or b"\n"
            block *= 16


def _split(path: Path) -> tuple[list[bytes], int, list[bytes]]:
    """The lines of a file, the bytes before an unfinished one, and a last one without its line feed."""
    content = path.read_bytes()
    *lines, last = content.split(b"\n")
    if _ENDS_A_LINE.search(last) is None:
        return lines, len(content) - len(last), []
    return lines, len(content), [last]


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
