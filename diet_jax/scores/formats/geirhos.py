"""Scores of ImageNet by the authors of "Beyond neural scaling laws": CSV files by the names of its images."""

import re
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

IMAGE = re.compile(r"(.*/)?n\d{8}_\d+(\.\w+)?")


def recognises(looked: Peek) -> int:
    """By its first line, which names an image of ImageNet."""
    return 2 * any(IMAGE.fullmatch(text) for text in looked.first)


def read(looked: Peek, dataset: Dataset, asked: Asked) -> Iterable[Found]:
    """The one column of numbers beside that of the images, or the one that is asked for.

    The authors say that every score is written so that high means worth keeping. What they call their columns
    they do not say: among several no choice is made.
    """
    columns, path = csv_columns(looked.path), looked.path
    images = [name for name, text in zip(looked.names, looked.first, strict=True) if IMAGE.fullmatch(text)]
    if len(images) != 1 or any(IMAGE.fullmatch(name) for name in looked.names):
        raise InputError(
            f"{path} must have a header and one column of the names of ImageNet's images, such as "
            f"n01440764_10026.JPEG; it has {', '.join(columns)}"
        )
    (name, *others) = wanted_columns(columns, asked, [name for name in columns if name not in images], path)
    if others:
        raise InputError(
            f"{path} has the columns {', '.join(columns)}, of which one may be the score: say which "
            f"(--column; Python: column=)"
        )
    yield Found(
        name=path.stem,
        values=numbers(columns[name], name, path),
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
        kind="csv",
        recognises=recognises,
        read=read,
        asks=("column",),
    )
)
