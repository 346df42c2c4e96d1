"""One training with its records: checkpoints, metrics, progress, and going on where it was stopped."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np

from diet_jax.data.dataset import Dataset, fingerprint
from diet_jax.data.streaming.streamed import StreamedDataset
from diet_jax.devices.deadline import Deadline, OutOfTime
from diet_jax.devices.mesh import replicate
from diet_jax.devices.processes import from_writer
from diet_jax.devices.progress import Progress
from diet_jax.experiments.config import LOCATIONS, SOURCES_OF_DATA
from diet_jax.experiments.divergence import Diverged, scorers
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import Setup
from diet_jax.options.plain import without
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.divergence import first_bad
from diet_jax.training.loop import call_lengths, check_keep, start, steps_per_call, train_between
from diet_jax.training.recipe import epoch_to_step, steps_per_epoch
from diet_jax.training.step import Program, StepMetrics, TrainState
from diet_jax.training.streaming import reading_position, stream_between
from diet_jax.types import PRNGKey

# How much of a long training a killed process may lose.
SECONDS_BETWEEN_CHECKPOINTS = 300.0
# How often a deadline is looked at where a compiled call does one step only.
SECONDS_BETWEEN_LOOKS = 5.0


def facts_of(setup: Setup, unit: str, key: PRNGKey) -> dict[str, Any]:
    """Returns what a training in a run folder belongs to, JSON values, which its checkpoints carry.

    Args:
        setup: config and data.
        unit: name of the training.
        key: of the run.
    """
    config = without(setup.config.facts(), LOCATIONS | SOURCES_OF_DATA)
    return {
        "unit": unit,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "config": config,
        "fingerprint": setup.splits.train.fingerprint,
    }


@contextmanager
def trained_network(
    setup: Setup,
    folder: RunFolder,
    unit: str,
    key: PRNGKey,
    *,
    keep: np.ndarray | None = None,
    length_of: int | None = None,
    stop: int | None = None,
    save: Collection[int] | None = None,
    first: Callable[[], TrainState] | None = None,
    goes_on: bool = False,
    measures: bool = True,
    facts: Mapping[str, Any] | None = None,
    progress: Progress,
) -> Iterator[TrainState]:
    """Trains one network, from its last checkpoint if it has one, for a block that works with its state.

    Going on from a checkpoint gives the very numbers of a training that was never stopped. Beside the
    checkpoints asked for, a long training keeps one to go on from, in unfinished/UNIT, until the block is
    done. So does one that the setup's deadline stops, also where the deadline comes in the block.

    Args:
        setup: config, data, model and deadline.
        folder: checkpoints go to checkpoints/UNIT/STEP, the losses of each epoch to metrics.jsonl.
        unit: name of this training.
        key: of the run.
        keep: bool `[n]`, the examples to train on; by default all.
        length_of: the training has the steps of one on so many examples; by default of those it trains on.
        stop: step to stop at; by default the end.
        save: steps whose states are saved; by default those of the config.
        first: makes the state to start from; by default a fresh one at step 0.
        goes_on: whether the training will be asked to go on: then the last state stays in unfinished/UNIT.
        measures: whether folds that measure all examples at the end of every epoch do so: to score by them.
        facts: what decides the training, JSON values; by default `facts_of` and the mask.
        progress: is told of every step done.

    Raises:
        InputError: the mask does not fit, or a checkpoint is damaged.
        Diverged: a loss was NaN or infinite, now or when it was trained before: then nothing is done.
        OutOfTime: the deadline has come.
    """
    train, config, deadline = setup.splits.train, setup.config.train, setup.deadline
    deadline.check()
    kept = check_keep(train, keep, config)
    per_epoch = steps_per_epoch(len(kept), config.batch_size)
    program = setup.program(len(kept) if length_of is None else length_of)
    if not measures and program.epoch_steps:
        program = dataclasses.replace(program, epoch_steps=0)
    stop = program.num_steps if stop is None else stop
    known = folder.diverged().get(unit)
    if known is not None and known.step <= stop:
        progress.update(stop)
        raise Diverged(unit, known, folder)
    if facts is None:
        facts = {
            **facts_of(setup, unit, key),
            "keep": None if keep is None else fingerprint(np.asarray(keep)),
        }
    checkpoints = Checkpoints(folder.path / "checkpoints" / unit, facts)
    to_save = {step for step in (setup.checkpoint_steps if save is None else save) if step <= stop}
    unfinished = Checkpoints(folder.path / "unfinished" / unit, facts)
    places = {step: place for place in (unfinished, checkpoints) for step in place.steps()}
    there = checkpoints.steps()
    # What is asked for may lie before what is there: start no later than the first state that is missing.
    needed = min({*to_save, stop} - set(there), default=stop)
    done = max((step for step in places if step <= needed), default=None)
    fresh = first or partial(start, key, train, program=program)
    state, position = fresh(), None
    position_at, steps = data_steps(train, kept, program, until=stop)
    begun = int(state.step)
    if done is not None:
        state, position = places[done].restore_with_position(done, state)
        state, position = replicate(state), position or {}
    elif begun in to_save:
        checkpoints.save(state, position_at(state))
    done = begun if done is None else done
    folder.forget_between([unit], done, stop)
    progress.update(done - begun)

    def keep_unfinished() -> None:
        unfinished.save(state, position_at(state))
        unfinished.remove(lambda step: step < int(state.step))

    ends = sorted({*range(begun + per_epoch - begun % per_epoch, stop, per_epoch), *to_save, stop})
    ends = [begun, *(step for step in ends if step > begun)]
    per_call = 1 if train.streamed else steps_per_call(program, train.spec)
    saved = time.monotonic()
    parts: list[StepMetrics] = []
    logged = done
    # How far a network had learned when it scored is told from the log, also when it trains on.
    cut = epoch_to_step(setup.config.score.epoch, setup.per_epoch) if unit in scorers(setup) else 0
    stops = _stops(ends, done, per_call, deadline)
    for reached, history in steps(state, stops, position):
        state, step = reached, int(reached.step)
        parts.append(history)
        deadline.worked(step - done)
        bad = first_bad(history.loss) is not None
        out = not bad and step < stop and deadline.is_over()
        if bad or out or step in ends:
            divergence = folder.log_history(unit, _joined(parts), logged, per_epoch, cut)
            if divergence is not None:
                unfinished.remove(lambda step: True)
                progress.update(stop - done)
                raise Diverged(unit, divergence, folder)
            parts, logged = [], step
            # After the log: what a checkpoint covers must have been logged.
            if step in to_save:
                checkpoints.save(state, position_at(state))
            elif out or (step < stop and from_writer(partial(_is_due, saved))):
                keep_unfinished()
                saved = time.monotonic()
        progress.update(step - done)
        done = step
        if out:
            raise OutOfTime
    try:
        yield state
    except OutOfTime:
        if stop not in checkpoints.steps():
            keep_unfinished()
        raise
    except Diverged:
        unfinished.remove(lambda step: True)
        raise
    if goes_on:
        keep_unfinished()
    else:
        # An earlier state may have been asked for: what a longer training left stays.
        unfinished.remove(lambda step: step <= stop)


def data_steps(
    train: Dataset, kept: np.ndarray, program: Program, *, until: int
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
            state, train, kept, stops, program=program, position=position, until=until
        ),
    )


def _stops(ends: Sequence[int], done: int, per_call: int, deadline: Deadline) -> Iterator[int]:
    """Yields the steps beyond `done` at which a training stops: its ends, and more before a deadline.

    A call of several steps has the length that it has in a training that is never stopped, also where this
    one was, between two ends: to other lengths belong other programs.
    """
    count = 1
    for begin, end in itertools.pairwise(ends):
        if not deadline.comes and not begin < done < end:
            yield from (end,) if end > done else ()
        elif per_call > 1:
            ends_of_calls = itertools.accumulate(call_lengths(end - begin, per_call), initial=begin)
            yield from (step for step in ends_of_calls if step > done)
        else:
            step = max(begin, done)
            while step < end:
                before, since = step, deadline.clock()
                step = min(end, step + count)
                yield step
                seconds = max(deadline.clock() - since, 1e-9) / (step - before)
                count = from_writer(lambda: max(1, int(SECONDS_BETWEEN_LOOKS / seconds)))  # noqa: B023


def _joined(parts: list[StepMetrics]) -> Any:
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def _is_due(saved: float) -> bool:
    return time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
