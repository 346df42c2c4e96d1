"""Whole paths of logits on disk, and a score that needs the path of every loss: CLD."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from diet_jax.checks.arrays import plain_array
from diet_jax.checks.values import check_path
from diet_jax.errors import InputError
from diet_jax.files.writing import cannot_write
from diet_jax.types import AnyArray

FLOAT16 = np.finfo(np.float16)


class PathFile:
    """A file of NumPy (.npy) that grows: float16 `[t n c]`, entry `[i, r]` of the i-th time of row r."""

    def __init__(self, path: str | os.PathLike[str], num_examples: int, num_classes: int) -> None:
        self._path, self._shape = Path(check_path(path, "path")), (num_examples, num_classes)
        self._times = 0
        if self._path.exists():
            raise InputError(f"{self._path} is there already; delete it, or choose another path")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write_header(0)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    @classmethod
    def reopened(
        cls, path: str | os.PathLike[str], num_classes: int, times: Int[np.ndarray, "n"]
    ) -> "PathFile":
        """Returns a file that is there, of which each row has had so many times; what came later is dropped.

        Raises:
            InputError: it is not there, of other shape, or shorter.
        """
        file = cls.__new__(cls)
        file._path, file._shape = Path(check_path(path, "path")), (len(times), num_classes)
        file._times = int(times.max(initial=0))
        if not file._path.is_file():
            raise InputError(f"no file {file._path}, in which the log kept its logits")
        try:
            with file._path.open("rb") as opened:
                np.lib.format.read_magic(opened)
                shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
        except (ValueError, EOFError) as error:
            raise InputError(f"{file._path} is no file of a log: {error}") from error
        whole = shape[0] * file._entry + file._start <= file._path.stat().st_size
        if shape[1:] != file._shape or shape[0] < file._times or dtype != np.float16 or not whole:
            raise InputError(
                f"{file._path} holds {dtype} of shape {shape}, the log was saved with float16 "
                f"{(file._times, *file._shape)} or more; give the file that it kept its logits in"
            )
        os.truncate(file._path, file._start + file._times * file._entry)
        file._write_header(file._times)
        if file._times:
            stored = np.load(file._path, mmap_mode="r+")
            for time in range(int(times.min()), file._times):
                stored[time, times <= time] = np.nan
            stored.flush()
        return file

    def write(self, times: np.ndarray, rows: np.ndarray, logits: np.ndarray) -> None:
        """Writes logits `[b c]` of rows, each of so many times before."""
        try:
            while times.max() >= self._times:
                self._grow()
        except OSError as error:
            raise cannot_write(self._path, error) from error
        cut = np.asarray(logits, np.float32).clip(FLOAT16.min, FLOAT16.max).astype(np.float16)
        stored = np.load(self._path, mmap_mode="r+")
        stored[times, rows] = cut
        stored.flush()

    def read(self) -> np.ndarray:
        """Returns all of it, mapped from the file."""
        if not self._times:
            return np.zeros((0, *self._shape), np.float16)
        return np.load(self._path, mmap_mode="r")

    @property
    def _entry(self) -> int:
        """Bytes of one time of all rows."""
        return 2 * self._shape[0] * self._shape[1]

    @property
    def _start(self) -> int:
        """Where the first time begins: the header leaves room for the number of times to grow."""
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, self._about(0))
        return buffer.tell()

    def _about(self, times: int) -> dict[str, Any]:
        return {"descr": "<f2", "fortran_order": False, "shape": (times, *self._shape)}

    def _grow(self) -> None:
        """Adds a time of which nothing is known yet; where that fails, or failed before, it begins anew."""
        unknown = np.full(self._shape[1], np.nan, np.float16).tobytes()
        with self._path.open("r+b") as file:
            file.seek(self._start + self._times * self._entry)
            for _ in range(self._shape[0]):
                file.write(unknown)
        self._write_header(self._times + 1)
        self._times += 1

    def _write_header(self, times: int) -> None:
        with self._path.open("r+b" if self._path.exists() else "wb") as file:
            np.lib.format.write_array_header_1_0(file, self._about(times))


def path_losses(paths: Float[AnyArray, "t n c"], labels: Int[AnyArray, "n"]) -> Float[np.ndarray, "t n"]:
    """Returns the cross-entropy of every entry of a path file, float32; NaN where there is none.

    Args:
        paths: logits, also mapped from a file: one time after the other is read.
        labels: int `[n]`.

    Example:
        >>> import numpy as np
        >>> path_losses(np.zeros((1, 2, 2)), np.array([0, 1])).round(3).tolist()
        [[0.6930000185966492, 0.6930000185966492]]
    """
    labels = np.asarray(labels)
    losses = np.empty(paths.shape[:2], np.float32)
    for time, logits in enumerate(paths):
        ahead = np.asarray(logits, np.float64)
        ahead = ahead - np.take_along_axis(ahead, labels[:, None], axis=1)
        with np.errstate(invalid="ignore"):  # NaN is what is not known.
            losses[time] = np.logaddexp.reduce(ahead, axis=1)
    return losses


def cld_scores(
    losses: Float[AnyArray, "t n"],
    labels: Int[AnyArray, "n"],
    held_out_losses: Float[AnyArray, "t m"],
    held_out_labels: Int[AnyArray, "m"],
) -> Float[np.ndarray, "n"]:
    """Returns how the changes of each example's loss go with those of the held-out examples of its class.

    The Pearson correlation over time of `loss[t+1] - loss[t]` of the example with the same differences of the
    mean loss of the held-out examples that have its label.

    Args:
        losses: float `[t n]`, measured at the end of each epoch, in eval mode; see
            `DynamicsLog.losses`.
        labels: int `[n]`.
        held_out_losses: float `[t m]`, at the same times, of examples that are not trained on.
        held_out_labels: int `[m]`.

    Returns:
        float32 `[n]` in [-1, 1]; high means typical of its class, which the paper keeps. NaN where a loss
        does not change, or no held-out example has the label.

    Raises:
        InputError: other shapes, or fewer than three times.

    Paper: Nagaraj et al. 2025 (arXiv 2508.20230), CLD.

    Example:
        >>> import numpy as np
        >>> held_out = np.array([[2.0], [1.0], [0.5]])
        >>> losses = np.array([[4.0, 0.0], [2.0, 1.0], [1.0, 1.5]])
        >>> cld_scores(losses, np.array([0, 0]), held_out, np.array([0])).tolist()
        [1.0, -1.0]
    """
    losses, held_out = (
        plain_array(array, name) for array, name in ((losses, "losses"), (held_out_losses, "held_out_losses"))
    )
    labels, held_out_labels = plain_array(labels, "labels"), plain_array(held_out_labels, "held_out_labels")
    if (
        losses.ndim != 2
        or held_out.ndim != 2
        or len(losses) != len(held_out)
        or (losses.shape[1:], held_out.shape[1:]) != (labels.shape, held_out_labels.shape)
    ):
        raise InputError(
            f"losses must be [t n] with labels [n], held_out_losses [t m] with held_out_labels [m], of the "
            f"same times; got {losses.shape} with {labels.shape} and {held_out.shape} with "
            f"{held_out_labels.shape}"
        )
    if len(losses) < 3:
        raise InputError(f"a correlation of changes needs losses at 3 times or more, got {len(losses)}")
    scores = np.full(len(labels), np.nan, np.float32)
    for label in np.unique(labels):
        members, others = np.flatnonzero(labels == label), held_out_labels == label
        if not others.any():
            continue
        changes = np.diff(losses[:, members].astype(np.float64), axis=0)
        direction = np.diff(held_out[:, others].mean(axis=1, dtype=np.float64))
        changes, direction = changes - changes.mean(axis=0), direction - direction.mean()
        norms = np.linalg.norm(changes, axis=0) * np.linalg.norm(direction)
        known = norms > 0
        scores[members[known]] = ((direction @ changes)[known] / norms[known]).clip(-1, 1)
    return scores
