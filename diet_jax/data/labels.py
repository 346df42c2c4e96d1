"""Labels and noise matrices from CSV files that others wrote."""

import os

import numpy as np

from diet_jax.checks.values import check_path
from diet_jax.data.columns import at_line, read_column, read_lines
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.data.image_files import named
from diet_jax.data.noise import NoisyLabels, replace_labels
from diet_jax.errors import InputError, counted


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
    check_path(path, "path")
    check_dataset(dataset)
    meanings, names = _meanings(dataset.class_names), dataset.class_names
    known = f"give a number from 0 to {dataset.num_classes - 1}"
    if names != tuple(map(str, range(len(names)))):
        known += f" or a name such as {named(map(repr, names))}"

    def label(cell: str) -> int:
        classes = meanings.get(cell.strip(), [])
        if not classes:
            raise InputError(f"{_no_class(cell.strip())}; {known}")
        if len(classes) > 1:
            raise InputError(
                f"{cell!r} could mean the classes number {' and '.join(map(str, classes))}; put the labels "
                "into row order yourself and give numbers to replace_labels"
            )
        return classes[0]

    return np.array(read_column(path, "label", dataset, label), np.int32)


def _no_class(cell: str) -> str:
    """Says what a cell is that names no class."""
    if not cell:
        return "the cell of the label is empty; every example needs one"
    whole, point, rest = cell.partition(".")
    if point and whole.isdigit() and not rest.strip("0"):
        return (
            f"{cell!r} is no class but a decimal number, as programs write where a column has gaps: {whole}"
        )
    return f"{cell!r} is no class"


def new_labels_remark(before: np.ndarray, after: np.ndarray, num_classes: int) -> str:
    """Says if labels differ from those of the data as only labels do that mean something else; "" if not.

    Args:
        before: int `[n]`, those of the data.
        after: int `[n]`, those in their place.
        num_classes: of both.
    """
    shifts = np.unique(after.astype(np.int64) - before)
    if len(shifts) == 1 and shifts[0]:
        much = "one" if abs(shifts[0]) == 1 else abs(shifts[0])
        way = "higher" if shifts[0] > 0 else "lower"
        return f"every label is {much} {way} than the data's own: class numbers start from 0"
    same = float((before == after).mean())
    # Half of what labels drawn at random would have in common.
    if same < 0.5 / num_classes:
        return (
            f"{same:.2%} of the labels are the data's own, and would be about {1 / num_classes:.0%} by "
            f"chance: do they number the classes in another order, or belong to other examples?"
        )
    return ""


def labels_of_file(path: str | os.PathLike[str], whole: Dataset, part: Dataset) -> NoisyLabels:
    """Returns part of a dataset with the labels of a file, which may be of the part or of the whole.

    Raises:
        InputError: as `read_labels` of the part.
    """
    noisy = replace_labels(part, read_labels(path, part))
    if part is whole:
        return noisy
    try:
        labelled = whole.with_labels(read_labels(path, whole))
    except InputError:  # A label for each example of the part alone.
        return noisy
    # Taken from the whole with these labels: what was scored with them belongs to it.
    return noisy._replace(dataset=labelled.take(np.isin(whole.ids, part.ids)))


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
    for number, cells in read_lines(path):
        with at_line(path, number):
            try:
                rows.append([float(cell) for cell in cells])
            except ValueError:
                problem = f"every cell must be a number, got {','.join(cells)!r}; leave out headings"
                raise InputError(problem) from None
            if len(rows[-1]) != len(rows[0]):
                raise InputError(
                    f"{counted(len(rows[-1]), 'number')}, but {len(rows[0])} in the first line; make "
                    f"them equal"
                )
    if not rows or len(rows) != len(rows[0]):
        columns = len(rows[0]) if rows else 0
        raise InputError(
            f"{path}: a matrix has a row and a column for each class, got {counted(len(rows), 'row')} of "
            f"{columns}"
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
