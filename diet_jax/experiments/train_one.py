"""One training with its records: checkpoints, metrics, progress, and going on where it was stopped."""

from typing import Any

import numpy as np

from diet_jax.checkpoints import Checkpoints
from diet_jax.experiments.setup import Setup
from diet_jax.loop import check_keep, start, train_between
from diet_jax.progress import Progress
from diet_jax.recipe import steps_per_epoch, total_steps
from diet_jax.runs import RunFolder, epoch_means
from diet_jax.training import TrainState
from diet_jax.types import PRNGKey


def train_with_records(
    setup: Setup,
    folder: RunFolder,
    unit: str,
    key: PRNGKey,
    *,
    keep: np.ndarray | None = None,
    stop: int | None = None,
    progress: Progress,
) -> TrainState:
    """Trains one network, from its last checkpoint if it has one, and returns its state.

    Going on from a checkpoint gives the very numbers of a training that was never stopped.

    Args:
        setup: config, data and model.
        folder: checkpoints go to checkpoints/UNIT/STEP, the losses of each epoch to metrics.jsonl.
        unit: name of this training.
        key: of the run.
        keep: bool `[n]`, the examples to train on; by default all.
        stop: step to stop at; by default the end.
        progress: is told of every step done.

    Raises:
        InputError: the mask does not fit, or a checkpoint is damaged.
    """
    train, config = setup.splits.train, setup.config.train
    kept = check_keep(train, keep, config)
    per_epoch = steps_per_epoch(len(kept), config.batch_size)
    num_steps = total_steps(config, len(train), len(kept))
    stop = num_steps if stop is None else stop
    static: Any = {"model": setup.model, "config": config, "num_steps": num_steps}
    state = start(key, setup.model, train, config=config, num_steps=num_steps)
    checkpoints = Checkpoints(folder.path / "checkpoints" / unit)
    to_save = {step for step in setup.checkpoint_steps if step <= stop}
    done = max((step for step in checkpoints.steps() if step <= stop), default=None)
    if done is not None:
        state = checkpoints.restore(done, state)
    elif 0 in to_save:
        checkpoints.save(state)
    done = done or 0
    folder.forget_after([unit], done)
    progress.update(done)
    stops = sorted({*range(done + per_epoch - done % per_epoch, stop, per_epoch), *to_save, stop})
    stops = [step for step in stops if step > done]
    for reached, history in train_between(state, train.examples(), kept, stops, **static):
        state, step = reached, int(reached.step)
        for line in epoch_means(history, done, per_epoch):
            folder.log(unit, **line)
        # After the log: what a checkpoint covers must have been logged.
        if step in to_save:
            checkpoints.save(state)
        progress.update(step - done)
        done = step
    return state
