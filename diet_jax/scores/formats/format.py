"""What a format of score files is: how it is recognised, and what is read of it."""

import csv
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.files.arrays import DAMAGE
from diet_jax.options.registry import Registry

Order = Literal["rows", "original"]
Kind = Literal["npy", "npz", "csv", "jsonl"]
EPOCHS = "dynamics_epoch_*.json*"


class Peek(NamedTuple):
    """What a look at the beginning of a file shows."""

    path: Path
    kind: Kind
    names: tuple[str, ...]
    """Arrays of an .npz, the header of a CSV file, the keys of the first JSON line."""
    first: tuple[str, ...] = ()
    """The first line of a CSV file below its header."""


class Asked(NamedTuple):
    """What the user says of a file that does not say it itself."""

    order: Order | None = None
    column: str | None = None
    high_means: Literal["hard", "easy"] | None = None


class Found(NamedTuple):
    """One score as a file has it; which example each value is of is told by `ids` or by `rows`."""

    name: str
    values: np.ndarray
    """float `[n]`, or `[s n]` of several seeds, in the order of the file."""
    high_means: str
    """Of the values as they stand: "hard" or "easy", or another word, of which no direction is made."""
    formula: str
    matched: str
    """By what the examples are found, in words."""
    ids: np.ndarray | None = None
    """`[n]`, text or integers."""
    rows: np.ndarray | None = None
    """int `[n]`, the dataset's row of each value."""
    labels: np.ndarray | None = None
    """int `[n]`, if the file has any: they must be the dataset's."""
    step: int | None = None


@dataclass(frozen=True)
class Format:
    """A format of score files.

    Attributes:
        name: in messages, and what `diet-jax convert --from` takes.
        about: what it is, in a few words.
        reference: where it was published.
        kind: of its files.
        recognises: of a look at a file of that kind, 2 where it can be nothing else, 1 where it may be this,
            else 0.
        read: the scores in a file of that kind, given the look, the dataset that they are of and what the
            user says.
        asks: what of `Asked` it reads; the others are refused.
    """

    name: str
    about: str
    reference: str
    kind: Kind
    recognises: Callable[[Peek], int]
    read: Callable[[Peek, Dataset, Asked], Iterable[Found]]
    asks: tuple[str, ...] = ()


FORMATS: Registry[Format] = Registry("format of score files", package="diet_jax.scores.formats")
"""All formats by name."""


def peek(path: Path) -> Peek:
    """Looks at the beginning of a file, or at a folder of JSON lines for each epoch.

    Raises:
        InputError: it is not there, or neither .npy, .npz, CSV nor JSON lines.
    """
    if path.is_dir():
        inner = path / "training_dynamics"
        files = sorted((inner if inner.is_dir() else path).glob(EPOCHS))
        if not files:
            raise InputError(f"{path} is a folder without files {EPOCHS}; name a file")
        return peek(files[0])._replace(path=files[0].parent)
    if not path.is_file():
        raise InputError(f"no file {path}")
    with open(path, "rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        return Peek(path, "npy", ())
    if start[:2] == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                names = tuple(name.removesuffix(".npy") for name in archive.namelist())
        except DAMAGE as error:
            raise InputError(f"{path} is a damaged .npz ({error}); get it again") from error
        return Peek(path, "npz", names)
    if start.lstrip()[:1] == b"{":
        return Peek(path, "jsonl", tuple(next(json_lines(path))))
    header, *first = _csv_lines(path, 2)
    return Peek(path, "csv", tuple(header), tuple(first[0]) if first else ())


def recognised(looked: Peek) -> Format:
    """Returns the format of a file.

    Raises:
        InputError: it may be of none, or of several.
    """
    sure = {each.name: each.kind == looked.kind and each.recognises(looked) for each in FORMATS}
    best = [name for name, how in sure.items() if how and how == max(sure.values())]
    if len(best) == 1:
        return FORMATS.find(best[0])
    listed = "; ".join(f"{each.name}: {each.about}" for each in FORMATS if not best or each.name in best)
    what = (
        f"may be of {len(best)} formats" if best else f"is of no known format ({', '.join(looked.names[:8])})"
    )
    raise InputError(f"{looked.path} {what}: say which it is (--from). {listed}")


def load_npy(path: Path) -> np.ndarray:
    """Returns the array of an .npy file; pickled objects are refused."""
    try:
        return np.load(path, allow_pickle=False)
    except (*DAMAGE, OSError) as error:
        raise _damaged(path, error) from error


def load_npz(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns some arrays of an .npz file; pickled objects are refused."""
    names = list(names)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if absent := [name for name in names if name not in archive]:
                raise InputError(f"{path} has no array {', '.join(absent)}; it has {', '.join(archive)}")
            return {name: archive[name] for name in names}
    except InputError:
        raise
    except (*DAMAGE, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is damaged, or holds pickled objects, which are never loaded: {error}")


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the JSON objects of a file, one on each line."""
    with open(path, encoding="utf-8") as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):  # noqa: B007
                values = json.loads(line)
                if not isinstance(values, dict):
                    raise ValueError("it is no object")
                yield values
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"line {number or 1} of {path} is damaged: {error}; get the file again"
            ) from error


def _csv_lines(path: Path, most: int | None = None) -> list[list[str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [line for _, line in zip(range(most or 10**10), csv.reader(file), strict=False) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV file in UTF-8: {error}") from error
    if not lines:
        raise InputError(f"{path} is empty")
    return lines


def csv_columns(path: Path) -> dict[str, list[str]]:
    """Returns the columns of a CSV file with a header, as text.

    Raises:
        InputError: it is damaged: a line has fewer or more values than the header, or a name stands twice.
    """
    header, *lines = _csv_lines(path)
    if len(set(header)) < len(header) or not lines:
        raise InputError(f"{path} must have a header of different names and a line for each example")
    for number, line in enumerate(lines, 2):
        if len(line) != len(header):
            raise InputError(f"line {number} of {path} has {len(line)} values, its header has {len(header)}")
    return dict(zip(header, map(list, zip(*lines, strict=True)), strict=True))


def check_asked(chosen: Format, looked: Peek, asked: Asked) -> None:
    """Raises InputError where a file is of another kind than its format, or more is asked than that reads."""
    if looked.kind != chosen.kind:
        raise InputError(
            f"{looked.path} is of the kind {looked.kind}, the format {chosen.name} is {chosen.about}: say "
            f"another (--from), or none"
        )
    if strange := [name for name, value in asked._asdict().items() if value and name not in chosen.asks]:
        raise InputError(
            f"{looked.path}: the format {chosen.name} ({chosen.about}) leaves no choice of "
            f"{' and '.join(strange)}; leave it out"
        )


def wanted_columns(columns: dict[str, list[str]], asked: Asked, scores: list[str], path: Path) -> list[str]:
    """Returns the column that is asked for, or all those with scores.

    Raises:
        InputError: there is none.
    """
    if asked.column is not None and asked.column not in columns:
        raise InputError(f"{path} has no column {asked.column}; it has {', '.join(columns)}")
    if asked.column is None and not scores:
        raise InputError(f"{path} has no column of scores; it has {', '.join(columns)}")
    return scores if asked.column is None else [asked.column]


def decoded(names: np.ndarray, path: Path) -> np.ndarray:
    """Returns names of files as text, also where they are stored as bytes."""
    if names.dtype.kind != "S":
        return names
    try:
        return np.char.decode(names, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: its names of files are no UTF-8 ({error})") from error


def numbers(column: list[str], name: str, path: Path) -> np.ndarray:
    """Returns the numbers float64 `[n]` of a column of text."""
    try:
        if any("_" in text for text in column):
            raise ValueError("1_000 is Python, not a number")
        return np.array(column, np.float64)
    except ValueError as error:
        raise InputError(f"the column {name} of {path} holds no numbers: {error}") from error
