"""CSV files that others wrote: their lines, and a column of values by the ids of examples."""

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from diet_jax.data.dataset import Dataset
from diet_jax.devices.progress import say
from diet_jax.errors import InputError, NotHereError, counted

Value = TypeVar("Value")


def read_column(
    path: str | os.PathLike[str], column: str, dataset: Dataset, parse: Callable[[str], Value]
) -> list[Value]:
    """Reads a value for every example of a dataset, in its row order, from a file with the header id,COLUMN.

    Each further line holds an id and a value, in any order; where the dataset was taken from a larger one,
    lines of its other examples are passed over and counted. `parse` makes the value out of a cell, and raises
    InputError where it is none.

    Raises:
        InputError: the file cannot be read, an id is unknown, occurs twice or is missing, or a value is none:
            the message names the line.
    """
    row_of = {str(name): row for row, name in enumerate(dataset.ids.tolist())}
    elsewhere = {str(name) for name in dataset.whole.ids.tolist()} - row_of.keys()
    left_out = 0
    bad: list[InputError] = []
    found: dict[int, tuple[int, Value]] = {}
    lines = read_lines(path)
    number, header = next(lines, (1, []))
    with at_line(path, number):
        if [cell.strip() for cell in header] != ["id", column]:
            raise InputError(f"the first line must be 'id,{column}', got {','.join(header)!r}")
    for number, cells in lines:
        with at_line(path, number):
            if len(cells) != 2:
                raise InputError(
                    f"a line holds an id and a {column}, got {counted(len(cells), 'cell')}; quote commas "
                    f"in ids"
                )
            name, cell = cells
            if name in elsewhere:
                left_out += 1
                continue
            row = row_of.get(name)
            if row in found:
                raise InputError(f"the id {name!r} was in line {found[row][0]} already; keep one of the two")
            try:
                with at_line(path, number):
                    if row is None:
                        raise InputError(
                            f"no example of {dataset.name}/{dataset.split} has the id {name!r}; its ids are "
                            f"like {str(dataset.ids[0])!r} ({dataset.id_source})"
                        )
                    found[row] = number, parse(cell)
            except InputError as error:
                bad.append(error)
    if len(bad) > 1:
        raise InputError(
            f"{bad[0]}; it is the first of {len(bad):,} such lines, of {len(found) + len(bad):,}"
        )
    if bad:
        raise bad[0]
    missing = [row for row in range(len(dataset)) if row not in found]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of {len(dataset)} examples have no line, the first has the id "
            f"{str(dataset.ids[missing[0]])!r}; add a line for each"
        )
    if left_out:
        say(
            f"{path}: {len(found):,} of its {len(found) + left_out:,} lines are of this part of the data; "
            "the others are left out"
        )
    return [found[row][1] for row in range(len(dataset))]


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the cells of each line that is not empty."""
    try:
        # utf-8-sig: spreadsheets write a byte order mark, which would become part of the first cell.
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except OSError as error:
        kind = NotHereError if isinstance(error, FileNotFoundError) else InputError
        raise kind(f"{path}: cannot be read: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8: {error}; write it again as one") from error


@contextmanager
def at_line(path: str | os.PathLike[str], number: int) -> Iterator[None]:
    """Says in which line of a file an InputError was raised."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}, line {number}: {error}") from None
