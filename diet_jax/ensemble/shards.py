"""Passes over a dataset that outlive their process: shards on disk, resumed at the first that is missing."""

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from diet_jax.checks.values import check_count, check_path, check_pytree, check_type, shown
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.devices.deadline import NEVER, Deadline, OutOfTime
from diet_jax.devices.mesh import DATA, SEED, fetch
from diet_jax.devices.messages import packed_message, unpacked_message
from diet_jax.devices.processes import from_writer, gather, is_alone, is_writer, together
from diet_jax.devices.progress import say
from diet_jax.ensemble.whole_dataset import finished
from diet_jax.errors import InputError
from diet_jax.files.arrays import load_arrays, save_arrays
from diet_jax.files.digests import arrays_digest
from diet_jax.files.writing import write_atomically
from diet_jax.models.adapters import check_model
from diet_jax.scores.score import Score, resolve_scores
from diet_jax.training.passes import BatchSize, check_batch_size, map_ranges
from diet_jax.training.step import predictions
from diet_jax.types import Array, Model, Variables

KIND = "score shard"
SHARD_EXAMPLES = 16_384
JUDGED = ("predicted", "loss")


def score_streamed(
    model: Model,
    variables: Variables,
    dataset: Dataset,
    *,
    names: tuple[str | Score, ...],
    folder: Path,
    batch_size: BatchSize = "auto",
    shard_size: int = SHARD_EXAMPLES,
    part: tuple[int, int] | None = None,
    replace: bool = False,
    deadline: Deadline = NEVER,
) -> dict[str, np.ndarray]:
    """Scores every example in one pass over the inputs, and keeps what is done in shard files.

    A call that was stopped goes on at the first shard that is missing. A damaged shard is computed again, one
    of other variables, another dataset or other scores is refused. Inputs are read ahead, each once for all
    scores; at no time more than a few calls' inputs are in memory. Every shard comes from one program on one
    shape, so a result does not depend on which process computed it, to the last digit on one kind of machine;
    "auto" may choose another batch size, and then other roundings, where less memory is free.

    Of several processes each does its part of the shards, on its own devices, and all get the whole result.

    Args:
        model: what is scored with.
        variables: of one trained network.
        dataset: any split, streamed or not.
        names: of scores that read examples or the dataset, "predicted" (class) and "loss" (nats). For scores
            that read the dataset the shards hold what was measured, and memory all of it at the end.
        folder: of the shard files, `rows_FIRST_STOP.npz`, each with its ids; nothing else belongs in it.
        batch_size: examples per batch; "auto" bounds the memory of the intermediate arrays.
        shard_size: examples per file.
        part: `(index, count)` does part `index` of `count` contiguous parts of the shards in this process
            alone, for processes that do not know of each other.
        replace: compute shards of a network that differs in its numbers alone again, with a warning, instead
            of refusing them.
        deadline: when to stop, between two shards.

    Returns:
        float32 `[n]` by name, int32 for "predicted"; empty if other parts are still missing.

    Raises:
        InputError: an unknown name, a shard that belongs to something else, an image that cannot be read.
        OutOfTime: the deadline has come.

    Example:
        >>> import jax, tempfile, pathlib, diet_jax as dj
        >>> test = dj.load_dataset("digits").test
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> variables = model.init(jax.random.key(0), test.image_shape)
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> scores = score_streamed(model, variables, test, names=("el2n", "loss"), folder=folder)
        >>> scores["el2n"].shape
        (719,)
    """
    check_model(model)
    check_type(variables, "variables", Variables, "dj.Variables, as model.init returns them")
    check_pytree(variables, "variables")
    check_dataset(dataset)
    check_path(folder, "folder")
    folder = Path(folder)
    check_batch_size(batch_size)
    check_count(shard_size, "shard_size")
    if part is not None and not (isinstance(part, tuple) and len(part) == 2):
        raise InputError(f"part must be (index, count), two integers, got {shown(part)}")
    check_type(replace, "replace", bool, "True or False")
    check_type(deadline, "deadline", Deadline, "a Deadline")
    if isinstance(names, str | Score) or not isinstance(names, Iterable):
        raise InputError(f"names must be a tuple of scores, got {shown(names)}")
    scores = tuple(
        name if isinstance(name, str) and name in JUDGED else resolve_scores([name])[0] for name in names
    )
    fn = _all_scores(scores, model)
    names = tuple(score if isinstance(score, str) else score.name for score in scores)
    # With all digits of the options.
    definitions = [s if isinstance(s, str) else f"{s.label}: {s.formula} {s.options}" for s in scores]
    facts = {**shard_facts(variables, dataset, names), "definitions": definitions}
    if replace:
        from_writer(functools.partial(_discard_other_networks, folder, dataset, facts))
    compute = functools.partial(
        _compute_shards,
        fn,
        dataset=dataset,
        folder=folder,
        facts=facts,
        batch_size=batch_size,
        size=shard_size,
        deadline=deadline,
    )
    merge = functools.partial(merge_shards, folder, dataset, names=names, facts=facts, shard_size=shard_size)
    by_name = {score.name: score for score in scores if isinstance(score, Score)}

    def finish(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return found | {
            name: finished(score, model, variables, dataset, found[name]) for name, score in by_name.items()
        }

    if part is not None or is_alone():
        complete = compute(variables, part=part or (0, 1))
        return finish(merge()) if complete else {}
    variables = fetch(variables)

    def own() -> None:
        # Each process has other rows: its devices work on them without those of the others.
        devices = np.asarray(jax.local_devices()).reshape(1, -1)
        mesh = Mesh(devices, (SEED, DATA), axis_types=(AxisType.Auto, AxisType.Auto))
        with jax.set_mesh(mesh), contextlib.suppress(OutOfTime):
            compute(variables, part=(jax.process_index(), jax.process_count()))

    together(own)
    _collect(folder)
    if not from_writer(lambda: _are_there(folder, shard_ranges(len(dataset), shard_size))):
        raise OutOfTime
    return finish(from_writer(merge))


def _compute_shards(
    fn: Callable[..., Any],
    variables: Variables,
    *,
    dataset: Dataset,
    folder: Path,
    facts: dict[str, Any],
    batch_size: BatchSize,
    size: int,
    part: tuple[int, int],
    deadline: Deadline,
) -> bool:
    """Writes the shards of a part that are missing; returns whether those of all parts are there."""
    index, count = part
    check_count(count, "part's count")
    check_count(index, "part's index", least=0, most=count - 1)
    shards = shard_ranges(len(dataset), size)
    own = shards[index * len(shards) // count : (index + 1) * len(shards) // count]
    missing = [shard for shard in own if not _is_there(folder, shard, dataset, facts)]
    results = map_ranges(
        fn, variables, dataset, missing, batch_size=batch_size, longest=min(size, len(dataset))
    )
    for first, stop in missing:
        deadline.check_here()
        arrays = next(results)
        arrays = {**arrays, "ids": dataset.ids[first:stop]}
        save_arrays(_path(folder, first, stop), KIND, arrays, {**facts, "first": first, "stop": stop})
    return _are_there(folder, shards)


def merge_shards(
    folder: Path,
    dataset: Dataset,
    *,
    names: tuple[str, ...],
    facts: dict[str, Any],
    shard_size: int = SHARD_EXAMPLES,
) -> dict[str, np.ndarray]:
    """Joins the shards of `score_streamed`.

    Args:
        folder: of the shard files.
        dataset: what was scored.
        names: what to read.
        facts: of `shard_facts`, what the shards must say.
        shard_size: examples per file.

    Returns:
        An array `[n]` by name.

    Raises:
        InputError: a shard is missing, damaged or of something else.
    """
    shards = shard_ranges(len(dataset), shard_size)
    parts = [_load(folder, shard, dataset, facts) for shard in shards]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _discard_other_networks(folder: Path, dataset: Dataset, facts: dict[str, Any]) -> None:
    """Removes shards that differ from what `facts` says in the network's numbers alone, with a warning.

    A training done again on other devices, or by programs that add in no fixed order, differs by rounding.
    """
    for path in sorted(folder.glob("rows_*.npz")) if folder.is_dir() else ():
        try:
            _, stored = load_arrays(path, KIND, None)
        except InputError:
            continue  # Damaged: told of, and computed again, where it is needed.
        same = all(stored.get(name) == value for name, value in facts.items() if name != "variables")
        if same and stored.get("variables") != facts["variables"]:
            say(f"warning: {path} was computed by a network that differs from this one: computing it again")
            path.unlink()


def remove_shards(folder: Path | None) -> None:
    """Removes the shards of this process, once what they hold is kept elsewhere."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def shard_ranges(count: int, size: int) -> list[tuple[int, int]]:
    """Returns first and last row (exclusive) of each shard."""
    return [(first, min(first + size, count)) for first in range(0, count, size)]


def shard_facts(variables: Variables, dataset: Dataset, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns what a shard belongs to: the dataset, the scores, and the very numbers of the network."""
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(fetch(variables))}
    return {"fingerprint": dataset.fingerprint, "variables": arrays_digest(leaves), "names": list(names)}


def _path(folder: Path, first: int, stop: int) -> Path:
    return folder / f"rows_{first:09d}_{stop:09d}.npz"


def _are_there(folder: Path, shards: list[tuple[int, int]]) -> bool:
    return all(_path(folder, *shard).is_file() for shard in shards)


def _is_there(folder: Path, shard: tuple[int, int], dataset: Dataset, facts: dict[str, Any]) -> bool:
    path = _path(folder, *shard)
    if not path.is_file():
        return False
    try:
        load_arrays(path, KIND, None)
    except InputError as error:
        say(f"warning: {error}: computing it again")
        return False
    _load(folder, shard, dataset, facts)
    return True


def _load(
    folder: Path, shard: tuple[int, int], dataset: Dataset, facts: dict[str, Any]
) -> dict[str, np.ndarray]:
    first, stop = shard
    path = _path(folder, first, stop)
    arrays, stored = load_arrays(path, KIND, None)
    wanted = {**facts, "first": first, "stop": stop}
    wrong = [name for name, value in wanted.items() if stored.get(name) != value]
    ids = dataset.ids[first:stop]
    if not np.array_equal(arrays.get("ids", ()), ids):
        wrong.append("ids")
    wrong += [name for name in facts["names"] if arrays.get(name, np.zeros(0)).shape[:1] != ids.shape]
    if wrong:
        raise InputError(
            f"{path} is a shard of something else (other {', '.join(dict.fromkeys(wrong))}); "
            f"choose another folder, or delete {folder}"
        )
    return arrays


@functools.lru_cache(maxsize=64)
def _all_scores(scores: tuple[str | Score, ...], model: Model) -> Callable[..., dict[str, Array]]:
    on_batches = {score.name: score.on_batches(model) for score in scores if isinstance(score, Score)}
    wrong = [name for name, fn in on_batches.items() if fn is None]
    if wrong:
        raise InputError(f"{', '.join(wrong)}: no batch of examples defines them; leave them out")

    def all_scores(variables: Variables, inputs: Any, labels: Any) -> dict[str, Array]:
        results = {name: fn(variables, inputs, labels) for name, fn in on_batches.items() if fn is not None}
        if len(results) < len(scores):
            predicted, loss = predictions(model.predict, variables, inputs, labels)
            judged = {"predicted": predicted, "loss": loss}
            results |= {score: judged[score] for score in scores if isinstance(score, str)}
        return results

    return all_scores


def _collect(folder: Path) -> None:
    """Brings the shard files of all processes to process 0, whose folder the others need not see."""
    own = {} if is_writer() else {path.name: path.read_bytes() for path in folder.glob("rows_*.npz")}
    sent = gather(packed_message(own))

    def write() -> None:
        for files in map(unpacked_message, sent):
            for name, content in files.items():
                if not (folder / name).is_file():
                    write_atomically(folder / name, content)

    from_writer(write)
