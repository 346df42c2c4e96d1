"""Training on a dataset that is read from disk: the batches, and so the numbers, of a training in memory."""

import hashlib
import math
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from diet_jax.checks.rows import check_rows_within
from diet_jax.checks.values import check_array, check_count, check_type
from diet_jax.data.dataset import check_dataset
from diet_jax.data.streaming.reading import read_ahead
from diet_jax.data.streaming.streamed import StreamedDataset
from diet_jax.devices.mesh import DATA, FSDP, fetch, replicate
from diet_jax.errors import InputError
from diet_jax.training.compiled import CompiledProgram
from diet_jax.training.dynamic_pruning.methods import rows_per_step
from diet_jax.training.epoch_ends import ends_epoch, measuring, take_in
from diet_jax.training.passes import map_dataset
from diet_jax.training.recipe import TrainConfig, steps_per_epoch
from diet_jax.training.step import Program, StepMetrics, TrainState, batch_rows, run_keys, train_on_batch
from diet_jax.types import Examples, PRNGKey, Rows

# Rows of the order that are drawn at once; a pipeline is made anew after them.
ROWS_AT_ONCE = 2**22

_rows = jax.jit(batch_rows, static_argnames=("num_steps", "batch_size"))
_step = CompiledProgram(train_on_batch, donate="state")
_take_in = CompiledProgram(take_in, donate="state")


def stream_between(
    state: TrainState,
    dataset: StreamedDataset,
    kept: Rows,
    stops: Iterable[int],
    *,
    program: Program,
    position: dict[str, Any] | None = None,
    until: int | None = None,
) -> Iterator[tuple[TrainState, StepMetrics]]:
    """Trains on from a state and yields at each stop, as `train_between` does, with images read from disk.

    Only the kept rows are read, in the order of `batch_rows`, and reading starts at the state's own step. The
    next batches are read, decoded and put on the device while a step runs. Folds that measure all
    examples read the whole dataset once more at the end of every epoch. Under a mesh whose data axes lie in
    several processes each process reads its own part of every batch.

    Args:
        state: where to go on from; used up, as is each state yielded.
        dataset: the full train split.
        kept: int `[k]`, the rows to train on.
        stops: steps to yield at, ascending, none before the state's own step.
        program: of the training.
        position: what was saved with the state (`reading_position`); it must be that of this training.
        until: step up to which images are read ahead, where the stops are to be asked for one by one; by
            default the last of them.

    Yields:
        The state at each stop, and the metrics of the steps since the last one.

    Raises:
        InputError: a position of another step, order, mask or dataset; an image that is missing, damaged or
            not the one that it was.

    Example:
        >>> import pathlib, tempfile, numpy as np, diet_jax as dj
        >>> from PIL import Image
        >>> from diet_jax.training.loop import start
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for place in ("train/cat", "train/dog", "test/cat", "test/dog"):
        ...     (root / place).mkdir(parents=True)
        ...     for number in range(4):
        ...         Image.new("RGB", (20 + number, 16), "red").save(root / place / f"{number}.png")
        >>> train = dj.load_streamed(f"folder:{root}", cache_dir=root / "cache", image_size=8).train
        >>> model = dj.create_model("mlp", num_classes=2)
        >>> config = dj.TrainConfig(steps=3, batch_size=4, augment="resized_crop")
        >>> program = dj.Program(model, config, num_steps=3)
        >>> state = start(jax.random.key(0), train, program=program)
        >>> state, history = next(stream_between(state, train, np.arange(8), [3], program=program))
        >>> int(state.step), history.loss.shape
        (3, (3,))
    """
    check_type(state, "state", TrainState, "a TrainState, of start")
    check_dataset(dataset)
    check_type(program, "program", Program, "a dj.Program")
    if program.draws_itself:
        raise InputError(
            f"dynamic {program.config.dynamic} draws its batches by the losses of the steps before, and "
            f"images are read from disk ahead of their step; load the dataset without streaming, or train "
            f"without it"
        )
    kept = check_array(kept, "kept", "k", "integers")
    check_rows_within(kept, len(dataset), "kept")
    check_type(stops, "stops", Iterable, "steps to stop at, ascending")
    check_type(position, "position", (dict, type(None)), "what reading_position returns")
    if until is not None:
        check_count(until, "until", least=0)
    key = _local_key(state.key)
    step = int(fetch(state.step))
    if until is None:
        stops = [check_count(stop, "stops", least=0) for stop in stops]
        until = max(stops, default=step)
    last = min(until, program.num_steps)
    if position is not None:
        check_position(position, reading_position(step, key, dataset, kept, program.config))
    state = replicate(state)
    mean, std = replicate([np.asarray(values, np.float32) for values in dataset.normalization])
    batches = read_batches(dataset, key, kept, step, last, config=program.config)
    metrics: list[StepMetrics] = []
    try:
        batch = next(batches, None)
        for stop in stops:
            if not step <= check_count(stop, "stops", least=0) <= last:
                raise InputError(f"stops must ascend from step {step} to at most {last}, got {stop}")
            metrics = []
            while step < stop:
                assert batch is not None
                rows, images = batch
                labels: Any = dataset.labels[rows]
                state, new = _step(state, Examples(images, labels, mean, std), rows, program=program)
                # While the device works on this step.
                batch = next(batches, None)
                if metrics:  # Else batches would pile up on a device that is slower than the disk.
                    jax.block_until_ready(metrics[-1])
                metrics.append(new)
                step += 1
                if ends_epoch(program, step):
                    values = map_dataset(measuring(program), state.variables, dataset)
                    state = _take_in(state, values, dataset.labels, program=program)
            yield state, _joined(metrics)
    finally:
        batches.close()


def read_batches(
    dataset: StreamedDataset,
    key: PRNGKey,
    kept: Rows,
    first: int,
    stop: int,
    *,
    config: TrainConfig,
    part: tuple[int, int] | None = None,
) -> Generator[tuple[np.ndarray, Any], None, None]:
    """Yields rows and images of the batches of steps `first .. stop - 1`, reading ahead.

    Args:
        dataset: the full train split.
        key: of the run.
        kept: int `[k]`, the rows to train on.
        first: step to begin with, counted from 0.
        stop: step to end before.
        config: batch size and augmentation.
        part: `(index, count)` reads part `index` of `count` equal parts of each batch, as NumPy arrays; by
            default the images are JAX arrays, split over the current mesh, of which this process reads what
            its devices need.

    Yields:
        int32 `[b]`, the rows of the whole batch, and uint8 `[b h w ch]` or the part of it.
    """
    size = rows_per_step(config)
    sharding = None if part is not None else _sharding(size)
    low, high = _share(size, *part) if part is not None else _needed(sharding, size)
    for begin, rows in _orders(run_keys(key).order, kept, first, stop, size):
        images = read_ahead(
            dataset.inputs,
            list(rows[:, low:high]),
            first=begin,
            crop_seed=_crop_seed(key) if config.augment == "resized_crop" else None,
            workers=dataset.workers,
        )
        for whole, local in zip(rows, images, strict=True):
            if part is not None:
                yield whole, local
            elif sharding is None:
                yield whole, jax.device_put(local)
            else:
                shape = (size, *local.shape[1:])
                yield whole, jax.make_array_from_process_local_data(sharding, local, shape)


def reading_position(
    step: int, key: PRNGKey, dataset: StreamedDataset, kept: Rows, config: TrainConfig
) -> dict[str, Any]:
    """Returns where a training stands in its data, as JSON values to save with its state.

    The batches of a step follow from what is named here, whatever reads them: number of workers, threads and
    processes may change between saving and going on, unlike with Grain's own state, which counts per worker.

    Args:
        step: updates done, of which each has used one batch.
        key: of the run.
        dataset: the full train split.
        kept: int `[k]`, the rows to train on.
        config: batch size and augmentation.
    """
    kept = np.asarray(kept, np.int64)
    return {
        "next_step": step,
        "order_key": np.asarray(jax.random.key_data(run_keys(_local_key(key)).order)).tolist(),
        "batch_size": rows_per_step(config),
        "augment": config.augment,
        "kept": hashlib.sha256(kept.tobytes()).hexdigest(),
        "num_kept": len(kept),
        "fingerprint": dataset.fingerprint,
    }


def check_position(stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises InputError unless a saved position is the one that a training must go on from."""
    wrong = [
        f"{name} is {stored.get(name)}, not {value}"
        for name, value in wanted.items()
        if stored.get(name) != value
    ]
    if wrong:
        raise InputError(
            f"the position in the data that was saved does not belong to this training ({'; '.join(wrong)}); "
            "train with the dataset, mask and config that it was saved with, or from the beginning"
        )


def _orders(key: PRNGKey, kept: Rows, first: int, stop: int, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the number of a step and the rows int32 `[t b]` of the steps from it on, epochs at a time."""
    per_epoch = steps_per_epoch(len(kept), size)
    kept = jnp.asarray(kept)
    epochs = max(1, ROWS_AT_ONCE // (per_epoch * size))
    step = first
    while step < stop:
        start = step - step % per_epoch
        end = min(stop, start + epochs * per_epoch)
        whole = [
            np.asarray(_rows(key, kept, begin, num_steps=per_epoch, batch_size=size))
            for begin in range(start, end, per_epoch)
        ]
        yield step, np.concatenate(whole)[step - start : end - start]
        step = end


def _sharding(size: int) -> NamedSharding | None:
    """How a batch lies on the current mesh; None without a mesh."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return None
    axes = tuple(name for name in (DATA, FSDP) if mesh.shape.get(name, 1) > 1)
    divides = axes and size % math.prod(mesh.shape[name] for name in axes) == 0
    return NamedSharding(mesh, PartitionSpec(axes) if divides else PartitionSpec())


def _needed(sharding: NamedSharding | None, size: int) -> tuple[int, int]:
    """The rows of a batch that the devices of this process hold."""
    if sharding is None:
        return 0, size
    held = sharding.addressable_devices_indices_map((size,)).values()
    slices = [index[0].indices(size) for index in held if index is not None]
    low, high = min(s[0] for s in slices), max(s[1] for s in slices)
    return low, high


def _share(size: int, index: int, count: int) -> tuple[int, int]:
    if not 0 <= index < count or size % count:
        raise InputError(
            f"part must be (index, count) with index below count, and count must divide the batch size "
            f"{size}; got ({index}, {count})"
        )
    return index * size // count, (index + 1) * size // count


def _crop_seed(key: PRNGKey) -> tuple[int, ...]:
    return tuple(int(word) for word in np.ravel(jax.random.key_data(run_keys(key).augment)))


def _local_key(key: PRNGKey) -> PRNGKey:
    """The key on this process's own device: what is read is decided in each process by itself."""
    return jax.random.wrap_key_data(
        jnp.asarray(fetch(jax.random.key_data(key))), impl=jax.random.key_impl(key)
    )


def _joined(metrics: list[StepMetrics]) -> StepMetrics:
    fields = zip(*fetch(metrics), strict=True) if metrics else ((), ())
    return StepMetrics(*(np.asarray(values, np.float32) for values in fields))  # type: ignore[arg-type]
