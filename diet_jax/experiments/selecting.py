"""The selection stage: masks from scores, and the random masks they are compared with."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.results import BALANCED, FULL, RANDOM, RS2
from diet_jax.data.dataset import Dataset, fingerprint
from diet_jax.devices.processes import from_writer
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import Setup
from diet_jax.options.plain import plain
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.file import KeepFile
from diet_jax.selection.masks import num_kept, tie_mass
from diet_jax.selection.per_class import balance_notes, keep_some_of_each, kept_per_class
from diet_jax.selection.ranks import keep_random
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
    files: Sequence[ScoreFile], rule: Rule, fraction: float, *, key: PRNGKey, min_per_class: int = 0
) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns the mask bool `[n]` that a rule keeps of its scores, and how it came about; says ties."""
    for undefined in filter(None, (file.describe_nan() for file in files)):
        raise InputError(f"{undefined}; no selection can be made by it: mend the score, or leave it out")
    scores = [file.scores for file in files]
    keep = rule(*scores, fraction=fraction, key=key)
    if min_per_class:

        def choose(rows: np.ndarray, count: int) -> np.ndarray:
            return rule(*(values[rows] for values in scores), fraction=count / len(rows), key=key)

        try:
            keep = keep_some_of_each(choose, files[0].labels, int(keep.sum()), minimum=min_per_class)
        except InputError as error:
            raise InputError(
                f"min_per_class {min_per_class} with the rule {rule.name}, keep {fraction:g}: within a "
                f"class, or among the rest, {error}"
            ) from error
    name = "+".join(file.name for file in files)
    facts: dict[str, Any] = {"score": name, "method": rule.name, "options": plain(rule.chosen)}
    facts |= {"keep_fraction": fraction, "num_kept": int(keep.sum()), "min_per_class": min_per_class}
    if len(files) == 1:
        ties = tie_mass(files[0].scores, keep)
        facts["ties"] = ties._asdict()
        if ties.tied:
            say(
                f"{name}, keep {fraction:g}: {ties.tied:,} examples share scores that are both kept and left "
                f"out, {ties.kept:,} of them are kept"
            )
    return keep, facts


def select_stage(setup: Setup, folder: RunFolder, files: list[ScoreFile]) -> list[Selection]:
    """Makes the masks of every score and of the random baselines, masks/NAME_keepFRACTION.npz."""
    config, train = setup.config, setup.splits.train
    selections, timed = [], {line["unit"] for line in from_writer(folder.metrics)}
    for selection, provenance in selections_of(setup, files):
        selections.append(selection)
        keep, notes = selection.keep, selection.notes
        remedy = (
            " (--select.min-per-class keeps some of each)"
            if notes and not config.select.min_per_class
            else ""
        )
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


def selections_of(setup: Setup, files: Sequence[ScoreFile]) -> Iterator[tuple[Selection, dict[str, Any]]]:
    """Yields everything, then what is selected by every score and at random at each fraction.

    With each comes how it came about.
    """
    config, train = setup.config, setup.splits.train
    tie_key = seed_keys(config.seed, "tie_break", 1)[0]
    random_keys = seed_keys(config.seed, "random_subset", config.retrain.num_seeds)
    by_name = {file.name: file for file in files}
    # One rule goes without saying.
    several = len(config.select.rules) > 1
    minimum = config.select.min_per_class
    yield Selection(FULL, 1.0, None), {}
    for fraction in sorted(setup.fractions):
        count = num_kept(len(train), fraction)
        for rule, names in setup.groups:
            begun = time.monotonic()
            keep, facts = mask_of(
                [by_name[name] for name in names], rule, fraction, key=tie_key, min_per_class=minimum
            )
            more: Any = {"scores": names, "rule": rule.name, "seconds": time.monotonic() - begun}
            more |= {"notes": tuple(balance_notes(keep, train.labels, train.class_names))}
            yield Selection("+".join(names) + f" {rule.name}" * several, fraction, keep, **more), facts
        each_class = count // len(np.unique(train.labels))
        for name, least in {RANDOM: minimum, BALANCED: max(minimum, each_class)}.items():
            if name == RANDOM or name in config.select.baselines:
                begun = time.monotonic()
                keep = np.stack([_random(key, train, fraction, least) for key in random_keys])
                more = {"seconds": (time.monotonic() - begun) / len(random_keys)}
                more |= {"notes": tuple(balance_notes(keep, train.labels, train.class_names))}
                facts = {"method": name, "keep_fraction": fraction, "num_kept": count}
                facts["seeds"] = "one mask per retraining seed"
                yield Selection(name, fraction, keep, **more), facts
        if setup.has_rs2(fraction):
            yield Selection(RS2, fraction, None), {}


def _random(key: PRNGKey, train: Dataset, fraction: float, minimum: int) -> np.ndarray:
    """The random baseline, under the same guard as the scores."""
    if not minimum:
        return keep_random(key, len(train), fraction)

    def choose(rows: np.ndarray, count: int) -> np.ndarray:
        return keep_random(key, len(rows), count / len(rows))

    return keep_some_of_each(choose, train.labels, num_kept(len(train), fraction), minimum=minimum)
