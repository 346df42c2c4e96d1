"""The command `diet-jax`. Bad input ends in one clear message and exit code 2."""

import difflib
import importlib.util
import inspect
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from diet_jax.data.sources.source import SOURCES, Source, describe_sources
from diet_jax.ensemble.scoring import ScoreName
from diet_jax.errors import InputError
from diet_jax.experiments.config import RunConfig

# Exit code of a process that Ctrl-C stopped.
STOPPED = 130

Config = Annotated[RunConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class Processes:
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


@dataclass(frozen=True)
class Run(Processes):
    """Score an ensemble early in training, prune, retrain on what is kept, and compare.

    A config file (.py), if any, comes before the options; they change it.
    """

    config: Config
    plan: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run nothing: show programs, operations, memory, disk and estimated time of each stage."""


@dataclass(frozen=True)
class Score(Processes):
    """Score every example with an ensemble, and write a score file for each score.

    Trains the ensemble of the config, or, with --from-run, scores the saved checkpoints of a run.
    """

    config: Config
    from_run: Path | None = None
    """Score the checkpoints that `diet-jax train --purpose score` (or run) saved in this run folder; data,
    model and seeds are those of that run."""
    step: int | None = None
    """With --from-run: the step of the checkpoints."""
    names: tuple[ScoreName, ...] = ()
    """With --from-run: which scores; by default those of the run's config."""


@dataclass(frozen=True)
class Train(Processes):
    """Train networks with checkpoints; a stopped command goes on where it was when it is called again."""

    config: Config
    keep: Path | None = None
    """Mask file of `diet-jax select`: train on what it keeps; by default on everything."""
    num_seeds: int = 1
    """How many networks."""
    purpose: Literal["score", "retrain"] = "retrain"
    """Which stream of seeds: to score examples with, or to judge a selection."""


@dataclass(frozen=True)
class Select:
    """Turn a score file into a mask file, and a text file of the ids that are kept."""

    scores: tyro.conf.Positional[Path]
    """Score file that `diet-jax run` or `score` wrote."""
    out: Path
    """Mask file to write (.npz); the ids go beside it, ending in .kept_ids.txt."""
    fraction: float
    """Keep fraction."""
    method: Literal["highest", "lowest", "window"] = "highest"
    """Keep the highest or lowest scores, or a window of ranks."""
    offset: float = 0.0
    """Window: share of the lowest-scored examples to skip."""
    seed: int = 0
    """Decides between equal scores."""


@dataclass(frozen=True)
class Prepare:
    """Do what a dataset needs once before it can be loaded: download it, write it as TFDS would."""

    name: tyro.conf.Positional[str]
    """Of the dataset, as above."""
    data_dir: str | None = None
    """Where; by default TFDS's own folder."""


@dataclass(frozen=True)
class Reproduce:
    """Make a figure of the paper: train what is missing, reuse what is there, draw it.

    Trainings, checkpoints and scores are kept in a store that all figures share; a stopped command goes on
    when it is called again.
    """

    figures: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of figures, config files (.py), or all; without any, the names are listed."""
    scale: Literal["smoke", "small", "paper"] = "small"
    """smoke: the digits, seconds. small: minutes on two cores. paper: the paper's own, on an accelerator."""
    store: Path = Path("runs/paper")
    """Folder that the figures share."""
    out: Path | None = None
    """Folder for the pictures and their numbers; by default STORE/figures."""
    data_dir: str | None = None
    """Where prepared TFDS datasets are; by default TFDS's own folder."""
    table: str | None = None
    """For the figure memorisation: a CSV file with the header id,memorisation."""


COMMANDS: dict[str, type] = {
    "run": Run,
    "score": Score,
    "select": Select,
    "train": Train,
    "prepare": Prepare,
    "reproduce": Reproduce,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; exits with 0, or with 2 after one message for bad input.

    With --distributed the work is done in a child process, see supervise.py.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal without the table's lines shows question marks; that is no reason to fail at the end.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    with _one_message():
        command = _parse(arguments)
        _check_processes(command)
    if getattr(command, "distributed", False):
        from diet_jax.devices.processes import CONNECT_SECONDS, HEARTBEAT_SECONDS
        from diet_jax.devices.supervise import supervised

        code = supervised(
            lambda: _act(command),
            verdict_seconds=HEARTBEAT_SECONDS + 10,
            connection=f"{command.coordinator or 'at the address of this job'}, within {CONNECT_SECONDS} s",
        )
        if code:
            raise SystemExit(code)
        return
    _act(command)


def _act(command: Any) -> None:
    with _one_message():
        from diet_jax.cli import commands
        from diet_jax.devices import processes

        actions: dict[type, Callable[[Any], None]] = {
            Run: commands.run,
            Score: commands.score,
            Select: commands.select,
            Train: commands.train,
            Prepare: commands.prepare,
            Reproduce: commands.reproduce,
        }
        if getattr(command, "distributed", False):
            processes.start(command.coordinator, command.num_processes, command.process_id)
            own = ("config", "process_id")
            processes.agree({n: str(v) for n, v in vars(command).items() if n not in own}, "option")
        actions[type(command)](command)
        processes.stop()
        sys.stdout.flush()


@contextmanager
def _one_message() -> Iterator[None]:
    """Turns what a user can mend into one message and an exit code."""
    try:
        yield
    except InputError as error:
        print(f"diet-jax: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # Who read the output has left; what was not written yet must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        print(f"diet-jax: {error}; nothing that was finished is lost", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("diet-jax: stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(STOPPED) from None


def _check_processes(command: Any) -> None:
    flags = ("coordinator", "num_processes", "process_id")
    given = [f"--{f.replace('_', '-')}" for f in flags if getattr(command, f, None) is not None]
    if given and not command.distributed:
        raise InputError(f"{', '.join(given)} without --distributed; add it, or leave them out")


def command() -> None:
    """Runs the command line as a process of its own."""
    try:
        main()
    except SystemExit as stopped:
        if stopped.code == STOPPED:
            # XLA may still be compiling in other threads, which end in a crash when Python takes itself down.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(STOPPED)
        raise


def load_config(path: str, kind: type = RunConfig) -> Any:
    """Runs a config file and returns its CONFIG.

    Args:
        path: of a Python file.
        kind: what CONFIG must be.

    Raises:
        InputError: there is no such file, it fails, or CONFIG is missing.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(
            f"no config file {path}; those of the project are in configs/ of its repository, and after an "
            f"installation in {Path(sys.prefix) / 'share/diet_jax/configs'}"
        )
    spec = importlib.util.spec_from_file_location("diet_jax_config", file)
    if spec is None or spec.loader is None:
        raise InputError(f"config file {path} must be a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"config file {path} fails: {type(error).__name__}: {error}") from error
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, kind):
        raise InputError(f"config file {path} must define CONFIG, a {kind.__module__}.{kind.__name__}")
    return config


def _parse(arguments: list[str]) -> Any:
    usage = f"usage: diet-jax {{{','.join(COMMANDS)}}} ...   (diet-jax COMMAND --help)"
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {name:9} {(cls.__doc__ or '').splitlines()[0]}" for name, cls in COMMANDS.items()]
        print("\n".join([usage, "", *lines, "", _CONFIG_HELP]))
        raise SystemExit(0 if arguments else 2)
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        from diet_jax import __version__

        print(f"diet-jax {__version__}")
        raise SystemExit(0)
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"unknown command {name!r}{hint}\n{usage}")
    command = COMMANDS[name]
    default: Any = {}
    if name == "prepare":
        default = {"description": _with_sources(command, [s for s in SOURCES if s.prepare is not None])}
    if "config" in command.__annotations__:
        has_file = bool(rest) and not rest[0].startswith("-")
        config = load_config(rest.pop(0)) if has_file else RunConfig()
        default = {"default": command(config=config), "description": _with_sources(command, SOURCES)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tyro.cli(command, args=rest, prog=f"diet-jax {name}", **default)


def _with_sources(command: type, sources: Iterable[Source]) -> str:
    """The description of a command, and where its datasets come from; the config file may have added some."""
    return f"{inspect.cleandoc(command.__doc__ or '')}\n\nDatasets:\n{describe_sources(sources)}"


_CONFIG_HELP = """\
run, score and train take a config file (diet-jax run configs/fashion_mnist.py), then options that change
it (--score.epoch 10). Without a file the config is that of the embedded digits."""
