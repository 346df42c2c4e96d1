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
from diet_jax.ensemble.shards import remove_shards
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.devices import config_mesh
from diet_jax.experiments.run_folder import RunFolder, open_run
from diet_jax.experiments.scoring import score_stage, seed_groups, shards_beside
from diet_jax.experiments.selecting import Selection, select_stage
from diet_jax.experiments.setup import Setup, prepare, save_noise
from diet_jax.experiments.train_one import train_with_records
from diet_jax.files.arrays import write_atomically
from diet_jax.scores.file import ScoreFile
from diet_jax.training.recipe import steps_per_epoch
from diet_jax.training.seeds import seed_keys
from diet_jax.training.step import Program

PREDICTIONS = "predictions"
"""Kind of the files that hold what a network says of the test split."""


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
        save_noise(setup, folder)
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
    programs = [setup.program(s.size(len(train))) for s in selections]
    seeds = range(config.retrain.num_seeds)
    missing = [folder.missing([_place(s, seed) for seed in seeds]) for s in selections]
    work = sum(program.num_steps * len(left) for program, left in zip(programs, missing, strict=True))
    if work:
        how = setup.how(config.retrain.how)
        say(f"retraining {config.retrain.num_seeds} networks on each of {len(selections)} selections ({how})")
    with Progress("retraining", total=work, quiet=not work) as progress:
        for selection, program, left in zip(selections, programs, missing, strict=True):
            if left:
                _retrain(setup, folder, selection, program, left, progress)
    for selection in selections:
        for seed in seeds:
            remove_shards(shards_beside(folder.path / _place(selection, seed), setup.splits.test))
    return [_judge(setup, folder, s, program) for s, program in zip(selections, programs, strict=True)]


def _retrain(
    setup: Setup,
    folder: RunFolder,
    selection: Selection,
    program: Program,
    missing: list[int],
    progress: Progress,
) -> None:
    config, (train, test) = setup.config, setup.splits
    keys = seed_keys(config.seed, "retrain", config.retrain.num_seeds)
    how = setup.how(config.retrain.how)
    units = [f"retrain/{selection.name}/seed_{seed:02d}" for seed in range(len(keys))]

    def save(seed: int, predicted: np.ndarray, loss: np.ndarray) -> None:
        facts = _result_facts(setup, selection, program, seed)
        folder.save(_place(selection, seed), PREDICTIONS, {"predicted": predicted, "loss": loss}, facts)

    if how == "loop":
        for seed in missing:
            keep = selection.mask(seed)
            state = train_with_records(setup, folder, units[seed], keys[seed], keep=keep, progress=progress)
            shards = shards_beside(folder.path / _place(selection, seed), test)
            save(seed, *predict_dataset(setup.model, state.variables, test, shards=shards))
        return
    per_epoch = steps_per_epoch(selection.size(len(train)), config.train.batch_size)
    for group, filled in seed_groups(missing, len(keys), how):
        keep = selection.masks(filled)
        trained = train_ensemble(
            keys[filled], setup.model, train, test, config=config.train, keep=keep, how=how
        )
        folder.log_histories([units[seed] for seed in group], trained.history, per_epoch)
        for place, seed in enumerate(group):
            save(seed, trained.predicted[place], trained.loss[place])
        progress.update(program.num_steps * len(set(group) & set(missing)))


def _place(selection: Selection, seed: int) -> str:
    """Where in the run folder a network's predictions are."""
    return f"retrain/{selection.name}/seed_{seed:02d}.npz"


def _result_facts(setup: Setup, selection: Selection, program: Program, seed: int) -> dict[str, Any]:
    return {
        "fingerprint": setup.splits.test.fingerprint,
        "mask": selection.digest(seed),
        "steps": program.num_steps,
        "num_kept": selection.size(len(setup.splits.train)),
        "seed": seed,
    }


def _judge(setup: Setup, folder: RunFolder, selection: Selection, program: Program) -> Result:
    predicted = []
    for seed in range(setup.config.retrain.num_seeds):
        facts = _result_facts(setup, selection, program, seed)
        predicted.append(
            folder.load(_place(selection, seed), PREDICTIONS, ("predicted",), facts)["predicted"]
        )
    size = selection.size(len(setup.splits.train))
    return Result.from_predictions(
        selection.kept_by,
        selection.fraction,
        size,
        program.num_steps,
        np.stack(predicted),
        setup.splits.test.labels,
    )


def draw(folder: Path, setup: Setup, files: list[ScoreFile], rows: list[dict[str, Any]]) -> None:
    """Draws the figures of a run from its scores and rows."""
    # Not before there is something to draw: Matplotlib takes a quarter of all imports' time.
    from diet_jax.plotting import draw_accuracy, draw_examples, draw_histogram, save_figure

    folder.mkdir(exist_ok=True)
    train = setup.splits.train
    save_figure(draw_accuracy(rows, title=_title(setup)), folder / "accuracy.png")
    for file in files:
        save_figure(draw_histogram(file, train.class_names), folder / f"scores_{file.name}.png")
        save_figure(draw_examples(train, file), folder / f"examples_{file.name}.png")


def _title(setup: Setup) -> str:
    config = setup.config
    text = f"{setup.splits.train.name}, {config.model.name}, scored at epoch {config.score.epoch:g}"
    return "".join([text, *(f", {fact}" for fact in _unusual(setup))])


def _unusual(setup: Setup) -> list[str]:
    """What a reader of the result must know beside data and model."""
    facts = [setup.config.select.rule.describe()]
    if setup.changed.any():
        facts.append(f"{setup.changed.mean():.1%} of the train labels changed")
    return [fact for fact in facts if fact]


@contextmanager
def _timed(folder: RunFolder, stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds = round(time.monotonic() - start, 2)
    folder.log(f"stage/{stage}", seconds=seconds)
    say(f"{stage}: {seconds:.1f} s")
