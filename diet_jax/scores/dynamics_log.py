"""DynamicsLog: scores of training dynamics for a loop in any framework, by the folds of the library's own."""

import functools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from diet_jax.checks.arrays import plain_array
from diet_jax.checks.rows import checked_rows
from diet_jax.checks.values import check_count
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.errors import InputError
from diet_jax.models.functions import from_functions
from diet_jax.scores.dynamics_log_file import check_definitions, checked_ids, read_log, save_log
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.paths import PathFile, path_losses
from diet_jax.scores.score import SCORES, Fold, Score, folds_of, resolve_scores, takes
from diet_jax.types import Variables

LOGITS_THEMSELVES = from_functions(lambda key, shape: {}, lambda params, inputs: inputs)
"""A network whose inputs are its logits: measures of a clean pass take the logits that they are given."""


class DynamicsLog:
    """Scores of training dynamics in anyone's loop: give it the logits of every batch.

    The folds are those of `score_ensemble`: given the same logits, the scores are the same. What a
    presentation is, is up to the loop. Logits of training batches, as they come, make scores of the
    training's own pass, such as "aum"; logits of all examples in eval mode, given once per epoch, those of a
    clean pass, such as "aum_clean". A log has scores of one of the two.

    Args:
        num_examples: `n`, rows of the dataset.
        num_classes: `c`, logits of the network.
        scores: names, or `Score` objects, of scores of training dynamics; by default all registered ones of
            the training's own pass.
        ids: `[n]`, integers or text, by which `update` names examples; by default their row numbers.
        path: of a file (.npy) to keep all logits in, float16 `[t n c]`; see `paths`. Nothing of it is held
            in memory.

    A loop that may be killed saves the log where it saves its network, and goes on by `DynamicsLog.load`.

    Raises:
        InputError: a score of another kind or of both passes, ids that are not `n` different ones, or a file
            that is there already.

    Example:
        >>> import numpy as np, diet_jax as dj
        >>> log = dj.DynamicsLog(num_examples=3, num_classes=2, scores=("aum", "correctness"))
        >>> log.update([2, 0], [[0.0, 4.0], [3.0, 1.0]], [1, 1])  # In the loop, for every batch.
        >>> log.update([2, 1], [[0.0, 2.0], [0.0, 0.0]], [1, 0])
        >>> log.scores()["aum"].tolist()
        [2.0, -0.0, -3.0]
    """

    def __init__(
        self,
        num_examples: int,
        num_classes: int,
        *,
        scores: Iterable[str | Score] | None = None,
        ids: Sequence[Any] | np.ndarray | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        self._count = check_count(num_examples, "num_examples")
        self._classes = check_count(num_classes, "num_classes", least=2)
        self._scores = _of_one_pass(scores)
        self._ids = None if ids is None else checked_ids(ids, self._count)
        self._rows = None if self._ids is None else {one: row for row, one in enumerate(self._ids.tolist())}
        self._folds = folds_of(self._scores)
        self._state = {fold.name: _init(fold, self._count, self._classes) for fold in self._folds}
        self._labels = np.full(self._count, -1, np.int32)
        self._times = np.zeros(self._count, np.int64)
        self._largest = 0
        self._paths = None if path is None else PathFile(path, self._count, self._classes)

    def update(self, ids: Any, logits: Any, labels: Any) -> None:
        """Takes in the logits of one batch, before or after its update, as the loop has them.

        Args:
            ids: `[b]`, each at most once: rows of the dataset, or ids where the log was made with some.
            logits: float `[b c]`, of NumPy, JAX or PyTorch.
            labels: int `[b]`, which must be the same for an example every time.

        Raises:
            InputError: an id that is unknown or twice in the batch, logits that are NaN or infinite, or
                another label than before. The log is as it was before the call.
        """
        rows = self._rows_of(ids)
        logits, labels = plain_array(logits, "logits"), plain_array(labels, "labels")
        # More than float32 holds is infinite here.
        with np.errstate(over="ignore"):
            logits = logits.astype(np.float32) if logits.dtype.kind in "fiu" else logits
        self._check(rows, logits, labels)
        # Before anything else: where the disk is full the log is as it was.
        if self._paths is not None:
            self._paths.write(self._times[rows], rows, logits)
        # Calls of few shapes: a shorter batch is filled up with a row that is none, which no update reaches.
        self._largest = max(self._largest, len(rows))
        spare = self._largest - len(rows)
        padded = np.concatenate([rows, np.full(spare, self._count, np.int32)])
        given = np.zeros((self._largest, self._classes), np.float32)
        given[: len(rows)] = logits
        kept = np.concatenate([labels, np.zeros(spare)]).astype(np.int32)
        self._state = _updated(self._state, padded, given, kept, folds=self._folds)
        self._labels[rows] = labels
        self._times[rows] += 1

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes what the log knows as an .npz with a checksum, whole or not at all, over an older one.

        Save it together with the network: a loop that goes on from an older network would give the same
        presentations twice. The logits of a log with a path stay in their own file.
        """
        arrays = {"labels": self._labels, "times": self._times}
        arrays |= {} if self._ids is None else {"ids": self._ids}
        save_log(path, self._scores, self._classes, arrays, self._state, self._paths is not None)

    @classmethod
    def load(
        cls,
        file: str | os.PathLike[str],
        *,
        scores: Iterable[str | Score] | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> "DynamicsLog":
        """Returns the log that `save` wrote, as it was then.

        Args:
            file: what `save` wrote.
            scores: those that the log was made with; by default the registered ones of their names.
            path: the file that the log keeps its logits in, if it does; what came after `save` is dropped
                from it.

        Raises:
            InputError: the file is missing or damaged, the scores are defined otherwise, or the path is not
                that of the log.

        Example:
            >>> import pathlib, tempfile, diet_jax as dj
            >>> log = dj.DynamicsLog(num_examples=2, num_classes=2, scores=("aum",))
            >>> log.update([0, 1], [[0.0, 4.0], [3.0, 1.0]], [1, 1])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     log.save(pathlib.Path(folder) / "log.npz")
            ...     dj.DynamicsLog.load(pathlib.Path(folder) / "log.npz").scores()["aum"].tolist()
            [-4.0, 2.0]
        """
        saved = read_log(file)
        chosen = _of_one_pass(saved.definitions if scores is None else scores)
        check_definitions(file, chosen, saved.definitions)
        count, ids = len(saved.arrays["times"]), saved.arrays.get("ids")
        log = cls(count, saved.num_classes, scores=chosen, ids=ids)
        log._state = saved.state_like(log._state, file)
        log._labels, log._times = saved.arrays["labels"], saved.arrays["times"]
        if saved.keeps_paths != (path is not None):
            raise InputError(
                f"{file} is of a log "
                + ("that keeps its logits: give their file, path=" if saved.keeps_paths else "without a path")
            )
        if path is not None:
            log._paths = PathFile.reopened(path, saved.num_classes, log._times)
        return log

    def scores(self) -> dict[str, np.ndarray]:
        """Returns float32 `[n]` by name, row i of example i; NaN for examples that too little is known of."""
        seen = self._times > 0
        found = {}
        for score in self._scores:
            assert score.fold is not None
            values = np.asarray(score.function()(self._state[score.fold.name], seen), np.float32)
            found[score.name] = np.where(seen, values, np.float32(np.nan))
        return found

    def score_files(self, dataset: Dataset, *, step: int, **provenance: Any) -> dict[str, ScoreFile]:
        """Returns the scores as score files of a dataset, by name, to be saved, plotted or selected by.

        Args:
            dataset: whose examples they are: found by id where the log has ids, else by row.
            step: optimiser updates done.
            **provenance: JSON values to store along.

        Raises:
            InputError: other examples, or labels that are not those that were given.
        """
        check_dataset(dataset)
        rows = np.arange(self._count)
        if len(dataset) != self._count:
            raise InputError(
                f"dataset has {len(dataset):,} examples, the log {self._count:,}; give the one trained on"
            )
        if self._rows is not None:
            rows = self._rows_of(dataset.ids)
        different = (self._labels[rows] != dataset.labels) & (self._times[rows] > 0)
        if different.any():
            first = int(different.argmax())
            raise InputError(
                f"{int(different.sum()):,} of {self._count:,} labels are not those of the dataset, first in "
                f"row {first}: {self._labels[rows][first]} was given, {dataset.labels[first]} is there; give "
                f"the log ids=dataset.ids if its rows are in another order"
            )
        found = self.scores()
        return {
            score.name: ScoreFile.from_seeds(
                score, found[score.name][rows], dataset, step=step, provenance=provenance
            )
            for score in self._scores
        }

    def paths(self) -> np.ndarray:
        """Returns all logits, float16 `[t n c]`, read from the log's file as they are needed.

        Entry `[i, r]` is from the i-th presentation of row r; NaN where there was none. Logits beyond ±65504
        are cut off there. `numpy.load(path, mmap_mode="r")` returns the same later on.

        Raises:
            InputError: the log was made without a path.
        """
        if self._paths is None:
            raise InputError("the log keeps no logits: make it with path='logits.npy'")
        return self._paths.read()

    def losses(self) -> np.ndarray:
        """Returns the cross-entropy of every entry of `paths`, float32 `[t n]`; NaN where there is none.

        Raises:
            InputError: the log was made without a path.
        """
        # Rows without a label have no logits either.
        return path_losses(self.paths(), np.maximum(self._labels, 0))

    def _rows_of(self, ids: Any) -> np.ndarray:
        if self._rows is None:
            return checked_rows(ids, self._count, "ids")
        array = plain_array(ids, "ids")
        if array.ndim != 1 or not len(array):
            raise InputError(f"ids must be a vector of at least one id, got shape {array.shape}")
        assert self._ids is not None
        # True and 1.0 are equal to the id 1: a mask would name two examples.
        if self._ids.dtype.kind in "iu" and array.dtype.kind not in "iu":
            raise InputError(f"ids must be integers, as those that the log was made with; got {array.dtype}")
        given = array.tolist()
        unknown = [one for one in given if one not in self._rows]
        if unknown:
            raise InputError(
                f"{len(unknown)} of {len(given)} ids are not among those that the log was made with, such as "
                f"{unknown[0]!r}"
            )
        if len(set(given)) < len(given):
            twice = next(one for one in given if given.count(one) > 1)
            raise InputError(f"ids must be different within a batch, {twice!r} occurs more than once")
        return np.array([self._rows[one] for one in given], np.int32)

    def _check(self, rows: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> None:
        if logits.shape != (len(rows), self._classes) or logits.dtype.kind not in "fiu":
            raise InputError(
                f"logits must be floats [{len(rows)}, {self._classes}], one row for each id; got "
                f"{logits.dtype} of shape {logits.shape}"
            )
        if labels.shape != rows.shape or labels.dtype.kind not in "iu":
            raise InputError(
                f"labels must be integers [{len(rows)}], got {labels.dtype} of shape {labels.shape}"
            )
        if labels.min() < 0 or labels.max() >= self._classes:
            raise InputError(
                f"labels must go from 0 to {self._classes - 1}, got {labels.min()} to {labels.max()}"
            )
        bad = ~np.isfinite(logits).all(axis=1)
        if bad.any():
            raise InputError(
                f"logits are NaN or infinite for {int(bad.sum())} of {len(rows)} examples, first for row "
                f"{rows[bad.argmax()]}: the training has diverged; lower the learning rate"
            )
        other = (self._labels[rows] != labels) & (self._labels[rows] >= 0)
        if other.any():
            row = int(rows[other.argmax()])
            raise InputError(
                f"the label of row {row} was {self._labels[row]} before and is {labels[other.argmax()]} now; "
                f"ids must name the same examples in every epoch (shuffle ids along with the data)"
            )


def _of_one_pass(scores: Iterable[str | Score] | None) -> tuple[Score, ...]:
    if scores is None:
        chosen = tuple(s for s in SCORES if s.fold is not None and s.fold.measure is None)
    else:
        chosen = resolve_scores(scores)
    for score in chosen:
        if not _follows_from_logits(score):
            reads = "the network at the end of every epoch" if score.fold is not None else score.reads
            raise InputError(
                f"{score.name} reads {reads}, a DynamicsLog has scores of training dynamics that follow from "
                f"logits: {', '.join(s.name for s in SCORES if _follows_from_logits(s))}"
            )
    clean = [score.name for score in chosen if score.fold is not None and score.fold.measure is not None]
    if clean and len(clean) < len(chosen):
        own = next(score.name for score in chosen if score.name not in clean)
        raise InputError(
            f"{own} is of the training's own pass and {clean[0]} of a clean one: make a log for each"
        )
    return chosen


def _follows_from_logits(score: Score) -> bool:
    return score.fold is not None and (score.fold.measure is None or score.fold.of_logits)


def _init(fold: Fold, count: int, classes: int) -> Any:
    return fold.init(count, **({"num_classes": classes} if takes(fold.init, "num_classes") else {}))


@functools.partial(jax.jit, static_argnames="folds", donate_argnames="state")
def _updated(state: dict[str, Any], rows: Any, logits: Any, labels: Any, *, folds: tuple[Fold, ...]) -> Any:
    new = {}
    for fold in folds:
        values = logits
        if fold.measure is not None:
            values = fold.measure(LOGITS_THEMSELVES)(Variables({}, {}), logits, labels)
        new[fold.name] = fold.update(state[fold.name], rows, values, labels)
    return new
