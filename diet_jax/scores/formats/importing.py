"""Scores of other programs as score files: joined to the examples of a dataset, high means hard."""

import dataclasses
import hashlib
import os
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diet_jax.checks.values import check_choice, check_path
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.files.digests import file_digest
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.formats.format import (
    EPOCHS,
    FORMATS,
    Asked,
    Format,
    Found,
    Order,
    check_asked,
    peek,
    recognised,
)
from diet_jax.scores.formats.identity import rows_of_ids


def import_scores(
    path: str | os.PathLike[str],
    dataset: Dataset,
    *,
    source: str | None = None,
    order: Order | None = None,
    column: str | None = None,
    high_means: Literal["hard", "easy"] | None = None,
) -> dict[str, ScoreFile]:
    """Reads scores that another program wrote, and joins them to the examples of a dataset.

    Where high means easy in the source, the sign is turned, so that high means hard as in all score files.
    What was found and turned is said, and stands in the files' provenance with the format and the digest.

    Args:
        path: of the file, or of a folder of one for each epoch.
        dataset: what was scored, all of it.
        source: name of the format, see `docs/score-files.md`; by default it is recognised.
        order: for sources without ids, "rows" of the dataset here or "original", of the files that it was
            published as, by the numbers in its ids; where ids are given, that they are such numbers.
        column: of a table, by default every one with scores.
        high_means: what a high score means where the source does not say.

    Returns:
        Score files by the names of their scores.

    Raises:
        InputError: the file is damaged, of no format or of several, or its examples are not the dataset's: by
            count, ids or labels; or a score is NaN.

    Example:
        >>> import pathlib, tempfile, diet_jax as dj
        >>> dataset = dj.Dataset.from_arrays([[0.1], [0.2]], [1, 0], ["a", "b"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "aum_values.csv"
        ...     _ = path.write_text("sample_id,aum\\nb,1.5\\na,-0.5\\n")
        ...     dj.import_scores(path, dataset)["aum"].scores.tolist()
        [0.5, -1.5]
    """
    check_dataset(dataset)
    place = Path(check_path(path, "path"))
    for name, value, words in (
        ("order", order, ("rows", "original")),
        ("high_means", high_means, ("hard", "easy")),
    ):
        if value is not None:
            check_choice(value, name, words)
    if dataset.taken_from is not None:
        raise InputError(
            f"scores made elsewhere are joined to all of {dataset.name}, not to {len(dataset):,} examples of "
            f"it: leave out --data.num-train; score files give each part its own"
        )
    looked = peek(place)
    chosen = recognised(looked) if source is None else FORMATS.find(source)
    asked = Asked(order, column, high_means)
    check_asked(chosen, looked, asked)
    files: dict[str, ScoreFile] = {}
    for found in chosen.read(looked, dataset, asked):
        file = _bound(found, dataset, chosen, place)
        if file.name in files:
            raise InputError(f"{place} has two scores called {file.name}; choose a column")
        files[file.name] = file
    return files


def _bound(found: Found, dataset: Dataset, chosen: Format, path: Path) -> ScoreFile:
    what = f"{path} ({found.name})"
    if found.values.dtype.kind not in "iuf" or found.values.ndim not in (1, 2):
        raise InputError(
            f"{what} holds {found.values.dtype} of shape {list(found.values.shape)}, not one score per "
            f"example"
        )
    values, count = np.atleast_2d(np.asarray(found.values, np.float64)), len(dataset)
    if found.rows is not None and values.shape[1] != count:
        raise InputError(
            f"{what} has {values.shape[1]:,} scores, {dataset.name}/{dataset.split} has {count:,} examples; "
            f"name the dataset that was scored (--data.name)"
        )
    matched = found.matched
    if found.ids is not None:
        if found.ids.shape != values.shape[1:]:
            raise InputError(f"{what} has {values.shape[1]:,} scores and {len(found.ids):,} ids")
        places, how = rows_of_ids(found.ids, dataset, what)
        matched += "" if how == "by id" else f", {how}"
    else:
        places = np.argsort(np.asarray(found.rows))
    if found.labels is not None:
        if found.labels.shape != values.shape[1:]:
            raise InputError(f"{what} has {values.shape[1]:,} scores and {found.labels.shape} labels")
        differ = np.flatnonzero(found.labels[places] != dataset.labels)
        if len(differ):
            raise InputError(
                f"{what}: {len(differ):,} of {count:,} labels are not those of {dataset.name}, first that of "
                f"{dataset.ids[differ[0]]!s}: it is another dataset, or in another order"
            )
    if undefined := int(np.isnan(values).any(axis=0).sum()):
        first = (
            found.ids[int(np.isnan(values).any(axis=0).argmax())] if found.ids is not None else "in its order"
        )
        raise InputError(
            f"{what} is NaN for {undefined:,} of {count:,} examples, first {first}; leave it out"
        )
    turned = found.high_means == "easy"
    source = {
        "format": chosen.name,
        "reference": chosen.reference,
        "file": path.name,
        "sha256": _digest(path),
        "high_meant": found.high_means,
        "turned": turned,
        "matched": matched,
    }
    per_seed = (-values if turned else values)[:, places]
    facts: dict[str, Any] = {
        "definition": ("minus " if turned else "") + found.formula,
        "high_means": "hard" if turned else found.high_means,
        "source": source,
    }
    name = re.sub(r"\W", "_", found.name).strip("_") or "score"
    file = ScoreFile.from_seeds(name, per_seed, dataset, step=found.step, provenance=facts)
    # A name of the library's own stands for its definition, which is another.
    file = dataclasses.replace(file, provenance={**file.provenance, "parameters": {}})
    did = (
        "minus its values are taken, so that high means hard"
        if turned
        else "its values are taken as they are"
    )
    say(f"{what}: {chosen.name}, {matched}; high means {found.high_means} there, {did}")
    return file


def _digest(path: Path) -> str:
    if path.is_file():
        return file_digest(path)
    files = sorted(path.rglob(EPOCHS))
    return hashlib.sha256(
        "".join(f"{file.name} {file_digest(file)}\n" for file in files).encode()
    ).hexdigest()
