"""The selection stage: masks from scores, and the random masks they are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.results import FULL, RANDOM
from diet_jax.data.dataset import fingerprint
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import Setup
from diet_jax.options.plain import plain
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.file import KeepFile
from diet_jax.selection.masks import num_kept, tie_mass
from diet_jax.selection.ranks import keep_random
from diet_jax.selection.rule import Rule
from diet_jax.training.loop import check_keep
from diet_jax.training.seeds import seed_keys
from diet_jax.types import PRNGKey


@dataclass(frozen=True, eq=False)
class Selection:
    """What one group of networks is retrained on: a mask bool `[n]`, one per seed `[s n]`, or everything."""

    kept_by: str
    fraction: float
    keep: np.ndarray | None

    @property
    def name(self) -> str:
        """Name of its files."""
        return FULL if self.keep is None else f"{self.kept_by.replace(' ', '_')}_keep{self.fraction:.15g}"

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


def mask_of(
    files: Sequence[ScoreFile], rule: Rule, fraction: float, *, key: PRNGKey
) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns the mask bool `[n]` that a rule keeps of its scores, and how it came about; says ties."""
    keep = rule(*(file.scores for file in files), fraction=fraction, key=key)
    name = "+".join(file.name for file in files)
    facts: dict[str, Any] = {"score": name, "method": rule.name, "options": plain(rule.chosen)}
    facts |= {"keep_fraction": fraction, "num_kept": int(keep.sum())}
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
    tie_key = seed_keys(config.seed, "tie_break", 1)[0]
    random_keys = seed_keys(config.seed, "random_subset", config.retrain.num_seeds)
    by_name = {file.name: file for file in files}
    # One rule goes without saying.
    several = len(config.select.rules) > 1
    selections = [Selection(FULL, 1.0, None)]
    for fraction in sorted(config.select.fractions):
        masks = {
            "+".join(names) + f" {rule.name}" * several: mask_of(
                [by_name[name] for name in names], rule, fraction, key=tie_key
            )
            for rule, names in setup.groups
        }
        random = np.stack([keep_random(key, len(train), fraction) for key in random_keys])
        facts = {"method": RANDOM, "keep_fraction": fraction, "num_kept": num_kept(len(train), fraction)}
        masks[RANDOM] = (random, {**facts, "seeds": "one mask per retraining seed"})
        for name, (keep, provenance) in masks.items():
            selection = Selection(name, fraction, keep)
            for each in np.atleast_2d(keep):
                try:
                    check_keep(train, each, config.train)
                except InputError as error:
                    raise InputError(f"{name}, keep {fraction:g}: {error}") from error
            mask = KeepFile(keep, train.ids, f"{train.name}/{train.split}", train.fingerprint, provenance)
            mask.save(folder.path / "masks" / f"{selection.name}.npz")
            selections.append(selection)
    return selections
