"""`diet-jax run`."""

import math
from dataclasses import dataclass
from typing import Any

import tyro
from rich.table import Table

from diet_jax.analysis.reading import DOWN, UP, pivot, verdicts
from diet_jax.analysis.results import LEGEND, headings, to_columns
from diet_jax.cli.command import Answer, Command
from diet_jax.cli.console import console
from diet_jax.cli.option_names import with_options_named
from diet_jax.cli.options import ELSEWHERE, Experiment, Slice
from diet_jax.cli.reporting import report_after
from diet_jax.devices.deadline import Deadline
from diet_jax.devices.processes import is_writer
from diet_jax.errors import InputError
from diet_jax.experiments.prune import run_prune
from diet_jax.experiments.run_result import RunResult, shown


@dataclass(frozen=True)
class Run(Slice, Experiment):
    """Score an ensemble early in training, prune, retrain on what is kept, and compare.

    A config file (.py), if any, comes before the options; they change it. It may also bring examples of one's
    own as TRAIN and TEST, a network as MODEL, and SCORES and RULES.
    """

    plan: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run nothing: show operations, cost and estimated time of each stage, programs, memory and disk."""
    plan_tflops: float | None = None
    """With --plan: reckon with so many TFLOP/s of each device, as they are reached, not as on the data sheet;
    nothing is compiled then. By default one short training step is timed here."""

    def __post_init__(self) -> None:
        Slice.__post_init__(self)
        Experiment.__post_init__(self)
        if self.plan and self.minutes is not None:
            raise InputError(f"--minutes {self.minutes:g} with --plan, which runs nothing; leave one out")
        if self.plan_tflops is None:
            return
        if not self.plan:
            raise InputError(f"--plan-tflops {self.plan_tflops:g} without --plan; add it, or leave this out")
        if not 0 < self.plan_tflops < math.inf:
            raise InputError(f"--plan-tflops must be a finite number above 0, got {self.plan_tflops:g}")


# Rows of a table, everything at one keep fraction and a few more.
AT_A_GLANCE = 20
# A line and two blanks.
BETWEEN_COLUMNS = 3


def run(command: Run) -> Answer:
    """Runs or continues the main job and prints its table, or with --plan what it would take."""
    if command.plan:
        from diet_jax.experiments.plan import plan_run
        from diet_jax.experiments.plan_table import plan_tables

        plan = plan_run(command.config, command.own, tflops=command.plan_tflops)
        tables = plan_tables(plan, command.own.named(command.config))
        if is_writer():
            console().print(tables)
        return Answer({"plan": {**plan._asdict(), "seconds": plan.seconds}})
    deadline = Deadline(command.minutes)
    result = run_prune(command.config, command.own, deadline=deadline, writers=command.writers)
    if is_writer():
        _print_all(result, deadline, type(command))
    report_after(result.path, command.own)
    values = {"run_dir": str(result.path), "finished": not result.unfinished, "left": result.unfinished}
    return Answer({**values, "rows": result.rows, "notes": list(result.notes)}, (shown(result.path),))


def _print_all(result: RunResult, deadline: Deadline, command: type) -> None:
    """Prints the table, what a reader must know of it, and where it is."""
    rows, unfinished = result.rows, result.unfinished
    if rows:
        _print_result(rows, "final test accuracy, %" + (", unfinished" if unfinished else ""))
    for note in result.notes:
        print(f"note: {with_options_named(note, command)}")
    if rows:
        _print_reading(rows, command)
    print(f"run folder: {shown(result.path)}")
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


COMMAND = Command(
    Run,
    run,
    {
        "run": "the whole experiment on the embedded digits, into runs/digits-mlp",
        "run configs/fashion_mnist.py --minutes 30": "a slice of 30 minutes; the same command goes on",
        "run --plan --train.epochs 100": "what it would take, and nothing is run",
    },
    goes_on=True,
    takes_file=True,
    sources=lambda _: True,
)
