"""What a run folder holds, as plain values: what a report is made of."""

import csv
import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.analysis.results import LEGEND
from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.experiments.config import DataConfig
from diet_jax.experiments.own import NOTHING, Own
from diet_jax.experiments.provenance import TABLES, read_provenance
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.run_listing import state_of
from diet_jax.experiments.run_log import PROVENANCE, STARTS, UNFINISHED
from diet_jax.experiments.run_result import RunResult
from diet_jax.experiments.selecting import Selection
from diet_jax.experiments.setup import load_splits
from diet_jax.files.arrays import load_arrays
from diet_jax.files.digests import file_digest
from diet_jax.files.ids import rows_by_id
from diet_jax.files.records import read_lines
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.file import KeepFile

# Columns of table.csv, classes.csv and costs.csv that are text; all others are numbers, or empty.
TEXT = ("kept_by", "score", "rule", "budget", "class")
PLACES = {("run_dir",), ("data", "data_dir"), ("score", "files")}
WHOLE = ("examples", "steps", "seeds", "of_seeds", "least_kept_of_a_class")


@dataclass(frozen=True, eq=False)
class Kept:
    """A selection of a run: its name in the table, and what it kept."""

    kept_by: str
    fraction: float
    file: KeepFile


@dataclass(frozen=True, eq=False)
class Contents:
    """What a run folder holds.

    Attributes:
        name: of the run, as readers of the report know it.
        config: of the run by section, without places on disk.
        resolved: what followed from the config and the data.
        rows: of table.csv; none where nothing is retrained yet.
        class_rows: of classes.csv.
        cost_rows: of costs.csv.
        files: the score files by name.
        kept: the masks, in the order of the table.
        notes: what stands below the table.
        unfinished: of a run that is not finished, what stands above its table, or its state; else "".
        starts: what the run was started on, each time.
        stages: seconds by stage of the last finished start.
        class_names: by label.
        changed: bool `[n]`, which train labels are not those that came; None where none was replaced.
        clean_labels: int `[n]`, the labels that came; None where none was replaced.
        dataset: the train examples; None where they are not here.
        without: why there are no examples to look at; "" where there are.
        fingerprint: of the train examples.
    """

    name: str
    config: dict[str, Any]
    resolved: dict[str, Any]
    rows: list[dict[str, Any]]
    class_rows: list[dict[str, Any]]
    cost_rows: list[dict[str, Any]]
    files: dict[str, ScoreFile]
    kept: list[Kept]
    notes: list[str]
    unfinished: str
    starts: list[dict[str, Any]]
    stages: dict[str, float]
    class_names: tuple[str, ...]
    changed: np.ndarray | None = None
    clean_labels: np.ndarray | None = None
    dataset: Dataset | None = None
    without: str = ""
    fingerprint: str = ""

    @property
    def ids(self) -> np.ndarray:
        """`[n]`, of the train examples that were scored; none where nothing is scored yet."""
        return next(iter(self.files.values())).ids if self.files else np.array([], np.int64)

    @property
    def labels(self) -> np.ndarray:
        """int32 `[n]`, the labels that were scored."""
        return next(iter(self.files.values())).labels if self.files else np.array([], np.int32)


def read_run(path: Any, own: Own = NOTHING) -> Contents:
    """Reads a run folder, finished or not, and the train examples where they are here.

    Args:
        path: of the folder.
        own: examples that the run had in place of what its config names.

    Raises:
        InputError: this is no run folder, or a file in it is damaged, or not of this run.
    """
    folder = RunFolder(path)
    header = folder.header()
    _check_tables(folder)
    result = RunResult(folder.path, read_rows(folder.path / "table.csv"))
    files = _sorted(result.scores, header["config"].get("score", {}).get("names", ()))
    kept = _kept(result)
    _check_same_data(folder, header["resolved"]["fingerprint"][0], files, kept)
    above, notes = _written(folder.path / "table.md")
    lines = folder.metrics()
    contents = Contents(
        name=folder.path.absolute().name,
        config=_shown_config(header["config"]),
        resolved=header["resolved"],
        rows=result.rows,
        class_rows=read_rows(folder.path / "classes.csv"),
        cost_rows=read_rows(folder.path / "costs.csv"),
        files=files,
        kept=kept,
        notes=notes,
        unfinished=above or _state(folder),
        starts=_starts(folder),
        stages={
            line["unit"].removeprefix("stage/"): line["seconds"]
            for line in lines
            if line["unit"].startswith("stage/") and "seconds" in line
        },
        class_names=_class_names(files),
        fingerprint=header["resolved"]["fingerprint"][0],
    )
    contents = _with_noise(contents, folder.path / "noise.npz")
    return _with_examples(contents, folder, own)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads what `to_csv` wrote of rows, None where there is nothing; no rows without a file.

    Raises:
        InputError: it is damaged.
    """
    if not path.is_file():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [{name: _value(name, text) for name, text in row.items()} for row in csv.DictReader(file)]
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}); the same run command makes it again") from error


def _value(name: str, text: str) -> Any:
    if name in TEXT:
        return text
    if not text:
        return None
    return int(text) if name in WHOLE else float(text)


def _written(path: Path) -> tuple[str, list[str]]:
    """What table.md says of being unfinished, and the notes below the table, which stand nowhere else."""
    if not path.is_file():
        return "", []
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); the same run command makes it again") from error
    first = text.splitlines()[0] if text else ""
    below = text.partition(LEGEND)[2].splitlines()
    notes = [line.removeprefix("- ") for line in below if line.startswith("- ")]
    return first.replace("**", "") if first.startswith(UNFINISHED) else "", notes


def _sorted(files: dict[str, ScoreFile], names: Any) -> dict[str, ScoreFile]:
    """Files in the order of the config, those that were made elsewhere last."""
    order = {name: place for place, name in enumerate(names)}
    return dict(sorted(files.items(), key=lambda item: order.get(item[0], len(order))))


def _kept(result: RunResult) -> list[Kept]:
    """The masks in the order of the table; before there is one, in that of their names."""
    masks = result.masks
    named = {
        Selection(row["kept_by"], row["keep_fraction"], None).name: (row["kept_by"], row["keep_fraction"])
        for row in result.rows
    }
    kept = [Kept(*named[name], masks.pop(name)) for name in named if name in masks]
    for name, mask in masks.items():
        kept_by, _, fraction = name.rpartition("_keep")
        try:
            kept.append(Kept(kept_by.replace("-", " "), float(fraction), mask))
        except ValueError:
            raise InputError(
                f"{result.path / 'masks' / name}.npz is not named as the mask of a selection, such as "
                f"el2n_keep0.5.npz: no run wrote it; move it elsewhere"
            ) from None
    return kept


def _check_tables(folder: RunFolder) -> None:
    """Raises InputError where a run is finished and a table is not the one that it finished with."""
    file = folder.path / PROVENANCE
    if not file.is_file():
        return
    try:
        digests = read_provenance(folder)["files"]
    except InputError as error:
        raise InputError(f"{file}: {error}; the same run command makes it again") from error
    for name in TABLES:
        path = folder.path / name
        if not path.is_file() or file_digest(path) != digests.get(name):
            raise InputError(f"{path} is not what the run wrote; the same run command makes it again")


def _check_same_data(
    folder: RunFolder, fingerprint: str, files: dict[str, ScoreFile], kept: list[Kept]
) -> None:
    """Raises InputError where scores or masks are not of the examples of the run, row by row."""
    ids = next((file.ids for file in files.values()), None)
    found = [(f"the score file {name}", file) for name, file in files.items()]
    found += [(f"the mask {each.kept_by}, keep {each.fraction:g},", each.file) for each in kept]
    for what, file in found:
        if file.fingerprint != fingerprint or not (ids is None or np.array_equal(file.ids, ids)):
            raise InputError(
                f"{folder.path}: {what} is of other data than the run, by its fingerprint "
                f"{file.fingerprint[:12]} in place of {fingerprint[:12]}, or by its ids; diet-jax verify "
                f"says more"
            )


def _state(folder: RunFolder) -> str:
    """What is to be said of a run that is not finished and has no table that says so; else ""."""
    found = state_of(folder.path)
    if found.state == "finished":
        return ""
    done = f"{found.done:,} of {found.wanted:,} trainings are done" if found.wanted else ""
    return ": ".join(filter(None, (found.state, found.about or done)))


def _starts(folder: RunFolder) -> list[dict[str, Any]]:
    names = ("time", "python", "versions", "machine", "processes", "devices", "code")
    path = folder.path / STARTS
    lines = read_lines(path, folder.identity()).values if path.is_file() else []
    return [{name: line[name] for name in names if name in line} for line in lines]


def _shown_config(config: dict[str, Any]) -> dict[str, Any]:
    """A config without places on disk, which say nothing elsewhere and need not travel with a page."""
    return {
        name: {key: each for key, each in value.items() if (name, key) not in PLACES}
        if isinstance(value, dict)
        else value
        for name, value in config.items()
        if (name,) not in PLACES
    }


def _class_names(files: dict[str, ScoreFile]) -> tuple[str, ...]:
    for file in files.values():
        if names := file.provenance.get("class_names"):
            return tuple(map(str, names))
        return tuple(str(label) for label in range(int(file.labels.max()) + 1))
    return ()


def _with_noise(contents: Contents, path: Path) -> Contents:
    if not path.is_file():
        return contents
    arrays = load_arrays(path, "label noise", None)[0]
    if not contents.files or not np.array_equal(arrays["ids"], contents.ids):
        return contents
    return dataclasses.replace(contents, changed=arrays["changed"], clean_labels=arrays["clean_labels"])


def _with_examples(contents: Contents, folder: RunFolder, own: Own) -> Contents:
    """The contents with the train examples, or why they are not there; without scores none is shown."""
    if not contents.files:
        return contents
    try:
        config = folder.config(own.recipe)
        # The labels of the run are in its files: they need not be drawn anew.
        usual = DataConfig()
        data = {
            name: getattr(usual, name) for name in ("label_noise", "noise_mode", "noise_matrix", "labels")
        }
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
        train = load_splits(config, own.splits)[0].train
        if contents.changed is not None:
            train = train.with_labels(
                contents.labels[rows_by_id(contents.ids, train.ids, folder.path, train.name)]
            )
    except (InputError, OSError) as error:
        hint = "where they came from Python, give splits= to dj.write_report, or diet-jax report FILE.py RUN"
        # Where things lie on disk need not travel with a page: their names do.
        why = re.sub(r"(?<!\w)/\S*/", "…/", str(error))
        return dataclasses.replace(contents, without=f"the examples are not here: {why}; {hint}")
    if train.fingerprint != contents.fingerprint:
        return dataclasses.replace(
            contents,
            without=f"the examples are not here: those of {train.name} are others than in the run, by their "
            f"fingerprint {train.fingerprint[:12]} in place of {contents.fingerprint[:12]}",
        )
    return dataclasses.replace(contents, dataset=train, class_names=train.class_names)
