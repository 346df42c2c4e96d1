"""Area under the margin, as the package of its authors writes it."""

from collections.abc import Iterable

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.scores.formats.format import FORMATS, Asked, Format, Found, Peek, csv_columns, numbers
from diet_jax.scores.formats.plain_csv import rows_of_places

FINAL, RECORDS = {"sample_id", "aum"}, {"sample_id", "num_measurements", "margin", "aum"}


def recognises(looked: Peek) -> int:
    """By the header of aum_values.csv or of full_aum_records.csv."""
    names = set(looked.names)
    return 2 * (names == FINAL or names > RECORDS)


def read(looked: Peek, dataset: Dataset, asked: Asked) -> Iterable[Found]:
    """The last value of each example; of full records that of its last measurement."""
    columns = csv_columns(looked.path)
    if missing := sorted(FINAL - set(columns)):
        raise InputError(f"{looked.path} has no column {' nor '.join(missing)}; it has {', '.join(columns)}")
    text, values = columns["sample_id"], numbers(columns["aum"], "aum", looked.path)
    if "num_measurements" in columns:
        counts = numbers(columns["num_measurements"], "num_measurements", looked.path)
        last = {text[row]: row for row in np.argsort(counts, kind="stable").tolist()}
        kept = sorted(last.values())
        text, values = [text[row] for row in kept], values[kept]
    ids, rows, matched = np.array(text), None, "by the column sample_id"
    if asked.order is not None:
        ids, rows, matched = None, *rows_of_places(text, dataset, asked, looked)
    formula = "AUM: mean over epochs of the label's logit minus the largest other one"
    yield Found("aum", values, "easy", formula, matched, ids=ids, rows=rows)


AUM = FORMATS.register(
    Format(
        name="aum",
        about="aum_values.csv or full_aum_records.csv of the package aum",
        reference="github.com/asappresearch/aum, aum/aum.py",
        kind="csv",
        recognises=recognises,
        read=read,
        asks=("order",),
    )
)
