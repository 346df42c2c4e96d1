"""Scores of a dataset larger than memory: shard after shard on disk, resumed at the first one missing."""

import functools
import hashlib
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.devices.defaults import default_chunks_per_call
from diet_jax.devices.mesh import fetch
from diet_jax.devices.progress import say
from diet_jax.ensemble.passes import BatchSize, map_examples_of, model_batch_size
from diet_jax.ensemble.scoring import score_function
from diet_jax.errors import InputError
from diet_jax.files.arrays import load_arrays, save_arrays
from diet_jax.training.step import predictions
from diet_jax.types import Array, Examples, Model, Variables

KIND = "score shard"
SHARD_EXAMPLES = 16_384
# Images of one compiled call.
CALL_BYTES = 2**26


def score_streamed(
    model: Model,
    variables: Variables,
    dataset: Dataset,
    *,
    names: tuple[str, ...],
    folder: Path,
    batch_size: BatchSize = "auto",
    shard_size: int = SHARD_EXAMPLES,
    part: tuple[int, int] = (0, 1),
) -> dict[str, np.ndarray]:
    """Scores every example in one pass over the images, and keeps what is done in shard files.

    A call that was stopped goes on at the first shard that is missing. A damaged shard is computed again, one
    of other variables, another dataset or other scores is refused. Images are read ahead, each once for all
    scores; at no time more than a few calls' images are in memory.

    Args:
        model: what is scored with.
        variables: of one trained network.
        dataset: any split, streamed or not.
        names: of "el2n", "grand" and "grand_last_layer" (scores), "predicted" (class) and "loss" (nats).
        folder: of the shard files, `rows_FIRST_STOP.npz`, each with its ids; nothing else belongs in it.
        batch_size: examples per chunk; "auto" bounds the memory of the intermediate arrays.
        shard_size: examples per file.
        part: `(index, count)`, this process does part `index` of `count` contiguous parts of the shards. The
            result is read from the shards of all; wait for the others before `merge_shards` in that case.

    Returns:
        float32 `[n]` by name, int32 for "predicted"; empty if other parts are still missing.

    Raises:
        InputError: an unknown name, a shard that belongs to something else, an image that cannot be read.

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
    index, count = part
    if shard_size < 1 or not 0 <= index < count:
        raise InputError(f"shard_size must be at least 1 and part (index, count); got {shard_size}, {part}")
    fn = _all_scores(names, model)
    facts = shard_facts(variables, dataset, names)
    shards = shard_ranges(len(dataset), shard_size)
    own = shards[index * len(shards) // count : (index + 1) * len(shards) // count]
    missing = [shard for shard in own if not _is_there(folder, shard, dataset, names, facts)]
    if missing and batch_size == "auto":
        batch_size = model_batch_size(fn, model, dataset)
    results = _mapped_shards(fn, variables, dataset, missing, batch_size)
    for (first, stop), arrays in zip(missing, results, strict=True):
        arrays = {**arrays, "ids": dataset.ids[first:stop]}
        save_arrays(_path(folder, first, stop), KIND, arrays, {**facts, "first": first, "stop": stop})
    if count > 1 and any(not _path(folder, *shard).is_file() for shard in shards):
        return {}
    return merge_shards(folder, dataset, names=names, facts=facts, shard_size=shard_size)


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
    parts = [_load(folder, shard, dataset, names, facts) for shard in shards]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def discard_other_networks(
    folder: Path, dataset: Dataset, names: tuple[str, ...], facts: dict[str, Any]
) -> None:
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


def remove_shards(folder: Path) -> None:
    """Removes the folder of the shards, once what they hold is kept elsewhere."""
    shutil.rmtree(folder, ignore_errors=True)


def shard_ranges(count: int, size: int) -> list[tuple[int, int]]:
    """Returns first and last row (exclusive) of each shard."""
    return [(first, min(first + size, count)) for first in range(0, count, size)]


def shard_facts(variables: Variables, dataset: Dataset, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns what a shard belongs to: the dataset, the scores, and the very numbers of the network."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(fetch(variables)):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype};".encode())
        digest.update(array.view(np.uint8).data if array.ndim else array.tobytes())
    return {"fingerprint": dataset.fingerprint, "variables": digest.hexdigest(), "names": list(names)}


def _path(folder: Path, first: int, stop: int) -> Path:
    return folder / f"rows_{first:09d}_{stop:09d}.npz"


def _is_there(
    folder: Path, shard: tuple[int, int], dataset: Dataset, names: tuple[str, ...], facts: dict[str, Any]
) -> bool:
    path = _path(folder, *shard)
    if not path.is_file():
        return False
    try:
        load_arrays(path, KIND, None)
    except InputError as error:
        say(f"warning: {error}: computing it again")
        return False
    _load(folder, shard, dataset, names, facts)
    return True


def _load(
    folder: Path, shard: tuple[int, int], dataset: Dataset, names: tuple[str, ...], facts: dict[str, Any]
) -> dict[str, np.ndarray]:
    first, stop = shard
    path = _path(folder, first, stop)
    arrays, stored = load_arrays(path, KIND, None)
    wanted = {**facts, "first": first, "stop": stop}
    wrong = [name for name, value in wanted.items() if stored.get(name) != value]
    ids = dataset.ids[first:stop]
    if not np.array_equal(arrays.get("ids", ()), ids):
        wrong.append("ids")
    wrong += [name for name in names if arrays.get(name, np.zeros(0)).shape != ids.shape]
    if wrong:
        raise InputError(
            f"{path} is a shard of something else (other {', '.join(dict.fromkeys(wrong))}); "
            f"choose another folder, or delete {folder}"
        )
    return arrays


@functools.lru_cache(maxsize=64)
def _all_scores(names: tuple[str, ...], model: Model) -> Callable[..., dict[str, Array]]:
    scores = {name: score_function(name, model) for name in names if name not in ("predicted", "loss")}
    judged = {"predicted", "loss"} & set(names)

    def all_scores(variables: Variables, images: Any, labels: Any) -> dict[str, Array]:
        results = {name: score(variables, images, labels) for name, score in scores.items()}
        if judged:
            predicted, loss = predictions(model.predict, variables, images, labels)
            results.update(predicted=predicted, loss=loss)
        return {name: results[name] for name in names}

    return all_scores


def _mapped_shards(
    fn: Callable[..., Any],
    variables: Variables,
    dataset: Dataset,
    shards: list[tuple[int, int]],
    batch_size: Any,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields `fn` of the rows of each shard, while the images of what follows are read."""
    if not shards:
        return
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size must be an integer of at least 1 or 'auto', got {batch_size!r}")
    longest = max(stop - first for first, stop in shards)
    fitting = max(1, CALL_BYTES // math.prod(dataset.image_shape))
    batch_size = min(batch_size, longest, fitting)
    per_call = batch_size * max(1, min(default_chunks_per_call(), fitting // batch_size))
    per_call = min(per_call, batch_size * math.ceil(longest / batch_size))
    # Calls of one shape: the last one of a shard is filled up with copies of its last row.
    calls = [
        (shard, np.arange(first, first + per_call).clip(max=shard[1] - 1))
        for shard in shards
        for first in range(*shard, per_call)
    ]
    mean, std = (jnp.asarray(values, jnp.float32) for values in dataset.normalization)
    images = dataset.read_batches([rows for _, rows in calls])
    parts: list[Any] = []
    for number, ((shard, rows), pixels) in enumerate(zip(calls, images, strict=True)):
        if parts:  # Else calls would pile up on a device that is slower than the disk.
            jax.block_until_ready(parts[-1])
        parts.append(_call(variables, pixels, dataset.labels[rows], mean, std, fn=fn, batch_size=batch_size))
        if number + 1 == len(calls) or calls[number + 1][0] != shard:
            count = shard[1] - shard[0]
            yield jax.tree.map(lambda *a: np.concatenate(a)[:count], *fetch(parts))  # noqa: B023
            parts = []


@functools.partial(jax.jit, static_argnames=("fn", "batch_size"))
def _call(
    variables: Any, images: Any, labels: Any, mean: Any, std: Any, *, fn: Callable[..., Any], batch_size: int
) -> Any:
    return map_examples_of(fn, variables, Examples(images, labels, mean, std), batch_size=batch_size)
