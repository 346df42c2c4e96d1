"""Whether a run folder is what its run wrote: checksums, what belongs together, and numbers made again."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.ensemble.scoring import score_state
from diet_jax.errors import InputError, NotHereError
from diet_jax.experiments.choices import chosen
from diet_jax.experiments.features import PLACE, load_beside
from diet_jax.experiments.own import NOTHING, Own
from diet_jax.experiments.prune import rows_of, run_notes, table_texts
from diet_jax.experiments.retraining import judge, missing_networks
from diet_jax.experiments.run_folder import RunFolder, check_same
from diet_jax.experiments.scoring_notes import detections
from diet_jax.experiments.selecting import Selection, selections_of
from diet_jax.experiments.setup import Setup, prepare
from diet_jax.experiments.train_one import facts_of
from diet_jax.experiments.verify_files import AGAIN, Check, Files, SoundLines, noting
from diet_jax.experiments.verify_required import required
from diet_jax.files.arrays import load_arrays
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.score import SCORES
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.loop import start
from diet_jax.training.seeds import seed_keys

# By compute dtype: other chunks of examples, and other processors, round scores differently.
ROUNDING = {"float32": 1e-3, "bfloat16": 3e-2}


def verify_run(
    run: Path, own: Own = NOTHING, *, moved: Mapping[str, str] = {}, examples: int = 32, seed: int = 0
) -> Iterator[Check]:
    """Verifies a run folder and changes nothing in it.

    First every file by its checksums and by what it says that it belongs to, then, where the data is there,
    masks, the table and a random sample of scores are made again and compared.

    Args:
        run: the run folder.
        own: what the run had in place of what its config names.
        moved: where its data is now, by fields of `DataConfig`.
        examples: how many are scored again by each scoring network whose checkpoint is kept.
        seed: draws these.

    Yields:
        Each kind as soon as it is done.

    Raises:
        InputError: there is no run folder.
    """
    folder = SoundLines(run)
    if not (run / "config.json").is_file():
        folder.header()
    files = Files(folder)
    yield from files.checks()
    if files.resolved:
        files.done.append(required(files))
        yield files.done[-1]
    data, setup = _setup(folder, own, moved, files)
    yield data
    again = _Again(folder, setup, files)
    yield again.masks()
    yield again.table()
    yield again.scores(examples, seed)


def _setup(folder: RunFolder, own: Own, moved: Mapping[str, Any], files: Files) -> tuple[Check, Setup | None]:
    """The data and network of the run, if they are there and are those that it had."""
    check = Check("data and options as they are now")
    if not files.resolved:
        check.skipped = "config.json is not sound"
        return check, None
    setup = None
    # Of what is there, but is not as it was, nothing may be passed over.
    with noting(check, "data and options"):
        try:
            config = folder.config(own.recipe)
            data = dataclasses.replace(config.data, **moved)
            scores = dataclasses.replace(config.score, files=())
            config = dataclasses.replace(config, run_dir=str(folder.path), data=data, score=scores)
            own = dataclasses.replace(own, files=files.brought)
            setup = prepare(config, own, scores=False, prunes=False)
        except NotHereError as error:
            check.skipped = f"not there: {error}"
    if setup is None:
        return check, None
    check.count = 1
    with noting(check, "config.json"):
        check_same(folder, setup.config, setup.resolved())
        for name, file in files.scores.items():
            with noting(check, name):
                if not np.array_equal(file.labels, setup.splits.train.labels):
                    raise InputError("its labels are not those of the data")
                if not np.array_equal(file.ids, setup.splits.train.ids):
                    raise InputError("its ids are not those of the data")
        if setup.clean_labels is not None and "noise.npz" not in files.wrong:
            with noting(check, "noise.npz", AGAIN):
                stored = load_arrays(folder.path / "noise.npz", "label noise", None)[0]
                wanted = {"ids": setup.splits.train.ids, "labels": setup.splits.train.labels}
                wanted |= {"clean_labels": setup.clean_labels, "changed": setup.changed}
                for name, values in wanted.items():
                    if not np.array_equal(stored[name], values):
                        raise InputError(f"its {name} are not those of the data")
    return check, None if check.wrong else setup


class _Again:
    """What can be made again from other files of the folder, and the data."""

    def __init__(self, folder: RunFolder, setup: Setup | None, files: Files) -> None:
        self.folder, self.setup, self.files = folder, setup, files
        self.wrong, self.selections = files.wrong, [Selection("everything", 1.0, None)]

    def _without(self, check: Check, *made_from: str) -> bool:
        """Whether what the check needs is not there or not sound, in files or folders; it then says so."""
        if self.setup is None:
            check.skipped = "data and options of the run are needed"
        else:
            for name in self.wrong:
                if name in made_from or f"{name.rpartition('/')[0]}/".startswith(made_from):
                    check.skipped = f"made from {name}, which is not as written"
                    break
        return bool(check.skipped)

    @property
    def _score_names(self) -> list[str]:
        """Paths of the score files that the run selects by, in its order."""
        assert self.setup is not None
        names = [*self.setup.config.score.names, *(file.name for file in self.setup.files)]
        return [f"scores/{name}.npz" for name in names]

    def _score_files(self) -> list[ScoreFile]:
        """The score files that the run selects by, in its order."""
        found = (self.files.scores.get(name) for name in self._score_names)
        return [file for file in found if file is not None]

    def masks(self) -> Check:
        """Selects again by the scores in the folder."""
        check = Check("masks, selected again")
        if self._without(check, *(self._score_names if self.setup else ())):
            return check
        assert self.setup is not None
        if not self.files.masks and not self.files.finished:
            check.skipped = "the run has selected nothing"
            return check
        beside: dict[str, Any] = {}
        with noting(check, PLACE):
            beside = load_beside(self.setup, self.folder)
        self.selections = []
        with noting(check, "scores"):
            for selection, _ in selections_of(self.setup, self._score_files(), beside):
                self.selections.append(selection)
                if selection.keep is None:
                    continue
                check.count += 1
                name = f"masks/{selection.name}.npz"
                if name in self.wrong:
                    continue
                with noting(check, name, AGAIN):
                    stored = self.files.masks.get(selection.name)
                    if stored is None:
                        raise InputError("it is missing")
                    if not np.array_equal(stored.keep, selection.keep):
                        raise InputError("it is not what the scores select")
        self.wrong |= check.wrong
        return check

    def table(self) -> Check:
        """Judges the predictions again and writes the table anew."""
        check = Check("table, from predictions")
        scores = self._score_names if self.setup else ()
        if self._without(check, "retrain/", "masks/", *scores):
            return check
        assert self.setup is not None
        if not (self.folder.path / "table.csv").is_file():
            check.skipped = "there is no table"
            return check
        setup, folder, selections = self.setup, self.folder, self.selections
        with noting(check, "retrain"):
            files = self._score_files()
            results = judge(setup, folder, selections, files=files)
            rows = rows_of(setup, results)
            finished = not missing_networks(setup, folder, selections)
            more: dict[str, Any] = {}
            if finished:
                more = {"notes": run_notes(setup, folder, files, selections)}
                more |= {"found": detections(setup, files)}
            texts = table_texts(setup, results, rows, **more)
            # What an unfinished one says above and below its rows was true at its time.
            for name in texts if finished else ("table.csv", "classes.csv"):
                check.count += 1
                with noting(check, name, AGAIN):
                    if (folder.path / name).read_bytes() != texts[name].encode():
                        raise InputError("it is not what the predictions give")
        return check

    def scores(self, examples: int, seed: int) -> Check:
        """Scores some examples again, by the networks whose checkpoints are there."""
        check = Check("scores, from checkpoints")
        if self._without(check):
            return check
        assert self.setup is not None
        if not examples:
            check.skipped = "no examples asked for"
            return check
        setup, config = self.setup, self.setup.config
        count = config.score.num_seeds
        keys, train = seed_keys(config.seed, "score", count), setup.splits.train
        drawn = np.random.default_rng(seed).choice(len(train), min(examples, len(train)), replace=False)
        rows, absent, wanted_of = np.sort(drawn), 0, 0
        like = functools.cache(lambda: start(keys[0], train, program=setup.program()))
        by_step: dict[int, dict[str, ScoreFile]] = {}
        for name, file in self.files.scores.items():
            # Those of `score --from-run` may have other names than the config's.
            if self.files.is_own(file) or (name.count("/") > 1 and file.name in SCORES.names()):
                by_step.setdefault(file.step or 0, {})[name] = file
        for step, files in by_step.items():
            for number in range(count):
                unit = f"score/seed_{number:02d}"
                wanted = {name: file for name, file in files.items() if number in file.seed_numbers}
                place = f"checkpoints/{unit}/{step}"
                wanted_of += bool(wanted)
                if not (self.folder.path / place).is_dir():
                    absent += bool(wanted)
                if not wanted or place in self.wrong or not (self.folder.path / place).is_dir():
                    continue
                with noting(check, place, self.files.remedy_of_checkpoint(unit, step)):
                    facts = facts_of(setup, unit, keys[number])
                    state = Checkpoints(self.folder.path / "checkpoints" / unit, facts).restore(step, like())
                    found = _scores_of(setup, state, rows, {file.name for file in wanted.values()})
                    for name, file in wanted.items():
                        check.count += len(rows)
                        stored = file.per_seed[file.seed_numbers.index(number)][rows]
                        with noting(check, name):
                            _check_close(stored, found[file.name], rows, file, number, config.model.dtype)
        if absent:
            check.skipped = (
                f"for {absent} of {wanted_of} seeds no checkpoint is there of the step of the scores"
            )
        elif not check.count and not check.wrong:
            check.skipped = "the run has no scores of its own"
        return check


def _scores_of(setup: Setup, state: Any, rows: np.ndarray, names: Iterable[str]) -> Mapping[str, np.ndarray]:
    """The scores of some examples; those that training counts up come for all."""
    known = {score.name: score for score in setup.scores}
    more = setup.config.score.options
    wanted = [known.get(name) or chosen(SCORES, name, more) for name in sorted(names)]
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
