"""`diet-jax verify`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.markup import escape
from rich.table import Table

from diet_jax.checks.values import check_count
from diet_jax.cli.command import Answer, Command
from diet_jax.cli.console import console
from diet_jax.cli.options import Compiling
from diet_jax.data.image_files import as_line
from diet_jax.experiments.own import NOTHING
from diet_jax.experiments.reproduction.verify import is_store, verify_store
from diet_jax.experiments.verify import verify_run
from diet_jax.options.plain import plain
from diet_jax.training.seeds import check_seed


@dataclass(frozen=True)
class MovedData:
    """Where the data of a run is, if it has moved since."""

    name: str | None = None
    """Its name now, such as folder:PATH."""
    data_dir: str | None = None
    """Folder of prepared data sets."""
    labels: str | None = None
    """CSV file with the labels that it was trained with."""
    noise_matrix: str | None = None
    """CSV file with the matrix of its label noise."""


@dataclass(frozen=True)
class Verify(Compiling):
    """Verify all files of a run folder, and make masks, table and some scores again to compare them.

    Nothing is changed. A config file (.py) comes first where the run had data, a model, scores or rules of
    one's own. Of a store of `diet-jax reproduce`, or a folder of its figures, files are verified, and nothing
    is made again. Exit code 1 where anything does not match.
    """

    run: tyro.conf.Positional[Path]
    """Run folder, store or folder of figures."""
    data: MovedData = field(default_factory=MovedData)
    """Where its data is now."""
    examples: int = 32
    """How many examples are scored again by each scoring network whose checkpoint is kept."""
    seed: int = 0
    """Draws these examples."""
    own: Annotated[Any, tyro.conf.Fixed, tyro.conf.Suppress] = NOTHING


def verify(command: Verify) -> Answer:
    """Verifies a run folder or a store and prints what was checked; exit code 1 where something is wrong."""
    check_count(command.examples, "--examples", least=0)
    check_seed(command.seed)
    table = Table("verified", "how many", "result", title=f"verification of {command.run}")
    wrong: list[str] = []
    checks: list[dict[str, Any]] = []
    moved = {name: value for name, value in vars(command.data).items() if value is not None}
    options: Any = {"moved": moved, "examples": command.examples, "seed": command.seed}
    is_run = (command.run / "config.json").is_file() or not is_store(command.run)
    for check in verify_run(command.run, command.own, **options) if is_run else verify_store(command.run):
        results = [f"{len(check.wrong)} not as written"] if check.wrong else []
        results += [escape(f"skipped: {check.skipped}")] if check.skipped else []
        if check.count or results:
            table.add_row(check.name, f"{check.count:,}", "; ".join(results) or "matches")
        wrong += [f"{name}: {what}" for name, what in check.wrong.items()]
        checks.append(plain(check))
    console().print(table)
    values = {"verified": str(command.run), "matches": not wrong, "checks": checks}
    return Answer(values, (command.run,), tuple(map(as_line, dict.fromkeys(wrong))))


COMMAND = Command(
    Verify,
    verify,
    {
        "verify runs/digits-mlp": "whether all files of a run are as it wrote them",
        "verify runs/digits-mlp --examples 0 --json": "without scoring again, for a program",
    },
    takes_file=True,
)
