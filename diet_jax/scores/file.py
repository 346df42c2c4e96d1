"""Score files: a score of every example with ids, definition and origin."""

import dataclasses
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from diet_jax.checks.values import check_array, check_count, check_type
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.data.outside import Joinable
from diet_jax.data.parts import rows_in_file
from diet_jax.devices.processes import from_writer
from diet_jax.errors import InputError, counted
from diet_jax.files.arrays import load_arrays, packed, save_arrays
from diet_jax.files.ids import rows_by_id
from diet_jax.files.tables import html_table
from diet_jax.options.plain import plain
from diet_jax.scores.file_checks import ARRAYS, FACTS, checked_parts
from diet_jax.scores.score import SCORES, Score

# Rows of the table that a notebook shows.
SHOWN = 5
MADE_BY = "dj.ScoreFile.from_seeds(name, scores, dataset, step=...).save(path)"


@dataclass(frozen=True, eq=False, repr=False)
class ScoreFile(Joinable):
    """One score of every example of a dataset, averaged over seeds; high means hard.

    Attributes:
        name: score name, such as "el2n".
        scores: float64 `[n]`, the mean over seeds; infinite where any seed's is.
        per_seed: float32 `[s n]`, one row per seed that is not missing.
        ids: `[n]`, the examples' ids.
        labels: int32 `[n]`, the labels that were scored.
        rows: int64 `[n]`, the examples' row numbers in the dataset; what `load` returns is in their order.
        dataset: name and split, such as "cifar10/train".
        fingerprint: of the dataset.
        step: optimiser updates before scoring; None where the source of scores made elsewhere does not say.
        provenance: JSON values. "definition" in words, "parameters" and "high_means", which stands for hard
            unless the score says otherwise; "epoch", "model", "versions", "class_names"; "missing_seeds" says
            by seed why some take no part in the mean, "stopped" why fewer were scored than asked for.

    Example:
        >>> import diet_jax as dj
        >>> dataset = dj.Dataset.from_arrays([[0.1], [0.2]], [1, 0], ["a", "b"], class_names=("cat", "dog"))
        >>> file = dj.ScoreFile.from_seeds("margin", [0.5, 2.0], dataset, step=100)
        >>> file
        <margin of arrays/train: 2 examples, 1 seed, step 100>
        >>> print(file.to_csv(), end="")
        row,id,class,score
        0,a,dog,0.5
        1,b,cat,2.0
    """

    name: str
    scores: np.ndarray
    per_seed: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    dataset: str
    fingerprint: str
    step: int | None
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        seeds = f"{self.num_seeds} seed" + "s" * (self.num_seeds != "1")
        return f"<{self.name} of {self.dataset}: {len(self.ids):,} examples, {seeds}, {self.when}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: what the file is, and its highest scores."""
        highest = np.argsort(-np.nan_to_num(self.scores, nan=-np.inf), kind="stable")[:SHOWN]
        columns = {name: [values[row] for row in highest] for name, values in self.to_dict().items()}
        said = f"{self!r} {self.provenance.get('definition')}; high means {self.high_means}"
        said += f"; {self.describe_missing()}" * bool(self.describe_missing())
        return html_table(columns, f"{said}. The {len(highest)} highest:")

    @classmethod
    def from_seeds(
        cls,
        score: Score | str,
        per_seed: Any,
        dataset: Dataset,
        *,
        step: int | None,
        provenance: dict[str, Any] | None = None,
        missing: Mapping[int, str] | None = None,
    ) -> "ScoreFile":
        """Averages scores over seeds and binds them to a dataset.

        Args:
            score: the score, or the name of one that is not registered.
            per_seed: float `[s n]`, one column per example in dataset order; or `[n]`, of one seed.
            dataset: what was scored.
            step: optimiser updates before scoring; None if that is not known.
            provenance: JSON values to store along, such as "epoch" and "model".
            missing: rows of `per_seed` to leave out, and why, such as `score_ensemble(...).diverged`. A NaN
                of another row makes the example's mean NaN, which is warned of.

        Raises:
            InputError: the scores do not have one column per example, or all rows are left out.
        """
        check_type(score, "score", (Score, str), "a dj.Score or a name")
        check_dataset(dataset)
        step = None if step is None else check_count(step, "step", least=0)
        check_type(provenance, "provenance", (dict, type(None)), "a dict of JSON values")
        check_type(missing, "missing", (Mapping, type(None)), "a dict of why each of some seeds is left out")
        given = np.asarray(check_array(per_seed, "per_seed", "...", "numbers"), np.float32)
        per_seed = given[None] if given.ndim == 1 else given
        if per_seed.ndim != 2 or per_seed.shape[1] != len(dataset) or not len(per_seed):
            raise InputError(
                f"per_seed must have shape [s, {len(dataset)}], or [{len(dataset)}] of one seed, a score for "
                f"each example of {dataset.name}/{dataset.split}; got {list(given.shape)}"
            )
        missing = {} if missing is None else missing
        left = [seed for seed in range(len(per_seed)) if seed not in missing]
        if not left or not set(missing) <= set(range(len(per_seed))):
            raise InputError(
                f"missing names the seeds {sorted(missing)} of {len(per_seed)}; some must be left"
            )
        per_seed = per_seed[left]
        if isinstance(score, str) and score in SCORES.names():
            score = SCORES.find(score)
        name, facts = score, {"definition": score, "parameters": {}, "high_means": "hard"}
        if isinstance(score, Score):
            options = {} if score.options is None else dict(vars(score.options))
            name, facts = score.name, {"definition": score.definition, "parameters": plain(options)}
            facts["high_means"] = score.high_means
        facts |= {"class_names": list(dataset.class_names), "epoch": None, "model": None}
        facts["versions"] = {package: version(package) for package in ("diet_jax", "jax", "numpy")}
        facts |= provenance or {}
        if missing:
            facts["missing_seeds"] = {str(seed): missing[seed] for seed in sorted(missing)}
        file = cls(
            name=str(name),
            scores=per_seed.mean(axis=0, dtype=np.float64),
            per_seed=per_seed,
            ids=dataset.ids,
            labels=dataset.labels,
            rows=np.arange(len(dataset)),
            dataset=f"{dataset.name}/{dataset.split}",
            fingerprint=dataset.fingerprint,
            step=step,
            provenance=facts,
        )
        if undefined := file.describe_nan():
            seeds = [seed for seed in left if np.isnan(given.reshape(-1, len(dataset))[seed]).any()]
            by = f": leave seeds that diverged out by missing={{{seeds[0]}: why}}" if seeds else ""
            warnings.warn(f"{undefined}; nothing can be selected by such a mean{by}", stacklevel=2)
        return file

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a compressed .npz, whole or not at all; of several processes the first one does."""
        from_writer(lambda: save_arrays(path, "scores", *self._parts()))

    def packed(self) -> bytes:
        """Returns the contents of the .npz, the same bytes whenever it is called."""
        return packed("scores", *self._parts())

    def _parts(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {name: getattr(self, name) for name in ARRAYS}, {name: getattr(self, name) for name in FACTS}

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, dataset: Dataset | None = None) -> "ScoreFile":
        """Reads a score file, verifies all of it, and puts its examples in the order of the dataset.

        Args:
            path: what `save` wrote.
            dataset: if given, the file must belong to it; of a dataset that it was taken from, its part is
                returned.

        Raises:
            InputError: the file is missing, damaged, no score file, or of another dataset.
        """
        arrays, facts = from_writer(lambda: load_arrays(path, "scores", ARRAYS, FACTS, MADE_BY))
        file = cls(**checked_parts(path, arrays, facts), **facts)
        return file if dataset is None else file.of(dataset, path)

    def of(self, dataset: Dataset, path: Any = None) -> "ScoreFile":
        """Returns the scores of a dataset by id: all, or, where it was taken from the one scored, its part.

        Args:
            dataset: what was scored, or some rows of it (`take`, `--data.num-train`).
            path: of the file, for messages.

        Raises:
            InputError: other examples were scored, or with other labels.
        """
        what = path or f"the score file {self.name}"
        facts = {"fingerprint": self.fingerprint, "dataset": self.dataset}
        rows = rows_in_file(what, facts, self.ids, dataset)
        if differ := int((self.labels[rows] != dataset.labels).sum()):
            raise InputError(f"{what} is damaged: the labels of {differ:,} of its examples are others")
        whole = self.fingerprint == dataset.fingerprint
        if whole and np.array_equal(rows, np.arange(len(self.ids))):
            return self
        taken = {} if whole else {"taken_from": self.fingerprint}
        return dataclasses.replace(
            self._at(rows),
            rows=np.arange(len(rows)),
            fingerprint=dataset.fingerprint,
            provenance={**self.provenance, **taken},
        )

    def _at(self, rows: np.ndarray) -> "ScoreFile":
        return dataclasses.replace(self, **{name: getattr(self, name)[..., rows] for name in ARRAYS})

    @classmethod
    def join(cls, files: Iterable["ScoreFile"]) -> "tuple[ScoreFile, ...]":
        """Returns scores of the same examples in the order of the first file, joined by id.

        Args:
            files: at least one, each with its examples in any order.

        Raises:
            InputError: they are of other data: by fingerprint or labels; or by ids, of which it counts those
                that are missing, doubled or others, and names three.

        Example:
            >>> import dataclasses, numpy as np, diet_jax as dj
            >>> dataset = dj.Dataset.from_arrays([[0.1], [0.2]], [1, 0], ["a", "b"])
            >>> file = dj.ScoreFile.from_seeds("margin", [0.5, 2.0], dataset, step=100)
            >>> arrays = ("scores", "per_seed", "ids", "labels", "rows")
            >>> other = dataclasses.replace(file, **{n: getattr(file, n)[..., ::-1] for n in arrays})
            >>> dj.ScoreFile.join([file, other])[1].scores.tolist()
            [0.5, 2.0]
        """
        first, *others = files
        joined = [first]
        for other in others:
            both = f"{other.name} of {other.dataset}", f"{first.name} of {first.dataset}"
            if other.fingerprint != first.fingerprint:
                raise InputError(f"{both[0]} and {both[1]} are of different data; score one dataset")
            rows = rows_by_id(other.ids, first.ids, *both)
            if differ := int((other.labels[rows] != first.labels).sum()):
                raise InputError(f"{both[0]}: the labels of {differ:,} examples are not those of {both[1]}")
            joined.append(other._at(rows))
        return tuple(joined)

    @property
    def high_means(self) -> str:
        """What a high score stands for: "hard", or another word of the score."""
        return self.provenance["high_means"]

    @property
    def when(self) -> str:
        """When examples were scored, such as "step 1,200"."""
        return "step unknown" if self.step is None else f"step {self.step:,}"

    def to_dict(self) -> dict[str, list[Any]]:
        """Returns columns for a data frame or for JSON: lists of plain Python values, one for each example.

        Returns:
            "row", "id", "class" (its name, or its label where the file is of a time that did not store names)
            and "score", the mean over seeds; high means hard. `pandas.DataFrame` and `polars.DataFrame` take
            them as they are.
        """
        return score_columns([self])

    def to_hugging_face(self, dataset: Any, *, ids: str | None = None) -> Any:
        """Returns a Hugging Face dataset of the same examples with the scores as a column, joined by id.

        Args:
            dataset: of Hugging Face `datasets`, in any order; `sort` and `filter` know the new column then.
            ids: its column that has our ids; None where our ids are its row numbers, 0 to n - 1.

        Raises:
            InputError: its ids are not ours.
        """
        return dataset.add_column(self.name, self.scores[self.rows_in(dataset, ids)].tolist())

    @property
    def seed_numbers(self) -> list[int]:
        """Which seed each row of `per_seed` is: 0, 1, ..., without those that are missing."""
        missing = self.provenance.get("missing_seeds", {})
        return [s for s in range(len(self.per_seed) + len(missing)) if str(s) not in missing]

    @property
    def num_seeds(self) -> str:
        """How many seeds the mean is over, in words: "4", or "3 of 4" where some are missing."""
        missing = len(self.provenance.get("missing_seeds", {}))
        of = self.provenance.get("stopped", {}).get("of", len(self.per_seed) + missing)
        return f"{len(self.per_seed)}" + (f" of {of}" if of != len(self.per_seed) else "")

    def describe_missing(self) -> str:
        """Says over which seeds the mean is, and why without the others; "" where none is missing."""
        seeds: dict[str, list[str]] = {}
        for seed, why in self.provenance.get("missing_seeds", {}).items():
            seeds.setdefault(why, []).append(seed)
        if not seeds:
            return ""
        without = (f"seed{'s' * (len(of) > 1)} {', '.join(of)}: {why}" for why, of in seeds.items())
        return f"the mean over {self.num_seeds} seeds, without {'; '.join(without)}"

    def describe_nan(self) -> str:
        """Says how many scores are NaN, and by which seeds; "" without any."""
        bad = np.isnan(self.per_seed)
        if not bad.any():
            return (
                "" if not np.isnan(self.scores).any() else f"{int(np.isnan(self.scores).sum())} means are NaN"
            )
        seeds = [str(self.seed_numbers[row]) for row in np.flatnonzero(bad.any(axis=1))]
        return (
            f"{self.name} is NaN for {int(bad.any(axis=0).sum()):,} of {len(self.scores):,} examples, by "
            f"{len(seeds)} of {counted(len(bad), 'seed')} ({', '.join(seeds)}; {bad.mean():.2%} of their "
            f"single scores)"
        )

    @property
    def num_infinite(self) -> int:
        """How many examples have an infinite mean, because a seed's score is infinite."""
        return int(np.isinf(self.scores).sum())


def score_columns(files: Sequence[ScoreFile]) -> dict[str, list[Any]]:
    """Returns "row", "id", "class" and the scores of files of one dataset, as lists.

    The column of a single file is called "score", those of several by the names of their scores; a name
    that is taken gets a number.
    """
    first = files[0]
    names, labels = first.provenance.get("class_names"), first.labels.tolist()
    classes = [names[label] for label in labels] if names else labels
    columns = {"row": first.rows.tolist(), "id": first.ids.tolist(), "class": classes}
    for file in files:
        name, count = "score" if len(files) == 1 else file.name, 2
        while name in columns:
            name, count = f"{file.name}_{count}", count + 1
        columns[name] = file.scores.tolist()
    return columns
