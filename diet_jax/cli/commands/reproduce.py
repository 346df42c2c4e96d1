"""`diet-jax reproduce`."""

import ast
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.table import Table

from diet_jax.cli.command import Answer, Command
from diet_jax.cli.config_file import load_config
from diet_jax.cli.console import console
from diet_jax.cli.options import ELSEWHERE, Compiling, Slice
from diet_jax.devices.deadline import Deadline, OutOfTime
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.figure import PaperFigure, config_folder, figure_names, make_figure
from diet_jax.experiments.reproduction.outcome import verdict
from diet_jax.experiments.reproduction.store import open_store


@dataclass(frozen=True)
class Reproduce(Slice, Compiling):
    """Make a figure of the paper: train what is missing, reuse what is there, draw it.

    Trainings, checkpoints and scores are kept in a store that all figures share; a stopped command goes on
    when it is called again.
    """

    figures: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of figures, config files (.py), or all; without any, the names are listed."""
    scale: Literal["smoke", "small", "medium", "paper"] = "small"
    """smoke: the digits, seconds. small: other data and networks, minutes on two cores. medium: the paper's
    data and network for 40 epochs, fewer networks. paper: the paper's own; both on an accelerator."""
    store: Path = Path("runs/paper")
    """Folder that the figures share."""
    out: Path | None = None
    """Folder for the pictures and their numbers; by default STORE/figures."""
    data_dir: str | None = None
    """Where prepared TFDS datasets are; by default TFDS's own folder."""
    table: str | None = None
    """For the figure memorisation: a CSV file with the header id,memorisation."""


def reproduce(command: Reproduce) -> Answer:
    """Makes figures of the paper and prints the paper's claims with our numbers."""
    known = figure_names()
    if not command.figures:
        about = {name: _about(name) for name in known}
        for name, line in about.items():
            print(f"{name:24} {line}")
        say(f"their configs: {config_folder()}")
        return Answer({"figures": about})
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
        label = path.stem.replace("_", "-")
        if label in figures:
            raise InputError(
                f"two figures are called {label}, and the second would be written over the first; give each "
                f"once, or its config file another name"
            )
        figures[label] = load_config(str(path), PaperFigure)
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
    deadline, made = Deadline(command.minutes), {}
    if deadline.comes:
        say(f"to stop after {deadline.minutes:g} minutes; seeds train one by one: each can stop and go on")
    with open_store(command.store, command.data_dir, deadline) as store:
        try:
            for name, figure in figures.items():
                deadline.check()
                result = make_figure(name, figure, command.scale, store, out, command.table)
                _print_claims(result)
                print(f"{out / f'{name}_{command.scale}.png'}")
                made[name] = result
        except OutOfTime as stopped:
            for line in stopped.report:
                print(line)
            left = [name for name in figures if name not in made]
            print(
                f"stopped after {deadline.used()}: {len(made)} of {len(figures)} figures are made, left: "
                f"{', '.join(left)}; the same command goes on, {ELSEWHERE}: {command.store}"
            )
    pictures = {name: out / f"{name}_{command.scale}.png" for name in made}
    found = {
        name: {"picture": str(pictures[name]), "claims": result["claims"]} for name, result in made.items()
    }
    left = [name for name in figures if name not in made]
    return Answer({"figures": found, "left": left}, tuple(pictures.values()))


def _about(figure: str) -> str:
    text = (config_folder() / _config_file(figure)).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]


def _config_file(figure: str) -> str:
    return f"{figure.replace('-', '_')}.py"


def _print_claims(result: dict[str, Any]) -> None:
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


COMMAND = Command(
    Reproduce,
    reproduce,
    {
        "reproduce": "list the figures",
        "reproduce all --scale smoke --store runs/smoke": "all of them on the digits, within minutes",
        "reproduce fig1-fractions-cifar10 --scale small --minutes 30": "one figure; the same command goes on",
    },
    goes_on=True,
)
