"""What a run makes of trainings that diverge: they count as done, and means are taken over the others."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from diet_jax.ensemble.retraining import predict_dataset
from diet_jax.ensemble.shards import remove_shards
from diet_jax.errors import InputError, counted
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import Setup
from diet_jax.training.divergence import NAMED, Divergence
from diet_jax.types import Variables


class Diverged(InputError):
    """Raised by a training that diverged. The folder's log has it, so that it is not done again."""

    def __init__(self, unit: str, divergence: Divergence, folder: RunFolder) -> None:
        super().__init__(f"{unit or folder.path.name} diverged: {divergence}; {remedy(folder.path)}")


def remedy(path: Path) -> str:
    """Says what to do about trainings that diverged."""
    return (
        f"lower the learning rate (train.learning_rate) in another folder; what was done so far is kept "
        f"in {path}"
    )


def diverged_seeds(known: Mapping[str, Divergence], units: Sequence[str], stop: int) -> dict[int, Divergence]:
    """Returns which of some trainings, by their places in a list, diverged up to a step, and where.

    Args:
        known: what `RunFolder.diverged` returns.
        units: the trainings, one for each seed.
        stop: their last step.
    """
    found = {seed: known[unit] for seed, unit in enumerate(units) if unit in known}
    return {seed: divergence for seed, divergence in found.items() if divergence.step <= stop}


def at_least(count: int) -> int:
    """How many of so many seeds must remain for a mean: half of them."""
    return -(-count // 2)


def least_seeds(config: RunConfig) -> int:
    """How many scoring seeds must remain."""
    return config.score.min_seeds or at_least(config.score.num_seeds)


def check_enough(diverged: Mapping[int, Divergence], count: int, least: int, folder: RunFolder) -> None:
    """Raises InputError where, of `count` scoring seeds, too many diverged for `least` to be left."""
    if count - len(diverged) < least:
        at_once = all(divergence.step <= 1 for divergence in diverged.values())
        hint = "; they did so before or at the first update: look at the model's initialisation too"
        raise InputError(
            f"{len(diverged)} of {counted(count, 'network')} that score diverged ({named(diverged)}), at "
            f"least {least} "
            f"must remain (score.min_seeds): {remedy(folder.path)}" + hint * at_once
        )


def scorers(setup: Setup) -> list[str]:
    """Returns the names of the trainings whose networks score."""
    return [f"score/seed_{seed:02d}" for seed in range(setup.config.score.num_seeds)]


def diverged_scorers(setup: Setup, folder: RunFolder) -> dict[int, Divergence]:
    """Returns which scoring seeds diverged before they could score, and where."""
    return diverged_seeds(folder.diverged(), scorers(setup), setup.score_step)


def enough_scorers(setup: Setup, folder: RunFolder) -> dict[int, Divergence]:
    """Returns `diverged_scorers`; raises InputError where too few others are left."""
    config, diverged = setup.config.score, diverged_scorers(setup, folder)
    check_enough(diverged, config.num_seeds, least_seeds(setup.config), folder)
    return diverged


def broken_by(
    setup: Setup,
    folder: RunFolder,
    unit: str,
    step: int,
    found: Mapping[str, np.ndarray],
    network: Callable[[], Variables],
) -> Divergence | None:
    """Returns where a network diverged whose scores are NaN because it is; None where it is sound.

    The last update may have done it, which no loss of the training shows: then the losses of all examples are
    looked at, and it is logged.
    """
    if not any(np.isnan(values).any() for values in found.values()):
        return None
    train, shards = setup.splits.train, None
    if train.streamed:
        shards = folder.path / "unfinished" / f"{unit}_loss.shards"
    loss = predict_dataset(setup.model, network(), train, shards=shards, deadline=setup.deadline)[1]
    remove_shards(shards)
    count = int(np.isnan(loss).sum())
    if not count:
        return None
    what = f"loss nan for {count:,} of {len(train):,} train examples"
    return folder.log_divergence(unit, step, setup.per_epoch, what)


def broken_predictor(
    folder: RunFolder, unit: str, step: int, per_epoch: int, loss: np.ndarray
) -> Divergence | None:
    """Returns where a network diverged that gives test examples a loss of NaN; None where it is sound.

    Its last update may have done it, which its history does not show: then it is logged.
    """
    count = int(np.isnan(loss).sum())
    if not count:
        return None
    return folder.log_divergence(
        unit, step, per_epoch, f"loss nan for {count:,} of {len(loss):,} test examples"
    )


def named(diverged: Mapping[int, Divergence]) -> str:
    """Lists seeds that diverged, and where."""
    texts = [f"seed {seed}: {divergence}" for seed, divergence in list(diverged.items())[:NAMED]]
    return "; ".join(texts) + ("; ..." if len(diverged) > NAMED else "")
