"""What the stages do otherwise where images are streamed: scores and predictions go through shard files."""

import pickle
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from diet_jax.data.dataset import Dataset
from diet_jax.devices.mesh import DATA, SEED, fetch
from diet_jax.devices.processes import from_writer, gather, is_alone, is_writer, together
from diet_jax.ensemble.passes import BatchSize
from diet_jax.ensemble.shards import (
    discard_other_networks,
    merge_shards,
    remove_shards,
    score_streamed,
    shard_facts,
)
from diet_jax.files.arrays import write_atomically
from diet_jax.scores.dynamics import forgetting_scores
from diet_jax.training.step import TrainState
from diet_jax.types import Model, Variables


def mapped(
    model: Model,
    variables: Variables,
    dataset: Dataset,
    *,
    names: tuple[str, ...],
    folder: Path,
    batch_size: BatchSize = "auto",
) -> dict[str, np.ndarray]:
    """Returns scores, predictions and losses of every example; of several processes each does its shards."""
    facts = shard_facts(variables, dataset, names)
    from_writer(lambda: discard_other_networks(folder, dataset, names, facts))
    if is_alone():
        return score_streamed(model, variables, dataset, names=names, folder=folder, batch_size=batch_size)
    variables = fetch(variables)
    devices = np.asarray(jax.local_devices())
    part = jax.process_index(), jax.process_count()

    def own() -> None:
        # Each process has other rows: its devices work on them without those of the others.
        kinds = (AxisType.Auto, AxisType.Auto)
        with jax.set_mesh(Mesh(devices.reshape(1, -1), (SEED, DATA), axis_types=kinds)):
            score_streamed(
                model, variables, dataset, names=names, folder=folder, batch_size=batch_size, part=part
            )

    together(own)
    _collect(folder)
    return from_writer(lambda: merge_shards(folder, dataset, names=names, facts=facts))


def score_streamed_state(
    state: TrainState,
    model: Model,
    dataset: Dataset,
    *,
    names: tuple[str, ...],
    folder: Path,
    batch_size: BatchSize,
    never_learned: float,
) -> dict[str, np.ndarray]:
    """Scores every example with one trained state: `score_state` for data larger than memory."""
    scores = {}
    on_images = tuple(name for name in names if name != "forgetting")
    if on_images:
        scores.update(
            mapped(model, state.variables, dataset, names=on_images, folder=folder, batch_size=batch_size)
        )
    if "forgetting" in names:
        values = forgetting_scores(state.forgetting, never_learned=never_learned)
        scores["forgetting"] = np.asarray(fetch(values))
    return scores


def predict_streamed(
    model: Model, variables: Variables, dataset: Dataset, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the predicted class and the loss of every example: `predict_dataset` for streamed data."""
    results = mapped(model, variables, dataset, names=("predicted", "loss"), folder=folder)
    return results["predicted"], results["loss"]


def forget_shards(folder: Path) -> None:
    """Removes shard files whose scores are kept elsewhere; each process has written its own."""
    remove_shards(folder)


def _collect(folder: Path) -> None:
    """Brings the shard files of all processes to process 0, whose folder the others need not see."""
    own = {} if is_writer() else {path.name: path.read_bytes() for path in folder.glob("rows_*.npz")}
    sent = gather(pickle.dumps(own))

    def write() -> None:
        for files in map(pickle.loads, sent):
            for name, content in files.items():
                if not (folder / name).is_file():
                    write_atomically(folder / name, content)

    from_writer(write)
