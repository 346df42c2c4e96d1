"""Tables for other programs: CSV, Parquet, data frames, and what a notebook shows."""

import csv
import html
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from diet_jax.checks.optional import optional
from diet_jax.checks.values import check_choice
from diet_jax.devices.processes import from_writer
from diet_jax.files.writing import write_atomically


class Tabular(ABC):
    """What is a table of examples: it offers the columns of its `to_dict` in the ways of other programs."""

    @abstractmethod
    def to_dict(self) -> dict[str, list[Any]]:
        """Returns its columns: plain lists of one length."""

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str | None:
        """Returns the columns of `to_dict` as CSV text, or writes them to a path, whole or not at all.

        Numbers are written in full, infinite ones as inf.

        Args:
            path: of the file, if one is wanted; nothing is returned then.

        Raises:
            InputError: the path cannot be written.
        """
        text = csv_text(self.to_dict())
        return text if path is None else from_writer(lambda: write_atomically(path, text))

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Writes the columns of `to_dict` as a Parquet file, whole or not at all.

        Raises:
            InputError: pyarrow is not installed, or the path cannot be written.
        """
        content = parquet_bytes(self.to_dict())
        from_writer(lambda: write_atomically(path, content))

    def to_frame(self, kind: Literal["pandas", "polars"] = "pandas") -> Any:
        """Returns the columns of `to_dict` as a data frame, in the order of the rows.

        Raises:
            InputError: the library is not installed.
        """
        check_choice(kind, "kind", ("pandas", "polars"))
        return optional(kind, "data frames").DataFrame(self.to_dict())


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


def parquet_bytes(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Returns columns of one length as the contents of a Parquet file."""
    arrow, parquet = optional("pyarrow", "Parquet files"), optional("pyarrow.parquet", "Parquet files")
    buffer = io.BytesIO()
    parquet.write_table(arrow.table(dict(columns)), buffer)
    return buffer.getvalue()


def html_table(columns: Mapping[str, Sequence[Any]], caption: str) -> str:
    """Returns a table of a few rows for a notebook: every text escaped, numbers to six digits."""

    def cell(value: Any) -> str:
        return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))

    top = "".join(f"<th>{cell(name)}</th>" for name in columns)
    rows = ["".join(f"<td>{cell(v)}</td>" for v in row) for row in zip(*columns.values(), strict=True)]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><caption>{html.escape(caption)}</caption><tr>{top}</tr>{body}</table>"
