"""Labels and noise matrices from CSV files that others wrote."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError

HEADER = ["id", "label"]


def read_labels(path: str | os.PathLike[str], dataset: Dataset) -> np.ndarray:
    """Reads a label for every example of a dataset from a CSV file and puts them into its row order.

    The file starts with the line `id,label`; each further line holds the id of an example and its label, a
    class number or a class name. Lines may be in any order. Give the result to `replace_labels`.

    Args:
        path: of the file, in UTF-8.
        dataset: whose ids and class names are looked up.

    Returns:
        int32 `[n]`, the label of row i in the dataset.

    Raises:
        InputError: the file cannot be read, an id is unknown, occurs twice or is missing, or a label is no
            class or could mean two: the message names the line.

    Example:
        >>> import pathlib, tempfile, numpy as np, diet_jax as dj
        >>> images = np.zeros((2, 8, 8), np.uint8)
        >>> dataset = dj.Dataset.from_arrays(images, [0, 1], ["a", "b"], class_names=["cat", "dog"])
        >>> path = pathlib.Path(tempfile.mkdtemp(), "labels.csv")
        >>> _ = path.write_text("id,label\\nb,cat\\na,1\\n")
        >>> read_labels(path, dataset).tolist()
        [1, 0]
    """
    row_of = {str(name): row for row, name in enumerate(dataset.ids.tolist())}
    meanings = _meanings(dataset.class_names)
    labels = np.zeros(len(dataset), np.int32)
    first_line: dict[int, int] = {}
    lines = _lines(path)
    number, header = next(lines, (1, []))
    if [cell.strip() for cell in header] != HEADER:
        _fail(path, number, f"the first line must be 'id,label', got {','.join(header)!r}")
    for number, cells in lines:
        if len(cells) != 2:
            _fail(
                path, number, f"a line holds an id and a label, got {len(cells)} cells; quote commas in ids"
            )
        name, label = cells
        if name not in row_of:
            _fail(
                path,
                number,
                f"no example of {dataset.name}/{dataset.split} has the id {name!r}; its ids are like "
                f"{str(dataset.ids[0])!r} ({dataset.id_source})",
            )
        row = row_of[name]
        if row in first_line:
            _fail(path, number, f"the id {name!r} was in line {first_line[row]} already; keep one of the two")
        first_line[row] = number
        classes = meanings.get(label.strip(), [])
        if not classes:
            _fail(
                path,
                number,
                f"{label!r} is no class; give a number from 0 to {dataset.num_classes - 1} or a name such as "
                f"{dataset.class_names[0]!r}",
            )
        if len(classes) > 1:
            _fail(
                path,
                number,
                f"{label!r} could mean the classes number {' and '.join(map(str, classes))}; put the labels "
                f"into row order yourself and give numbers to replace_labels",
            )
        labels[row] = classes[0]
    if len(first_line) < len(dataset):
        missing = next(row for row in range(len(dataset)) if row not in first_line)
        raise InputError(
            f"{path}: {len(dataset) - len(first_line)} of {len(dataset)} examples have no line, the first "
            f"has the id {str(dataset.ids[missing])!r}; add a line for each, if only with its old label"
        )
    return labels


def read_matrix(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a square matrix of numbers, such as the noise of `flip_labels(..., mode="matrix")`, from CSV.

    Args:
        path: of a file without a header: line k holds the numbers of row k, separated by commas.

    Returns:
        float64 `[c c]`.

    Raises:
        InputError: the file cannot be read, a cell is no number, or the matrix is not square.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "matrix.csv")
        >>> _ = path.write_text("0.9,0.1\\n0,1\\n")
        >>> read_matrix(path).tolist()
        [[0.9, 0.1], [0.0, 1.0]]
    """
    rows: list[list[float]] = []
    for number, cells in _lines(path):
        try:
            rows.append([float(cell) for cell in cells])
        except ValueError:
            _fail(path, number, f"every cell must be a number, got {','.join(cells)!r}; leave out headings")
        if len(rows[-1]) != len(rows[0]):
            _fail(
                path,
                number,
                f"{len(rows[-1])} numbers, but {len(rows[0])} in the first line; make them equal",
            )
    if not rows or len(rows) != len(rows[0]):
        columns = len(rows[0]) if rows else 0
        raise InputError(
            f"{path}: a matrix has a row and a column for each class, got {len(rows)} rows of {columns}"
        )
    return np.array(rows, np.float64)


def _meanings(class_names: tuple[str, ...]) -> dict[str, list[int]]:
    """The classes that a text can mean, by number or by name: more than one if names are other numbers."""
    meanings: dict[str, list[int]] = {str(label): [label] for label in range(len(class_names))}
    for label, name in enumerate(class_names):
        classes = meanings.setdefault(name, [])
        if label not in classes:
            classes.append(label)
    return meanings


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the cells of each line that is not empty."""
    try:
        # utf-8-sig: spreadsheets write a byte order mark, which would become part of the first cell.
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8: {error}; write it again as one") from error


def _fail(path: str | os.PathLike[str], number: int, problem: str) -> NoReturn:
    raise InputError(f"{path}, line {number}: {problem}")
