"""Writes docs/commands.md: what every command does, with its examples. docs/lists.py runs it too.

Command: python docs/commands.py
"""

import inspect
from pathlib import Path

from diet_jax.cli.command import Command, command_names, find_command

PAGE = Path(__file__).parent / "commands.md"
HEAD = """\
# Commands

What `diet-jax` does, with examples that work; `diet-jax COMMAND --help` has all options and the examples too.
This page is written by `docs/lists.py`; a test keeps it with the code.

**What is printed.** Tables and paths go to standard output; progress, notes and warnings to standard error.
Every command takes `--quiet`, which leaves errors and the path of the result, and `--json`, which prints the
result as one JSON object on standard output and all else on standard error. The exit code is 0, 1 where
something was found to be wrong (`verify`, `doctor`), 2 after bad input, 130 after Ctrl-C.

```sh
diet-jax run --json > result.json
run=$(diet-jax run --quiet)
```

**Stopping.** Ctrl-C ends a command with the exact command to give next. It goes on for those marked so below;
a network that was not finished goes on from its last checkpoint, which a long training leaves every five
minutes, or starts anew. `--minutes` stops with everything saved.

**Looking on.** Every training's numbers are in `metrics.jsonl` of the run folder, and its tables are CSV.
`--writers tensorboard wandb` gives the same records to TensorBoard (in `writers/tensorboard`) and to Weights
& Biases (offline unless `WANDB_MODE` says otherwise); `pip install '.[tensorboard,wandb]'` has both.
One that begins in a folder gets what was logged before; one that fails is left out, and the run goes on.

**Completion.** In bash: `eval "$(diet-jax completion bash)"`.
"""

# On the site the help texts stand in the place of the mark.
HELP = """\
## All options

`diet-jax COMMAND --help` prints them; on the site they stand here.

<!-- commands -->
"""


def section(name: str, command: Command) -> str:
    """Returns what the page says of a command."""
    about, *rest = inspect.cleandoc(command.options.__doc__ or "").split("\n\n")
    goes_on = ["Goes on when it was stopped."] * command.goes_on
    examples = "\n".join(f"# {text}\ndiet-jax {line}" for line, text in command.examples.items())
    paragraphs = [f"## {name}", about, *rest, *goes_on, f"```sh\n{examples}\n```"]
    return "\n\n".join(paragraphs) + "\n"


def page() -> str:
    """Returns docs/commands.md."""
    sections = [section(name, find_command(name)) for name in command_names()]
    return "\n".join([HEAD, *sections, HELP])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
