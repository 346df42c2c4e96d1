"""The scoring stage: an ensemble's scores of every example, seed by seed on disk, and their means."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.devices.defaults import How
from diet_jax.devices.mesh import SEED, axis_size
from diet_jax.devices.processes import is_alone
from diet_jax.devices.progress import Progress, say
from diet_jax.ensemble.over_seeds import take_seed
from diet_jax.ensemble.scoring import score_batch_sizes, score_ensemble, score_state
from diet_jax.ensemble.shards import remove_shards
from diet_jax.errors import InputError
from diet_jax.experiments.divergence import (
    Diverged,
    at_least,
    broken_by,
    check_enough,
    diverged_scorers,
    enough_scorers,
)
from diet_jax.experiments.environment import environment
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.scoring_notes import scorer_accuracy
from diet_jax.experiments.setup import Setup
from diet_jax.experiments.train_one import trained_network
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.score import Score
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.divergence import Divergence
from diet_jax.training.loop import start
from diet_jax.training.seeds import seed_keys

KIND = "scores of one seed"


def score_stage(setup: Setup, folder: RunFolder) -> list[ScoreFile]:
    """Scores every seed that is not scored yet and writes one score file per score, scores/NAME.npz.

    Returns:
        The config's scores, then those that were made elsewhere.
    """
    brought = [_keep_brought(file, folder, setup) for file in setup.files]
    return [*_computed(setup, folder), *brought] if setup.scores else brought


def _keep_brought(file: ScoreFile, folder: RunFolder, setup: Setup) -> ScoreFile:
    """Writes a copy of a score file that was made elsewhere, as the run's own are."""
    say(f"{file.name}: {file.num_seeds} seeds at step {file.step:,}, from a score file")
    file.save(folder.path / "scores" / f"{file.name}.npz")
    _say_what_is_not_finite(file, "made elsewhere")
    return file


def _computed(setup: Setup, folder: RunFolder) -> list[ScoreFile]:
    """Scores by the config's scores."""
    config, train, scores = setup.config, setup.splits.train, setup.scores
    count, names = config.score.num_seeds, tuple(score.name for score in setup.scores)
    paths = per_seed_paths(setup)
    keys = seed_keys(config.seed, "score", count)
    how = setup.how(config.score.how)
    missing = unscored(setup, folder)
    definitions = {score.name: score.definition for score in scores}
    facts = {"fingerprint": train.fingerprint, "step": setup.score_step, "definitions": definitions}

    def save(seed: int, found: dict[str, np.ndarray]) -> None:
        folder.save(paths[seed], KIND, {name: found[name] for name in names}, {**facts, "seed": seed})

    if done := count - len(missing) - len(enough_scorers(setup, folder)):
        say(f"scores of {done} of {count} networks are there already and are used again")
    if missing:
        say(f"scoring {len(train):,} examples with {count} networks at step {setup.score_step:,} ({how})")
        _say_batch_sizes(setup)
    if missing and how != "loop":
        for seeds, filled in seed_groups(missing, count, how):
            with setup.deadline.whole("scoring seeds together"):
                result = score_ensemble(
                    keys[filled],
                    setup.model,
                    train,
                    config=config.train,
                    step=setup.score_step,
                    names=scores,
                    how=how,
                    batch_size=config.score.batch_size,
                )
            setup.deadline.worked(len(seeds) * setup.score_step)
            units = [f"score/seed_{seed:02d}" for seed in seeds]
            folder.log_histories(units, result.history, setup.per_epoch)
            for place in sorted(set(range(len(seeds))) - set(result.diverged)):
                found, unit = {name: result.scores[name][place] for name in names}, units[place]
                network = functools.partial(take_seed, result.variables, place)
                if broken_by(setup, folder, unit, setup.score_step, found, network) is None:
                    save(seeds[place], found)
    elif missing:
        with Progress("scoring", total=max(1, len(missing) * setup.score_step)) as progress:
            for seed in missing:
                unit = f"score/seed_{seed:02d}"
                shards = shards_beside(folder.path / paths[seed], train)
                options: Any = {"scores": scores, "batch_size": config.score.batch_size, "shards": shards}
                try:
                    with trained_network(
                        setup, folder, unit, keys[seed], stop=setup.score_step, progress=progress
                    ) as state:
                        found = score_state(state, setup.model, train, **options, deadline=setup.deadline)
                        network = functools.partial(getattr, state, "variables")
                        why = broken_by(setup, folder, unit, setup.score_step, found, network)
                        if why is not None:
                            raise Diverged(unit, why, folder)
                        save(seed, found)
                except Diverged:
                    enough_scorers(setup, folder)
    diverged = enough_scorers(setup, folder)
    loaded = {
        seed: folder.load(path, KIND, names, {**facts, "seed": seed})
        for seed, path in enumerate(paths)
        if seed not in diverged
    }
    for path in paths:
        remove_shards(shards_beside(folder.path / path, train))
    accuracy = scorer_accuracy(setup, folder)
    files = []
    for score in scores:
        per_seed = np.full((count, len(train)), np.nan, np.float32)
        for seed, arrays in loaded.items():
            per_seed[seed] = arrays[score.name]
        provenance = {
            "config": config.facts(),
            "scorer_accuracy": accuracy,
            "epoch": config.score.epoch,
            "id_source": train.id_source,
            "device": environment()["devices"][0],
            "versions": environment()["versions"],
        }
        at = setup.score_step
        file = _save(folder.path / "scores", score, per_seed, train, at, provenance, diverged)
        files.append(file)
    return files


def unscored(setup: Setup, folder: RunFolder) -> list[int]:
    """Returns the seeds that are still to score: neither have they, nor did they diverge."""
    diverged = diverged_scorers(setup, folder)
    return [seed for seed in folder.missing(per_seed_paths(setup)) if seed not in diverged]


def per_seed_paths(setup: Setup) -> list[str]:
    """Returns where in the run folder each seed's scores are."""
    return [f"scores/per_seed/seed_{seed:02d}.npz" for seed in range(setup.config.score.num_seeds)]


def score_checkpoints(setup: Setup, folder: RunFolder, step: int, scores: Sequence[Score]) -> list[Path]:
    """Scores the checkpoints of one step of all scoring seeds of a run and writes scores/step_STEP/NAME.npz.

    Args:
        setup: of the run.
        folder: with the checkpoints.
        step: of the checkpoints.
        scores: which.

    Returns:
        The score files.

    Raises:
        InputError: a file is there already, there are no such checkpoints, or one of them is damaged.
    """
    config, train = setup.config, setup.splits.train
    target = folder.path / "scores" / f"step_{step}"
    there = [str(target / f"{score.name}.npz") for score in scores if (target / f"{score.name}.npz").exists()]
    if there:
        raise InputError(f"already there: {', '.join(there)}; move or delete them to score again")
    places = {path.name: path for path in (folder.path / "checkpoints" / "score").glob("seed_*")}
    known = {unit.split("/")[1]: at for unit, at in folder.diverged().items() if unit.startswith("score/")}
    if not places:
        raise InputError(
            f"{folder.path} has no checkpoints of scoring seeds; make them with "
            f"diet-jax train --purpose score --checkpoint-epochs EPOCH ..."
        )
    program = setup.program()
    strange = [score.name for score in scores if score.fold is not None and score.fold not in program.folds]
    if strange:
        raise InputError(
            f"the trainings of {folder.path} did not count what {', '.join(strange)} needs; train with these "
            f"among --score.names"
        )
    like = start(seed_keys(config.seed, "score", 1)[0], train, program=program)
    # All are read before anything is computed: a missing one is told at once.
    names = sorted({*places, *known})
    diverged = {
        seed: known[name] for seed, name in enumerate(names) if name in known and known[name].step <= step
    }
    left = {seed: places[name] for seed, name in enumerate(names) if name in places and seed not in diverged}
    states = {seed: Checkpoints(path).restore(step, like) for seed, path in left.items()}
    options: Any = {"scores": scores, "batch_size": config.score.batch_size}
    per_seed = {score.name: np.full((len(names), len(train)), np.nan, np.float32) for score in scores}
    for seed, state in states.items():
        shards = shards_beside(target / names[seed], train)
        found = score_state(state, setup.model, train, **options, shards=shards)
        network = functools.partial(getattr, state, "variables")
        why = broken_by(setup, folder, f"score/{names[seed]}", step, found, network)
        if why is not None:
            diverged[seed] = why
        for name, values in found.items():
            per_seed[name][seed] = values
    least = min(config.score.min_seeds or at_least(len(names)), len(names))
    check_enough(diverged, len(names), least, folder)
    provenance = {"checkpoints_of": str(folder.path), "seeds": len(names)}
    for score in scores:
        _save(target, score, per_seed[score.name], train, step, provenance, diverged)
    for name in names:
        remove_shards(shards_beside(target / name, train))
    return [target / f"{score.name}.npz" for score in scores]


def shards_beside(path: Path, dataset: Dataset) -> Path | None:
    """Returns the folder for shards of what a file will hold; None for a dataset in memory."""
    return path.with_suffix(".shards") if dataset.streamed else None


def _save(
    folder: Path,
    score: Score,
    per_seed: np.ndarray,
    train: Dataset,
    step: int,
    provenance: dict[str, Any],
    diverged: Mapping[int, Divergence],
) -> ScoreFile:
    """Writes the score file of all seeds but those that diverged."""
    missing = {seed: str(divergence) for seed, divergence in diverged.items()}
    with warnings.catch_warnings():
        # It is said below.
        warnings.filterwarnings("ignore", message="seeds .* have no scores but NaN")
        options: Any = {"step": step, "provenance": provenance, "missing": missing}
        file = ScoreFile.from_seeds(score, per_seed, train, **options)
    file.save(folder / f"{score.name}.npz")
    _say_what_is_not_finite(file, score.infinite_means)
    return file


def _say_what_is_not_finite(file: ScoreFile, infinite_means: str) -> None:
    """Says how many examples have an infinite mean or none, if any."""
    if undefined := file.describe_nan():
        say(f"warning: {undefined}; no selection can be made by it")
    if np.isposinf(file.scores).any():
        seeds = int(np.isinf(file.per_seed).sum())
        say(
            f"{file.name}: {file.num_infinite:,} of {len(file.scores):,} examples have an infinite mean "
            f"({seeds:,} of {file.per_seed.size:,} single scores are: {infinite_means} by that seed); "
            f"they rank highest, tied"
        )


def _say_batch_sizes(setup: Setup) -> None:
    """Says how many examples are scored at a time where that was left to the library."""
    scores = [score for score in setup.scores if score.of_examples]
    if setup.config.score.batch_size == "auto" and scores:
        sizes = score_batch_sizes(scores, setup.model, setup.splits.train)
        say(", ".join(f"{score.name}: at most {size:,} examples at a time" for score, size in sizes))


def seed_groups(missing: list[int], count: int, how: How) -> list[tuple[list[int], np.ndarray]]:
    """Returns which seeds to run together, and the same filled up with copies of the last one.

    All at once in one process. Of several processes one may be lost: there each call runs as many of the
    missing seeds as the mesh has places for, and all calls are of one size, so that they compile once.
    """
    if is_alone():
        return [(list(range(count)), np.arange(count))]
    size = axis_size(SEED) if how == "mesh" else len(missing)
    groups = [missing[first : first + size] for first in range(0, len(missing), size)]
    return [(seeds, np.asarray(seeds + seeds[-1:] * (size - len(seeds)))) for seeds in groups]
