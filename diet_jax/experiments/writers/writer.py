"""What else gets the records of a run's log: opened by name, told everything, never in the way of a run."""

import contextlib
import functools
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diet_jax.devices.progress import say
from diet_jax.errors import InputError
from diet_jax.options.registry import Registry

# What a record says of itself, beside the numbers that it is about.
ABOUT = ("unit", "step", "time")


class RecordWriter(ABC):
    """Gets the records of metrics.jsonl, one after the other."""

    @abstractmethod
    def write(self, record: Mapping[str, Any]) -> None:
        """Takes a record: `unit` names the training or stage, `step` may be there, `time` is ISO 8601."""

    @abstractmethod
    def close(self) -> None:
        """Writes what is still held back."""


@dataclass(frozen=True)
class Writer:
    """A way to write records elsewhere.

    Attributes:
        name: on the command line.
        package: what must be installed.
        extra: of diet_jax, which brings it.
        open: makes it, given a folder of its own in the run folder, the run folder's name and the config.
    """

    name: str
    package: str
    extra: str
    open: Callable[[Path, str, Mapping[str, Any]], RecordWriter]


WRITERS: Registry[Writer] = Registry("writer", package="diet_jax.experiments.writers")


def check_writers(names: Sequence[str]) -> None:
    """Raises InputError where a writer is not known, named twice, or its package not installed."""
    if len({*names}) < len(names):
        raise InputError(f"writers must be named once each, got {' '.join(names)}")
    for writer in map(WRITERS.find, names):
        if importlib.util.find_spec(writer.package) is None:
            raise InputError(
                f"the writer {writer.name} needs the package {writer.package}: pip install "
                f"'diet_jax[{writer.extra}]', or leave it out: metrics.jsonl has the same records"
            )


@contextlib.contextmanager
def opened(
    names: Sequence[str], path: Path, config: Mapping[str, Any], before: Callable[[], list[dict[str, Any]]]
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Opens writers for a run folder and yields the function that each record is given to.

    One that begins gets what was logged before. One that fails is left out from there on, with one line on
    stderr: no training ends for it.

    Args:
        names: of the writers.
        path: the run folder; each has writers/NAME in it.
        config: of the run, JSON values.
        before: returns the records so far.
    """
    check_writers(names)
    writers: dict[str, RecordWriter] = {}

    def guarded(name: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:  # Of a package, its server or its disk: whatever it is, the run goes on.
            writers.pop(name, None)
            say(f"warning: the writer {name} is left out from here on: {type(error).__name__}: {error}")
            return None

    def write(record: Mapping[str, Any]) -> None:
        for name, writer in [*writers.items()]:
            guarded(name, lambda writer=writer: writer.write(record))

    def made_in(writer: Writer, place: Path) -> RecordWriter:
        place.mkdir(parents=True, exist_ok=True)
        return writer.open(place, path.absolute().name, config)

    for writer in map(WRITERS.find, names):
        place = path / "writers" / writer.name
        begins = not place.is_dir()
        made = guarded(writer.name, functools.partial(made_in, writer, place))
        if made is None:
            continue
        writers[writer.name] = made
        for record in before() if begins else ():
            guarded(writer.name, lambda made=made, record=record: made.write(record))
    try:
        yield write
    finally:
        for name, writer in [*writers.items()]:
            guarded(name, writer.close)
