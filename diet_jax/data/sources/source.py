"""What a source of data sets is, and which one a name belongs to. Each is registered in a file of its own."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from diet_jax.checks.values import check_type
from diet_jax.data.dataset import Splits
from diet_jax.errors import InputError, NotHereError
from diet_jax.options.registry import Registry

ALL_OTHER_NAMES = "tfds"
"""The source that every name goes to which no source answers to."""

# Decoding processes, and pixels along a side.
MOST_WORKERS, MOST_PIXELS = 1024, 2**16


@dataclass(frozen=True)
class Source:
    """Where data sets come from, by name: in `load_dataset`, in configs and on the command line.

    A source without an argument answers to its own name, such as `digits`. One with an argument answers to
    `NAME:ARGUMENT`, such as `folder:PATH`, and its functions take the argument first. A name that no source
    answers to is one of TensorFlow Datasets, which need no `tfds:` before it.

    Attributes:
        name: letters, digits and _.
        about: what it is and where it comes from, in one line that can follow "is".
        load: `([argument], *, data_dir, cache_dir, quiet) -> Splits`.
        stream: `([argument], *, data_dir, cache_dir, image_size, workers) -> Splits` of `StreamedDataset`,
            whose images stay on disk; None if that is not possible.
        prepare: `([argument], *, data_dir, quiet) -> Path`, what has to be done once before data sets can be
            loaded, and where it is then; None if nothing has to be.
        argument: what comes after the name and a colon, such as "PATH"; "" if nothing does.

    Example:
        >>> import numpy as np, diet_jax as dj
        >>> def load_blobs(*, data_dir, cache_dir, quiet):
        ...     labels = np.arange(60) % 2
        ...     images = np.random.default_rng(0).normal(labels[:, None, None], 1, (60, 4, 4))
        ...     train = dj.Dataset.from_arrays(images[:40], labels[:40], name="blobs")
        ...     about = {"name": "blobs", "split": "test", "normalization": train.normalization}
        ...     return dj.Splits(train, dj.Dataset.from_arrays(images[40:], labels[40:], **about))
        >>> source = dj.Source(name="blobs", about="two classes of noise around 0 and 1", load=load_blobs)
        >>> _ = dj.SOURCES.register(source)
        >>> len(dj.load_dataset("blobs").train)
        40
    """

    name: str
    about: str
    load: Callable[..., Splits]
    stream: Callable[..., Splits] | None = None
    prepare: Callable[..., Path] | None = None
    argument: str = ""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise InputError(f"the name of a source must be letters, digits and _, got {self.name!r}")

    @property
    def usage(self) -> str:
        """What it answers to, such as "folder:PATH"."""
        return f"{self.name}:{self.argument}" if self.argument else self.name


SOURCES: Registry[Source] = Registry("source of data sets", package="diet_jax.data.sources")
"""All sources of data sets by name."""


def find_source(name: str) -> tuple[Source, tuple[str, ...]]:
    """Returns the source that a dataset name belongs to, and what its functions take first: nothing or one.

    Raises:
        InputError: the name lacks its argument.

    Example:
        >>> source, arguments = find_source("folder:~/pets")
        >>> source.name, arguments
        ('folder', ('~/pets',))
    """
    check_type(name, "name", str, "the name of a dataset")
    head, colon, argument = name.partition(":")
    if head in SOURCES.names():
        source = SOURCES.find(head)
        if source.argument and not argument:
            raise InputError(f"name {name!r} lacks its {source.argument}: give {source.usage}")
        if source.argument or not colon:
            return source, (argument,) * bool(source.argument)
    return SOURCES.find(ALL_OTHER_NAMES), (name,)


def describe_sources(sources: Iterable[Source]) -> str:
    """Returns a line for each source: what it answers to, and what it is."""
    return "\n".join(f"  {source.usage}: {source.about}" for source in sources)


def unknown_name(name: str, known: Iterable[str]) -> InputError:
    """The error for a name that nothing answers to, with the nearest of the known ones and the sources'."""
    if Path(name).expanduser().is_dir():
        return NotHereError(
            f"name {name!r} is no dataset but a folder: give folder:{name} if it holds train/CLASS and "
            "test/CLASS with images"
        )
    near = difflib.get_close_matches(name.lower(), sorted({*known, *SOURCES.names()}), n=3)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return NotHereError(
        f"name {name!r} is not a known dataset.{hint} Supported:\n{describe_sources(SOURCES)}\n"
        "A source of your own must be registered first, in a module that the config file imports; examples "
        "of your own come with a config file that has them as TRAIN and TEST"
    )
