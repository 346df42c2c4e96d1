"""The options that several commands share, as dataclasses."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from diet_jax.errors import InputError
from diet_jax.experiments.choices import choices_of
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.own import NOTHING
from diet_jax.experiments.writers.writer import WRITERS, check_writers

ELSEWHERE = "also from a copy of the folder elsewhere"

Writers = Annotated[tuple[str, ...], tyro.conf.arg(constructor_factory=choices_of(WRITERS, several=True))]
Config = Annotated[RunConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class Printing:
    """What a command prints."""

    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print only errors, and where the result is."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the result as one JSON object on standard output, and all else on standard error."""


@dataclass(frozen=True, kw_only=True)
class Compiling(Printing):
    """A command that compiles programs."""

    no_compilation_cache: tyro.conf.FlagCreatePairsOff[bool] = False
    """Compile everything anew and keep nothing. Without it compiled programs stay in the user's cache folder
    for the next start, 1 GiB at most; DIET_JAX_CACHE chooses another folder, and JAX_COMPILATION_CACHE_DIR
    JAX's own cache. Runs in several processes keep none."""


@dataclass(frozen=True, kw_only=True)
class Processes(Compiling):
    """One run in several processes, on one machine or many."""

    distributed: tyro.conf.FlagCreatePairsOff[bool] = False
    """Work together with the other processes that are started with this command. On Slurm, Open MPI,
    Kubernetes and TPU slices JAX finds them itself, else the next three options say where."""
    coordinator: str | None = None
    """With --distributed: HOST:PORT of process 0, the same for all."""
    num_processes: int | None = None
    """With --distributed: how many processes there are, the same for all."""
    process_id: int | None = None
    """With --distributed: which process this is, from 0."""


@dataclass(frozen=True, kw_only=True)
class Experiment(Processes):
    """A command with a config; what its file brings beside it has no option."""

    config: Config
    writers: Writers = ()
    """What else gets the records of metrics.jsonl, such as tensorboard or wandb; each needs the extra of its
    name. Weights & Biases is written offline unless WANDB_MODE says otherwise."""
    own: Annotated[Any, tyro.conf.Fixed, tyro.conf.Suppress] = NOTHING

    def __post_init__(self) -> None:
        check_writers(self.writers)


@dataclass(frozen=True, kw_only=True)
class Slice(Printing):
    """A long command in slices of some minutes each."""

    minutes: float | None = None
    """Stop after so many minutes with all that is finished on disk; the same command goes on, also where the
    folder was copied to. What cannot be interrupted (one compiled call, one pass over data in memory) ends
    late."""

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise InputError(f"--minutes must be a finite number above 0, got {self.minutes:g}")
