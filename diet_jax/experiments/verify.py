"""Whether a run folder is what its run wrote: checksums, what belongs together, and numbers made again."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.analysis.results import to_rows
from diet_jax.data.dataset import fingerprint
from diet_jax.ensemble.scoring import score_state
from diet_jax.errors import InputError
from diet_jax.experiments.own import NOTHING, Own
from diet_jax.experiments.provenance import PROVENANCE, read_provenance
from diet_jax.experiments.prune import run_notes, table_texts
from diet_jax.experiments.retraining import PREDICTIONS, judge, missing_networks
from diet_jax.experiments.run_folder import RunFolder, check_same
from diet_jax.experiments.scoring import KIND
from diet_jax.experiments.scoring_notes import detections
from diet_jax.experiments.selecting import Selection, selections_of
from diet_jax.experiments.setup import Setup, prepare
from diet_jax.experiments.train_one import facts_of
from diet_jax.files.arrays import load_arrays
from diet_jax.files.digests import file_digest
from diet_jax.files.records import read_lines
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.file import KeepFile
from diet_jax.training.checkpoint_files import verify_checkpoint
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.loop import start
from diet_jax.training.seeds import seed_keys

# By compute dtype: other chunks of examples, and other processors, round scores differently.
ROUNDING = {"float32": 1e-3, "bfloat16": 3e-2}


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


def verify_run(run: Path, own: Own = NOTHING, *, examples: int = 32, seed: int = 0) -> Iterator[Check]:
    """Verifies a run folder and changes nothing in it.

    First every file by its checksums and by what it says that it belongs to, then, where the data is there,
    masks, the table and a random sample of scores are made again and compared.

    Args:
        run: the run folder.
        own: what the run had in place of what its config names.
        examples: how many are scored again by each scoring network whose checkpoint is kept.
        seed: draws these.

    Yields:
        Each kind as soon as it is done.

    Raises:
        InputError: there is no run folder.
    """
    folder = RunFolder(run)
    if not (run / "config.json").is_file():
        folder.header()
    files = _Files(folder)
    yield from files.checks()
    sound = not any(check.wrong for check in files.done)
    data, setup = _setup(folder, own, files)
    yield data
    again = _Again(folder, setup, files, sound)
    yield again.masks()
    yield again.table()
    yield again.scores(examples, seed)


class _Files:
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
                with _noting(check, relative.as_posix()):
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
        return any(file.name in arrays for arrays in self.per_seed.values()) or "config" in file.provenance

    def _mask(self, path: Path, check: Check) -> None:
        file = KeepFile.load(path)
        self._belongs(file.fingerprint, 0)
        for name, other in self.scores.items():
            if not np.array_equal(file.ids, other.ids):
                raise InputError(f"its ids are not those of {name}")
        self.masks[path.stem] = file

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
            with _noting(check, name):
                _same(file_digest(self.folder.path / name), digest, "SHA-256")

    def _belongs(self, stored: Any, split: int) -> None:
        if self.fingerprints:
            _same(stored, self.fingerprints[split], "data fingerprint")


def _setup(folder: RunFolder, own: Own, files: _Files) -> tuple[Check, Setup | None]:
    """The data and network of the run, if they are there and are those that it had."""
    check = Check("data and options as they are now")
    if not files.resolved:
        check.skipped = "config.json is not sound"
        return check, None
    try:
        config = dataclasses.replace(folder.config(own.recipe), run_dir=str(folder.path))
        setup = prepare(config, own)
    except InputError as error:
        check.skipped = f"not there: {error}"
        return check, None
    check.count = 1
    with _noting(check, "config.json"):
        check_same(folder, setup.config, setup.resolved())
        for name, file in files.scores.items():
            with _noting(check, name):
                if not np.array_equal(file.labels, setup.splits.train.labels):
                    raise InputError("its labels are not those of the data")
                if not np.array_equal(file.ids, setup.splits.train.ids):
                    raise InputError("its ids are not those of the data")
        if setup.clean_labels is not None:
            with _noting(check, "noise.npz"):
                stored = load_arrays(folder.path / "noise.npz", "label noise", None)[0]
                wanted = {"ids": setup.splits.train.ids, "labels": setup.splits.train.labels}
                wanted |= {"clean_labels": setup.clean_labels, "changed": setup.changed}
                for name, values in wanted.items():
                    if not np.array_equal(stored[name], values):
                        raise InputError(f"its {name} are not those of the data")
    return check, None if check.wrong else setup


class _Again:
    """What can be made again from other files of the folder, and the data."""

    def __init__(self, folder: RunFolder, setup: Setup | None, files: _Files, sound: bool) -> None:
        self.folder, self.setup, self.files = folder, setup, files
        self.sound, self.selections = sound, [Selection("everything", 1.0, None)]

    def _without(self, check: Check, whole: bool = True) -> bool:
        """Whether what the check needs is not there; it then says so."""
        if self.setup is None:
            check.skipped = "it needs data and options of the run"
        elif whole and not self.sound:
            check.skipped = "it is made from files some of which do not match"
        return bool(check.skipped)

    def _score_files(self) -> list[ScoreFile]:
        """The score files that the run selects by, in its order."""
        assert self.setup is not None
        names = [*self.setup.config.score.names, *(file.name for file in self.setup.files)]
        found = (self.files.scores.get(f"scores/{name}.npz") for name in names)
        return [file for file in found if file is not None]

    def masks(self) -> Check:
        """Selects again by the scores in the folder."""
        check = Check("masks, selected again")
        if self._without(check):
            return check
        assert self.setup is not None
        if not self.files.masks:
            check.skipped = "the run has selected nothing"
            return check
        with _noting(check, "scores"):
            for selection, _ in selections_of(self.setup, self._score_files()):
                self.selections.append(selection)
                check.count += 1
                with _noting(check, f"masks/{selection.name}.npz"):
                    stored = self.files.masks.get(selection.name)
                    if stored is None:
                        raise InputError("it is missing")
                    if selection.keep is None or not np.array_equal(stored.keep, selection.keep):
                        raise InputError("it is not what the scores select")
        return check

    def table(self) -> Check:
        """Judges the predictions again and writes the table anew."""
        check = Check("table, from predictions")
        if self._without(check):
            return check
        assert self.setup is not None
        if not (self.folder.path / "table.csv").is_file():
            check.skipped = "the run has no table yet"
            if (self.folder.path / PROVENANCE).is_file():
                check.wrong["table.csv"] = "it is missing"
            return check
        setup, folder, selections = self.setup, self.folder, self.selections
        with _noting(check, "retrain"):
            results, count = judge(setup, folder, selections), setup.config.retrain.num_seeds
            complete = all(len(result.seeds) == count for result in results)
            rows = to_rows(results, of_seeds=None if complete else count)
            files = self._score_files()
            finished = not missing_networks(setup, folder, selections)
            more: dict[str, Any] = {}
            if finished:
                more = {"notes": run_notes(setup, folder, files, selections)}
                more |= {"found": detections(setup, files)}
            texts = table_texts(setup, rows, **more)
            # What an unfinished one says above and below its rows was true at its time.
            for name in texts if finished else ("table.csv",):
                check.count += 1
                with _noting(check, name):
                    if (folder.path / name).read_bytes() != texts[name].encode():
                        raise InputError("it is not what the predictions give")
        return check

    def scores(self, examples: int, seed: int) -> Check:
        """Scores some examples again, by the networks whose checkpoints are there."""
        check = Check("scores, from checkpoints")
        if self._without(check, whole=False):
            return check
        assert self.setup is not None
        setup, config = self.setup, self.setup.config
        count = config.score.num_seeds
        keys, train = seed_keys(config.seed, "score", count), setup.splits.train
        drawn = np.random.default_rng(seed).choice(len(train), min(examples, len(train)), replace=False)
        rows, absent = np.sort(drawn), 0
        like = functools.cache(lambda: start(keys[0], train, program=setup.program()))
        by_step: dict[int, dict[str, ScoreFile]] = {}
        known = {score.name for score in setup.scores}
        for name, file in self.files.scores.items():
            if file.name in known and (name.count("/") > 1 or self.files.is_own(file)):
                by_step.setdefault(file.step, {})[name] = file
        for step, files in by_step.items():
            for number in range(count):
                unit = f"score/seed_{number:02d}"
                wanted = {name: file for name, file in files.items() if number in file.seed_numbers}
                if not (self.folder.path / "checkpoints" / unit / str(step)).is_dir():
                    absent += bool(wanted)
                    continue
                with _noting(check, f"checkpoints/{unit}/{step}"):
                    facts = facts_of(setup, unit, keys[number])
                    state = Checkpoints(self.folder.path / "checkpoints" / unit, facts).restore(step, like())
                    found = _scores_of(setup, state, rows, {file.name for file in wanted.values()})
                    for name, file in wanted.items():
                        check.count += len(rows)
                        stored = file.per_seed[file.seed_numbers.index(number)][rows]
                        with _noting(check, name):
                            _check_close(stored, found[file.name], rows, file, number, config.model.dtype)
        if absent:
            check.skipped = f"{absent} scoring networks kept no checkpoint of the step of their scores"
        elif not check.count and not check.wrong:
            check.skipped = "the run has no scores of its own"
        return check


def _scores_of(setup: Setup, state: Any, rows: np.ndarray, names: Iterable[str]) -> Mapping[str, np.ndarray]:
    """The scores of some examples; those that training counts up come for all."""
    wanted = [score for score in setup.scores if score.name in names]
    options: Any = {"batch_size": setup.config.score.batch_size}
    part = setup.splits.train.take(rows)
    here = [score for score in wanted if score.of_examples]
    found = score_state(state, setup.model, part, scores=here, **options)
    counted = [score for score in wanted if not score.of_examples]
    of_all = score_state(state, setup.model, setup.splits.train, scores=counted, **options)
    return {**found, **{name: values[rows] for name, values in of_all.items()}}


def _check_close(
    stored: np.ndarray, found: np.ndarray, rows: np.ndarray, file: ScoreFile, seed: int, dtype: str
) -> None:
    finite = np.abs(file.per_seed[np.isfinite(file.per_seed)])
    rounding = ROUNDING[dtype]
    least = 0.01 * rounding * float(finite.max(initial=0.0))
    wrong = ~np.isclose(stored, found, rtol=rounding, atol=least, equal_nan=True)
    if wrong.any():
        first = int(wrong.argmax())
        raise InputError(
            f"by seed {seed} {int(wrong.sum())} of {len(rows)} scores are others: {file.ids[rows[first]]!s} "
            f"has {stored[first]:.6g}, its network gives {found[first]:.6g}"
        )


def _same(stored: Any, wanted: Any, what: str) -> None:
    if stored != wanted:
        raise InputError(f"its {what} is {str(stored)[:80]}, not {str(wanted)[:80]}")


def _in_checkpoint(path: Path) -> bool:
    return any(part.isdecimal() for part in path.parts[:-1])


@contextmanager
def _noting(check: Check, name: str) -> Iterator[None]:
    """Notes under the name of a file what is found wrong with it."""
    try:
        yield
    except (InputError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        check.wrong.setdefault(name, text)
