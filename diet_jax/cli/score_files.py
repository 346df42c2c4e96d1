"""The commands that work on score files and mask files alone."""

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from diet_jax.checks.values import check_count
from diet_jax.cli.console import console
from diet_jax.data.image_files import as_line
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.setup import load_splits
from diet_jax.files.arrays import kind_of
from diet_jax.files.tables import Tabular, csv_text, parquet_bytes
from diet_jax.files.writing import write_together
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.formats.importing import import_scores
from diet_jax.scores.probabilities import ProbabilityFile
from diet_jax.selection.file import KeepFile
from diet_jax.training.seeds import MOST_SEEDS, check_seed

if TYPE_CHECKING:
    from diet_jax.cli import options

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

CAPTION = (
    "keep: share of what one group keeps that the other keeps too; ± is the standard error by the jackknife"
)


def convert(command: "options.Convert") -> None:
    """Reads scores or a mask, of this program or another, and writes them as the ending says."""
    kind, out = kind_of(command.file), command.out
    if out.exists():
        raise InputError(f"{out} exists already; choose another place")
    if kind in OURS:
        what, load, ways = OURS[kind]
        for name in ("source", "score", "name", "column", "order", "high_means"):
            if getattr(command, name) is not None:
                raise InputError(f"{command.file} {what}: leave {name} out")
        _write({out: load(command.file)}, ways, f"a file that {what}")
        return
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
    _write(places, SCORES, "a score file")


def _write(files: Mapping[Path, Tabular], ways: dict[str, Any], what: str) -> None:
    for path in files:
        if path.suffix not in ways:
            raise InputError(f"{what} becomes {', '.join(ways)}, by the ending of OUT; got {path}")
    write_together({path: ways[path.suffix](file) for path, file in files.items()})
    for path, file in files.items():
        print(f"{path}: {file!r}")


def _npy(rows: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return buffer.getvalue()


def stability(command: "options.Stability") -> None:
    """Prints how much score files depend on their seeds, and draws it where a picture is asked for."""
    from diet_jax.analysis.stability import expected_overlap
    from diet_jax.analysis.stability import stability as measure

    if command.out is not None and (command.out.suffix != ".png" or command.out.exists()):
        raise InputError(f"out must end in .png and not be there yet, got {command.out}")
    if not command.scores:
        raise InputError("stability needs a score file, such as runs/digits-mlp/scores/el2n.npz")
    check_count(command.more, "more", most=MOST_SEEDS)
    check_seed(command.seed)
    table = Table(title="how two groups of seeds agree that have none in common", caption=CAPTION)
    kept = [f"keep {fraction:g}" for fraction in command.fractions]
    for name in ("score", "seeds in each", "rank correlation", "with all seeds", *kept):
        table.add_column(name, justify="left" if name == "score" else "right")
    found: list[dict[str, Any]] = []
    for path in command.scores:
        file = ScoreFile.load(path)
        rows = measure(file.per_seed, command.fractions, pairs=command.pairs, seed=command.seed)
        for row in rows:
            shares = [row.kept[fraction].text() for fraction in command.fractions]
            what = f"{file.name}, {file.when}"
            table.add_row(what, f"{row.seeds}", row.correlation.text(), row.with_all.text(), *shares)
            found.append({"score": file.name, "step": file.step, **row._asdict()})
        now, last = len(file.per_seed), rows[-1]
        ahead = {"seeds": last.seeds, "now": now, "more": command.more}
        stay = (
            f"{100 * expected_overlap(last.kept[f].mean, f, **ahead):.1f} % at {f:g}"
            for f in command.fractions
        )
        say(
            f"{file.name}, {file.when}: of what the mean of {now} seeds keeps, {command.more} more would be "
            f"expected to leave {', '.join(stay)}"
        )
    console().print(table)
    if command.out is not None:
        from diet_jax.plotting.stability import draw_stability
        from diet_jax.plotting.style import save_figure

        save_figure(draw_stability(found), command.out)
        print(command.out)
