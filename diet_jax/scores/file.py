"""Score files: a score of every example with ids, definition and origin."""

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.checks.values import check_array, check_count, check_type
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.data.parts import rows_in_file
from diet_jax.devices.processes import from_writer
from diet_jax.errors import InputError, counted
from diet_jax.files.arrays import load_arrays, save_arrays
from diet_jax.files.tables import give_csv
from diet_jax.scores.score import SCORES, Score

ARRAYS = ("scores", "per_seed", "ids", "labels")
FACTS = ("name", "dataset", "fingerprint", "step", "provenance")
MADE_BY = "dj.ScoreFile.from_seeds(name, scores, dataset, step=...).save(path)"


@dataclass(frozen=True, eq=False, repr=False)
class ScoreFile:
    """One score of every example of a dataset, averaged over seeds; high means hard.

    Attributes:
        name: score name, such as "el2n".
        scores: float64 `[n]`, the mean over seeds; infinite where any seed's is.
        per_seed: float32 `[s n]`, one row per seed that is not missing.
        ids: `[n]`, the examples' ids in dataset order.
        labels: int32 `[n]`, the labels that were scored.
        dataset: name and split, such as "cifar10/train".
        fingerprint: of the dataset.
        step: optimiser updates before scoring.
        provenance: definition, config, versions, names of the classes and whatever else explains the file,
            JSON values; "missing_seeds" says by seed why some take no part in the mean.

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
    dataset: str
    fingerprint: str
    step: int
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        seeds = f"{self.num_seeds} seed" + "s" * (self.num_seeds != "1")
        return f"<{self.name} of {self.dataset}: {len(self.ids):,} examples, {seeds}, step {self.step:,}>"

    @classmethod
    def from_seeds(
        cls,
        score: Score | str,
        per_seed: Any,
        dataset: Dataset,
        *,
        step: int,
        provenance: dict[str, Any] | None = None,
        missing: Mapping[int, str] | None = None,
    ) -> "ScoreFile":
        """Averages scores over seeds and binds them to a dataset.

        Args:
            score: the score, or the name of one that is not registered.
            per_seed: float `[s n]`, one column per example in dataset order; or `[n]`, of one seed.
            dataset: what was scored.
            step: optimiser updates before scoring.
            provenance: JSON values to store along.
            missing: rows of `per_seed` to leave out, and why, such as `score_ensemble(...).diverged`. A NaN
                of another row makes the example's mean NaN, which is warned of.

        Raises:
            InputError: the scores do not have one column per example, or all rows are left out.
        """
        check_type(score, "score", (Score, str), "a dj.Score or a name")
        check_dataset(dataset)
        step = check_count(step, "step", least=0)
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
        name, definition = (score, score) if isinstance(score, str) else (score.name, score.definition)
        file = cls(
            name=name,
            scores=per_seed.mean(axis=0, dtype=np.float64),
            per_seed=per_seed,
            ids=dataset.ids,
            labels=dataset.labels,
            dataset=f"{dataset.name}/{dataset.split}",
            fingerprint=dataset.fingerprint,
            step=step,
            provenance={
                "definition": definition,
                "high_means": "hard",
                "class_names": list(dataset.class_names),
                **(provenance or {}),
                **(
                    {"missing_seeds": {str(seed): missing[seed] for seed in sorted(missing)}}
                    if missing
                    else {}
                ),
            },
        )
        if undefined := file.describe_nan():
            seeds = [seed for seed in left if np.isnan(given.reshape(-1, len(dataset))[seed]).any()]
            by = f": leave seeds that diverged out by missing={{{seeds[0]}: why}}" if seeds else ""
            warnings.warn(f"{undefined}; nothing can be selected by such a mean{by}", stacklevel=2)
        return file

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a compressed .npz, whole or not at all; of several processes the first one does."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        facts = {name: getattr(self, name) for name in FACTS}
        from_writer(lambda: save_arrays(path, "scores", arrays, facts))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, dataset: Dataset | None = None) -> "ScoreFile":
        """Reads a score file.

        Args:
            path: what `save` wrote.
            dataset: if given, the file must belong to it; of a dataset that it was taken from, its part is
                returned.

        Raises:
            InputError: the file is missing, damaged, no score file, or of another dataset.
        """
        arrays, facts = from_writer(lambda: load_arrays(path, "scores", ARRAYS, FACTS, MADE_BY))
        shapes = {name: array.shape for name, array in arrays.items()}
        if len(set(shapes["scores"] + shapes["ids"] + shapes["labels"] + shapes["per_seed"][1:])) != 1 or [
            len(shape) for shape in shapes.values()
        ] != [1, 2, 1, 1]:
            raise InputError(f"{path} is damaged: its arrays do not fit each other: {shapes}")
        if any(arrays[name].dtype.kind != "f" for name in ("scores", "per_seed")):
            raise InputError(f"{path} is damaged: its scores are no floating-point numbers")
        if arrays["labels"].dtype.kind not in "iu" or (arrays["labels"] < 0).any():
            raise InputError(f"{path} is damaged: its labels are no class numbers")
        try:
            check_count(facts["step"], "step", least=0)
        except InputError as error:
            raise InputError(f"{path} is damaged: {error}") from None
        file = cls(**arrays, **facts)
        return file if dataset is None else file.of(dataset, path)

    def of(self, dataset: Dataset, path: Any = None) -> "ScoreFile":
        """Returns the scores of a dataset: as they are, or, where it was taken from the one scored, its part.

        Args:
            dataset: what was scored, or some rows of it (`take`, `--data.num-train`).
            path: of the file, for messages.

        Raises:
            InputError: other examples were scored.
        """
        facts = {"fingerprint": self.fingerprint, "dataset": self.dataset}
        rows = rows_in_file(path or f"the score file {self.name}", facts, self.ids, dataset)
        if self.fingerprint == dataset.fingerprint:
            return self
        return dataclasses.replace(
            self,
            **{name: getattr(self, name)[..., rows] for name in ARRAYS},
            fingerprint=dataset.fingerprint,
            provenance={**self.provenance, "taken_from": self.fingerprint},
        )

    @property
    def rows(self) -> np.ndarray:
        """int64 `[n]`, the examples' row numbers in the dataset: 0 to n - 1."""
        return np.arange(len(self.ids))

    def to_dict(self) -> dict[str, list[Any]]:
        """Returns columns for a data frame or for JSON: lists of plain Python values, one for each example.

        Returns:
            "row", "id", "class" (its name, or its label where the file is of a time that did not store names)
            and "score", the mean over seeds; high means hard. `pandas.DataFrame` and `polars.DataFrame` take
            them as they are.
        """
        return score_columns([self])

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str | None:
        """Returns the columns of `to_dict` as CSV text, or writes them to a path, whole or not at all.

        Scores are written in full, infinite ones as inf.

        Args:
            path: of the file, if one is wanted; nothing is returned then.

        Raises:
            InputError: the path cannot be written.
        """
        return give_csv(self.to_dict(), path)

    @property
    def seed_numbers(self) -> list[int]:
        """Which seed each row of `per_seed` is: 0, 1, ..., without those that are missing."""
        missing = self.provenance.get("missing_seeds", {})
        return [s for s in range(len(self.per_seed) + len(missing)) if str(s) not in missing]

    @property
    def num_seeds(self) -> str:
        """How many seeds the mean is over, in words: "4", or "3 of 4" where some are missing."""
        missing = len(self.provenance.get("missing_seeds", {}))
        return f"{len(self.per_seed)}" + (f" of {len(self.per_seed) + missing}" if missing else "")

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
