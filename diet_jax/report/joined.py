"""Several runs as one report: their examples joined by id, never by position."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.files.ids import rows_by_id
from diet_jax.report.contents import Contents, Kept
from diet_jax.scores.file import ARRAYS, ScoreFile

# Of a larger dataset so many examples are in the page, chosen evenly; tables and curves are of all.
MOST_EXAMPLES = 200_000


@dataclass(frozen=True, eq=False)
class Joined:
    """Runs whose examples are in one order.

    Attributes:
        runs: each with a name of its own; arrays are in the order of the first one's examples.
        shown: int `[k]`, which examples the page holds, rising: all, or evenly chosen ones.
    """

    runs: tuple[Contents, ...]
    shown: np.ndarray

    @property
    def first(self) -> Contents:
        """The run whose order of examples, labels and pictures are those of the page."""
        return self.runs[0]

    @property
    def dataset(self) -> Dataset | None:
        """The train examples in the order of the first run; None where they are not here."""
        return self.first.dataset

    def called(self, run: Contents, name: str) -> str:
        """What something of a run is called: with the run's name where there are several."""
        return f"{run.name}: {name}" if len(self.runs) > 1 else name


def join(runs: Sequence[Contents]) -> Joined:
    """Returns runs with their examples in the order of the first one's.

    Raises:
        InputError: two runs are of different examples, or of other labels; it says how many.
    """
    first, *others = _named(runs)
    joined = (first, *(_in_order(other, first) for other in others))
    count = len(first.ids)
    shown = np.arange(count)
    if count > MOST_EXAMPLES:
        shown = np.arange(MOST_EXAMPLES) * count // MOST_EXAMPLES
    return Joined(joined, shown)


def _named(runs: Sequence[Contents]) -> list[Contents]:
    """Runs with different names: those of one name get a number."""
    names: list[str] = []
    for run in runs:
        name, count = run.name, 2
        while name in names:
            name, count = f"{run.name} ({count})", count + 1
        names.append(name)
    return [dataclasses.replace(run, name=name) for run, name in zip(runs, names, strict=True)]


def _in_order(run: Contents, first: Contents) -> Contents:
    what, whose = f"the run {run.name}", f"the run {first.name}"
    for each in (first, run):
        if not each.files:
            raise InputError(
                f"the run {each.name} has no scores yet: runs are compared by the ids in their score files"
            )
    rows = rows_by_id(run.ids, first.ids, what, whose)
    if differ := int((run.labels[rows] != first.labels).sum()):
        raise InputError(
            f"{what}: the labels of {differ:,} of {len(rows):,} examples are not those of {whose}; report "
            f"runs of one dataset with one set of labels together"
        )
    same_order = np.array_equal(rows, np.arange(len(rows)))
    if run.fingerprint != first.fingerprint and (
        same_order or run.resolved["dataset"] != first.resolved["dataset"]
    ):
        raise InputError(
            f"{what}: its {len(rows):,} examples have the ids and labels of {whose}, but other contents, by "
            f"the fingerprint of the data; report each by itself"
        )
    if same_order:
        return run

    def file_of(file: ScoreFile) -> ScoreFile:
        taken: dict[str, Any] = {name: getattr(file, name)[..., rows] for name in ARRAYS}
        return dataclasses.replace(file, **taken)

    def kept_of(kept: Kept) -> Kept:
        keep, ids = kept.file.keep[..., rows], kept.file.ids[rows]
        return dataclasses.replace(kept, file=dataclasses.replace(kept.file, keep=keep, ids=ids))

    return dataclasses.replace(
        run,
        files={name: file_of(file) for name, file in run.files.items()},
        kept=[kept_of(kept) for kept in run.kept],
        changed=None if run.changed is None else run.changed[rows],
        clean_labels=None if run.clean_labels is None else run.clean_labels[rows],
        dataset=None if run.dataset is None else run.dataset.take(rows),
    )
