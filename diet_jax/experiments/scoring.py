"""The scoring stage: an ensemble's scores of every example, seed by seed on disk, and their means."""

import functools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.devices.defaults import How
from diet_jax.devices.mesh import SEED, axis_size
from diet_jax.devices.processes import from_writer, is_alone
from diet_jax.devices.progress import Progress, say
from diet_jax.ensemble.over_seeds import take_seed
from diet_jax.ensemble.score_passes import passes_of
from diet_jax.ensemble.scoring import score_batch_sizes, score_ensemble, score_state
from diet_jax.ensemble.shards import remove_shards
from diet_jax.errors import InputError, counted
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.divergence import (
    Diverged,
    broken_by,
    diverged_scorers,
    enough_scorers,
    least_seeds,
)
from diet_jax.experiments.environment import environment
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.scoring_notes import accuracy_of, mean_accuracy
from diet_jax.experiments.setup import Setup
from diet_jax.experiments.stopping import is_enough, stop_of, wanted_seeds
from diet_jax.experiments.train_one import trained_network
from diet_jax.files.arrays import load_arrays
from diet_jax.options.identity import is_of_package
from diet_jax.scores.file import ScoreFile
from diet_jax.scores.score import Score
from diet_jax.training.divergence import Divergence, bad_losses, said_elsewhere
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
    seeds = f"{file.num_seeds} seed{'s' * (file.num_seeds != '1')}"
    say(f"{file.name}: {seeds} at {file.when}, from a score file")
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
        more = {"seed": seed, "accuracy": accuracy_of(setup, folder, seed)}
        folder.save(paths[seed], KIND, {name: found[name] for name in names}, {**facts, **more})

    def load(seed: int) -> dict[str, np.ndarray]:
        return folder.load(paths[seed], KIND, names, {**facts, "seed": seed})

    wanted = wanted_seeds(setup, folder)
    if done := len(wanted) - len(missing) - len(enough_scorers(setup, folder)):
        say(f"scores of {done} of {counted(len(wanted), 'network')} are there already and are used again")
    if missing:
        networks = f"{count} network{'s' * (count != 1)}"
        say(f"scoring {len(train):,} examples with {networks} at step {setup.score_step:,} ({how})")
        _say_batch_sizes(setup)
    if missing and how != "loop":
        for seeds, filled in seed_groups(missing, count, how):
            with setup.deadline.whole("scoring seeds together"), said_elsewhere():
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
            for place in sorted(set(range(len(seeds))) - set(bad_losses(result.history.loss))):
                found, unit = {name: result.scores[name][place] for name in names}, units[place]
                network = functools.partial(take_seed, result.variables, place)
                if broken_by(setup, folder, unit, setup.score_step, found, network) is None:
                    save(seeds[place], found)
    elif missing:
        with Progress("scoring", total=max(1, len(missing) * setup.score_step)) as progress:
            for seed in missing:
                if is_enough(setup, folder, seed, load):
                    break
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
    stop, wanted = stop_of(folder), wanted_seeds(setup, folder)
    loaded = {seed: load(seed) for seed in wanted if seed not in diverged}
    for path in paths:
        remove_shards(shards_beside(folder.path / path, train))
    there = [folder.path / paths[seed] for seed in loaded]
    accuracy = mean_accuracy(
        from_writer(lambda: [load_arrays(path, KIND, ())[1].get("accuracy") for path in there])
    )
    files = []
    for score in scores:
        per_seed = np.full((len(wanted), len(train)), np.nan, np.float32)
        for seed, arrays in loaded.items():
            per_seed[seed] = arrays[score.name]
        provenance = {
            "config": config.facts(),
            "scorer_accuracy": accuracy,
            "epoch": config.score.epoch,
            "model": f"{config.model.name}, trained by each seed up to that step",
            "id_source": train.id_source,
            "device": environment()["devices"][0],
            "versions": environment()["versions"],
            **({"stopped": stop.facts()} if stop else {}),
        }
        at = setup.score_step
        file = save_scores(folder.path / "scores", score, per_seed, train, at, provenance, diverged, config)
        files.append(file)
    return files


def unscored(setup: Setup, folder: RunFolder) -> list[int]:
    """Returns the seeds that are still to score: neither have they, nor did they diverge."""
    diverged = diverged_scorers(setup, folder)
    wanted = wanted_seeds(setup, folder)
    return [s for s in folder.missing(per_seed_paths(setup)) if s not in diverged and s in wanted]


def per_seed_paths(setup: Setup) -> list[str]:
    """Returns where in the run folder each seed's scores are."""
    return [f"scores/per_seed/seed_{seed:02d}.npz" for seed in range(setup.config.score.num_seeds)]


def shards_beside(path: Path, dataset: Dataset) -> Path | None:
    """Returns the folder for shards of what a file will hold; None for a dataset in memory."""
    return path.with_suffix(".shards") if dataset.streamed else None


def save_scores(
    folder: Path,
    score: Score,
    per_seed: np.ndarray,
    train: Dataset,
    step: int,
    provenance: dict[str, Any],
    diverged: Mapping[int, Divergence],
    config: RunConfig,
) -> ScoreFile:
    """Writes the score file of all seeds but those that diverged, or for which the score is not defined.

    Raises:
        InputError: too few seeds are left.
    """
    missing = {seed: str(divergence) for seed, divergence in diverged.items()}
    if is_of_package(score.build):
        # Networks on the brink of diverging: the losses are finite still, and what is made of them is not.
        brink = {seed: int(np.isnan(row).sum()) for seed, row in enumerate(per_seed) if seed not in missing}
        brink = {seed: count for seed, count in brink.items() if count}
        nearly = f"its network has nearly diverged (train.learning_rate {config.train.learning_rate:g})"
        remedy = "lower the learning rate in another folder"
        if score.fold is not None:
            nearly = "they were presented too rarely by then, for an epoch skips its incomplete last batch"
            remedy = "score at a later epoch in another folder"
        for seed, count in brink.items():
            missing[seed] = f"{score.name} is NaN for {count:,} of {len(train):,} examples, {nearly}"
        least = least_seeds(config)
        if brink and len(per_seed) - len(missing) < least:
            raise InputError(
                f"{score.name} is defined by {len(per_seed) - len(missing)} of "
                f"{counted(len(per_seed), 'seed')}, at least {least} must be (score.min_seeds); seed "
                f"{min(brink)}: {missing[min(brink)]}; {remedy}, or leave {score.name} out (score.names)"
            )
    with warnings.catch_warnings():
        # It is said below.
        warnings.filterwarnings("ignore", message=".*nothing can be selected by such a mean")
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
    passes = passes_of(setup.scores, setup.model)
    if setup.config.score.batch_size == "auto" and passes:
        sizes = dict(score_batch_sizes(setup.scores, setup.model, setup.splits.train))
        of = {each.name: sizes[each.scores[0]] for each in passes}
        say("; ".join(f"{names}: at most {size:,} examples at a time" for names, size in of.items()))


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
