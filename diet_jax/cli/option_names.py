"""Messages name arguments as Python has them; on the command line they name options."""

import collections
import dataclasses
import re
import typing
from collections.abc import Iterator
from typing import Any

from diet_jax.training.recipe import TrainConfig


def with_options_named(message: str, command: type) -> str:
    """Returns a message in which the fields of a command's dataclass are called what its options are called.

    A field of a section goes by its path ("score.num_seeds"). Those of the recipe and of the command itself
    also go by their own names where these are of several words ("batch_size"), and so does any field that is
    the only one of its name where the message begins with it ("epochs must", "epochs is").

    Args:
        message: of an InputError.
        command: a dataclass of the command line.

    Example:
        >>> from diet_jax.cli.commands.run import Run
        >>> with_options_named("score.num_seeds must be at least 1, got 0", Run)
        '--score.num-seeds must be at least 1, got 0'
        >>> with_options_named("epochs is 0.001, which is less than half a step; raise it", Run)
        '--train.epochs is 0.001, which is less than half a step; raise it'
    """
    paths = sorted(_paths(command))
    several = [path for path in paths if len(path) > 1 or "_" in "".join(path)]
    words = {".".join(path): _option(path) for path in several}
    words |= {".".join(path[1:]): _option(path) for path in several if len(path) > 2}
    recipe = [field.name for field in dataclasses.fields(TrainConfig) if ("train", field.name) in paths]
    words |= {name: _option(("train", name)) for name in recipe if "_" in name}
    leaves = [(".".join(path).rpartition(".")[2], path) for path in several]
    count = collections.Counter(leaf for leaf, _ in leaves)
    words |= {leaf: _option(path) for leaf, path in leaves if "_" in leaf and count[leaf] == 1}
    first = re.match(r"(\w+) (must|is)\b", message)
    if first is not None:
        called = [path for path in paths if path[-1] == first[1]]
        own = [path for path in called if len(path) == 1]
        # Other fields have names that are words of prose as well: "data is missing".
        others = (own or called) if first[2] == "must" else []
        chosen = [path for path in called if path[0] == "train"] or others
        words |= {first[1]: _option(chosen[0])} if len(chosen) == 1 else {}
    if not words:
        return message
    longest_first = sorted(map(re.escape, words), key=len, reverse=True)
    # Not within paths of files, options or longer names.
    pattern = rf"(?<![\w./'\"\\-])({'|'.join(longest_first)})(?![\w/=]|[.-]\w)"
    return re.sub(pattern, lambda found: words[found[1]], message)


def _option(path: tuple[str, ...]) -> str:
    return "--" + ".".join(path).replace("_", "-")


def _paths(cls: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The places of all fields; those of the field `config` stand a floor higher, as their options do."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        path: tuple[str, ...] = above if field.name == "config" and not above else (*above, field.name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from _paths(kind, path)
        else:
            yield path
