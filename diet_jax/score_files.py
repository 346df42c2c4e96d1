"""Score and mask files: arrays that carry the ids of their examples, their definition and their origin."""

import io
import json
import os
import tempfile
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data import Dataset
from diet_jax.errors import InputError

# What NumPy, zipfile, zlib and json raise on a file that is not what it was.
DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,  # zipfile: encrypted, an unknown compression; json: nested too deeply
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

DEFINITIONS = {
    "el2n": "EL2N: norm of softmax(logits) - onehot(label), eval mode, un-augmented",
    "grand": "GraNd: norm of the gradient of the cross-entropy in all parameters, eval mode, un-augmented",
    "grand_last_layer": "norm of the gradient of the cross-entropy in the last dense layer only, eval mode",
    "forgetting": "forgetting events in training: correct at the previous presentation, wrong at this one",
}


@dataclass(frozen=True, eq=False)
class ScoreFile:
    """One score of every example of a dataset, averaged over seeds; high means hard.

    Attributes:
        name: score name, such as "el2n".
        scores: float64 `[n]`, the mean over seeds; infinite where any seed's is.
        per_seed: float32 `[s n]`, one row per seed.
        ids: `[n]`, the examples' ids in dataset order.
        labels: int32 `[n]`, the labels that were scored.
        dataset: name and split, such as "cifar10/train".
        fingerprint: of the dataset.
        step: optimiser updates before scoring.
        provenance: definition, config, versions and whatever else explains the file, JSON values.
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

    @classmethod
    def from_seeds(
        cls,
        name: str,
        per_seed: Any,
        dataset: Dataset,
        *,
        step: int,
        provenance: dict[str, Any] | None = None,
    ) -> "ScoreFile":
        """Averages scores over seeds and binds them to a dataset.

        Args:
            name: score name.
            per_seed: float `[s n]`, rows in dataset order.
            dataset: what was scored.
            step: optimiser updates before scoring.
            provenance: JSON values to store along.

        Raises:
            InputError: the scores do not have one column per example.
        """
        per_seed = np.asarray(per_seed, np.float32)
        if per_seed.ndim != 2 or per_seed.shape[1] != len(dataset) or not len(per_seed):
            raise InputError(f"per_seed must have shape [s, {len(dataset)}], got {per_seed.shape}")
        return cls(
            name=name,
            scores=per_seed.mean(axis=0, dtype=np.float64),
            per_seed=per_seed,
            ids=dataset.ids,
            labels=dataset.labels,
            dataset=f"{dataset.name}/{dataset.split}",
            fingerprint=dataset.fingerprint,
            step=step,
            provenance={
                "definition": DEFINITIONS.get(name, name),
                "high_means": "hard",
                **(provenance or {}),
            },
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a compressed .npz, whole or not at all."""
        arrays = {field: getattr(self, field) for field in ("scores", "per_seed", "ids", "labels")}
        facts = {f: getattr(self, f) for f in ("name", "dataset", "fingerprint", "step", "provenance")}
        save_arrays(path, "scores", arrays, facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, dataset: Dataset | None = None) -> "ScoreFile":
        """Reads a score file.

        Args:
            path: what `save` wrote.
            dataset: if given, the file must belong to exactly this dataset.

        Raises:
            InputError: the file is missing, damaged, no score file, or of another dataset.
        """
        names = ("scores", "per_seed", "ids", "labels")
        known = ("name", "dataset", "fingerprint", "step", "provenance")
        arrays, facts = load_arrays(path, "scores", names, known)
        shapes = {name: array.shape for name, array in arrays.items()}
        if len(set(shapes["scores"] + shapes["ids"] + shapes["labels"] + shapes["per_seed"][1:])) != 1 or [
            len(shape) for shape in shapes.values()
        ] != [1, 2, 1, 1]:
            raise InputError(f"{path} is damaged: its arrays do not fit each other: {shapes}")
        if any(arrays[name].dtype.kind != "f" for name in ("scores", "per_seed")):
            raise InputError(f"{path} is damaged: its scores are no floating-point numbers")
        check_belongs(path, facts, arrays["ids"], dataset)
        return cls(**arrays, **facts)

    @property
    def num_infinite(self) -> int:
        """How many examples have an infinite mean, because a seed's score is infinite."""
        return int(np.isinf(self.scores).sum())


@dataclass(frozen=True, eq=False)
class KeepFile:
    """A keep mask with the ids of its examples.

    Attributes:
        keep: bool `[n]`, or `[s n]` where every seed has its own; True = train on it.
        ids: `[n]`, in dataset order.
        dataset: name and split.
        fingerprint: of the dataset.
        provenance: method, keep fraction, score and ties, JSON values.
    """

    keep: np.ndarray
    ids: np.ndarray
    dataset: str
    fingerprint: str
    provenance: dict[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a compressed .npz, whole or not at all."""
        facts = {f: getattr(self, f) for f in ("dataset", "fingerprint", "provenance")}
        save_arrays(path, "keep", {"keep": self.keep, "ids": self.ids}, facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, dataset: Dataset | None = None) -> "KeepFile":
        """Reads a mask file.

        Raises:
            InputError: the file is missing, damaged, no mask file, or of another dataset.
        """
        known = ("dataset", "fingerprint", "provenance")
        arrays, facts = load_arrays(path, "keep", ("keep", "ids"), known)
        keep, ids = arrays["keep"], arrays["ids"]
        if keep.dtype != bool or keep.ndim not in (1, 2) or keep.shape[-1:] != ids.shape:
            raise InputError(f"{path} is damaged: its mask does not fit its ids")
        check_belongs(path, facts, ids, dataset)
        return cls(**arrays, **facts)


def check_belongs(path: Any, facts: dict[str, Any], ids: np.ndarray, dataset: Dataset | None) -> None:
    """Raises InputError unless a file's fingerprint and ids are the dataset's."""
    if dataset is None:
        return
    if facts["fingerprint"] != dataset.fingerprint:
        raise InputError(
            f"{path} belongs to {facts['dataset']} (fingerprint {str(facts['fingerprint'])[:12]}), not to "
            f"{dataset.name}/{dataset.split} (fingerprint {dataset.fingerprint[:12]})"
        )
    if not np.array_equal(ids, dataset.ids):
        raise InputError(f"{path} is damaged: its ids are not those of {dataset.name}/{dataset.split}")


def save_arrays(path: Any, kind: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Writes arrays and JSON facts as one .npz, whole or not at all."""
    buffer = io.BytesIO()
    header = json.dumps({"format": f"diet_jax {kind} 1", **facts}, sort_keys=True)
    np.savez_compressed(buffer, header=np.array(header), **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def load_arrays(
    path: Any, kind: str, names: tuple[str, ...] | None, known: tuple[str, ...] = ()
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `save_arrays` wrote; every member's checksum is verified by the zip format.

    Args:
        path: of the file.
        kind: what it must be.
        names: arrays to read; None reads all.
        known: facts that must be there; with any, no others are returned.

    Raises:
        InputError: the file is missing, damaged or of another kind.
    """
    if not Path(path).is_file():
        raise InputError(f"no file {path}")
    try:
        # np.load leaves a file that it opened itself open when the archive is damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            facts = dict(json.loads(str(archive["header"])))
            if names is None:
                names = tuple(name for name in archive if name != "header")
            arrays = (
                {name: archive[name] for name in names} if facts["format"] == f"diet_jax {kind} 1" else {}
            )
    except (*DAMAGE, OSError) as error:
        raise InputError(
            f"{path} is damaged or no diet_jax file ({type(error).__name__}); make it again"
        ) from error
    if not arrays:
        raise InputError(f"{path} is a '{facts['format']}' file, expected 'diet_jax {kind} 1'")
    missing = [name for name in known if name not in facts]
    if missing:
        raise InputError(f"{path} is damaged: it does not say its {', '.join(missing)}")
    return arrays, {name: facts[name] for name in known or facts}


def load_checked(
    path: Any, kind: str, names: tuple[str, ...] | None, facts: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Reads arrays whose stored facts must be these.

    Raises:
        InputError: as `load_arrays`, or a fact differs.
    """
    arrays, stored = load_arrays(path, kind, names)
    wrong = [
        f"{name} is {_brief(stored.get(name))}, not {_brief(value)}"
        for name, value in facts.items()
        if stored.get(name) != value
    ]
    if wrong:
        raise InputError(f"{path} is not of this run ({'; '.join(wrong)}); delete it to compute it again")
    return arrays


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def write_atomically(path: Any, content: bytes | str) -> None:
    """Writes a file whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    path, data = Path(path), content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
