"""What commands print: tables for people, or what --quiet and --json ask for."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

from diet_jax.cli.command import Answer
from diet_jax.devices.processes import is_writer

# Tables go to a file or a pipe in full.
WIDTH_WITHOUT_TERMINAL = 120


def console() -> Console:
    """Returns the terminal, or what takes its place with room for a table."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL)


def show(line: object) -> None:
    """Prints a line for people; of several processes the first one does."""
    if is_writer():
        print(line)


def answer(act: Callable[[], Answer], *, quiet: bool, as_json: bool) -> int:
    """Does what a command does, prints what is asked for, and returns the exit code.

    What `act` prints is for people. With `as_json` it goes to stderr, and stdout gets one JSON object; with
    `quiet` it goes nowhere, and nor do progress, notes and warnings: stdout gets the paths of what was
    written, stderr what is wrong. Both together: the JSON object, and what is wrong.
    """
    with contextlib.ExitStack() as elsewhere:
        if quiet:
            nowhere = elsewhere.enter_context(open(os.devnull, "w", encoding="utf-8"))
            elsewhere.enter_context(contextlib.redirect_stderr(nowhere))
        if quiet or as_json:
            elsewhere.enter_context(contextlib.redirect_stdout(sys.stderr))
        found = act()
    if is_writer():
        for line in found.wrong:
            print(line, file=sys.stderr if quiet or as_json else sys.stdout)
        if as_json:
            print(json.dumps(_finite(found.values), ensure_ascii=False))
        elif quiet:
            for path in found.paths:
                print(path)
    return 1 if found.wrong else 0


def _finite(value: Any) -> Any:
    """JSON has no infinite numbers and no NaN; named tuples go by their names, paths are text."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _finite(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value if isinstance(value, (int, str, type(None))) else str(value)
