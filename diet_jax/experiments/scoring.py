"""The scoring stage: an ensemble's scores of every example, seed by seed on disk, and their means."""

import functools
from pathlib import Path

import numpy as np

from diet_jax.devices.defaults import How
from diet_jax.devices.mesh import SEED, axis_size
from diet_jax.devices.processes import from_writer, is_alone
from diet_jax.devices.progress import Progress, say
from diet_jax.ensemble.scoring import score_batch_sizes, score_ensemble, score_state
from diet_jax.experiments.run_folder import RunFolder, environment
from diet_jax.experiments.setup import Setup
from diet_jax.experiments.streamed import forget_shards, score_streamed_state
from diet_jax.experiments.train_one import train_with_records
from diet_jax.files.arrays import load_checked, save_arrays
from diet_jax.options.plain import to_json
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.detection import detection_quality
from diet_jax.training.seeds import seed_keys
from diet_jax.training.step import TrainState

KIND = "scores of one seed"


def score_stage(setup: Setup, folder: RunFolder) -> list[ScoreFile]:
    """Scores every seed that is not scored yet and writes one score file per score, scores/NAME.npz."""
    config, train = setup.config, setup.splits.train
    names, count = config.score.names, config.score.num_seeds
    paths = [folder.path / "scores" / "per_seed" / f"seed_{r:02d}.npz" for r in range(count)]
    keys = seed_keys(config.seed, "score", count)
    how = setup.how(config.score.how)
    missing = from_writer(lambda: [r for r in range(count) if not paths[r].is_file()])
    facts = {"fingerprint": train.fingerprint, "step": setup.score_step}

    def save(seed: int, scores: dict[str, np.ndarray]) -> None:
        arrays = {n: scores[n] for n in names}
        from_writer(lambda: save_arrays(paths[seed], KIND, arrays, {**facts, "seed": seed}))

    if missing:
        say(f"scoring {len(train):,} examples with {count} networks at step {setup.score_step:,} ({how})")
        _say_batch_sizes(setup)
    if missing and how != "loop":
        for seeds, filled in seed_groups(missing, count, how):
            result = score_ensemble(
                keys[filled],
                setup.model,
                train,
                config=config.train,
                step=setup.score_step,
                names=names,
                how=how,
                batch_size=config.score.batch_size,
                never_learned=config.score.never_learned,
            )
            units = [f"score/seed_{seed:02d}" for seed in seeds]
            folder.log_histories(units, result.history, setup.per_epoch)
            for place, seed in enumerate(seeds):
                save(seed, {name: result.scores[name][place] for name in names})
    elif missing:
        with Progress("scoring", total=max(1, len(missing) * setup.score_step)) as progress:
            for seed in missing:
                unit = f"score/seed_{seed:02d}"
                state = train_with_records(
                    setup, folder, unit, keys[seed], stop=setup.score_step, progress=progress
                )
                save(seed, _score(setup, state, paths[seed].with_suffix(".shards")))
    loaded = from_writer(
        lambda: [load_checked(path, KIND, names, {**facts, "seed": r}) for r, path in enumerate(paths)]
    )
    for path in paths if train.streamed else ():
        forget_shards(path.with_suffix(".shards"))
    files = []
    for name in names:
        file = ScoreFile.from_seeds(
            name,
            np.stack([arrays[name] for arrays in loaded]),
            train,
            step=setup.score_step,
            provenance={
                "config": to_json(config),
                "epoch": config.score.epoch,
                "id_source": train.id_source,
                "versions": environment()["versions"],
            },
        )
        from_writer(functools.partial(file.save, folder.path / "scores" / f"{name}.npz"))
        report_infinite(file)
        if 0 < setup.changed.sum() < len(train):
            quality = detection_quality(file.scores, setup.changed)
            say(
                f"{name} finds the changed labels with ROC AUC {quality.roc_auc:.3f}, precision "
                f"{quality.precision_at_share:.3f} among as many examples as were changed"
            )
            folder.log(f"changed_labels/{name}", **quality._asdict())
        files.append(file)
    return files


def _score(setup: Setup, state: TrainState, shards: Path) -> dict[str, np.ndarray]:
    config, train = setup.config.score, setup.splits.train
    if train.streamed:
        return score_streamed_state(
            state,
            setup.model,
            train,
            names=config.names,
            folder=shards,
            batch_size=config.batch_size,
            never_learned=config.never_learned,
        )
    return score_state(
        state,
        setup.model,
        train,
        names=config.names,
        batch_size=config.batch_size,
        keep=None,
        never_learned=config.never_learned,
    )


def _say_batch_sizes(setup: Setup) -> None:
    """Says how many examples are scored at a time where that was left to the library."""
    config = setup.config.score
    names = [name for name in config.names if name != "forgetting"]
    if config.batch_size == "auto" and names:
        sizes = score_batch_sizes(names, setup.model, setup.splits.train)
        say(", ".join(f"{name}: at most {size:,} examples at a time" for name, size in sizes))


def report_infinite(file: ScoreFile) -> None:
    """Says how many examples have an infinite mean score, if any."""
    if file.num_infinite:
        seeds = int(np.isinf(file.per_seed).sum())
        say(
            f"{file.name}: {file.num_infinite:,} of {len(file.scores):,} examples have an infinite mean "
            f"({seeds:,} of {file.per_seed.size:,} single scores are: never learned by that seed); they rank "
            f"highest, tied"
        )


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
