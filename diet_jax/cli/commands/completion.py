"""`diet-jax completion`."""

import contextlib
import io
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import tyro

from diet_jax.cli.command import Answer, Command, command_names, find_command
from diet_jax.cli.objects import REGISTRY
from diet_jax.cli.options import Experiment, Printing
from diet_jax.experiments.config import RunConfig

# tyro knows no files as arguments of their own, and says then that the empty word completes them.
FILES_TOO = """
_diet_jax() {
  _tyro_diet_jax "$@"
  [[ -n "${COMPREPLY[*]}" ]] || COMPREPLY=()
}
complete -o default -F _diet_jax diet-jax
"""


@dataclass(frozen=True)
class Completion(Printing):
    """Print a script that completes commands, options and their values when the tab key is pressed.

    bash: put `eval "$(diet-jax completion bash)"` into ~/.bashrc. zsh: write the script to a file _diet-jax
    in a folder of `$fpath`. It knows the scores and rules of this installation.
    """

    shell: tyro.conf.Positional[Literal["bash", "zsh"]]
    """Which shell."""


def completion(command: Completion) -> Answer:
    """Prints the script."""
    script = script_of(command.shell)
    print(script, end="")
    return Answer({"shell": command.shell, "script": script})


def script_of(shell: str) -> str:
    """Returns the script for a shell."""
    kinds: Any = Union[tuple(map(_subcommand, command_names()))]  # noqa: UP007
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        tyro.cli(
            kinds,
            prog="diet-jax",
            args=["--tyro-print-completion", shell],
            registry=REGISTRY,
        )
    return written.getvalue() + FILES_TOO * (shell == "bash")


def _subcommand(name: str) -> Any:
    options: Any = find_command(name).options
    default: Any = {"default": options(config=RunConfig())} if issubclass(options, Experiment) else {}
    return Annotated[options, tyro.conf.subcommand(name, **default)]


COMMAND = Command(
    Completion,
    completion,
    {
        "completion bash": "the script for bash",
        "completion zsh": "the script for zsh",
    },
)
