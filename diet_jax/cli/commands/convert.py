"""`diet-jax convert`."""

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from diet_jax.cli.command import Answer, Command
from diet_jax.cli.options import Printing
from diet_jax.data.image_files import as_line
from diet_jax.errors import InputError
from diet_jax.experiments.config import DataConfig, RunConfig
from diet_jax.experiments.setup import load_splits
from diet_jax.files.arrays import kind_of
from diet_jax.files.tables import Tabular, csv_text, parquet_bytes
from diet_jax.files.writing import write_together
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.formats.importing import import_scores
from diet_jax.scores.probabilities import ProbabilityFile
from diet_jax.selection.file import KeepFile


@dataclass(frozen=True)
class Convert(Printing):
    """Turn scores of another program into score files, and score and mask files into what others read.

    Scores made elsewhere are joined to the examples of the dataset that the data options name; the format is
    recognised, or said. What is written follows from the ending of OUT: .npz is a score file, .csv and
    .parquet are tables; of a mask file .txt and .json are the kept ids, and .npy the kept row numbers, as
    torch.utils.data.Subset takes them. Of probabilities .npy is the matrix that cleanlab reads.
    """

    file: tyro.conf.Positional[Path]
    """File of scores, a mask or probabilities (.npz), or what another program wrote."""
    out: tyro.conf.Positional[Path]
    """What to write; of several scores a folder, without an ending."""
    data: DataConfig = field(default_factory=DataConfig)
    """What was scored."""
    source: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Format of a file of another program; by default it is recognised."""
    score: str | None = None
    """Of a file with several scores: the one to write."""
    name: str | None = None
    """What to call it; by default what the file does."""
    column: str | None = None
    """Of a table: the column with the score; by default every one that can be one."""
    order: Literal["rows", "original"] | None = None
    """Without ids: values stand in the order of the dataset's rows, or of the files that it was published as.
    With ids: they are the numbers in that order."""
    high_means: Literal["hard", "easy"] | None = None
    """What a high score means, where the file does not say."""
    split: Literal["train", "test"] = "train"
    """Which examples were scored."""


SCORES = {
    ".npz": ScoreFile.packed,
    ".csv": lambda file: csv_text(file.to_dict()),
    ".parquet": lambda file: parquet_bytes(file.to_dict()),
}
MASKS = {
    ".csv": SCORES[".csv"],
    ".parquet": SCORES[".parquet"],
    ".txt": lambda file: "".join(f"{as_line(str(name))}\n" for name in file.kept_ids),
    ".json": lambda file: json.dumps(file.kept_ids.tolist()) + "\n",
    ".npy": lambda file: _npy(file.rows),
}
PROBABILITIES = {
    ".npy": ProbabilityFile.npy,
    ".csv": SCORES[".csv"],
    ".parquet": SCORES[".parquet"],
}
# By kind: what is said of such a file, what reads it, what it becomes by which ending.
OURS: dict[str | None, tuple[str, Any, dict[str, Any]]] = {
    "keep": ("is a mask file", KeepFile.load, MASKS),
    "probabilities": ("holds probabilities", ProbabilityFile.load, PROBABILITIES),
}


def convert(command: Convert) -> Answer:
    """Reads scores or a mask, of this program or another, and writes them as the ending says."""
    kind, out = kind_of(command.file), command.out
    if out.exists():
        raise InputError(f"{out} exists already; choose another place")
    if kind in OURS:
        what, load, ways = OURS[kind]
        for name in ("source", "score", "name", "column", "order", "high_means"):
            if getattr(command, name) is not None:
                raise InputError(f"{command.file} {what}: leave {name} out")
        return _write({out: load(command.file)}, ways, f"a file that {what}")
    files = {}
    if kind == "scores":
        file = ScoreFile.load(command.file)
        files[file.name] = file
    else:
        split = getattr(load_splits(RunConfig(data=command.data))[0], command.split)
        asked: Any = {name: getattr(command, name) for name in ("order", "column", "high_means", "source")}
        files = import_scores(command.file, split, **asked)
    if command.score is not None:
        if command.score not in files:
            raise InputError(f"{command.file} has no score {command.score}; it has {', '.join(files)}")
        files = {command.score: files[command.score]}
    if command.name is not None:
        if len(files) > 1 or not command.name.isidentifier():
            raise InputError(
                f"name must be letters, digits and _, for one of the scores {', '.join(files)}; got "
                f"{command.name!r}"
            )
        files = {command.name: dataclasses.replace(*files.values(), name=command.name)}
    if len(files) > 1 and out.suffix:
        raise InputError(
            f"{command.file} has the scores {', '.join(files)}: choose one by --score, or give a folder for "
            f"all, without an ending"
        )
    places: Any = {out if out.suffix else out / f"{name}.npz": file for name, file in files.items()}
    return _write(places, SCORES, "a score file")


def _write(files: Mapping[Path, Tabular], ways: dict[str, Any], what: str) -> Answer:
    for path in files:
        if path.suffix not in ways:
            raise InputError(f"{what} becomes {', '.join(ways)}, by the ending of OUT; got {path}")
    write_together({path: ways[path.suffix](file) for path, file in files.items()})
    for path, file in files.items():
        print(f"{path}: {file!r}")
    return Answer({"files": [str(path) for path in files]}, tuple(files))


def _npy(rows: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return buffer.getvalue()


COMMAND = Command(
    Convert,
    convert,
    {
        "convert runs/digits-mlp/scores/el2n.npz el2n.csv": "a score file as a table",
        "convert runs/digits-mlp/masks/el2n_keep0.5.npz kept.json": "a mask file as the list of kept ids",
        "convert scores.npy mine.npz --order rows --high-means hard --name mine": "scores of another program",
    },
)
