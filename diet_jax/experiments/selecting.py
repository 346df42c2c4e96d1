"""The selection stage: masks from scores, and the random masks they are compared with."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.results import FULL, RANDOM
from diet_jax.data.dataset import fingerprint
from diet_jax.devices.processes import from_writer
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import Setup
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.file import KeepFile
from diet_jax.selection.masks import num_kept, tie_mass
from diet_jax.selection.ranks import keep_highest, keep_lowest, keep_random, keep_window
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
        return FULL if self.keep is None else f"{self.kept_by}_keep{self.fraction:.15g}"

    def mask(self, seed: int) -> np.ndarray | None:
        """The mask bool `[n]` of one seed; None for everything."""
        return self.keep[seed] if self.keep is not None and self.keep.ndim == 2 else self.keep

    def digest(self, seed: int) -> str:
        """Names the mask of one seed by its contents."""
        mask = self.mask(seed)
        return FULL if mask is None else fingerprint(mask)

    def size(self, num_examples: int) -> int:
        """How many of the examples it keeps."""
        mask = self.mask(0)
        return num_examples if mask is None else int(np.count_nonzero(mask))


def mask_of(
    file: ScoreFile, method: str, fraction: float, offset: float = 0.0, *, key: PRNGKey
) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns the mask bool `[n]` that a method keeps of a score, and how it came about; says ties."""
    if method == "window":
        keep = keep_window(file.scores, fraction, offset=offset, key=key)
    elif offset:
        raise InputError(f"offset {offset} needs the method window, got {method}")
    else:
        keep = {"highest": keep_highest, "lowest": keep_lowest}[method](file.scores, fraction, key=key)
    ties = tie_mass(file.scores, keep)
    if ties.tied:
        say(
            f"{file.name}, keep {fraction:g}: {ties.tied:,} examples tie at the edge of the selection, "
            f"{ties.kept:,} of them are kept by lot"
        )
    facts = {"score": file.name, "method": method, "offset": offset, "keep_fraction": fraction}
    return keep, {**facts, "num_kept": int(keep.sum()), "ties": ties._asdict()}


def select_stage(setup: Setup, folder: RunFolder, files: list[ScoreFile]) -> list[Selection]:
    """Makes the masks of every score and of the random baselines, masks/NAME_keepFRACTION.npz."""
    config, train = setup.config, setup.splits.train
    tie_key = seed_keys(config.seed, "tie_break", 1)[0]
    random_keys = seed_keys(config.seed, "random_subset", config.retrain.num_seeds)
    selections = [Selection(FULL, 1.0, None)]
    for fraction in sorted(config.select.fractions):
        method, offset = config.select.method, config.select.offset
        masks = {file.name: mask_of(file, method, fraction, offset, key=tie_key) for file in files}
        random = np.stack([keep_random(key, len(train), fraction) for key in random_keys])
        facts = {"method": RANDOM, "keep_fraction": fraction, "num_kept": num_kept(len(train), fraction)}
        masks[RANDOM] = (random, {**facts, "seeds": "one mask per retraining seed"})
        for kept_by, (keep, provenance) in masks.items():
            selection = Selection(kept_by, fraction, keep)
            for each in np.atleast_2d(keep):
                check_keep(train, each, config.train)
            mask = KeepFile(keep, train.ids, f"{train.name}/{train.split}", train.fingerprint, provenance)
            path = folder.path / "masks" / f"{selection.name}.npz"
            from_writer(functools.partial(mask.save, path))
            selections.append(selection)
    return selections
