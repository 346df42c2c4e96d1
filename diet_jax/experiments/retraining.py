"""The retraining stage: fresh networks on every selection, judged on the test split by their last step."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diet_jax.analysis.results import FULL, Result
from diet_jax.data.dataset import Dataset
from diet_jax.devices.defaults import How
from diet_jax.devices.progress import Progress, say
from diet_jax.ensemble.over_seeds import joined
from diet_jax.ensemble.retraining import EnsembleTraining, predict_dataset, train_ensemble
from diet_jax.ensemble.shards import remove_shards
from diet_jax.errors import InputError, counted
from diet_jax.experiments.divergence import (
    Diverged,
    at_least,
    broken_predictor,
    diverged_seeds,
    named,
    remedy,
)
from diet_jax.experiments.row_costs import costs_of
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.scoring import seed_groups, shards_beside
from diet_jax.experiments.selecting import Selection
from diet_jax.experiments.setup import Setup
from diet_jax.experiments.train_one import trained_network
from diet_jax.files.arrays import MADE_AGAIN
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.masks import num_kept
from diet_jax.training.divergence import Divergence, said_elsewhere
from diet_jax.training.recipe import steps_per_epoch
from diet_jax.training.seeds import seed_keys

PREDICTIONS = "predictions"
"""Kind of the files that hold what a network says of the test split."""

# The first comparison has so many seeds before all else is begun: with one, a difference has no error.
FIRST_SEEDS = 2

Network = tuple[Selection, int]
"""One network to retrain: on what, and the number of its seed."""


def retrain_stage(setup: Setup, folder: RunFolder, selections: Sequence[Selection]) -> None:
    """Retrains fresh networks on every selection; what they predict: retrain/SELECTION/seed_R.npz."""
    how, count = setup.how(setup.config.retrain.how), setup.config.retrain.num_seeds
    missing = missing_networks(setup, folder, selections)
    work = sum(steps_of(setup, selection) for selection, _ in missing)
    total = count * len(selections)
    if len(missing) < total:
        say(f"{total - len(missing)} of {counted(total, 'network')} are retrained already and are used again")
    if missing:
        say(f"retraining {count} network{'s' * (count != 1)} on each of {len(selections)} selections ({how})")
    with Progress("retraining", total=work, quiet=not work) as progress:
        if how == "loop":
            known = folder.diverged()
            for selection, seed in missing:
                if _has_too_few(setup, selection, known):
                    progress.update(steps_of(setup, selection))
                    continue
                try:
                    _retrain(setup, folder, selection, seed, progress)
                except Diverged:
                    known = folder.diverged()
        else:
            for networks in _groups(setup, missing, how):
                _retrain_together(setup, folder, networks, progress)
    for selection in selections:
        for seed in range(count):
            remove_shards(shards_beside(folder.path / _place(selection, seed), setup.splits.test))


def missing_networks(setup: Setup, folder: RunFolder, selections: Sequence[Selection]) -> list[Network]:
    """Returns selection and seed of every network that is not retrained yet, in the order of the work.

    First the comparison at the first fraction that the config names, of two seeds: by each score, at random,
    everything. Then seed by seed all fractions in the order of the config.
    """
    fractions = setup.fractions

    def place(work: Network) -> tuple[bool, int, int, bool]:
        selection, seed = work
        everything = selection.kept_by == FULL
        rank = 0 if everything else fractions.index(selection.fraction)
        return (rank > 0 or seed >= FIRST_SEEDS, seed, rank, everything)

    known = folder.diverged()
    seeds = range(setup.config.retrain.num_seeds)
    wanted = [
        (selection, seed)
        for selection in selections
        if not _has_too_few(setup, selection, known)
        for seed in seeds
        if _unit(selection, seed) not in known
    ]
    works = sorted(wanted, key=place)
    return [works[i] for i in folder.missing([_place(*work) for work in works])]


def retraining_notes(setup: Setup, folder: RunFolder, selections: Sequence[Selection]) -> list[str]:
    """Says which rows are means over some networks only, and which are left out, because others diverged.

    Raises:
        InputError: every row is left out.
    """
    notes, count, known = [], setup.config.retrain.num_seeds, folder.diverged()
    for selection in selections:
        row, diverged = (
            f"{selection.kept_by}, keep {selection.fraction:g}",
            _diverged(setup, selection, known),
        )
        why = f"of {counted(count, 'network')} diverged ({named(diverged)})"
        if _has_too_few(setup, selection, known):
            notes.append(
                f"{row} is left out: {len(diverged)} {why}, at least {at_least(count)} must remain; lower "
                f"the learning rate"
            )
        elif diverged:
            notes.append(
                f"{row} is the mean over {count - len(diverged)} of {counted(count, 'network')}: "
                f"{len(diverged)} {why}"
            )
    if all(_has_too_few(setup, selection, known) for selection in selections):
        raise InputError(
            f"no row of the table is left, too many networks diverged: {notes[0].rpartition(';')[0]}, and "
            f"so on; {remedy(folder.path)}"
        )
    return notes


def _diverged(setup: Setup, selection: Selection, known: Mapping[str, Divergence]) -> dict[int, Divergence]:
    units = [_unit(selection, seed) for seed in range(setup.config.retrain.num_seeds)]
    return diverged_seeds(known, units, steps_of(setup, selection))


def _has_too_few(setup: Setup, selection: Selection, known: Mapping[str, Divergence]) -> bool:
    """Whether so many networks of a selection diverged that less than half can remain for its row."""
    count = setup.config.retrain.num_seeds
    return count - len(_diverged(setup, selection, known)) < at_least(count)


def steps_of(setup: Setup, selection: Selection) -> int:
    """Returns the steps of a training on a selection."""
    return setup.steps_at(selection.fraction)


def train_together(
    setup: Setup,
    networks: Sequence[tuple[int, np.ndarray | None]],
    dataset: Dataset,
    *,
    num_steps: int,
    how: How,
) -> EnsembleTraining:
    """Trains networks that keep equally many examples in one program, each as it is trained by itself.

    Args:
        setup: config, data and model.
        networks: of each the number of its retraining seed and its mask bool `[n]`, None for everything.
        dataset: what they are judged on at the end.
        num_steps: of each.
        how: as `resolve_how` returns it.

    Returns:
        What `train_ensemble` returns, in the order of the networks.
    """
    keys = seed_keys(setup.config.seed, "retrain", max(seed for seed, _ in networks) + 1)
    train, everything = setup.splits.train, np.ones(len(setup.splits.train), bool)
    # A training on everything of another length than its own takes no more than that.
    config = dataclasses.replace(setup.config.train, steps=num_steps, budget="equal_steps")
    with said_elsewhere():
        return train_ensemble(
            keys[np.asarray([seed for seed, _ in networks])],
            setup.model,
            train,
            dataset,
            config=config,
            keep=np.stack([everything if keep is None else keep for _, keep in networks]),
            how=how,
        )


def _groups(setup: Setup, missing: Sequence[Network], how: How) -> list[list[Network]]:
    """Networks that train in one program: those of a selection, of several where that is faster."""
    selections = dict.fromkeys(selection for selection, _ in missing)
    groups = [[one for one in missing if one[0] is selection] for selection in selections]
    count = len(setup.splits.train)
    return joined(groups, how, lambda one: (one[0].size(count), steps_of(setup, one[0])))


def _retrain(setup: Setup, folder: RunFolder, selection: Selection, seed: int, progress: Progress) -> None:
    key = seed_keys(setup.config.seed, "retrain", seed + 1)[seed]
    shards = shards_beside(folder.path / _place(selection, seed), setup.splits.test)
    length_of = num_kept(len(setup.splits.train), selection.fraction)
    options: Any = {"keep": selection.mask(seed), "length_of": length_of, "measures": False}
    options["progress"] = progress
    with trained_network(setup, folder, _unit(selection, seed), key, **options) as state:
        options = {"shards": shards, "deadline": setup.deadline}
        found = predict_dataset(setup.model, state.variables, setup.splits.test, **options)
        why = _broken_by(setup, folder, selection, seed, found[1])
        if why is not None:
            raise Diverged(_unit(selection, seed), why, folder)
        _save(setup, folder, selection, seed, *found)


def _per_epoch(setup: Setup, selection: Selection) -> int:
    return steps_per_epoch(selection.size(len(setup.splits.train)), setup.config.train.batch_size)


def _broken_by(
    setup: Setup, folder: RunFolder, selection: Selection, seed: int, loss: np.ndarray
) -> Divergence | None:
    steps, per_epoch = steps_of(setup, selection), _per_epoch(setup, selection)
    return broken_predictor(folder, _unit(selection, seed), steps, per_epoch, loss)


def _retrain_together(
    setup: Setup, folder: RunFolder, networks: Sequence[Network], progress: Progress
) -> None:
    """Retrains networks of one size and length in one program, as far as memory goes."""
    first, how = networks[0][0], setup.how(setup.config.retrain.how)
    for places, filled in seed_groups(list(range(len(networks))), len(networks), how):
        wanted = [(networks[place][1], networks[place][0].mask(networks[place][1])) for place in filled]
        with setup.deadline.whole("retraining seeds together"):
            trained = train_together(
                setup, wanted, setup.splits.test, num_steps=steps_of(setup, first), how=how
            )
        group = [networks[place] for place in places]
        units = [_unit(*network) for network in group]
        folder.log_histories(units, trained.history, _per_epoch(setup, first))
        known = folder.diverged()
        for row, (selection, seed) in enumerate(group):
            loss = trained.loss[row]
            if units[row] not in known and _broken_by(setup, folder, selection, seed, loss) is None:
                _save(setup, folder, selection, seed, trained.predicted[row], loss)
        steps = steps_of(setup, first) * len(group)
        progress.update(steps)
        setup.deadline.worked(steps)


def _unit(selection: Selection, seed: int) -> str:
    return f"retrain/{selection.name}/seed_{seed:02d}"


def _place(selection: Selection, seed: int) -> str:
    """Where in the run folder a network's predictions are."""
    return f"{_unit(selection, seed)}.npz"


def _save(
    setup: Setup,
    folder: RunFolder,
    selection: Selection,
    seed: int,
    predicted: np.ndarray,
    loss: np.ndarray,
) -> None:
    arrays = {"predicted": predicted, "loss": loss}
    folder.save(_place(selection, seed), PREDICTIONS, arrays, _facts(setup, selection, seed))


def _facts(setup: Setup, selection: Selection, seed: int) -> dict[str, Any]:
    return {
        "fingerprint": setup.splits.test.fingerprint,
        "mask": selection.digest(seed),
        "steps": steps_of(setup, selection),
        "num_kept": selection.size(len(setup.splits.train)),
        "seed": seed,
    }


def judge(
    setup: Setup,
    folder: RunFolder,
    selections: Sequence[Selection],
    *,
    files: Sequence[ScoreFile] | None = None,
    rows: Any = slice(None),
) -> list[Result]:
    """Returns the results of the networks that are retrained; selections without any are left out.

    Args:
        setup: of the run.
        folder: with their predictions.
        selections: that were retrained on.
        files: the scores that they were selected by, for their costs; by default these are left out.
        rows: of the test split, to judge by; by default all.
    """
    results, count, known = [], setup.config.retrain.num_seeds, folder.diverged()
    costs = {} if files is None else costs_of(setup, folder, files, selections)
    for selection in selections:
        missing = folder.missing([_place(selection, seed) for seed in range(count)])
        seeds = [seed for seed in range(count) if seed not in missing]
        if not seeds or _has_too_few(setup, selection, known):
            continue
        found = [_predicted(setup, folder, selection, seed) for seed in seeds]
        results.append(
            Result.from_predictions(
                selection.kept_by,
                selection.fraction,
                selection.size(len(setup.splits.train)),
                steps_of(setup, selection),
                np.stack(found)[:, rows],
                setup.splits.test.labels[rows],
                seeds=seeds,
                least_kept=selection.least_kept(setup.splits.train),
                score="+".join(selection.scores),
                rule=selection.rule,
                costs=costs.get(selection.name),
            )
        )
    return results


def _predicted(setup: Setup, folder: RunFolder, selection: Selection, seed: int) -> np.ndarray:
    """The classes int32 `[m]` that a network gives the test split, if its file is sound, losses included."""
    names, labels = ("predicted", "loss"), setup.splits.test.labels
    arrays = folder.load(_place(selection, seed), PREDICTIONS, names, _facts(setup, selection, seed))
    predicted, loss = (arrays[name] for name in names)
    if predicted.shape != labels.shape or loss.shape != labels.shape or not (loss >= 0).all():
        raise InputError(
            f"{folder.path / _place(selection, seed)} is damaged: it must hold a class and a loss of at "
            f"least 0 for each of {len(labels):,} test examples; {MADE_AGAIN}"
        )
    return predicted
