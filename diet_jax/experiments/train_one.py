"""One training with its records: checkpoints, metrics, progress, and going on where it was stopped."""

import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.data.streaming.streamed import StreamedDataset
from diet_jax.devices.mesh import replicate
from diet_jax.devices.processes import from_writer
from diet_jax.devices.progress import Progress
from diet_jax.experiments.run_folder import RunFolder, epoch_means
from diet_jax.experiments.setup import Setup
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.loop import check_keep, start, train_between
from diet_jax.training.recipe import steps_per_epoch
from diet_jax.training.step import Program, TrainState
from diet_jax.training.streaming import reading_position, stream_between
from diet_jax.types import PRNGKey

# How much of a long training a killed process may lose.
SECONDS_BETWEEN_CHECKPOINTS = 300.0


def train_with_records(
    setup: Setup,
    folder: RunFolder,
    unit: str,
    key: PRNGKey,
    *,
    keep: np.ndarray | None = None,
    stop: int | None = None,
    save: Collection[int] | None = None,
    first: Callable[[], TrainState] | None = None,
    progress: Progress,
) -> TrainState:
    """Trains one network, from its last checkpoint if it has one, and returns its state.

    Going on from a checkpoint gives the very numbers of a training that was never stopped. Beside the
    checkpoints asked for, a long training keeps one to go on from, in unfinished/UNIT, until it is done.

    Args:
        setup: config, data and model.
        folder: checkpoints go to checkpoints/UNIT/STEP, the losses of each epoch to metrics.jsonl.
        unit: name of this training.
        key: of the run.
        keep: bool `[n]`, the examples to train on; by default all.
        stop: step to stop at; by default the end.
        save: steps whose states are saved; by default those of the config.
        first: makes the state to start from; by default a fresh one at step 0.
        progress: is told of every step done.

    Raises:
        InputError: the mask does not fit, or a checkpoint is damaged.
    """
    train, config = setup.splits.train, setup.config.train
    kept = check_keep(train, keep, config)
    per_epoch = steps_per_epoch(len(kept), config.batch_size)
    program = setup.program(len(kept))
    stop = program.num_steps if stop is None else stop
    checkpoints = Checkpoints(folder.path / "checkpoints" / unit)
    to_save = {step for step in (setup.checkpoint_steps if save is None else save) if step <= stop}
    unfinished = Checkpoints(folder.path / "unfinished" / unit)
    places = {step: place for place in (unfinished, checkpoints) for step in place.steps()}
    there = checkpoints.steps()
    # What is asked for may lie before what is there: start no later than the first state that is missing.
    needed = min({*to_save, stop} - set(there), default=stop)
    done = max((step for step in places if step <= needed), default=None)
    fresh = first or partial(start, key, train, program=program)
    state, position = fresh(), None
    position_at, steps = data_steps(train, kept, program)
    begun = int(state.step)
    if done is not None:
        state, position = places[done].restore_with_position(done, state)
        state, position = replicate(state), position or {}
    elif begun in to_save:
        checkpoints.save(state, position_at(state))
    done = begun if done is None else done
    folder.forget_between([unit], done, stop)
    progress.update(done - begun)
    stops = sorted({*range(done + per_epoch - done % per_epoch, stop, per_epoch), *to_save, stop})
    stops = [step for step in stops if step > done]
    saved = time.monotonic()
    for reached, history in steps(state, stops, position):
        state, step = reached, int(reached.step)
        for line in epoch_means(history, done, per_epoch):
            folder.log(unit, **line)
        # After the log: what a checkpoint covers must have been logged.
        if step in to_save:
            checkpoints.save(state, position_at(state))
        elif step < stop and from_writer(partial(_is_due, saved)):
            unfinished.save(state, position_at(state))
            unfinished.remove(lambda other, step=step: other < step)
            saved = time.monotonic()
        progress.update(step - done)
        done = step
    # An earlier state may have been asked for: what a longer training left stays.
    unfinished.remove(lambda step: step <= stop)
    return state


def data_steps(
    train: Dataset, kept: np.ndarray, program: Program
) -> tuple[Callable[[TrainState], dict[str, Any] | None], Callable[..., Iterator[Any]]]:
    """Returns where a state stands in streamed data (None in memory), and what trains on between stops."""
    if not isinstance(train, StreamedDataset):
        return (
            lambda state: None,
            lambda state, stops, position: train_between(
                state, train.examples(), kept, stops, program=program
            ),
        )
    return (
        lambda state: reading_position(int(state.step), state.key, train, kept, program.config),
        lambda state, stops, position: stream_between(
            state, train, kept, stops, program=program, position=position
        ),
    )


def _is_due(saved: float) -> bool:
    return time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
