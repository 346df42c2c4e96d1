"""The main job: score an ensemble early in training, prune, retrain on what is kept, compare."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diet_jax.analysis.reading import BUDGETS, pivot, verdicts
from diet_jax.analysis.results import (
    LEGEND,
    RS2,
    Result,
    headings,
    to_cells,
    to_class_rows,
    to_csv,
    to_markdown,
    to_rows,
)
from diet_jax.data.dataset import Dataset
from diet_jax.data.remarks import empty_classes
from diet_jax.devices.deadline import NEVER, Deadline, OutOfTime
from diet_jax.devices.processes import from_writer, together
from diet_jax.devices.progress import say
from diet_jax.errors import InputError, counted
from diet_jax.experiments.automatic_size import retrain_growing, size_notes
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.devices import config_mesh
from diet_jax.experiments.own import NOTHING, Own, with_choices
from diet_jax.experiments.plan import trainings
from diet_jax.experiments.provenance import save_provenance
from diet_jax.experiments.retraining import (
    judge,
    missing_networks,
    retrain_stage,
    retraining_notes,
    steps_of,
)
from diet_jax.experiments.row_costs import cost_rows, cost_stage
from diet_jax.experiments.run_folder import RunFolder, open_run
from diet_jax.experiments.run_log import PROVENANCE, UNFINISHED
from diet_jax.experiments.run_result import RunResult
from diet_jax.experiments.scoring import score_stage, unscored
from diet_jax.experiments.scoring_notes import detection_stage, scoring_notes
from diet_jax.experiments.selecting import Selection, select_stage
from diet_jax.experiments.setup import Setup, prepare, save_noise
from diet_jax.experiments.stopping import wanted_seeds
from diet_jax.experiments.writers.writer import check_writers
from diet_jax.files.writing import write_together
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.detection import DetectionQuality, detection_table
from diet_jax.training.recipe import rate_remark
from diet_jax.types import Model


def run(
    config: RunConfig | None = None,
    *,
    train: Dataset | None = None,
    test: Dataset | None = None,
    model: Model | None = None,
    scores: Any = None,
    rules: Any = None,
    minutes: float | None = None,
    writers: Sequence[str] = (),
) -> RunResult:
    """Runs or continues the whole experiment: scores, prunes, retrains, compares, in a run folder.

    What `diet-jax run` does, with objects in place of names: each takes its place in the table with the
    random baseline and paired errors, in the figures, in the files and in resuming. The same call goes on
    where it was stopped; with other code, data or options the folder is refused.

    Args:
        config: all that is to be different from the defaults; for the command's defaults `RunConfig()`.
        train: examples of one's own in place of `config.data.name`; `config.data` may still cut them to size
            and change labels.
        test: goes with `train`: the same classes, shape and `normalization`.
        model: in place of `config.model`, made by `from_linen`, `from_nnx`, `from_equinox` or
            `from_functions`.
        scores: in place of `config.score.names`: names, `Score` and `ScoreFile` objects, one or a tuple.
        rules: in place of `config.select.method`: names and `Rule` objects, one or a tuple.
        minutes: stop after so many with all that is finished on disk; by default at the end.
        writers: what else gets the records of metrics.jsonl, such as "tensorboard" or "wandb".

    Returns:
        The table, the figures, and where everything is.

    Raises:
        InputError: something in config, objects or folder does not fit. Nothing was changed then.

    Paper: section 3, Figure 1.

    Example:
        >>> import tempfile, diet_jax as dj
        >>> train, test = dj.load_dataset("digits")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = dj.run(
        ...         dj.RunConfig(
        ...             train=dj.TrainConfig(steps=20, batch_size=32, augment="none"),
        ...             score=dj.ScoreConfig(epoch=0.5, num_seeds=1),
        ...             select=dj.SelectConfig(fractions=(0.5,)),
        ...             retrain=dj.RetrainConfig(num_seeds=2),
        ...             run_dir=folder,
        ...         ),
        ...         train=train,
        ...         test=test,
        ...         model=dj.create_model("mlp", num_classes=10),
        ...         scores="el2n",
        ...     )
        >>> [row["kept_by"] for row in result.rows]
        ['everything', 'el2n', 'random']
    """
    config = RunConfig() if config is None else config
    if not isinstance(config, RunConfig):
        raise InputError(f"config must be a dj.RunConfig, got {type(config).__name__}")
    config, files = with_choices(config, scores, rules)
    return run_prune(config, Own(train, test, model, files), deadline=Deadline(minutes), writers=writers)


def run_prune(
    config: RunConfig, own: Own = NOTHING, *, deadline: Deadline = NEVER, writers: Sequence[str] = ()
) -> RunResult:
    """Runs or continues the whole experiment, up to a deadline if there is one.

    Args:
        config: of the run.
        own: what takes part in place of what the config would name.
        deadline: when to stop, with all that is finished in the folder, and the table as far as it goes.
        writers: what else gets the records of metrics.jsonl, by their names.

    Returns:
        The table, where everything is, and what is left to do, if anything.

    Raises:
        InputError: something in config, data or folder does not fit.
    """
    check_writers(writers)
    setup = together(lambda: prepare(config, own, deadline=deadline))
    config = setup.config
    hows = [setup.how(section.how) for section in (config.score, config.retrain)]
    one_by_one = hows == ["loop", "loop"]
    if deadline.comes:
        way = "one by one: each can stop and go on" if one_by_one else "as asked: those together cannot stop"
        say(f"to stop after {deadline.minutes:g} minutes; seeds train {way}")
    files, selections = list[ScoreFile](), list[Selection]()
    with (
        config_mesh(config, one_by_one=deadline.comes and one_by_one),
        open_run(config, setup.resolved(), writers=writers) as folder,
    ):
        save_noise(setup, folder)
        try:
            with _timed(folder, "scoring"):
                files = score_stage(setup, folder)
            found = detection_stage(setup, folder, files)
            cost_stage(setup, folder)
            selections = select_stage(setup, folder, files)
            with _timed(folder, "retraining"):
                if config.select.max_loss is None:
                    retrain_stage(setup, folder, selections)
                else:
                    selections = retrain_growing(setup, folder, selections)
        except OutOfTime:
            unfinished = what_is_left(setup, folder, selections)
            results = judge(setup, folder, selections, files=files)
            rows = rows_of(setup, results, count=config.retrain.num_seeds)
            if rows:
                note = f"{UNFINISHED}: {unfinished}. The same command goes on."
                _write_table(folder, setup, results, rows, note=note)
            return RunResult(folder.path.absolute(), rows, unfinished)
        notes = run_notes(setup, folder, files, selections)
        results = judge(setup, folder, selections, files=files)
        rows = rows_of(setup, results)
        from_writer(lambda: draw(folder.path / "figures", setup, files, rows))
        # A table that says nothing else is one of a finished run: it comes last.
        _write_table(folder, setup, results, rows, notes=notes, found=found)
        from_writer(lambda: save_provenance(setup, folder))
    return RunResult(folder.path.absolute(), rows, notes=tuple(notes))


def rows_of(setup: Setup, results: list[Result], *, count: int | None = None) -> list[dict[str, Any]]:
    """Returns the rows of a run's table; with a column for `count` seeds, or for all where some diverged."""
    all_seeds = setup.config.retrain.num_seeds
    if any(len(result.seeds) < all_seeds for result in results):
        count = all_seeds
    return to_rows(results, of_seeds=count, budget=setup.config.train.budget)


def run_notes(
    setup: Setup, folder: RunFolder, files: Sequence[ScoreFile], selections: Sequence[Selection]
) -> list[str]:
    """Says what a reader of the table must know of its scores and selections."""
    notes = scoring_notes(setup, files)
    if setup.config.train.augment != "none":
        notes.append(f"trained with random crops and flips: train.augment is {setup.config.train.augment}")
    if (dynamic := setup.config.train.dynamic) != "none":
        notes.append(f"every network chose among its examples while it trained: train.dynamic is {dynamic}")
    notes += [*filter(None, [rate_remark(setup.config.train)]), *empty_classes(setup.splits)]
    if RS2 in setup.config.select.baselines and not any(map(setup.has_rs2, setup.fractions)):
        notes.append(
            "rs2, a fresh random subset in each epoch, is everything here and not trained again: without "
            "replacement its epochs are successive slices of one order of all examples, and its steps are "
            "as many"
        )
    elif RS2 in setup.config.select.baselines:
        notes.append(
            "rs2, a fresh random subset of that size in each epoch without replacement, sees all examples in "
            "time: successive slices of one order of all"
        )
    if setup.config.select.balanced:
        notes.append("as many of every class are kept, or all that a smaller one has: select.balanced")
    if minimum := setup.config.select.min_per_class:
        notes.append(f"at least {minimum} of every class are kept, or all that it has: select.min_per_class")
    notes += [f"keep {fraction:g} is left out: {reason}" for fraction, reason in setup.left_out.items()]
    notes += [f"{s.kept_by}, keep {s.fraction:g}: {note}" for s in selections for note in s.notes]
    return [
        *notes,
        *size_notes(setup, folder, selections),
        *retraining_notes(setup, folder, selections),
    ]


def what_is_left(setup: Setup, folder: RunFolder, selections: Sequence[Selection]) -> str:
    """Says how much of a run is done, and how long the rest takes at the speed of this slice.

    Args:
        setup: of the run.
        folder: with what is done.
        selections: those that were made; none before all networks have scored.
    """
    scores, networks = wanted_seeds(setup, folder), sum(group[1] for group in trainings(setup))
    to_score, to_retrain = len(unscored(setup, folder)), networks
    steps = to_score * setup.score_step + sum(count * each for _, count, _, each in trainings(setup))
    if selections:
        missing = missing_networks(setup, folder, selections)
        to_retrain, steps = len(missing), sum(steps_of(setup, selection) for selection, _ in missing)
    return (
        f"{len(scores) - to_score} of {counted(len(scores), 'network')} scored, {networks - to_retrain} of "
        f"{networks} retrained; left: {counted(to_score + to_retrain, 'training')}"
        f"{setup.deadline.time_for(steps)}"
    )


def _write_table(
    folder: RunFolder, setup: Setup, results: list[Result], rows: list[dict[str, Any]], **more: Any
) -> None:
    texts = table_texts(setup, results, rows, **more)
    texts["costs.csv"] = to_csv(cost_rows(folder, rows, results))

    def write() -> None:
        # What it says of the table before does not hold for the next.
        (folder.path / PROVENANCE).unlink(missing_ok=True)
        write_together({folder.path / name: text for name, text in texts.items()})

    from_writer(write)


def table_texts(
    setup: Setup,
    results: list[Result],
    rows: list[dict[str, Any]],
    *,
    note: str = "",
    notes: Sequence[str] = (),
    found: dict[str, DetectionQuality] | None = None,
) -> dict[str, str]:
    """Returns the contents of table.csv, classes.csv and table.md, by these names.

    Args:
        setup: of the run.
        results: of the table.
        rows: made of them.
        note: stands above it.
        notes: stand below it.
        found: how well each score finds changed labels, below these.
    """
    facts = [*([note] if note else []), BUDGETS[setup.config.train.budget], *_unusual(setup)]
    read = verdicts(rows)
    parts = ["\n".join(facts), to_markdown(*pivot(rows)), *(["- " + "\n- ".join(read)] if read else [])]
    parts += [to_markdown(headings(rows), to_cells(rows)), LEGEND]
    parts += ["- " + "\n- ".join(notes)] if notes else []
    parts += [detection_table(found)] if found else []
    classes = to_csv(to_class_rows(results, setup.splits.test.class_names))
    text = "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
    return {"table.csv": to_csv(rows), "classes.csv": classes, "table.md": text}


def draw(folder: Path, setup: Setup, files: list[ScoreFile], rows: list[dict[str, Any]]) -> None:
    """Draws the figures of a run from its scores and rows."""
    # Not before there is something to draw: Matplotlib takes a quarter of all imports' time.
    from diet_jax.plotting import draw_accuracy, draw_costs, draw_examples, draw_histogram, save_figure

    train, title = setup.splits.train, _title(setup)
    save_figure(draw_accuracy(rows, title=title), folder / "accuracy.png")
    save_figure(draw_costs(rows, title=title), folder / "costs.png")
    for file in files:
        save_figure(draw_histogram(file, train.class_names), folder / f"scores_{file.name}.png")
        examples = draw_examples(train, file, clean_labels=setup.clean_labels)
        save_figure(examples, folder / f"examples_{file.name}.png")
    draw_scores(folder, setup, files)


def draw_scores(folder: Path, setup: Setup, files: Sequence[ScoreFile], *, step: int | None = None) -> None:
    """Draws the rank correlations between scores, of at least three that have ranks.

    Args:
        folder: where correlations.png is written.
        setup: of the run.
        files: the scores.
        step: that they are of, by default that of the config.
    """
    from diet_jax.plotting import can_correlate, draw_correlations, save_figure

    if can_correlate(files):
        title = _subject(setup) if step is None else _subject(setup, step / setup.per_epoch)
        title += "".join(f", {fact}" for fact in _changed(setup))
        save_figure(draw_correlations(files, title=title), folder / "correlations.png")


def _title(setup: Setup) -> str:
    text = f"{_subject(setup)}, {setup.config.train.budget.replace('_', ' ')}"
    return "".join([text, *(f", {fact}" for fact in _unusual(setup))])


def _subject(setup: Setup, epoch: float | None = None) -> str:
    config = setup.config
    text, at = (
        f"{setup.splits.train.name}, {config.model.name}",
        config.score.epoch if epoch is None else epoch,
    )
    # Scores that were made elsewhere have epochs of their own.
    return text + (f", scored at epoch {at:g}" if setup.scores or epoch is not None else "")


def _unusual(setup: Setup) -> list[str]:
    """What a reader of the result must know beside data and model."""
    rules = setup.config.select.rules
    facts = [rules[0].describe() if len(rules) == 1 else f"kept by {', '.join(rule.name for rule in rules)}"]
    return [fact for fact in (*facts, *_changed(setup)) if fact]


def _changed(setup: Setup) -> list[str]:
    return [f"{setup.changed.mean():.1%} of the train labels changed"] if setup.changed.any() else []


@contextmanager
def _timed(folder: RunFolder, stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds = round(time.monotonic() - start, 2)
    folder.log(f"stage/{stage}", seconds=seconds)
    say(f"{stage}: {seconds:.1f} s")
