"""`diet-jax runs`."""

from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from rich.markup import escape
from rich.table import Table

from diet_jax.cli.command import Answer, Command
from diet_jax.cli.console import console
from diet_jax.cli.options import Printing
from diet_jax.experiments.plan_table import bytes_text
from diet_jax.experiments.run_listing import list_runs
from diet_jax.experiments.run_result import shown
from diet_jax.options.plain import plain


@dataclass(frozen=True)
class Runs(Printing):
    """List the run folders below a folder, and how far each is.

    finished; running: a process of this machine works in it; interrupted: the same command goes on; failed:
    all scoring networks diverged; damaged: `diet-jax verify` says more; earlier format. Datasets are not
    opened, and nothing is changed.
    """

    folder: tyro.conf.Positional[Path] = Path("runs")
    """Where to look."""


def runs(command: Runs) -> Answer:
    """Prints a line for each run folder, the last started ones last."""
    found = sorted(list_runs(command.folder), key=lambda run: (run.time, str(run.path)))
    table = Table(title=f"run folders in {command.folder}")
    for name in ("folder", "state", "trainings", "dataset", "model", "scores", "last start", "size"):
        table.add_column(name, justify="right" if name in ("trainings", "size") else "left", overflow="fold")
    for run in found:
        trainings = f"{run.done:,} of {run.wanted:,}" if run.wanted else f"{run.done:,}" * bool(run.done)
        when = run.time[:16].replace("T", " ")
        told = (
            run.state,
            trainings,
            run.dataset,
            run.model,
            ", ".join(run.scores),
            when,
            bytes_text(run.bytes),
        )
        table.add_row(*map(escape, (shown(run.path.absolute()), *told)))
    if found:
        console().print(table)
    else:
        print(f"no run folder in {command.folder}")
    for run in found:
        if run.about:
            print(f"{shown(run.path.absolute())}: {run.about}")
    paths = [run.path for run in found]
    values = [plain({**asdict(run), "path": str(run.path)}) for run in found]
    return Answer({"folder": str(command.folder), "runs": values}, tuple(paths))


COMMAND = Command(
    Runs,
    runs,
    {
        "runs": "the run folders in runs/",
        "runs experiments --json": "those of another folder, for a program",
    },
)
