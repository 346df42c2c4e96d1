"""What is said where Ctrl-C ends a command: how to go on."""

import shlex
from collections.abc import Sequence

EXIT_CODE = 130
"""Of a process that Ctrl-C stopped."""


def stopped(arguments: Sequence[str], *, goes_on: bool = False) -> str:
    """Returns the message of a command that was stopped, with the command to give next.

    Args:
        arguments: of the command line, without its name.
        goes_on: whether that goes on where this one was; else nothing was written, and it begins anew.

    Example:
        >>> stopped(["run", "--run-dir", "my runs/a"], goes_on=True)
        "diet-jax: stopped; what was finished is on disk. To go on: diet-jax run --run-dir 'my runs/a'"
        >>> stopped(["verify", "runs/a"])
        'diet-jax: stopped; nothing was written. To begin anew: diet-jax verify runs/a'
    """
    line = shlex.join(["diet-jax", *arguments])
    if goes_on:
        return f"diet-jax: stopped; what was finished is on disk. To go on: {line}"
    return f"diet-jax: stopped; nothing was written. To begin anew: {line}"
