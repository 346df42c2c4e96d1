"""Any CSV file with a column of ids and one or more of scores; also what `ScoreFile.to_csv` writes."""

from collections.abc import Iterable

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.scores.formats.format import (
    FORMATS,
    Asked,
    Format,
    Found,
    Peek,
    csv_columns,
    numbers,
    wanted_columns,
)
from diet_jax.scores.formats.identity import rows_in_order

IDS = ("id", "sample_id", "image_id", "guid", "filename", "file_name", "path", "index")
OURS = ("row", "id", "class")


def recognises(looked: Peek) -> int:
    """Surely our own; else any with a column of ids may be one."""
    return 2 if looked.names[:3] == OURS else int(any(name.lower() in IDS for name in looked.names))


def read(looked: Peek, dataset: Dataset, asked: Asked) -> Iterable[Found]:
    """The column that is asked for, or all that hold numbers and are no ids or labels."""
    columns, path = csv_columns(looked.path), looked.path
    named = [name for name in columns if name.lower() in IDS]
    if not named:
        raise InputError(f"{path} has no column of ids: call it id; it has {', '.join(columns)}")
    ours = looked.names[:3] == OURS
    high_means = asked.high_means or ("hard" if ours else None)
    if high_means is None:
        raise InputError(f"{path} does not say what a high score means: say --high-means hard or easy")
    text = columns[named[0]]
    ids, rows, matched = np.array(text), None, f"by the column {named[0]}"
    if asked.order is not None:
        ids, rows, matched = None, *rows_of_places(text, dataset, asked, looked)
    scores = [name for name in columns if name not in (*named, *OURS, "kept", "label")]
    number_of = {name: label for label, name in enumerate(dataset.class_names)}
    labels = None
    if "class" in columns or "label" in columns:
        given = columns.get("class", columns.get("label", []))
        labels = np.array([number_of.get(v, int(v) if v.isdecimal() else -1) for v in given])
    for name in wanted_columns(columns, asked, scores, path):
        values = numbers(columns[name], name, path)
        formula = f"the column {name} of a table"
        yield Found(name, values, high_means, formula, matched, ids=ids, rows=rows, labels=labels)


def rows_of_places(text: list[str], dataset: Dataset, asked: Asked, looked: Peek) -> tuple[np.ndarray, str]:
    """Returns the dataset's row of each value, where ids are said to be places in an order, and says so."""
    assert asked.order is not None
    order, how = rows_in_order(dataset, asked.order, str(looked.path))
    if sorted(text) != sorted(str(place) for place in range(len(dataset))):
        raise InputError(
            f"{looked.path}: with --order its ids must be the places 0 to {len(dataset) - 1:,} of the "
            f"examples of {dataset.name}, each once; it has {len(text):,}, such as {text[0]!r}"
        )
    return order[np.array(text, np.int64)], f"by number, {how}"


PLAIN_CSV = FORMATS.register(
    Format(
        name="csv",
        about="CSV with a header, a column of ids and columns of scores",
        reference="what ScoreFile.to_csv and most programs write",
        kind="csv",
        recognises=recognises,
        read=read,
        asks=("order", "column", "high_means"),
    )
)
