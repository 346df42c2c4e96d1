"""When scoring ends early: further seeds would hardly change what is kept."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from diet_jax.analysis.stability import LEAST_SEEDS, expected_overlap, stability
from diet_jax.devices.processes import from_writer
from diet_jax.devices.progress import say
from diet_jax.experiments.divergence import diverged_scorers, least_seeds
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import Setup

UNIT = "scoring/stopped"
# Divisions of the seeds into halves.
PAIRS = 5


class Stop(NamedTuple):
    """Where scoring ended."""

    seeds: int
    """Seeds that were tried; later ones were not."""
    of: int
    """How many were asked for."""
    why: str

    def facts(self) -> dict[str, Any]:
        """For a score file."""
        return self._asdict()


def stop_of(folder: RunFolder) -> Stop | None:
    """Returns where scoring ended early, as it was logged; None where it did not, or not yet."""
    lines = from_writer(lambda: [line for line in folder.metrics() if line["unit"] == UNIT])
    return Stop(*(lines[-1][name] for name in Stop._fields)) if lines else None


def wanted_seeds(setup: Setup, folder: RunFolder) -> range:
    """Returns the seeds that are to score: all of the config's, or those up to where scoring ended early."""
    stop = stop_of(folder)
    return range(setup.config.score.num_seeds if stop is None else stop.seeds)


def is_enough(
    setup: Setup, folder: RunFolder, seed: int, load: Callable[[int], Mapping[str, np.ndarray]]
) -> bool:
    """Decides, before a seed is trained, whether those before it are enough; says and logs it if so.

    The kept sets of disjoint halves of the seeds are compared, at every keep fraction and for every score, by
    its highest values. What that lets expect of all seeds that were asked for must change less than
    `score.stop_when_stable`. It follows from the scores alone, so that a run that goes on decides the same.

    Args:
        setup: of the run.
        folder: where its scores are.
        seed: the next one.
        load: gives the scores `[n]` of a seed before it, by name.
    """
    config, share = setup.config.score, setup.config.score.stop_when_stable
    if share is None:
        return False
    if (stop := stop_of(folder)) is not None:
        return seed >= stop.seeds
    diverged = diverged_scorers(setup, folder)
    before = [each for each in range(seed) if each not in diverged]
    if len(before) < max(LEAST_SEEDS, least_seeds(setup.config)):
        return False
    loaded = [load(each) for each in before]
    worst = (-1.0, "", 0.0)
    for score in setup.scores:
        per_seed = np.stack([arrays[score.name] for arrays in loaded])
        per_seed = per_seed[~np.isnan(per_seed).any(axis=1)]
        if len(per_seed) < LEAST_SEEDS:
            return False
        half = len(per_seed) // 2
        found = stability(per_seed, setup.fractions, groups=[half], pairs=PAIRS)[0].kept
        for fraction, kept in found.items():
            ahead = {"seeds": half, "now": len(per_seed), "more": config.num_seeds - seed}
            worst = max(worst, (1 - expected_overlap(kept.mean, fraction, **ahead), score.name, fraction))
    change, name, fraction = worst
    if change >= share:
        return False
    why = (
        f"by disjoint halves of the seeds, {config.num_seeds - seed} more would change {change:.2%} of the "
        f"highest {fraction:g} by {name}, of all scores and fractions the most, which is below {share:.2%}"
    )
    say(f"scoring stops after {seed} of {config.num_seeds} seeds: {why} (score.stop_when_stable)")
    folder.log(UNIT, **Stop(seed, config.num_seeds, why).facts())
    return True
