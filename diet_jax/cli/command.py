"""A command of the command line: one file of commands/ each, found by its name."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diet_jax.cli import commands
from diet_jax.data.sources.source import Source


@dataclass(frozen=True)
class Answer:
    """What a command found or made.

    Attributes:
        values: what --json prints, by name: JSON values, named tuples, paths; NaN and infinity become null.
        paths: what was written, as --quiet prints it.
        wrong: what is not as it should be, a line each; the exit code is then 1.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[Any, ...] = ()
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """What a file of commands/ calls COMMAND.

    Attributes:
        options: a dataclass of the options; the first line of its docstring says what the command does.
        act: does it, and prints for people, on standard output what was asked for.
        examples: command lines without "diet-jax", and what each does.
        goes_on: whether a command that was stopped goes on where it was when it is given again.
        takes_file: whether a Python file may come before the options.
        sources: which sources of datasets its help lists.
    """

    options: type
    act: Callable[[Any], Answer]
    examples: Mapping[str, str]
    goes_on: bool = False
    takes_file: bool = False
    sources: Callable[[Source], bool] | None = None

    @property
    def about(self) -> str:
        """What the command does, in one line."""
        return (self.options.__doc__ or "").splitlines()[0]


def command_names() -> list[str]:
    """Returns the names of all commands, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))


def find_command(name: str) -> Command:
    """Returns a command by its name, which must be one of `command_names`."""
    return importlib.import_module(f"{commands.__name__}.{name}").COMMAND
