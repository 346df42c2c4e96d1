"""The command `report`, and the report at the end of a run."""

from pathlib import Path
from typing import TYPE_CHECKING

from diet_jax.devices.processes import is_writer
from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.experiments.own import NOTHING, Own
from diet_jax.experiments.run_result import shown

if TYPE_CHECKING:
    from diet_jax.cli import options


def report(command: "options.Report") -> None:
    """Writes the report of run folders, and serves it if asked to."""
    from diet_jax.report.serve import serve
    from diet_jax.report.writing import report as write

    if not command.runs:
        raise InputError("report needs a run folder, such as runs/digits-mlp")
    page = write(list(command.runs), command.own, command.out)
    print(shown(page.absolute()))
    if command.serve:
        serve(page, lambda address: print(f"{address}   (Ctrl-C ends it)", flush=True))


def report_after(folder: Path, own: Own = NOTHING) -> None:
    """Writes the report of a folder that a command has just worked in, by the first process.

    The results are on disk by then: what goes wrong with the report is said, and ends nothing.
    """
    if not is_writer():
        return
    from diet_jax.report.writing import report as write

    try:
        print(f"report: {shown(write(folder, own).absolute())}")
    except (InputError, OSError) as error:
        say(f"no report: {error}")
