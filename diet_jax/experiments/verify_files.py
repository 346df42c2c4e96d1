"""Files of a run folder, verified by their checksums and by what they say that they belong to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.dataset import fingerprint
from diet_jax.errors import InputError
from diet_jax.experiments import features
from diet_jax.experiments.own import OF
from diet_jax.experiments.provenance import read_provenance
from diet_jax.experiments.retraining import PREDICTIONS
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.run_log import METRICS, PROVENANCE, STARTS, UNFINISHED
from diet_jax.experiments.scoring import KIND
from diet_jax.experiments.scoring_notes import mean_accuracy
from diet_jax.files.arrays import MADE_AGAIN, DamagedFile, load_arrays
from diet_jax.files.digests import file_digest
from diet_jax.files.records import Lines, scan_lines, words_of
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.file import KeepFile
from diet_jax.training.checkpoint_files import verify_checkpoint

AGAIN = "the same command makes it again"


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
def noting(check: Check, name: str, remedy: str = "") -> Iterator[None]:
    """Notes under the name of a file what is found wrong with it, and what to do about it.

    Args:
        check: that looks at it.
        name: of the file.
        remedy: in place of that of whoever reads it.
    """
    try:
        yield
    except FileNotFoundError:
        text = "it is missing"
    except (InputError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        text = str(error) if isinstance(error, InputError) else f"it is damaged ({error})"
        text = error.what if remedy and isinstance(error, DamagedFile) else text
    else:
        return
    check.wrong.setdefault(name, f"{text}; {remedy}" if remedy else text)


class SoundLines(RunFolder):
    """A run folder with those lines of its log that are sound; the others are named once."""

    def metrics(self) -> list[dict[str, Any]]:
        return scan_lines(self.path / METRICS, self.identity()).values


class Files:
    """Files by their checksums, and by what they say of each other."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.done = folder, []
        self.resolved: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.lines: dict[str, Lines] = {}
        self.scores: dict[str, ScoreFile] = {}
        self.masks: dict[str, KeepFile] = {}
        self.per_seed: dict[int, dict[str, np.ndarray]] = {}
        self.accuracy: dict[int, float | None] = {}
        self.trained: list[tuple[str, int, str]] = []
        """Training, last step and path of every result of one network."""
        self.provenance: dict[str, Any] = {}
        self.fingerprints: list[str] = []

    @property
    def wrong(self) -> dict[str, str]:
        """All that was found, by path."""
        return {name: what for check in self.done for name, what in check.wrong.items()}

    def checks(self) -> Iterator[Check]:
        for name, pattern, look in (
            ("config", "config.json", self._config),
            ("logs", "*.jsonl", self._lines),
            ("replaced labels", "noise.npz", self._noise),
            ("scores of one seed", "scores/per_seed/*.npz", self._per_seed),
            ("score files", "scores/**/*.npz", self._score_file),
            ("features", features.PLACE, self._features),
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
                with noting(check, relative.as_posix(), self._remedy(relative)):
                    look(path, check)
            if name == "checkpoints" and not check.count:
                check.skipped = "there are none"
            if name == "table and figures" and not check.count:
                check.skipped = "the run is not finished" if self.resolved and not self.finished else ""
            self.done.append(check)
            yield check

    @property
    def finished(self) -> bool:
        """Whether the run was finished, by its table or its provenance."""
        tables = [self.folder.path / name for name in ("table.md", "table.csv")]
        tables = [path for path in tables if path.is_file()]
        stopped = tables and tables[0].read_bytes().startswith(UNFINISHED.encode())
        return (self.folder.path / PROVENANCE).is_file() or bool(tables and not stopped)

    def _remedy(self, path: Path) -> str:
        """What to do about a file that is not as it was written; "" where its reader says it."""
        kind = path.parts[0]
        if kind in ("config.json", METRICS, STARTS):
            return ""
        if kind == "checkpoints":
            return self.remedy_of_checkpoint("/".join(path.parts[1:-1]), int(path.name))
        if kind == "scores" and len(path.parts) == 3 and path.parts[1] != "per_seed":
            return "delete it: the same diet-jax score --from-run makes it again"
        # What a run reads again before it writes it.
        read = kind in ("retrain", "unfinished") or path.parts[:2] == ("scores", "per_seed")
        return MADE_AGAIN if read else AGAIN

    def remedy_of_checkpoint(self, unit: str, step: int) -> str:
        """What to do about a checkpoint: a training whose result is there is not called again."""
        purpose, _, seed = unit.partition("/")
        results = [f"{unit}.npz"]
        if purpose == "score" and step <= self.resolved.get("score_step", step):
            results.append(f"scores/per_seed/{seed}.npz")
        for result in results:
            if (self.folder.path / result).is_file():
                there = (self.folder.path / "checkpoints" / unit / str(step)).is_dir()
                return f"delete {'it and ' * there}{result}: the same command makes both again"
        return MADE_AGAIN

    def _config(self, path: Path, check: Check) -> None:
        header = self.folder.header()
        self.resolved, self.config = header["resolved"], header["config"]
        self.fingerprints = list(self.resolved["fingerprint"])

    def _lines(self, path: Path, check: Check) -> None:
        if not self.resolved:
            check.skipped = "config.json is not sound, and lines belong to it"
            return
        found = self.lines[path.name] = scan_lines(path, self.folder.identity())
        check.count += found.count - 1
        if found.wrong:
            raise InputError(words_of(found.wrong))
        if missing := found.missing:
            first = f"the line with the number {missing[0]:,}"
            raise InputError(
                f"{first} is missing, and {len(missing) - 1:,} more; bring the file back from a copy: what "
                f"they said is not made again"
                if len(missing) > 1
                else f"{first} is missing; bring the file back from a copy: what it said is not made again"
            )
        for values in found.values if path.name == METRICS else ():
            _ = values["unit"], values.get("step", 0) + 0
        if path.name == METRICS:
            self.folder.diverged()

    def _noise(self, path: Path, check: Check) -> None:
        _, facts = load_arrays(path, "label noise", None)
        self._belongs(facts.get("fingerprint"), 0)

    def _per_seed(self, path: Path, check: Check) -> None:
        arrays, facts = load_arrays(path, KIND, None)
        self._belongs(facts.get("fingerprint"), 0)
        _same(path.stem, f"seed_{facts.get('seed'):02d}", "seed")
        if self.resolved:
            _same(facts.get("step"), self.resolved["score_step"], "step")
        self.per_seed[facts["seed"]], self.accuracy[facts["seed"]] = arrays, facts.get("accuracy")
        self.trained.append((f"score/{path.stem}", facts["step"], f"scores/per_seed/{path.name}"))

    def _score_file(self, path: Path, check: Check) -> None:
        file = ScoreFile.load(path)
        _same(file.name, path.stem, "name")
        self._belongs(file.fingerprint, 0)
        for name, other in self.scores.items():
            if not np.array_equal(file.ids, other.ids):
                raise InputError(f"its ids are not those of {name}")
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
        accuracy = mean_accuracy([self.accuracy[seed] for seed in sorted(self.accuracy)])
        if self.is_own(file) and file.provenance.get("scorer_accuracy") != accuracy:
            raise InputError("the accuracy that it tells of its networks is not that of its seeds")

    def is_own(self, file: ScoreFile) -> bool:
        """Whether the run computed a score, as against one that was made elsewhere."""
        return f"score {file.name}" in self.resolved.get("code", {})

    @property
    def brought(self) -> tuple[ScoreFile, ...]:
        """The folder's copies of score files that were made elsewhere."""
        names = (name.removeprefix(OF) for name in self.resolved["code"] if name.startswith(OF))
        found = (self.scores.get(f"scores/{name}.npz") for name in names)
        return tuple(file for file in found if file is not None)

    def _features(self, path: Path, check: Check) -> None:
        arrays, facts = load_arrays(path, features.KIND, None)
        self._belongs(facts.get("fingerprint"), 0)
        for name, other in self.scores.items():
            if not np.array_equal(arrays["ids"], other.ids):
                raise InputError(f"its ids are not those of {name}")

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
        name = path.relative_to(self.folder.path).as_posix()
        self.trained.append((name.removeprefix("trained/").removesuffix(".npz"), facts["steps"], name))
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
        self.provenance = read_provenance(self.folder)
        check.count += len(self.provenance["files"])
        for name, digest in self.provenance["files"].items():
            with noting(check, name, AGAIN):
                if file_digest(self.folder.path / name) != digest:
                    raise InputError("it is not what the run wrote")
        if self.fingerprints:
            _same(self.provenance["fingerprint"], self.fingerprints, "data fingerprint")

    def _belongs(self, stored: Any, split: int) -> None:
        if self.fingerprints:
            _same(stored, self.fingerprints[split], "data fingerprint")


def _same(stored: Any, wanted: Any, what: str) -> None:
    if stored != wanted:
        raise InputError(f"its {what} is {str(stored)[:80]}, not {str(wanted)[:80]}")


def _in_checkpoint(path: Path) -> bool:
    return any(part.isdecimal() for part in path.parts[:-1])
