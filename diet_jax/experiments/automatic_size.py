"""A run that chooses how much to keep: it retrains on growing fractions until little enough is lost."""

from collections.abc import Sequence

import numpy as np

from diet_jax.analysis.results import FULL, Result
from diet_jax.analysis.statistics import Comparison
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.experiments.divergence import remedy
from diet_jax.experiments.retraining import judge, retrain_stage
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.selecting import Selection
from diet_jax.experiments.setup import Setup
from diet_jax.selection.ranks import random_rows
from diet_jax.selection.size import smallest_fraction
from diet_jax.training.seeds import seed_keys


def retrain_growing(setup: Setup, folder: RunFolder, selections: Sequence[Selection]) -> list[Selection]:
    """Retrains on everything, then on growing fractions until every score has one that loses little enough.

    Returns:
        The selections that were retrained; masks of larger fractions stay in the folder.
    """
    done = [selection for selection in selections if selection.kept_by == FULL]
    for fraction in sorted(setup.fractions):
        done += [s for s in selections if s.kept_by != FULL and s.fraction == fraction]
        retrain_stage(setup, folder, done)
        chosen = _chosen(setup, folder, done)
        if fraction < max(setup.fractions) and all(found < 1 for found in chosen.values()):
            say(f"keep {fraction:g} is enough by select.max_loss: no larger fraction is retrained on")
            break
    return done


def size_notes(setup: Setup, folder: RunFolder, selections: Sequence[Selection]) -> list[str]:
    """Says which fraction each score needs by one half of the test split, and what it loses on the other."""
    max_loss = setup.config.select.max_loss
    if max_loss is None:
        return []
    tried = {selection.fraction for selection in selections}
    left = ", ".join(f"{fraction:g}" for fraction in sorted(set(setup.fractions) - tried))
    notes = (
        [f"keep {left}: not retrained on, for less suffices: select.max_loss {max_loss:g}"] if left else []
    )
    judged = {(r.kept_by, r.fraction): r for r in judge(setup, folder, selections, rows=_halves(setup)[1])}
    for kept_by, fraction in _chosen(setup, folder, selections).items():
        result = judged.get((kept_by, fraction))
        if result is None or fraction == 1:
            notes.append(f"{kept_by}: no keep fraction that was tried loses at most {max_loss:g} of accuracy")
            continue
        loss = result.minus(judged[FULL, 1.0])
        assert isinstance(loss, Comparison)
        notes.append(
            f"{kept_by}: keep {fraction:g} is the smallest tried that loses at most {max_loss:g}, by half of "
            f"the test examples; by the other half it makes {loss.text()} points"
        )
    return notes


def _chosen(setup: Setup, folder: RunFolder, selections: Sequence[Selection]) -> dict[str, float]:
    """The smallest fraction that is allowed, by what selected; 1 where none is."""
    max_loss = setup.config.select.max_loss
    assert max_loss is not None
    results = judge(setup, folder, selections, rows=_halves(setup)[0])
    full = next((result for result in results if result.kept_by == FULL), None)
    if full is None:
        raise InputError(
            "select.max_loss is a loss against training on everything, of which too many networks diverged: "
            + remedy(folder.path)
        )
    found = {}
    for kept_by in dict.fromkeys(selection.kept_by for selection in selections if selection.rule):
        mine = [result for result in results if result.kept_by == kept_by]
        seeds = set(full.seeds.tolist()).intersection(*(result.seeds.tolist() for result in mine))
        if not mine or len(seeds) < 2:
            found[kept_by] = 1.0
            continue
        accuracies = [_of(result, seeds) for result in mine]
        fractions = [result.fraction for result in mine]
        options = {"max_loss": max_loss}
        found[kept_by] = smallest_fraction(fractions, accuracies, _of(full, seeds), **options).fraction
    return found


def _of(result: Result, seeds: set[int]) -> np.ndarray:
    return result.accuracy[[seed in seeds for seed in result.seeds.tolist()]]


def _halves(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the test split to choose by, and those to judge the choice by."""
    count = len(setup.splits.test)
    rows = random_rows(seed_keys(setup.config.seed, "held_out", 1)[0], count)
    return np.sort(rows[: count // 2]), np.sort(rows[count // 2 :])
