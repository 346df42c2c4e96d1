"""Scores of networks that a run saved: the checkpoints of one step, of exactly the config's seeds."""

import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.ensemble.scoring import score_state
from diet_jax.ensemble.shards import remove_shards
from diet_jax.errors import InputError
from diet_jax.experiments.divergence import broken_by, check_enough, diverged_seeds, least_seeds, scorers
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.scoring import save_scores, shards_beside
from diet_jax.experiments.setup import Setup
from diet_jax.experiments.stopping import wanted_seeds
from diet_jax.experiments.train_one import facts_of
from diet_jax.scores.score import Score
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.loop import start
from diet_jax.training.seeds import seed_keys


def score_checkpoints(setup: Setup, folder: RunFolder, step: int, scores: Sequence[Score]) -> list[Path]:
    """Scores the checkpoints of one step of all scoring seeds of a run and writes scores/step_STEP/NAME.npz.

    The seeds are those of the config, each once. One that diverged up to that step takes no part.

    Args:
        setup: of the run.
        folder: with the checkpoints.
        step: of the checkpoints.
        scores: which, each once.

    Returns:
        The score files.

    Raises:
        InputError: a score is named twice, a file is there already, the folders of checkpoints are not those
            of the config's seeds, or a checkpoint is missing, damaged or of another training.
    """
    config, train = setup.config, setup.splits.train
    chosen = [score.name for score in scores]
    if twice := sorted({name for name in chosen if chosen.count(name) > 1}):
        raise InputError(f"{', '.join(twice)} is asked for more than once; name each score once")
    target = folder.path / "scores" / f"step_{step}"
    there = [str(target / f"{score.name}.npz") for score in scores if (target / f"{score.name}.npz").exists()]
    if there:
        raise InputError(f"already there: {', '.join(there)}; move or delete them to score again")
    units, known = scorers(setup)[: len(wanted_seeds(setup, folder))], folder.diverged()
    diverged = diverged_seeds(known, units, step)
    _check_seeds(folder, units, known)
    program = setup.program()
    strange = [score.name for score in scores if score.fold is not None and score.fold not in program.folds]
    if strange:
        raise InputError(
            f"the trainings of {folder.path} did not count what {', '.join(strange)} needs; train with these "
            f"among --score.names"
        )
    keys = seed_keys(config.seed, "score", len(units))
    like = start(keys[0], train, program=program)
    # All are read before anything is computed: a missing one is told at once.
    states = {
        seed: Checkpoints(folder.path / "checkpoints" / unit, facts_of(setup, unit, keys[seed])).restore(
            step, like
        )
        for seed, unit in enumerate(units)
        if seed not in diverged
    }
    options: Any = {"scores": scores, "batch_size": config.score.batch_size}
    per_seed = {score.name: np.full((len(units), len(train)), np.nan, np.float32) for score in scores}
    for seed, state in states.items():
        shards = shards_beside(target / Path(units[seed]).name, train)
        found = score_state(state, setup.model, train, **options, shards=shards)
        network = functools.partial(getattr, state, "variables")
        why = broken_by(setup, folder, units[seed], step, found, network)
        if why is not None:
            diverged[seed] = why
        for name, values in found.items():
            per_seed[name][seed] = values
    check_enough(diverged, len(units), least_seeds(config), folder)
    provenance = {"checkpoints_of": str(folder.path), "seeds": len(units), "epoch": step / setup.per_epoch}
    provenance["model"] = f"{config.model.name}, trained by each seed up to that step"
    for score in scores:
        save_scores(target, score, per_seed[score.name], train, step, provenance, diverged, config)
    for unit in units:
        remove_shards(shards_beside(target / Path(unit).name, train))
    return [target / f"{score.name}.npz" for score in scores]


def _check_seeds(folder: RunFolder, units: Sequence[str], known: Collection[str]) -> None:
    """Raises InputError unless there are the checkpoints of these trainings, of each once, and of no more.

    Args:
        folder: of the run.
        units: the trainings of the config's seeds.
        known: those that diverged, and need none.
    """
    place = folder.path / "checkpoints" / "score"
    there = {f"score/{path.name}" for path in place.glob("seed*")}
    missing, strange = [u for u in units if u not in {*there, *known}], sorted(there - {*units})
    make = (
        f"make them with diet-jax train --purpose score --num-seeds {len(units)} --checkpoint-epochs "
        f"EPOCH ... in that folder"
    )
    if not there & {*units} and missing:
        raise InputError(f"{folder.path} has no checkpoints of scoring seeds; {make}")
    problems = []
    if missing:
        problems.append(f"without checkpoints: {_some(missing)}; {make}")
    if strange:
        problems.append(f"no seed of the config: {_some(strange)}; move what is no seed's folder elsewhere")
    if problems:
        raise InputError(
            f"{place} must hold the checkpoints of the {len(units)} seeds of the config (score.num_seeds), "
            f"each once; {'; '.join(problems)}"
        )


def _some(units: Sequence[str]) -> str:
    names = [unit.partition("/")[2] for unit in units]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
