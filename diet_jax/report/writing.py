"""Writes the report of runs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diet_jax.checks.values import check_path
from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.experiments.own import NOTHING, Own
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.run_result import RunResult
from diet_jax.files.writing import write_atomically
from diet_jax.report.contents import read_run
from diet_jax.report.page import make_page

REPORT = "report.html"


def write_report(
    runs: Any, *, out: str | os.PathLike[str] | None = None, splits: tuple[Dataset, Dataset] | None = None
) -> Path:
    """Writes the report of a run, or of several runs of the same examples, as one page that opens offline.

    Args:
        runs: a run folder or what `run` returned; or several of them.
        out: of the page (.html); by default report.html in the run folder. Several runs need one.
        splits: the train and test examples, where they were given to `run` as arrays of one's own. Without
            them the page has no pictures.

    Returns:
        Where the page is.

    Raises:
        InputError: a folder is no run folder, runs are of different examples, or the page cannot be written.

    Example:
        >>> import tempfile, diet_jax as dj
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     config = dj.RunConfig(
        ...         train=dj.TrainConfig(steps=20, batch_size=32, augment="none"),
        ...         score=dj.ScoreConfig(names=("el2n",), epoch=0.5, num_seeds=1),
        ...         select=dj.SelectConfig(fractions=(0.5,)),
        ...         retrain=dj.RetrainConfig(num_seeds=2),
        ...         run_dir=folder,
        ...     )
        ...     dj.write_report(dj.run(config)).name
        'report.html'
    """
    own = NOTHING if splits is None else Own(*splits)
    return report(runs, own, out)


def report(runs: Any, own: Own = NOTHING, out: Any = None) -> Path:
    """Writes a report as `write_report` does, with what the runs had in place of what their configs name."""
    several = runs if isinstance(runs, Sequence) and not isinstance(runs, str) else [runs]
    folders = [_folder(run) for run in several]
    if not folders:
        raise InputError("runs is empty; give a run folder, such as runs/digits-mlp")
    if out is None and len(folders) > 1:
        raise InputError(f"out must say where the report of {len(folders)} runs goes, such as report.html")
    place = folders[0] / REPORT if out is None else Path(check_path(out, "out"))
    if place.suffix != ".html":
        raise InputError(f"out must end in .html, got {place}")
    text = make_page([read_run(folder, own) for folder in folders])
    # Names of folders may hold bytes that are no text.
    write_atomically(place, text.encode(errors="replace"))
    return place


def _folder(run: Any) -> Path:
    return run.path if isinstance(run, RunResult) else RunFolder(run).path
