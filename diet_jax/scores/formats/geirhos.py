"""Scores of ImageNet by the authors of "Beyond neural scaling laws": CSV files by the names of its images."""

import re
from collections.abc import Iterable

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.scores.formats.format import FORMATS, Asked, Format, Found, Peek, csv_columns, numbers

IMAGE = re.compile(r"(.*/)?n\d{8}_\d+(\.\w+)?")


def recognises(looked: Peek) -> int:
    """By its first line, which names an image of ImageNet."""
    return 2 * (looked.kind == "csv" and any(IMAGE.fullmatch(text) for text in looked.first))


def read(looked: Peek, dataset: Dataset, asked: Asked) -> Iterable[Found]:
    """Every column of numbers beside that of the images; all are written so that high means worth keeping."""
    columns, path = csv_columns(looked.path), looked.path
    images = [name for name, text in zip(looked.names, looked.first, strict=True) if IMAGE.fullmatch(text)]
    names = [asked.column] if asked.column else [name for name in columns if name not in images]
    if absent := [name for name in names if name not in columns] or not names:
        raise InputError(f"{path} has no column {absent} of scores; it has {', '.join(columns)}")
    for name in names:
        values = numbers(columns[name], name, path)
        yield Found(
            name=name if name.lower() not in ("score", "") else path.stem,
            values=values,
            high_means="hard",
            formula=f"the published score {path.stem}, column {name}: high means worth keeping",
            matched=f"by the column {images[0]}",
            ids=np.array(columns[images[0]]),
        )


GEIRHOS = FORMATS.register(
    Format(
        name="geirhos",
        about="CSV by the names of ImageNet's images, high means worth keeping",
        reference="github.com/rgeirhos/dataset-pruning-metrics",
        recognises=recognises,
        read=read,
    )
)
