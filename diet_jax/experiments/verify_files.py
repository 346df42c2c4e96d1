"""Files of a run folder, verified by their checksums and by what they say that they belong to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.dataset import fingerprint
from diet_jax.errors import InputError
from diet_jax.experiments.provenance import PROVENANCE, read_provenance
from diet_jax.experiments.retraining import PREDICTIONS
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.scoring import KIND
from diet_jax.files.arrays import load_arrays
from diet_jax.files.digests import file_digest
from diet_jax.files.records import read_lines
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.file import KeepFile
from diet_jax.training.checkpoint_files import verify_checkpoint


@dataclass
class Check:
    """One kind of thing that was verified.

    Attributes:
        name: what it is.
        count: how many of it were looked at.
        wrong: by path in the run folder, what does not match.
        skipped: why it, or a part of it, was not verified; "" where all was.
    """

    name: str
    count: int = 0
    wrong: dict[str, str] = field(default_factory=dict)
    skipped: str = ""


@contextmanager
def noting(check: Check, name: str) -> Iterator[None]:
    """Notes under the name of a file what is found wrong with it."""
    try:
        yield
    except (InputError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        check.wrong.setdefault(name, text)


class Files:
    """Files by their checksums, and by what they say of each other."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.done = folder, []
        self.resolved: dict[str, Any] = {}
        self.scores: dict[str, ScoreFile] = {}
        self.masks: dict[str, KeepFile] = {}
        self.per_seed: dict[int, dict[str, np.ndarray]] = {}
        self.fingerprints: list[str] = []

    def checks(self) -> Iterator[Check]:
        for name, pattern, look in (
            ("config", "config.json", self._config),
            ("logs", "*.jsonl", self._lines),
            ("replaced labels", "noise.npz", self._noise),
            ("scores of one seed", "scores/per_seed/*.npz", self._per_seed),
            ("score files", "scores/**/*.npz", self._score_file),
            ("masks", "masks/*.npz", self._mask),
            ("predictions of the table", "retrain/**/*.npz", self._predictions),
            ("predictions of single trainings", "trained/**/*.npz", self._predictions),
            ("last subsets", "subsets/**/*.npz", self._subset),
            ("checkpoints", "checkpoints/**/*", self._checkpoint),
            ("states to go on from", "unfinished/**/*", self._checkpoint),
            ("table and figures", PROVENANCE, self._made),
        ):
            check = Check(name)
            for path in sorted(self.folder.path.glob(pattern)):
                relative = path.relative_to(self.folder.path)
                if pattern.endswith("/*"):
                    if not (path.is_dir() and path.name.isdecimal() and not _in_checkpoint(relative)):
                        continue
                elif not path.is_file() or any(part.endswith(".shards") for part in relative.parts):
                    continue
                if look == self._score_file and relative.parts[1] == "per_seed":
                    continue
                check.count += 1
                with noting(check, relative.as_posix()):
                    look(path, check)
            if name == "checkpoints" and not check.count:
                check.skipped = "the run kept none"
            if name == "table and figures" and not check.count:
                check.skipped = "the run is not finished" if self.resolved else ""
            self.done.append(check)
            yield check

    def _config(self, path: Path, check: Check) -> None:
        self.resolved = self.folder.header()["resolved"]
        self.fingerprints = list(self.resolved["fingerprint"])

    def _lines(self, path: Path, check: Check) -> None:
        lines = self.folder.metrics() if path.name == "metrics.jsonl" else read_lines(path)
        check.count += len(lines) - 1

    def _noise(self, path: Path, check: Check) -> None:
        _, facts = load_arrays(path, "label noise", None)
        self._belongs(facts.get("fingerprint"), 0)

    def _per_seed(self, path: Path, check: Check) -> None:
        arrays, facts = load_arrays(path, KIND, None)
        self._belongs(facts.get("fingerprint"), 0)
        _same(path.stem, f"seed_{facts.get('seed'):02d}", "seed")
        if self.resolved:
            _same(facts.get("step"), self.resolved["score_step"], "step")
        self.per_seed[facts["seed"]] = arrays

    def _score_file(self, path: Path, check: Check) -> None:
        file = ScoreFile.load(path)
        _same(file.name, path.stem, "name")
        self._belongs(file.fingerprint, 0)
        for name, other in self.scores.items():
            if not np.array_equal(file.ids, other.ids):
                raise InputError(f"its ids are not those of {name}")
        mean = file.per_seed.mean(axis=0, dtype=np.float64)
        if not np.array_equal(file.scores, mean, equal_nan=True):
            raise InputError("its scores are not the mean of those of its seeds")
        if path.parent.name.startswith("step_"):
            _same(f"step_{file.step}", path.parent.name, "step")
        self.scores[path.relative_to(self.folder.path).as_posix()] = file
        if path.parent.name != "scores":
            return
        for row, seed in enumerate(file.seed_numbers if self.is_own(file) else ()):
            stored = self.per_seed.get(seed, {}).get(file.name)
            if stored is None:
                raise InputError(f"scores/per_seed/seed_{seed:02d}.npz is missing or not sound")
            if not np.array_equal(stored, file.per_seed[row], equal_nan=True):
                raise InputError(f"its seed {seed} is not what scores/per_seed/seed_{seed:02d}.npz has")

    def is_own(self, file: ScoreFile) -> bool:
        """Whether the run computed a score, as against one that was made elsewhere."""
        return f"score {file.name}" in self.resolved.get("code", {})

    @property
    def brought(self) -> tuple[ScoreFile, ...]:
        """The folder's copies of score files that were made elsewhere."""
        names = (name.removeprefix("scores of ") for name in self.resolved["code"] if " of " in name)
        found = (self.scores.get(f"scores/{name}.npz") for name in names)
        return tuple(file for file in found if file is not None)

    def _mask(self, path: Path, check: Check) -> None:
        file = KeepFile.load(path)
        self._belongs(file.fingerprint, 0)
        for name, other in self.scores.items():
            if not np.array_equal(file.ids, other.ids):
                raise InputError(f"its ids are not those of {name}")
        self.masks[path.stem] = file

    def _subset(self, path: Path, check: Check) -> None:
        self._belongs(KeepFile.load(path).fingerprint, 0)

    def _predictions(self, path: Path, check: Check) -> None:
        _, facts = load_arrays(path, PREDICTIONS, ("predicted", "loss"))
        self._belongs(facts.get("fingerprint"), 1)
        _same(path.stem, f"seed_{facts.get('seed'):02d}", "seed")
        mask = self.masks.get(path.parent.name)
        if mask is not None and "mask" in facts:
            kept = mask.keep if mask.keep.ndim == 1 else mask.keep[facts["seed"]]
            if fingerprint(kept) != facts["mask"]:
                raise InputError(f"it was trained on another selection than masks/{path.parent.name}.npz")

    def _checkpoint(self, path: Path, check: Check) -> None:
        belongs_to = verify_checkpoint(path)
        self._belongs(belongs_to.get("fingerprint"), 0)
        unit = path.parent.relative_to(self.folder.path).as_posix().partition("/")[2]
        _same(belongs_to.get("unit"), unit, "training")

    def _made(self, path: Path, check: Check) -> None:
        provenance = read_provenance(self.folder)
        if self.fingerprints:
            _same(provenance["fingerprint"], self.fingerprints, "data fingerprint")
        check.count += len(provenance["files"])
        for name, digest in provenance["files"].items():
            with noting(check, name):
                _same(file_digest(self.folder.path / name), digest, "SHA-256")

    def _belongs(self, stored: Any, split: int) -> None:
        if self.fingerprints:
            _same(stored, self.fingerprints[split], "data fingerprint")


def _same(stored: Any, wanted: Any, what: str) -> None:
    if stored != wanted:
        raise InputError(f"its {what} is {str(stored)[:80]}, not {str(wanted)[:80]}")


def _in_checkpoint(path: Path) -> bool:
    return any(part.isdecimal() for part in path.parts[:-1])
