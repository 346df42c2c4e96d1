"""`diet-jax report`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from diet_jax.cli.command import Answer, Command
from diet_jax.cli.options import Printing
from diet_jax.errors import InputError
from diet_jax.experiments.own import NOTHING
from diet_jax.experiments.run_result import shown


@dataclass(frozen=True)
class Report(Printing):
    """Write one HTML page of a run that opens offline: curves, examples kept and dropped, classes, cost.

    Several runs of the same examples stand side by side, joined by id. A run writes the page by itself at its
    end. A config file (.py) comes first where the run had data of one's own.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders."""
    out: Path | None = None
    """Page to write (.html); by default report.html in the run folder. Several runs need it."""
    serve: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show it to browsers on this machine, at a free port that no other machine reaches, until Ctrl-C."""
    own: Annotated[Any, tyro.conf.Fixed, tyro.conf.Suppress] = NOTHING


def report(command: Report) -> Answer:
    """Writes the report of run folders, and serves it if asked to."""
    from diet_jax.report.serve import serve
    from diet_jax.report.writing import report as write

    if not command.runs:
        raise InputError("report needs a run folder, such as runs/digits-mlp")
    if command.serve and command.quiet:
        raise InputError("--serve says where the page is, and --quiet leaves that out; leave out one of them")
    page = write(list(command.runs), command.own, command.out)
    print(shown(page.absolute()))
    if command.serve:
        serve(page, lambda address: print(f"{address}   (Ctrl-C ends it)", flush=True))
    return Answer({"report": str(page)}, (shown(page),))


COMMAND = Command(
    Report,
    report,
    {
        "report runs/digits-mlp --serve": "write the page of a run again, and look at it in a browser",
        "report runs/mine runs/theirs --out both.html": "two runs of the same examples side by side",
    },
    takes_file=True,
)
