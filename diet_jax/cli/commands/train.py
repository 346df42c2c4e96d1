"""`diet-jax train`."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from diet_jax.analysis.results import FULL
from diet_jax.checks.values import check_count
from diet_jax.cli.command import Answer, Command
from diet_jax.cli.console import show
from diet_jax.cli.options import Experiment
from diet_jax.data.dataset import Dataset
from diet_jax.devices.processes import together
from diet_jax.devices.progress import Progress, say
from diet_jax.ensemble.retraining import predict_dataset
from diet_jax.ensemble.shards import remove_shards
from diet_jax.errors import InputError, counted
from diet_jax.experiments.devices import config_mesh
from diet_jax.experiments.divergence import Diverged, broken_predictor
from diet_jax.experiments.retraining import PREDICTIONS
from diet_jax.experiments.run_folder import RunFolder, open_run
from diet_jax.experiments.scoring import shards_beside
from diet_jax.experiments.setup import prepare as prepare_setup
from diet_jax.experiments.train_one import trained_network
from diet_jax.selection.file import KeepFile
from diet_jax.training.dynamic_pruning.method import STATE, last_subset, share_left_out
from diet_jax.training.loop import check_keep
from diet_jax.training.recipe import steps_per_epoch
from diet_jax.training.seeds import MOST_SEEDS, seed_keys
from diet_jax.training.step import TrainState


@dataclass(frozen=True)
class Train(Experiment):
    """Train networks with checkpoints; a stopped command goes on where it was when it is called again."""

    keep: Path | None = None
    """Mask file of `diet-jax select` or a run: train on what it keeps; by default on everything. Of a file
    with one mask per seed network R takes that of seed R."""
    num_seeds: int | None = None
    """How many networks; by default one, with --purpose score those of --score.num-seeds."""
    purpose: Literal["score", "retrain"] = "retrain"
    """Which stream of seeds: to score examples with, or to judge a selection."""


def train(command: Train) -> Answer:
    """Trains networks with checkpoints and prints the final test accuracy of each."""
    num_seeds = command.num_seeds
    if num_seeds is None:
        num_seeds = command.config.score.num_seeds if command.purpose == "score" else 1
    check_count(num_seeds, "--num-seeds", most=MOST_SEEDS)
    setup = together(lambda: prepare_setup(command.config, command.own, scores=False, prunes=False))
    config, (dataset, test) = setup.config, setup.splits
    keep, label = None, FULL
    if command.keep is not None:
        mask = KeepFile.load(command.keep, dataset=dataset)
        if mask.keep.ndim == 2 and num_seeds > len(mask.keep):
            raise InputError(
                f"{command.keep} holds one mask for each of {counted(len(mask.keep), 'seed')}, "
                f"--num-seeds is "
                f"{num_seeds}; lower it"
            )
        digest = hashlib.sha256(mask.keep.tobytes()).hexdigest()[:8]
        keep, label = mask.keep, f"{command.keep.stem}-{digest}"
    masks = [keep if keep is None or keep.ndim == 1 else keep[seed] for seed in range(num_seeds)]
    kept, *others = [check_keep(dataset, mask, config.train) for mask in masks]
    if sizes := {len(rows) for rows in others} - {len(kept)}:
        raise InputError(
            f"{command.keep} keeps {len(kept)} examples for seed 0 and {sizes.pop()} for another seed; "
            f"train masks of one size together"
        )
    num_steps = setup.program(len(kept)).num_steps
    per_epoch = steps_per_epoch(len(kept), config.train.batch_size)
    keys = seed_keys(config.seed, command.purpose, num_seeds)
    # The names of the run's own trainings, where the training is the same.
    group = "score" if (command.purpose, label) == ("score", FULL) else f"{command.purpose}/{label}"
    with (
        config_mesh(config, one_by_one=True),
        open_run(config, setup.resolved(), writers=command.writers) as folder,
        Progress("training", total=num_steps * num_seeds) as progress,
    ):
        diverged: list[Diverged] = []
        networks: list[dict[str, Any]] = []
        for seed in range(num_seeds):
            unit = f"{group}/seed_{seed:02d}"
            place = f"trained/{unit}.npz"
            shards = shards_beside(folder.path / place, test)
            options: Any = {"keep": masks[seed], "progress": progress}
            # What is measured while training is for scores.
            options["measures"] = command.purpose == "score"
            try:
                with trained_network(setup, folder, unit, keys[seed], **options) as state:
                    predicted, loss = predict_dataset(setup.model, state.variables, test, shards=shards)
                    why = broken_predictor(folder, unit, num_steps, per_epoch, loss)
                    if why is not None:
                        raise Diverged(unit, why, folder)
                    about = _last_subset(folder, unit, state, dataset)
            except Diverged as error:
                diverged.append(error)
                continue
            accuracy = float((predicted == test.labels).mean())
            facts: dict[str, Any] = {
                "fingerprint": test.fingerprint,
                "steps": num_steps,
                "num_kept": len(kept),
                "seed": seed,
            }
            folder.save(place, PREDICTIONS, {"predicted": predicted, "loss": loss}, facts)
            remove_shards(shards)
            reached = {"test_accuracy": accuracy, "test_loss": float(loss.mean()), **about}
            networks.append({"unit": unit, "step": num_steps, **reached, "file": str(folder.path / place)})
            folder.log(unit, step=num_steps, **reached)
            show(f"{place}: step {num_steps:,}, test accuracy {accuracy:.4f}, test loss {loss.mean():.4f}")
            if about:
                share = about["share_left_out"]
                show(f"{config.train.dynamic} left out {share:.1%} of the examples that it chose from")
        for error in diverged if len(diverged) < num_seeds else ():
            say(f"no accuracy: {error}")
        if len(diverged) == num_seeds:
            raise diverged[0]
        values = {
            "run_dir": str(folder.path),
            "networks": networks,
            "diverged": [str(error) for error in diverged],
        }
        return Answer(values, tuple(network["file"] for network in networks))


def _last_subset(folder: RunFolder, unit: str, state: TrainState, dataset: Dataset) -> dict[str, float]:
    """Writes what a dynamic pruning kept last, subsets/UNIT.npz, and returns what share it left out."""
    if STATE not in state.dynamics:
        return {}
    last_subset(state, dataset).save(folder.path / "subsets" / f"{unit}.npz")
    return {"share_left_out": float(share_left_out(state))}


COMMAND = Command(
    Train,
    train,
    {
        "train --num-seeds 2": "two networks on everything",
        "train --keep runs/digits-mlp/masks/el2n_keep0.5.npz": "one network on what a mask keeps",
        "train --purpose score --checkpoint-epochs 1 2": "the scoring networks, with checkpoints to score",
    },
    goes_on=True,
    takes_file=True,
    sources=lambda _: True,
)
