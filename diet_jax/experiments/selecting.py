"""The selection stage: masks from scores, and the random masks they are compared with."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.results import BALANCED, FULL, RANDOM, RS2
from diet_jax.data.dataset import Dataset, fingerprint
from diet_jax.devices.processes import from_writer
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.experiments.features import beside_stage
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import Setup
from diet_jax.options.plain import plain
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.beside import rows_beside
from diet_jax.selection.file import KeepFile
from diet_jax.selection.masks import num_kept, tie_mass
from diet_jax.selection.per_class import (
    balance_notes,
    keep_balanced,
    keep_some_of_each,
    kept_per_class,
)
from diet_jax.selection.ranks import keep_lowest, keep_random, random_bits
from diet_jax.selection.risk import risk_note
from diet_jax.selection.rule import Rule
from diet_jax.training.loop import check_keep
from diet_jax.training.seeds import seed_keys
from diet_jax.types import PRNGKey


@dataclass(frozen=True, eq=False)
class Selection:
    """What one group of networks is retrained on: a mask bool `[n]`, one per seed `[s n]`, or everything.

    Trainings have the steps of their keep fraction, also that of RS2, which keeps everything: a fresh random
    part in each epoch, without replacement, is a training on everything of that length.
    """

    kept_by: str
    fraction: float
    keep: np.ndarray | None
    notes: tuple[str, ...] = ()
    """What is to be said of the classes in it."""
    scores: tuple[str, ...] = ()
    """What it was selected by; none of baselines."""
    rule: str = ""
    """How; "" for baselines."""
    seconds: float = 0.0
    """How long selecting took."""

    @property
    def name(self) -> str:
        """Name of its files."""
        if self.kept_by == FULL:
            return FULL
        # No name of a score or rule has a dash: two selections cannot have one name.
        short = f"{self.fraction:.15g}"
        fraction = short if float(short) == self.fraction else repr(self.fraction)
        return f"{self.kept_by.replace(' ', '-')}_keep{fraction}"

    def mask(self, seed: int) -> np.ndarray | None:
        """The mask bool `[n]` of one seed; None for everything."""
        return self.keep[seed] if self.keep is not None and self.keep.ndim == 2 else self.keep

    def masks(self, seeds: np.ndarray) -> np.ndarray | None:
        """The mask bool `[n]` for all of some seeds, or one for each `[s n]`; None for everything."""
        return self.keep[seeds] if self.keep is not None and self.keep.ndim == 2 else self.keep

    def digest(self, seed: int) -> str:
        """Names the mask of one seed by its contents."""
        mask = self.mask(seed)
        return FULL if mask is None else fingerprint(mask)

    def size(self, num_examples: int) -> int:
        """How many of the examples it keeps."""
        mask = self.mask(0)
        return num_examples if mask is None else int(np.count_nonzero(mask))

    def least_kept(self, train: Dataset) -> int:
        """How many examples are kept of the class with the fewest, of those that have any."""
        keep = np.ones(len(train), bool) if self.keep is None else self.keep
        there = np.bincount(train.labels, minlength=train.num_classes) > 0
        return int(kept_per_class(keep, train.labels, train.num_classes)[..., there].min())


def mask_of(
    files: Sequence[ScoreFile],
    rule: Rule,
    fraction: float,
    *,
    key: PRNGKey,
    min_per_class: int = 0,
    balanced: bool = False,
    beside: Mapping[str, Any] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns the mask bool `[n]` that a rule keeps of its scores, and how it came about; says ties.

    Args:
        files: the scores that the rule reads; of a rule that reads none, any one of the examples.
        rule: what selects.
        fraction: share to keep.
        key: decides between equal scores.
        min_per_class: at least so many of each class.
        balanced: as many of each class as there are, by the rule within each.
        beside: what the rule reads beside scores and labels, by name.
    """
    files_read = files[: rule.num_scores]
    for undefined in filter(None, (file.describe_nan() for file in files_read)):
        raise InputError(f"{undefined}; no selection can be made by it: mend the score, or leave it out")
    scores, labels = [file.scores for file in files_read], files[0].labels
    given = {"labels": labels, **(beside or {})}
    beside = {name: given.get(name) for name in rule.reads}

    def choose(rows: np.ndarray, count: int) -> np.ndarray:
        values, others = [one[rows] for one in scores], rows_beside(beside, rows)
        return rule(*values, fraction=count / len(rows), key=key, **others)

    if min_per_class or balanced:
        try:
            keep = _keep_by_class(choose, labels, num_kept(len(labels), fraction), min_per_class)
        except InputError as error:
            asked = "balanced" if balanced else f"min_per_class {min_per_class}"
            raise InputError(
                f"{asked} with the rule {rule.name}, keep {fraction:g}: within a class, or among the rest, "
                f"{error}"
            ) from error
    else:
        keep = rule(*scores, fraction=fraction, key=key, **beside)
    name = "+".join(file.name for file in files_read)
    facts: dict[str, Any] = {"score": name, "method": rule.name, "options": plain(rule.chosen)}
    facts |= {"keep_fraction": fraction, "num_kept": int(keep.sum()), "min_per_class": min_per_class}
    facts |= {"balanced": balanced}
    if len(scores) == 1:
        ties = tie_mass(scores[0], keep)
        facts["ties"] = ties._asdict()
        if ties.tied:
            say(
                f"{name}, keep {fraction:g}: {ties.tied:,} examples share scores that are both kept and left "
                f"out, {ties.kept:,} of them are kept"
            )
    return keep, facts


def _keep_by_class(
    choose: Callable[[np.ndarray, int], np.ndarray], labels: np.ndarray, count: int, minimum: int
) -> np.ndarray:
    """Keeps a minimum of each class, or, without one, as many of each."""
    if minimum:
        return keep_some_of_each(choose, labels, count, minimum=minimum)
    return keep_balanced(choose, labels, count)


def select_stage(setup: Setup, folder: RunFolder, files: list[ScoreFile]) -> list[Selection]:
    """Makes the masks of every score and of the random baselines, masks/NAME_keepFRACTION.npz."""
    config, train = setup.config, setup.splits.train
    guarded = bool(config.select.min_per_class or config.select.balanced)
    if risk := risk_note(config.select.rules, setup.fractions, guarded=guarded):
        say(f"warning: {risk}")
    selections, timed = [], {line["unit"] for line in from_writer(folder.metrics)}

    def stored(name: str) -> KeepFile | None:
        try:
            return KeepFile.load(folder.path / "masks" / f"{name}.npz", dataset=train)
        except InputError:  # Missing or damaged: it is made again.
            return None

    for selection, provenance in selections_of(setup, files, beside_stage(setup, folder), stored):
        selections.append(selection)
        keep, notes = selection.keep, selection.notes
        remedy = " (--select.min-per-class keeps some of each)" if notes and not guarded else ""
        for note in notes:
            say(f"{selection.kept_by}, keep {selection.fraction:g}: {note}{remedy}")
        if keep is None:
            continue
        for each in np.atleast_2d(keep):
            check_keep(train, each, config.train)
        mask = KeepFile.from_mask(keep, train, provenance=provenance)
        mask.save(folder.path / "masks" / f"{selection.name}.npz")
        if (unit := f"select/{selection.name}") not in timed:
            folder.log(unit, seconds=round(selection.seconds, 4))
    return selections


def selections_of(
    setup: Setup,
    files: Sequence[ScoreFile],
    beside: Mapping[str, Any],
    stored: Callable[[str], KeepFile | None] = lambda name: None,
) -> Iterator[tuple[Selection, dict[str, Any]]]:
    """Yields everything, then what is selected by every score and at random at each fraction.

    With each comes how it came about.

    Args:
        setup: of the run.
        files: the scores.
        beside: what rules read beside scores and labels, by name.
        stored: returns the mask of a name that the same config made before, if there is one: where it was
            made from the same numbers, it is not made again. Some rules take long.
    """
    config, train = setup.config, setup.splits.train
    tie_key = seed_keys(config.seed, "tie_break", 1)[0]
    random_keys = seed_keys(config.seed, "random_subset", config.retrain.num_seeds)
    by_name = {file.name: file for file in files}
    # One rule goes without saying.
    several = len(config.select.rules) > 1
    minimum, balanced = config.select.min_per_class, config.select.balanced
    options: Any = {"key": tie_key, "min_per_class": minimum, "balanced": balanced, "beside": beside}
    yield Selection(FULL, 1.0, None), {}
    for fraction in sorted(setup.fractions):
        for rule, names in setup.groups:
            begun, of = time.monotonic(), [by_name[name] for name in names or list(by_name)[:1]]
            kept_by = _kept_by(names, rule, several)
            read = [by_name[name].scores for name in names] + [np.asarray(beside[n]) for n in sorted(beside)]
            made_from = [fingerprint(numbers) for numbers in read]
            before = stored(Selection(kept_by, fraction, None).name)
            if before is not None and before.provenance.get("made_from") == made_from:
                keep, facts = before.keep, before.provenance
            else:
                keep, facts = mask_of(of, rule, fraction, **options)
                facts["made_from"] = made_from
            more: Any = {"scores": names, "rule": rule.name, "seconds": time.monotonic() - begun}
            more |= {"notes": tuple(balance_notes(keep, train.labels, train.class_names))}
            yield Selection(kept_by, fraction, keep, **more), facts
        for name, by_class in ((RANDOM, balanced), *([(BALANCED, True)] if setup.has_balanced else [])):
            begun = time.monotonic()
            least = 0 if name == BALANCED else minimum
            masks = [_random(key, train.labels, fraction, least, by_class) for key in random_keys]
            keep, seconds = np.stack(masks), (time.monotonic() - begun) / len(masks)
            facts = {"method": name, "keep_fraction": fraction, "num_kept": num_kept(len(train), fraction)}
            notes = tuple(balance_notes(keep, train.labels, train.class_names))
            facts["seeds"] = "one mask per retraining seed"
            yield Selection(name, fraction, keep, notes, seconds=seconds), facts
        if setup.has_rs2(fraction):
            yield Selection(RS2, fraction, None), {}


def _kept_by(names: Sequence[str], rule: Rule, several: bool) -> str:
    """What a selection is called: its scores, and its rule where there are others or it reads no score."""
    if not names:
        return rule.name
    return "+".join(names) + f" {rule.name}" * several


def _random(key: PRNGKey, labels: np.ndarray, fraction: float, minimum: int, balanced: bool) -> np.ndarray:
    """The random baseline, under the same guard as the scores."""
    if not (minimum or balanced):
        return keep_random(key, len(labels), fraction)
    values = random_bits(key, len(labels)).astype(np.float64)

    def choose(rows: np.ndarray, count: int) -> np.ndarray:
        return keep_lowest(values[rows], count / len(rows), key=key)

    return _keep_by_class(choose, labels, num_kept(len(labels), fraction), minimum)
