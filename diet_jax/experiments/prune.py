"""The main job: score an ensemble early in training, prune, retrain on what is kept, compare."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from diet_jax.analysis.results import to_csv, to_markdown, to_rows
from diet_jax.devices.deadline import NEVER, Deadline, OutOfTime
from diet_jax.devices.processes import from_writer, together
from diet_jax.devices.progress import say
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.devices import config_mesh
from diet_jax.experiments.plan import trainings
from diet_jax.experiments.retraining import judge, missing_networks, retrain_stage, steps_of
from diet_jax.experiments.run_folder import RunFolder, open_run
from diet_jax.experiments.scoring import per_seed_paths, score_stage
from diet_jax.experiments.selecting import Selection, select_stage
from diet_jax.experiments.setup import Setup, prepare, save_noise
from diet_jax.files.arrays import write_atomically
from diet_jax.scores.file import ScoreFile


class PruneResult(NamedTuple):
    """What `run_prune` made."""

    folder: RunFolder
    rows: list[dict[str, Any]]
    """Of the table, as far as it goes."""
    unfinished: str
    """What is done and what is left, in words, where the deadline came; else empty."""


def run_prune(config: RunConfig, *, deadline: Deadline = NEVER) -> PruneResult:
    """Runs or continues the whole experiment, up to a deadline if there is one.

    Args:
        config: of the run.
        deadline: when to stop, with all that is finished in the folder, and the table as far as it goes.

    Returns:
        The run folder, the rows of its table, and what is left to do, if anything.

    Raises:
        InputError: something in config, data or folder does not fit.
    """
    setup = together(lambda: prepare(config, deadline=deadline))
    hows = [setup.how(section.how) for section in (config.score, config.retrain)]
    one_by_one = hows == ["loop", "loop"]
    if deadline.comes:
        way = "one by one: each can stop and go on" if one_by_one else "as asked: those together cannot stop"
        say(f"to stop after {deadline.minutes:g} minutes; seeds train {way}")
    selections: list[Selection] = []
    with (
        config_mesh(config, one_by_one=deadline.comes and one_by_one),
        open_run(config, setup.resolved()) as folder,
    ):
        save_noise(setup, folder)
        try:
            with _timed(folder, "scoring"):
                files = score_stage(setup, folder)
            selections = select_stage(setup, folder, files)
            with _timed(folder, "retraining"):
                retrain_stage(setup, folder, selections)
        except OutOfTime:
            unfinished = what_is_left(setup, folder, selections)
            rows = to_rows(judge(setup, folder, selections), of_seeds=config.retrain.num_seeds)
            if rows:
                note = f"**Unfinished**: {unfinished}. The same command goes on."
                from_writer(lambda: _write_table(folder, setup, rows, note))
            return PruneResult(folder, rows, unfinished)
        rows = to_rows(judge(setup, folder, selections))
        from_writer(lambda: _write_table(folder, setup, rows))
        from_writer(lambda: draw(folder.path / "figures", setup, files, rows))
    return PruneResult(folder, rows, "")


def what_is_left(setup: Setup, folder: RunFolder, selections: Sequence[Selection]) -> str:
    """Says how much of a run is done, and how long the rest takes at the speed of this slice.

    Args:
        setup: of the run.
        folder: with what is done.
        selections: those that were made; none before all networks have scored.
    """
    scores, networks = per_seed_paths(setup), sum(group[1] for group in trainings(setup))
    to_score, to_retrain = len(folder.missing(scores)), networks
    steps = to_score * setup.score_step + sum(count * each for _, count, _, each in trainings(setup))
    if selections:
        missing = missing_networks(setup, folder, selections)
        to_retrain, steps = len(missing), sum(steps_of(setup, selection) for selection, _ in missing)
    return (
        f"{len(scores) - to_score} of {len(scores)} networks have scored, {networks - to_retrain} of "
        f"{networks} are retrained; left: {to_score + to_retrain} trainings{setup.deadline.time_for(steps)}"
    )


def _write_table(folder: RunFolder, setup: Setup, rows: list[dict[str, Any]], note: str = "") -> None:
    write_atomically(folder.path / "table.csv", to_csv(rows))
    about = "".join(f"{fact}\n" for fact in (*([note] if note else []), *_unusual(setup)))
    write_atomically(folder.path / "table.md", about + ("\n" if about else "") + to_markdown(rows))


def draw(folder: Path, setup: Setup, files: list[ScoreFile], rows: list[dict[str, Any]]) -> None:
    """Draws the figures of a run from its scores and rows."""
    # Not before there is something to draw: Matplotlib takes a quarter of all imports' time.
    from diet_jax.plotting import draw_accuracy, draw_examples, draw_histogram, save_figure

    folder.mkdir(exist_ok=True)
    train = setup.splits.train
    save_figure(draw_accuracy(rows, title=_title(setup)), folder / "accuracy.png")
    for file in files:
        save_figure(draw_histogram(file, train.class_names), folder / f"scores_{file.name}.png")
        examples = draw_examples(train, file, clean_labels=setup.clean_labels)
        save_figure(examples, folder / f"examples_{file.name}.png")


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
