"""What each command of the command line does."""

import ast
import dataclasses
import difflib
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from diet_jax.analysis.reading import DOWN, UP, pivot, verdicts
from diet_jax.analysis.results import FULL, LEGEND, headings, to_columns
from diet_jax.checks.values import check_count
from diet_jax.cli.console import console
from diet_jax.cli.option_names import with_options_named
from diet_jax.cli.reporting import report_after
from diet_jax.data.dataset import Dataset
from diet_jax.data.image_files import as_line
from diet_jax.data.sources import prepare_dataset
from diet_jax.devices.deadline import Deadline, OutOfTime
from diet_jax.devices.processes import from_writer, is_alone, is_writer, together
from diet_jax.devices.progress import Progress, say
from diet_jax.ensemble.retraining import predict_dataset
from diet_jax.ensemble.shards import remove_shards
from diet_jax.errors import InputError, counted
from diet_jax.experiments.choices import chosen
from diet_jax.experiments.config import DataConfig, RunConfig
from diet_jax.experiments.devices import config_mesh
from diet_jax.experiments.divergence import Diverged, broken_predictor
from diet_jax.experiments.features import read_beside
from diet_jax.experiments.own import from_folder
from diet_jax.experiments.prune import draw_scores, run_prune
from diet_jax.experiments.retraining import PREDICTIONS
from diet_jax.experiments.run_folder import RunFolder, open_run
from diet_jax.experiments.run_result import shown
from diet_jax.experiments.scoring import score_stage, shards_beside
from diet_jax.experiments.scoring_notes import detection_stage, missing_notes
from diet_jax.experiments.scoring_saved import score_checkpoints
from diet_jax.experiments.selecting import mask_of
from diet_jax.experiments.setup import prepare as prepare_setup
from diet_jax.experiments.setup import save_noise
from diet_jax.experiments.train_one import trained_network
from diet_jax.files.tables import csv_text
from diet_jax.files.writing import write_together
from diet_jax.scores.file import ScoreFile, score_columns
from diet_jax.scores.score import SCORES
from diet_jax.selection.file import KeepFile
from diet_jax.selection.masks import num_kept
from diet_jax.selection.per_class import balance_notes, check_by_class, check_minimum
from diet_jax.selection.risk import risk_note
from diet_jax.training.dynamic_pruning.method import STATE, last_subset, share_left_out
from diet_jax.training.loop import check_keep
from diet_jax.training.recipe import steps_per_epoch
from diet_jax.training.seeds import MOST_SEEDS, check_seed, seed_keys
from diet_jax.training.step import TrainState

if TYPE_CHECKING:
    from diet_jax.cli import options

# Rows of a table, everything at one keep fraction and a few more.
AT_A_GLANCE = 20
# A line and two blanks.
BETWEEN_COLUMNS = 3

ELSEWHERE = "also from a copy of the folder elsewhere"


def run(command: "options.Run") -> None:
    """Runs or continues the main job and prints its table, or with --plan what it would take."""
    if command.plan:
        from diet_jax.experiments.plan import plan_run
        from diet_jax.experiments.plan_table import plan_tables

        plan = plan_run(command.config, command.own, tflops=command.plan_tflops)
        tables = plan_tables(plan, command.own.named(command.config))
        if is_writer():
            console().print(tables)
        return
    deadline = Deadline(command.minutes)
    result = run_prune(command.config, command.own, deadline=deadline)
    rows, unfinished = result.rows, result.unfinished
    if not is_writer():
        return
    if rows:
        _print_result(rows, "final test accuracy, %" + (", unfinished" if unfinished else ""))
    for note in result.notes:
        print(f"note: {with_options_named(note, type(command))}")
    if rows:
        _print_reading(rows, type(command))
    print(f"run folder: {shown(result.path)}")
    report_after(result.path, command.own)
    if unfinished:
        print(f"stopped after {deadline.used()}: {unfinished}; the same command goes on, {ELSEWHERE}")


def _print_result(rows: list[dict[str, Any]], title: str) -> None:
    """Prints the table, of which a narrow terminal gets fewer columns: no number is cut."""
    there = console()
    room = there.width - 1 if there.is_terminal else math.inf
    columns = to_columns(rows, room, BETWEEN_COLUMNS)
    caption = LEGEND
    if missing := [name for name in headings(rows) if name not in columns]:
        caption += f"\nno room for {', '.join(missing)}: see table.md"
    table = Table(title=title, caption=caption)
    # Only names may break into lines; in a window narrower still, lines do.
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=place > 0, overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    numbers = list(columns.items())[1:]
    least = sum(max(map(len, (name, *texts))) + BETWEEN_COLUMNS for name, texts in numbers)
    names = ["everything"] if there.is_terminal else [row["kept_by"] for row in rows]
    there.width = max(there.width, least + max(map(len, names)) + BETWEEN_COLUMNS + 1)
    there.print(table)


def _print_reading(rows: list[dict[str, Any]], command: type) -> None:
    """Prints accuracies by keep fraction, of more selections than are seen at a glance, and what they say."""
    if len(rows) > AT_A_GLANCE:
        heads, lines = pivot(rows)
        table = Table(caption=f"{UP} {DOWN} significantly above or below random")
        for place, name in enumerate(heads):
            table.add_column(name, justify="right" if place else "left", overflow="fold")
        for cells in lines:
            table.add_row(*cells)
        console().print(table)
    for line in verdicts(rows):
        print(with_options_named(line, command))


def score(command: "options.Score") -> None:
    """Scores an ensemble, trained now or restored from a run's checkpoints, and writes score files."""
    if command.from_run is not None:
        score_from_run(command)
        return
    if command.step is not None or command.names:
        raise InputError("--step and --names need --from-run; without it use --score.epoch and --score.names")
    setup = together(lambda: prepare_setup(command.config, command.own, prunes=False))
    with config_mesh(setup.config), open_run(setup.config, setup.resolved()) as folder:
        save_noise(setup, folder)
        files = score_stage(setup, folder)
        detection_stage(setup, folder, files)
        from_writer(lambda: draw_scores(folder.path / "figures", setup, files))
        for note in missing_notes(files):
            say(note)
        for file in files:
            _print(folder.path / "scores" / f"{file.name}.npz")
        path = folder.path
    report_after(path, setup.own)


def _print(line: object) -> None:
    if is_writer():
        print(line)


def score_from_run(command: "options.Score") -> None:
    """Scores the checkpoints of one step of all scoring seeds of a run: scores/step_STEP/NAME.npz."""
    assert command.from_run is not None
    if not is_alone():
        raise InputError("--from-run scores in one process; leave out --distributed")
    given, usual = vars(command.config.data), vars(DataConfig())
    moved = {name: given[name] for name in ("name", "data_dir", "labels") if given[name] != usual[name]}
    if command.config != RunConfig(data=DataConfig(**moved)):
        raise InputError(
            "--from-run takes data, model and seeds from that run: leave out all options but --step, --names "
            "and, where its data has moved, --data.name, --data.data-dir and --data.labels"
        )
    if command.step is None:
        raise InputError("--from-run needs --step, the step of the checkpoints to score")
    folder = RunFolder(command.from_run)
    resolved, place = folder.header()["resolved"], folder.path / "scores"
    config, own = from_folder(folder.config(command.own.recipe), command.own, resolved, place)
    data = dataclasses.replace(config.data, **moved)
    config = dataclasses.replace(config, run_dir=str(command.from_run), data=data)
    scores = [chosen(SCORES, name, config.score.options) for name in command.names or config.score.names]
    setup = prepare_setup(config, own, scores=False, prunes=False)
    with open_run(config, setup.resolved()) as folder:
        paths = score_checkpoints(setup, folder, command.step, scores)
        for note in missing_notes([ScoreFile.load(path) for path in paths]):
            say(note)
        for path in paths:
            print(path)


def select(command: "options.Select") -> None:
    """Turns score files into a mask file, a list of kept ids and, if wanted, a table of all examples."""
    ids_path, csv_path = command.out.with_suffix(".kept_ids.txt"), command.csv
    for option, path, suffix in (("--out", command.out, ".npz"), ("--csv", csv_path, ".csv")):
        if path is not None and path.suffix != suffix:
            raise InputError(f"{option} must end in {suffix}, got {path}")
    for option, path in (("--out", command.out), ("--out", ids_path), ("--csv", csv_path)):
        if path is not None and path.exists():
            raise InputError(f"{path} exists already; choose another {option}")
    if not command.scores:
        raise InputError("select needs a score file, such as runs/digits-mlp/scores/el2n.npz")
    files = ScoreFile.join(ScoreFile.load(path) for path in command.scores)
    file, rule = files[0], command.rule
    # Of a rule without scores one file says which examples there are.
    if len(files) != max(1, rule.num_scores):
        raise InputError(
            f"the rule {rule.name} reads {counted(rule.num_scores, 'score file')}, got {len(files)}"
        )
    check_by_class([rule], command.min_per_class, command.balanced)
    beside = {} if command.features is None else read_beside(command.features, file.ids)
    if missing := [name for name in rule.reads if name not in ("labels", *beside)]:
        raise InputError(
            f"the rule {rule.name} reads {' and '.join(missing)}: give a file that holds them, such as the "
            f"features.npz of a run, by --features"
        )
    if beside and not set(rule.reads) & set(beside):
        raise InputError(f"the rule {rule.name} reads no features; leave out --features")
    key = seed_keys(command.seed, "tie_break", 1)[0]
    check_count(command.min_per_class, "min_per_class", least=0)
    check_minimum(file.labels, num_kept(len(file.ids), command.fraction), command.min_per_class)
    options: Any = {"min_per_class": command.min_per_class, "balanced": command.balanced}
    options["beside"] = beside
    keep, facts = mask_of(files, rule, command.fraction, key=key, **options)
    if command.features is not None:
        facts["features_file"] = command.features.name
    facts |= {"score_files": [path.name for path in command.scores], "tie_break_seed": command.seed}
    mask = KeepFile(keep, file.ids, file.dataset, file.fingerprint, facts)
    contents = {command.out: mask.packed(), ids_path: "".join(f"{as_line(str(i))}\n" for i in mask.kept_ids)}
    if csv_path is not None:
        contents[csv_path] = csv_text(score_columns(files) | {"kept": keep.tolist()})
    write_together(contents)
    names = file.provenance.get("class_names") or [str(c) for c in range(int(file.labels.max()) + 1)]
    for note in missing_notes(files):
        say(note)
    guarded = bool(command.min_per_class or command.balanced)
    if risk := risk_note([rule], [command.fraction], guarded=guarded):
        say(f"warning: {risk}")
    for note in balance_notes(keep, file.labels, names):
        say(note + " (--min-per-class keeps some of each)" * (not guarded))
    written = ", ".join(map(str, contents))
    print(f"kept {int(keep.sum()):,} of {len(keep):,} examples of {file.dataset}: {written}")


def train(command: "options.Train") -> None:
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
        open_run(config, setup.resolved()) as folder,
        Progress("training", total=num_steps * num_seeds) as progress,
    ):
        diverged: list[Diverged] = []
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
            folder.log(unit, step=num_steps, test_accuracy=accuracy, test_loss=float(loss.mean()), **about)
            _print(f"{unit}: step {num_steps:,}, test accuracy {accuracy:.4f}, test loss {loss.mean():.4f}")
            if about:
                share = about["share_left_out"]
                _print(f"{config.train.dynamic} left out {share:.1%} of the examples that it chose from")
        for error in diverged if len(diverged) < num_seeds else ():
            say(f"no accuracy: {error}")
        if len(diverged) == num_seeds:
            raise diverged[0]


def _last_subset(folder: RunFolder, unit: str, state: TrainState, dataset: Dataset) -> dict[str, float]:
    """Writes what a dynamic pruning kept last, subsets/UNIT.npz, and returns what share it left out."""
    if STATE not in state.dynamics:
        return {}
    last_subset(state, dataset).save(folder.path / "subsets" / f"{unit}.npz")
    return {"share_left_out": float(share_left_out(state))}


def verify(command: "options.Verify") -> None:
    """Verifies a run folder or a store and prints what was checked; exit code 1 where something is wrong."""
    from diet_jax.experiments.reproduction.verify import is_store, verify_store
    from diet_jax.experiments.verify import verify_run

    check_count(command.examples, "--examples", least=0)
    check_seed(command.seed)
    table = Table("verified", "how many", "result", title=f"verification of {command.run}")
    wrong: list[str] = []
    moved = {name: value for name, value in vars(command.data).items() if value is not None}
    options: Any = {"moved": moved, "examples": command.examples, "seed": command.seed}
    is_run = (command.run / "config.json").is_file() or not is_store(command.run)
    for check in verify_run(command.run, command.own, **options) if is_run else verify_store(command.run):
        results = [f"{len(check.wrong)} not as written"] if check.wrong else []
        results += [escape(f"skipped: {check.skipped}")] if check.skipped else []
        if check.count or results:
            table.add_row(check.name, f"{check.count:,}", "; ".join(results) or "matches")
        wrong += [f"{name}: {what}" for name, what in check.wrong.items()]
    console().print(table)
    for line in dict.fromkeys(wrong):
        print(as_line(line))
    if wrong:
        raise SystemExit(1)


def prepare(command: "options.Prepare") -> None:
    """Downloads a dataset and writes it as a TFDS directory."""
    say(str(prepare_dataset(command.name, data_dir=command.data_dir)))


def reproduce(command: "options.Reproduce") -> None:
    """Makes figures of the paper and prints the paper's claims with our numbers."""
    # The figures' experiments take as long to import as all the rest.
    from diet_jax.cli.config_file import load_config
    from diet_jax.experiments.reproduction.figure import PaperFigure, config_folder, figure_names, make_figure
    from diet_jax.experiments.reproduction.store import open_store

    known = figure_names()
    if not command.figures:
        for name in known:
            doc = ast.get_docstring(ast.parse((config_folder() / _config_file(name)).read_text())) or ""
            print(f"{name:24} {doc.splitlines()[0]}")
        say(f"their configs: {config_folder()}")
        return
    wanted = list(command.figures)
    if "all" in wanted:
        if len(wanted) > 1:
            raise InputError(f"all stands alone, got {' '.join(wanted)}")
        wanted = known
    figures = {}
    for name in wanted:
        path = Path(name)
        if path.suffix != ".py":
            plain_name = name.replace("_", "-")
            if plain_name not in known:
                near = [other for other in known if other.startswith(plain_name)]
                near = near or difflib.get_close_matches(plain_name, known, n=1)
                hint = f"did you mean {' or '.join(near)}? " if near else ""
                raise InputError(f"unknown figure {name!r}; {hint}diet-jax reproduce lists all")
            path = config_folder() / _config_file(plain_name)
        figures[path.stem.replace("_", "-")] = load_config(str(path), PaperFigure)
    if "all" in command.figures and command.table is None:
        figures = {name: figure for name, figure in figures.items() if not figure.needs_table}
    out = command.out or command.store / "figures"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to --out {out}: {error.strerror or error}") from error
    if command.table is not None and not any(figure.needs_table for figure in figures.values()):
        raise InputError(
            f"--table is for figures that compare with it, not {', '.join(figures)}; leave it out"
        )
    deadline, made = Deadline(command.minutes), []
    if deadline.comes:
        say(f"to stop after {deadline.minutes:g} minutes; seeds train one by one: each can stop and go on")
    with open_store(command.store, command.data_dir, deadline) as store:
        try:
            for name, figure in figures.items():
                deadline.check()
                result = make_figure(name, figure, command.scale, store, out, command.table)
                _print_claims(result)
                print(f"{out / f'{name}_{command.scale}.png'}")
                made.append(name)
        except OutOfTime as stopped:
            for line in stopped.report:
                print(line)
            left = [name for name in figures if name not in made]
            print(
                f"stopped after {deadline.used()}: {len(made)} of {len(figures)} figures are made, left: "
                f"{', '.join(left)}; the same command goes on, {ELSEWHERE}: {command.store}"
            )


def _config_file(figure: str) -> str:
    return f"{figure.replace('-', '_')}.py"


def _print_claims(result: dict[str, Any]) -> None:
    from diet_jax.experiments.reproduction.outcome import verdict

    if "story" in result["facts"]:
        print(result["facts"]["story"], end="\n\n")
    table = Table(title=f"{result['title']} ({result['scale']})", title_justify="left", show_lines=True)
    for heading in ("claim", "published", "here", "holds"):
        table.add_column(heading, overflow="fold")
    for claim in result["claims"]:
        holds = verdict(claim["holds"], claim["seeds"])
        table.add_row(claim["claim"], claim["published"], claim["ours"], holds)
    if result["claims"]:
        console().print(table)
