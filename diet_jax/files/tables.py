"""Tables as CSV, for whatever reads tables."""

import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any

from diet_jax.devices.processes import from_writer
from diet_jax.files.writing import write_atomically


def csv_text(columns: Mapping[str, Sequence[Any]]) -> str:
    """Writes columns of one length as CSV: floats in full, text quoted where it must be, None as nothing.

    Infinite numbers are inf and -inf, NaN is nan; a line ends in a line feed.
    """
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return "".join(lines)


class _Lines(list[str]):
    """Before Python 3.13 a carriage return inside of text is quoted only where it is part of a line's end."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def give_csv(columns: Mapping[str, Sequence[Any]], path: str | os.PathLike[str] | None) -> str | None:
    """Returns columns as CSV, or writes them to a path, whole or not at all; the first process does."""
    text = csv_text(columns)
    return text if path is None else from_writer(lambda: write_atomically(path, text))
