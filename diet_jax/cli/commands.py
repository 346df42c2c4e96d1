"""What each command of the command line does."""

import ast
import dataclasses
import difflib
import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from diet_jax.analysis.results import FULL, HEADINGS, to_cells
from diet_jax.data.sources import prepare_dataset
from diet_jax.devices.processes import from_writer, is_alone, is_writer, together
from diet_jax.devices.progress import Progress, say
from diet_jax.ensemble.retraining import predict_dataset
from diet_jax.ensemble.scoring import score_state
from diet_jax.errors import InputError
from diet_jax.experiments.config import DataConfig, RunConfig
from diet_jax.experiments.devices import config_mesh
from diet_jax.experiments.plan import plan_run
from diet_jax.experiments.plan_table import plan_tables
from diet_jax.experiments.prune import run_prune
from diet_jax.experiments.run_folder import RunFolder, open_run
from diet_jax.experiments.scoring import report_infinite, score_stage
from diet_jax.experiments.selecting import mask_of
from diet_jax.experiments.setup import Setup, save_noise
from diet_jax.experiments.setup import prepare as prepare_setup
from diet_jax.experiments.train_one import train_with_records
from diet_jax.files.arrays import save_arrays, write_atomically
from diet_jax.scores.file import ScoreFile
from diet_jax.selection.file import KeepFile
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.loop import check_keep, start
from diet_jax.training.recipe import total_steps
from diet_jax.training.seeds import seed_keys

if TYPE_CHECKING:
    from diet_jax.cli import main as cli

# Tables go to a file or a pipe in full.
WIDTH_WITHOUT_TERMINAL = 120


def run(command: "cli.Run") -> None:
    """Runs or continues the main job and prints its table, or with --plan what it would take."""
    if command.plan:
        tables = plan_tables(plan_run(command.config), command.config)
        if is_writer():
            _console().print(tables)
        return
    folder, rows = run_prune(command.config)
    if not is_writer():
        return
    table = Table(title="final test accuracy, %", caption="± is the standard error of the paired difference")
    for column, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if column else "left", no_wrap=True)
    for cells in to_cells(rows):
        table.add_row(*cells)
    _console().print(table)
    print(f"run folder: {folder.path}")


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL)


def score(command: "cli.Score") -> None:
    """Scores an ensemble, trained now or restored from a run's checkpoints, and writes score files."""
    if command.from_run is not None:
        score_checkpoints(command)
        return
    if command.step is not None or command.names:
        raise InputError("--step and --names need --from-run; without it use --score.epoch and --score.names")
    setup = together(lambda: prepare_setup(command.config, prunes=False))
    with config_mesh(command.config), open_run(command.config, setup.resolved()) as folder:
        from_writer(lambda: save_noise(setup, folder.path / "noise.npz"))
        for file in score_stage(setup, folder):
            _print(folder.path / "scores" / f"{file.name}.npz")


def _print(line: object) -> None:
    if is_writer():
        print(line)


def score_checkpoints(command: "cli.Score") -> None:
    """Scores the checkpoints of one step of all scoring seeds of a run: scores/step_STEP/NAME.npz."""
    assert command.from_run is not None
    if not is_alone():
        raise InputError("--from-run scores in one process; leave out --distributed")
    data_dir = command.config.data.data_dir
    if dataclasses.replace(command.config, data=DataConfig()) != RunConfig() or (
        command.config.data != DataConfig(data_dir=data_dir)
    ):
        raise InputError(
            "--from-run takes data, model and seeds from that run: leave out the config file and all options "
            "but --step, --names and --data.data-dir"
        )
    if command.step is None:
        raise InputError("--from-run needs --step, the step of the checkpoints to score")
    config = RunFolder(command.from_run).config()
    data = dataclasses.replace(config.data, data_dir=data_dir or config.data.data_dir)
    config = dataclasses.replace(config, run_dir=str(command.from_run), data=data)
    setup = prepare_setup(config, scores=False, prunes=False)
    names = command.names or config.score.names
    with open_run(config, setup.resolved()) as folder:
        target = folder.path / "scores" / f"step_{command.step}"
        there = [str(target / f"{name}.npz") for name in names if (target / f"{name}.npz").exists()]
        if there:
            raise InputError(f"already there: {', '.join(there)}; move or delete them to score again")
        for name, per_seed in _restored_scores(setup, folder, command.step, names).items():
            provenance = {"checkpoints_of": str(command.from_run), "seeds": len(per_seed)}
            file = ScoreFile.from_seeds(
                name, np.stack(per_seed), setup.splits.train, step=command.step, provenance=provenance
            )
            file.save(target / f"{name}.npz")
            report_infinite(file)
            print(target / f"{name}.npz")


def _restored_scores(
    setup: Setup, folder: RunFolder, step: int, names: tuple[str, ...]
) -> dict[str, list[np.ndarray]]:
    config, train = setup.config, setup.splits.train
    seeds = sorted((folder.path / "checkpoints" / "score").glob("seed_*"))
    if not seeds:
        raise InputError(
            f"{folder.path} has no checkpoints of scoring seeds; make them with "
            f"diet-jax train --purpose score --checkpoint-epochs EPOCH ..."
        )
    key = seed_keys(config.seed, "score", 1)[0]
    like = start(key, setup.model, train, config=config.train, num_steps=setup.num_steps)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in names}
    states = [Checkpoints(path).restore(step, like) for path in seeds]
    for state in states:
        one = score_state(
            state,
            setup.model,
            train,
            names=names,
            batch_size=config.score.batch_size,
            keep=None,
            never_learned=config.score.never_learned,
        )
        for name in names:
            scores[name].append(one[name])
    return scores


def select(command: "cli.Select") -> None:
    """Turns a score file into a mask file and a list of kept ids."""
    ids_path = command.out.with_suffix(".kept_ids.txt")
    if command.out.suffix != ".npz":
        raise InputError(f"--out must end in .npz, got {command.out}")
    for path in (command.out, ids_path):
        if path.exists():
            raise InputError(f"{path} exists already; choose another --out")
    file = ScoreFile.load(command.scores)
    key = seed_keys(command.seed, "tie_break", 1)[0]
    keep, facts = mask_of(file, command.method, command.fraction, command.offset, key=key)
    facts |= {"score_file": command.scores.name, "tie_break_seed": command.seed}
    KeepFile(keep, file.ids, file.dataset, file.fingerprint, facts).save(command.out)
    write_atomically(ids_path, "".join(f"{i}\n" for i in file.ids[keep]))
    print(f"kept {int(keep.sum()):,} of {len(keep):,} examples of {file.dataset}: {command.out}, {ids_path}")


def train(command: "cli.Train") -> None:
    """Trains networks with checkpoints and prints the final test accuracy of each."""
    if command.num_seeds < 1:
        raise InputError(f"--num-seeds must be at least 1, got {command.num_seeds}")
    setup = together(lambda: prepare_setup(command.config, scores=False, prunes=False))
    config, (dataset, test) = setup.config, setup.splits
    keep, label = None, FULL
    if command.keep is not None:
        mask = from_writer(partial(KeepFile.load, command.keep, dataset=dataset))
        if mask.keep.ndim != 1:
            raise InputError(f"{command.keep} holds one mask per seed; choose a file with one mask")
        digest = hashlib.sha256(mask.keep.tobytes()).hexdigest()[:8]
        keep, label = mask.keep, f"{command.keep.stem}-{digest}"
    kept = check_keep(dataset, keep, config.train)
    num_steps = total_steps(config.train, len(dataset), len(kept))
    keys = seed_keys(config.seed, command.purpose, command.num_seeds)
    # The names of the run's own trainings, where the training is the same.
    group = "score" if (command.purpose, label) == ("score", FULL) else f"{command.purpose}/{label}"
    with (
        config_mesh(config, one_by_one=True),
        open_run(config, setup.resolved()) as folder,
        Progress("training", total=num_steps * command.num_seeds) as progress,
    ):
        for seed in range(command.num_seeds):
            unit = f"{group}/seed_{seed:02d}"
            state = train_with_records(setup, folder, unit, keys[seed], keep=keep, progress=progress)
            predicted, loss = predict_dataset(setup.model, state.variables, test)
            accuracy = float((predicted == test.labels).mean())
            facts: dict[str, Any] = {
                "fingerprint": test.fingerprint,
                "steps": num_steps,
                "num_kept": len(kept),
                "seed": seed,
            }
            path = folder.path / "trained" / f"{unit}.npz"
            arrays = {"predicted": predicted, "loss": loss}
            from_writer(partial(save_arrays, path, "predictions", arrays, facts))
            folder.log(unit, step=num_steps, test_accuracy=accuracy, test_loss=float(loss.mean()))
            _print(f"{unit}: step {num_steps:,}, test accuracy {accuracy:.4f}, test loss {loss.mean():.4f}")


def prepare(command: "cli.Prepare") -> None:
    """Downloads a dataset and writes it as a TFDS directory."""
    say(str(prepare_dataset(command.name, data_dir=command.data_dir)))


def reproduce(command: "cli.Reproduce") -> None:
    """Makes figures of the paper and prints the paper's claims with our numbers."""
    # The figures' experiments take as long to import as all the rest.
    from diet_jax.cli.main import load_config
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
        wanted = [name for name in known if name != "memorisation" or command.table is not None]
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
    out = command.out or command.store / "figures"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to --out {out}: {error.strerror or error}") from error
    if command.table is not None and "memorisation" not in figures and len(figures) > 1:
        raise InputError("--table is for the figure memorisation, which is not among those asked for")
    with open_store(command.store, command.data_dir) as store:
        for name, figure in figures.items():
            # Only the one figure that needs the table is given it.
            table = command.table if name == "memorisation" or len(figures) == 1 else None
            result = make_figure(name, figure, command.scale, store, out, table)
            _print_claims(result)
            print(f"{out / f'{name}_{command.scale}.png'}")


def _config_file(figure: str) -> str:
    return f"{figure.replace('-', '_')}.py"


def _print_claims(result: dict[str, Any]) -> None:
    if "story" in result["facts"]:
        print(result["facts"]["story"], end="\n\n")
    table = Table(title=f"{result['title']} ({result['scale']})", title_justify="left", show_lines=True)
    for heading in ("claim", "published", "here", "holds"):
        table.add_column(heading, overflow="fold")
    for claim in result["claims"]:
        table.add_row(claim["claim"], claim["published"], claim["ours"], claim["holds"])
    if result["claims"]:
        _console().print(table)
