"""The scoring stage: an ensemble's scores of every example, seed by seed on disk, and their means."""

import numpy as np

from diet_jax.config import to_json
from diet_jax.detection import detection_quality
from diet_jax.experiments.setup import Setup
from diet_jax.experiments.train_one import train_with_records
from diet_jax.progress import Progress, say
from diet_jax.runs import RunFolder, environment
from diet_jax.score_files import ScoreFile, load_checked, save_arrays
from diet_jax.scoring import score_batch_sizes, score_ensemble, score_state
from diet_jax.seeds import seed_keys

KIND = "scores of one seed"


def score_stage(setup: Setup, folder: RunFolder) -> list[ScoreFile]:
    """Scores every seed that is not scored yet and writes one score file per score, scores/NAME.npz."""
    config, train = setup.config, setup.splits.train
    names, count = config.score.names, config.score.num_seeds
    paths = [folder.path / "scores" / "per_seed" / f"seed_{r:02d}.npz" for r in range(count)]
    keys = seed_keys(config.seed, "score", count)
    how = setup.how(config.score.how)
    missing = [r for r in range(count) if not paths[r].is_file()]
    facts = {"fingerprint": train.fingerprint, "step": setup.score_step}

    def save(seed: int, scores: dict[str, np.ndarray]) -> None:
        save_arrays(paths[seed], KIND, {n: scores[n] for n in names}, {**facts, "seed": seed})

    if missing:
        say(f"scoring {len(train):,} examples with {count} networks at step {setup.score_step:,} ({how})")
    if missing and how != "loop":
        result = score_ensemble(
            keys,
            setup.model,
            train,
            config=config.train,
            step=setup.score_step,
            names=names,
            how=how,
            batch_size=config.score.batch_size,
            never_learned=config.score.never_learned,
        )
        units = [f"score/seed_{seed:02d}" for seed in range(count)]
        folder.log_histories(units, result.history, setup.per_epoch)
        for seed in range(count):
            save(seed, {name: result.scores[name][seed] for name in names})
    elif missing:
        sizes = score_batch_sizes(names, setup.model, train, config.score.batch_size)
        with Progress("scoring", total=max(1, len(missing) * setup.score_step)) as progress:
            for seed in missing:
                unit = f"score/seed_{seed:02d}"
                state = train_with_records(
                    setup, folder, unit, keys[seed], stop=setup.score_step, progress=progress
                )
                save(
                    seed,
                    score_state(
                        state,
                        setup.model,
                        train,
                        batch_sizes=sizes,
                        keep=None,
                        never_learned=config.score.never_learned,
                    ),
                )
    loaded = [load_checked(path, KIND, names, {**facts, "seed": seed}) for seed, path in enumerate(paths)]
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
        file.save(folder.path / "scores" / f"{name}.npz")
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


def report_infinite(file: ScoreFile) -> None:
    """Says how many examples have an infinite mean score, if any."""
    if file.num_infinite:
        seeds = int(np.isinf(file.per_seed).sum())
        say(
            f"{file.name}: {file.num_infinite:,} of {len(file.scores):,} examples have an infinite mean "
            f"({seeds:,} of {file.per_seed.size:,} single scores are: never learned by that seed); they rank "
            f"highest, tied"
        )
