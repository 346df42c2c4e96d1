"""The main job: score an ensemble early in training, prune, retrain on what is kept, compare."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.analysis.results import Result, to_csv, to_markdown, to_rows
from diet_jax.devices.processes import from_writer, together
from diet_jax.devices.progress import Progress, say
from diet_jax.ensemble.retraining import predict_dataset, train_ensemble
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.devices import config_mesh
from diet_jax.experiments.run_folder import RunFolder, open_run
from diet_jax.experiments.scoring import score_stage, seed_groups
from diet_jax.experiments.selecting import Selection, select_stage
from diet_jax.experiments.setup import Setup, prepare, save_noise
from diet_jax.experiments.streamed import forget_shards, predict_streamed
from diet_jax.experiments.train_one import train_with_records
from diet_jax.files.arrays import load_checked, save_arrays, write_atomically
from diet_jax.plotting import accuracy_figure, examples_figure, histogram_figure
from diet_jax.scores.file import ScoreFile
from diet_jax.training.recipe import steps_per_epoch, total_steps
from diet_jax.training.seeds import seed_keys


def run_prune(config: RunConfig) -> tuple[RunFolder, list[dict[str, Any]]]:
    """Runs or continues the whole experiment and returns its folder and the table's rows.

    Args:
        config: of the run.

    Returns:
        The run folder, complete, and the rows of its table.

    Raises:
        InputError: something in config, data or folder does not fit.
    """
    setup = together(lambda: prepare(config))
    with config_mesh(config), open_run(config, setup.resolved()) as folder:
        from_writer(lambda: save_noise(setup, folder.path / "noise.npz"))
        with _timed(folder, "scoring"):
            files = score_stage(setup, folder)
        selections = select_stage(setup, folder, files)
        with _timed(folder, "retraining"):
            results = retrain_stage(setup, folder, selections)
        rows = to_rows(results)
        from_writer(lambda: _write(folder, setup, files, rows))
    return folder, rows


def _write(folder: RunFolder, setup: Setup, files: list[ScoreFile], rows: list[dict[str, Any]]) -> None:
    write_atomically(folder.path / "table.csv", to_csv(rows))
    about = "".join(f"{fact}\n" for fact in _unusual(setup))
    write_atomically(folder.path / "table.md", about + ("\n" if about else "") + to_markdown(rows))
    draw(folder.path / "figures", setup, files, rows)


def retrain_stage(setup: Setup, folder: RunFolder, selections: list[Selection]) -> list[Result]:
    """Retrains fresh networks on every selection and judges their last step: retrain/SELECTION/seed_R.npz."""
    config, train = setup.config, setup.splits.train
    steps = [total_steps(config.train, len(train), s.size(len(train))) for s in selections]
    missing = from_writer(
        lambda: [
            [r for r in range(config.retrain.num_seeds) if not _result_path(folder, s, r).is_file()]
            for s in selections
        ]
    )
    work = sum(n * len(seeds) for n, seeds in zip(steps, missing, strict=True))
    if work:
        how = setup.how(config.retrain.how)
        say(f"retraining {config.retrain.num_seeds} networks on each of {len(selections)} selections ({how})")
    with Progress("retraining", total=work, quiet=not work) as progress:
        for selection, num_steps, seeds in zip(selections, steps, missing, strict=True):
            if seeds:
                _retrain(setup, folder, selection, num_steps, seeds, progress)
    for selection in selections if setup.splits.test.streamed else ():
        for seed in range(config.retrain.num_seeds):
            forget_shards(_result_path(folder, selection, seed).with_suffix(".shards"))
    return [_judge(setup, folder, s, num_steps) for s, num_steps in zip(selections, steps, strict=True)]


def _retrain(
    setup: Setup,
    folder: RunFolder,
    selection: Selection,
    num_steps: int,
    seeds: list[int],
    progress: Progress,
) -> None:
    config, (train, test) = setup.config, setup.splits
    keys = seed_keys(config.seed, "retrain", config.retrain.num_seeds)
    how = setup.how(config.retrain.how)
    if how == "loop":
        for seed in seeds:
            state = train_with_records(
                setup,
                folder,
                f"retrain/{selection.name}/seed_{seed:02d}",
                keys[seed],
                keep=selection.mask(seed),
                progress=progress,
            )
            shards = _result_path(folder, selection, seed).with_suffix(".shards")
            if test.streamed:
                predicted, loss = predict_streamed(setup.model, state.variables, test, shards)
            else:
                predicted, loss = predict_dataset(setup.model, state.variables, test)
            _save_result(setup, folder, selection, num_steps, seed, predicted, loss)
        return
    per_epoch = steps_per_epoch(selection.size(len(train)), config.train.batch_size)
    for group, filled in seed_groups(seeds, len(keys), how):
        keep = (
            selection.keep if selection.keep is None or selection.keep.ndim == 1 else selection.keep[filled]
        )
        trained = train_ensemble(
            keys[filled], setup.model, train, test, config=config.train, keep=keep, how=how
        )
        units = [f"retrain/{selection.name}/seed_{seed:02d}" for seed in group]
        folder.log_histories(units, trained.history, per_epoch)
        for place, seed in enumerate(group):
            predicted, loss = trained.predicted[place], trained.loss[place]
            _save_result(setup, folder, selection, num_steps, seed, predicted, loss)
        progress.update(num_steps * len(set(group) & set(seeds)))


def _result_path(folder: RunFolder, selection: Selection, seed: int) -> Path:
    return folder.path / "retrain" / selection.name / f"seed_{seed:02d}.npz"


def _result_facts(setup: Setup, selection: Selection, num_steps: int, seed: int) -> dict[str, Any]:
    size = selection.size(len(setup.splits.train))
    fingerprint = setup.splits.test.fingerprint
    return {
        "fingerprint": fingerprint,
        "mask": selection.digest(seed),
        "steps": num_steps,
        "num_kept": size,
        "seed": seed,
    }


def _save_result(
    setup: Setup,
    folder: RunFolder,
    selection: Selection,
    num_steps: int,
    seed: int,
    predicted: np.ndarray,
    loss: np.ndarray,
) -> None:
    facts = _result_facts(setup, selection, num_steps, seed)
    arrays = {"predicted": predicted, "loss": loss}
    path = _result_path(folder, selection, seed)
    from_writer(lambda: save_arrays(path, "predictions", arrays, facts))


def _judge(setup: Setup, folder: RunFolder, selection: Selection, num_steps: int) -> Result:

    def load() -> list[np.ndarray]:
        predicted = []
        for seed in range(setup.config.retrain.num_seeds):
            facts = _result_facts(setup, selection, num_steps, seed)
            path = _result_path(folder, selection, seed)
            predicted.append(load_checked(path, "predictions", ("predicted",), facts)["predicted"])
        return predicted

    predicted = from_writer(load)
    size = selection.size(len(setup.splits.train))
    return Result.from_predictions(
        selection.kept_by, selection.fraction, size, num_steps, np.stack(predicted), setup.splits.test.labels
    )


def draw(folder: Path, setup: Setup, files: list[ScoreFile], rows: list[dict[str, Any]]) -> None:
    """Draws the figures of a run from its scores and rows."""
    folder.mkdir(exist_ok=True)
    accuracy_figure(rows, folder / "accuracy.png", title=_title(setup))
    for file in files:
        histogram_figure(file, setup.splits.train.class_names, folder / f"scores_{file.name}.png")
        examples_figure(setup.splits.train, file, folder / f"examples_{file.name}.png")


def _title(setup: Setup) -> str:
    config = setup.config
    text = f"{setup.splits.train.name}, {config.model.name}, scored at epoch {config.score.epoch:g}"
    return "".join([text, *(f", {fact}" for fact in _unusual(setup))])


def _unusual(setup: Setup) -> list[str]:
    """What a reader of the result must know beside data and model."""
    select, facts = setup.config.select, []
    if select.method == "window":
        facts.append(f"windows that leave out the lowest {select.offset:g}")
    elif select.method == "lowest":
        facts.append("the lowest scores kept")
    if setup.changed.any():
        facts.append(f"{setup.changed.mean():.1%} of the train labels changed")
    return facts


@contextmanager
def _timed(folder: RunFolder, stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds = round(time.monotonic() - start, 2)
    folder.log(f"stage/{stage}", seconds=seconds)
    say(f"{stage}: {seconds:.1f} s")
