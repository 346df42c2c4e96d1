"""`diet-jax doctor`."""

from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from diet_jax.cli.command import Answer, Command
from diet_jax.cli.console import console
from diet_jax.cli.health import examine
from diet_jax.cli.options import Printing


@dataclass(frozen=True)
class Doctor(Printing):
    """Say whether this machine is ready: devices, versions, memory, disk, folders, caches, a small program.

    Nothing is changed. Exit code 1 where something is wrong, with what to do about it.
    """

    data_dir: str | None = None
    """Folder of prepared datasets; by default TFDS's own."""


def doctor(command: Doctor) -> Answer:
    """Prints what is there, what is wrong, and what to do about it."""
    table = Table("what", "found", "state", title="this machine")
    found = list(examine(command.data_dir))
    for finding in found:
        table.add_row(finding.what, escape(finding.found), finding.state)
    console().print(table)
    for finding in found:
        if finding.state == "note":
            print(f"note: {finding.what}: {finding.remedy}")
    wrong = tuple(f"{each.what}: {each.found}: {each.remedy}" for each in found if each.state == "wrong")
    return Answer({"fine": not wrong, "findings": [finding._asdict() for finding in found]}, (), wrong)


COMMAND = Command(
    Doctor,
    doctor,
    {
        "doctor": "whether this machine is ready for a run",
        "doctor --data-dir data --json": "the same for a program, with datasets in a folder of one's own",
    },
)
