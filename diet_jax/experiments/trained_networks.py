"""Trained networks back from a run folder, with their model and config."""

import os
from typing import Any, NamedTuple

from diet_jax.data.dataset import Dataset, Splits
from diet_jax.errors import InputError
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.own import Own, from_folder
from diet_jax.experiments.run_folder import RunFolder, check_same
from diet_jax.experiments.setup import prepare
from diet_jax.experiments.train_one import facts_of
from diet_jax.options.plain import differences, to_json
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.loop import start
from diet_jax.training.recipe import TrainConfig
from diet_jax.training.seeds import seed_keys
from diet_jax.training.step import TrainState
from diet_jax.types import Model, Variables


class TrainedNetwork(NamedTuple):
    """What `load_checkpoint` returns."""

    variables: Variables
    """For `model.predict(variables, inputs)` and every score."""
    model: Model
    config: RunConfig
    splits: Splits
    """The run's data, with the labels that it trained on."""
    state: TrainState
    """All that training on needs."""


def load_checkpoint(
    run: str | os.PathLike[str],
    *,
    seed: int,
    step: int,
    of: str = "score",
    train: Dataset | None = None,
    test: Dataset | None = None,
    model: Any = None,
    recipe: TrainConfig | None = None,
) -> TrainedNetwork:
    """Returns a network as it was after so many steps of a training in a run folder.

    `diet-jax run` and `train` keep checkpoints after the epochs that `--checkpoint-epochs` names.

    Args:
        run: the run folder.
        seed: number of the network, from 0.
        step: exactly the step of a checkpoint.
        of: whose training: "score", "retrain/everything" or that of a selection, "retrain/el2n_keep0.5".
        train: the examples, where the run had some of one's own; so for `test` and `model`.
        test: goes with `train`.
        model: as in `run`.
        recipe: the `TrainConfig` of the run, where its optimiser or schedule is a function.

    Returns:
        Variables, model, config, data and training state.

    Raises:
        InputError: there is no such training or step (the message lists those that exist), its checkpoint is
            damaged or of another training, or data, model or recipe are not those of the run.

    Example:
        >>> import tempfile, diet_jax as dj
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     config = dj.RunConfig(
        ...         train=dj.TrainConfig(steps=33, batch_size=32, augment="none"),
        ...         score=dj.ScoreConfig(names=("el2n",), epoch=1, num_seeds=1),
        ...         select=dj.SelectConfig(fractions=(0.5,)),
        ...         retrain=dj.RetrainConfig(num_seeds=1),
        ...         checkpoint_epochs=(1,),
        ...         run_dir=folder,
        ...     )
        ...     _ = dj.run(config)
        ...     network = dj.load_checkpoint(folder, seed=0, step=33)
        >>> images = dj.normalized_inputs(network.splits.test)[:5]
        >>> network.model.predict(network.variables, images).shape
        (5, 10)
    """
    folder = RunFolder(run)
    for name, number in (("seed", seed), ("step", step)):
        if isinstance(number, bool) or not isinstance(number, int):
            raise InputError(f"{name} must be an integer, got {number!r} ({type(number).__name__})")
    config = folder.config(recipe)
    if recipe is not None and (other := differences(to_json(config.train), to_json(recipe))):
        raise InputError(
            f"recipe is not that of {folder.path} ({'; '.join(other)}); leave it out, or give that one"
        )
    resolved, scores = folder.header()["resolved"], folder.path / "scores"
    config, own = from_folder(config, Own(train, test, model), resolved, scores)
    setup = prepare(config, own, scores=False, prunes=False)
    check_same(folder, setup.config, setup.resolved())
    trainings = folder.path / "checkpoints"
    place = trainings / of / f"seed_{seed:02d}"
    if not place.is_dir():
        known = sorted(
            str(path.relative_to(trainings)) for path in trainings.glob("**/seed_*") if path.is_dir()
        )
        raise InputError(
            f"{folder.path} has no checkpoints of {of}/seed_{seed:02d}; there are those of "
            f"{', '.join(known[:8]) or 'nothing: ask for some with --checkpoint-epochs'}"
            f"{', ...' if len(known) > 8 else ''}"
        )
    purpose = "score" if of.split("/")[0] == "score" else "retrain"
    key = seed_keys(config.seed, purpose, seed + 1)[seed]
    like = start(key, setup.splits.train, program=setup.program())
    state = Checkpoints(place, facts_of(setup, place.relative_to(trainings).as_posix(), key)).restore(
        step, like
    )
    return TrainedNetwork(state.variables, setup.model, setup.config, setup.splits, state)
