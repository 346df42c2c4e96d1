"""The command `diet-jax`. Bad input ends in one clear message and exit code 2."""

import dataclasses
import difflib
import inspect
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tyro

from diet_jax.cli.config_file import config_of, own_of, run_file
from diet_jax.cli.objects import REGISTRY, RefusedOptionError
from diet_jax.cli.option_names import with_options_named
from diet_jax.cli.options import (
    COMMANDS,
    Compare,
    Compiling,
    Convert,
    Experiment,
    Prepare,
    Report,
    Reproduce,
    Run,
    Score,
    Select,
    Stability,
    Train,
    Verify,
)
from diet_jax.data.sources.source import SOURCES, Source, describe_sources
from diet_jax.errors import InputError
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.own import NOTHING, Own, with_choices
from diet_jax.options.registry import Registry

# Exit code of a process that Ctrl-C stopped.
STOPPED = 130


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; exits with 0, or with 2 after one message for bad input.

    With --distributed the work is done in a child process, see supervise.py.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # A terminal without the table's lines shows question marks; that is no reason to fail at the end.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    with _one_message(arguments):
        command = _parse(arguments)
        _check_processes(command)
    if getattr(command, "distributed", False):
        from diet_jax.devices.processes import CONNECT_SECONDS, HEARTBEAT_SECONDS
        from diet_jax.devices.supervise import supervised

        code = supervised(
            lambda: _act(command, arguments),
            verdict_seconds=HEARTBEAT_SECONDS + 10,
            connection=f"{command.coordinator or 'at the address of this job'}, within {CONNECT_SECONDS} s",
        )
        if code:
            raise SystemExit(code)
        return
    _act(command, arguments)


def _act(command: Any, arguments: list[str]) -> None:
    with _one_message(arguments):
        from diet_jax.cli import commands, reporting, score_files
        from diet_jax.cli.compilation_cache import keep_programs
        from diet_jax.devices import processes

        actions: dict[type, Callable[[Any], None]] = {
            Run: commands.run,
            Compare: commands.run,
            Score: commands.score,
            Select: commands.select,
            Train: commands.train,
            Convert: score_files.convert,
            Stability: score_files.stability,
            Report: reporting.report,
            Verify: commands.verify,
            Prepare: commands.prepare,
            Reproduce: commands.reproduce,
        }
        if getattr(command, "distributed", False):
            processes.start(command.coordinator, command.num_processes, command.process_id)
            each = ("config", "own", "process_id")
            processes.agree({n: str(v) for n, v in vars(command).items() if n not in each}, "option")
        if isinstance(command, Compiling):
            keep_programs(wanted=not command.no_compilation_cache)
        actions[type(command)](command)
        processes.stop()
        sys.stdout.flush()


@contextmanager
def _one_message(arguments: list[str]) -> Iterator[None]:
    """Turns what a user can mend into one message and an exit code."""
    try:
        yield
    except (InputError, RefusedOptionError) as error:
        command = COMMANDS.get(arguments[0]) if arguments else None
        message = str(error) if command is None else with_options_named(str(error), command)
        print(f"diet-jax: {message}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # Who read the output has left.
        _forget_output()
        raise SystemExit(1) from None
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:
            # A full disk, where the output goes to a file.
            _forget_output()
        print(f"diet-jax: {error}; nothing that was finished is lost", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("diet-jax: stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(STOPPED) from None


def _forget_output() -> None:
    """Leaves out what could not be written to stdout: it must not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    for before, word in zip(arguments, rest, strict=False):
        # Path("") would be the current folder, and an empty text the same as none.
        if not word.strip() or (word.startswith("--") and word.endswith("=")):
            raise InputError(f"{word.rstrip('=') if word.strip() else before} is given an empty value")
    command: Any = COMMANDS[name]
    default: Any = {}
    brings: dict[str, Any] = {}
    if issubclass(command, Experiment):
        config, own = RunConfig(), NOTHING
        if rest and not rest[0].startswith("-"):
            path = rest.pop(0)
            module = run_file(path)
            # With --from-run the config is that of the run; the file brings what that cannot hold.
            if command is Score and "--from-run" in rest:
                own = _own_of_a_run(module, path)
            else:
                config, files = with_choices(config_of(module, path), *_choices_of(module))
                own = dataclasses.replace(own_of(module, path), files=files)
        default = {"default": command(config=config, own=own), "description": _with_sources(command, SOURCES)}
    elif command is Prepare:
        default = {"description": _with_sources(command, [s for s in SOURCES if s.prepare is not None])}
    elif command in (Select, Report, Verify) and rest and rest[0].endswith(".py"):
        path = rest.pop(0)
        module = run_file(path)
        if command in (Report, Verify):
            brings = {"own": _own_of_a_run(module, path)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parsed = tyro.cli(command, args=rest, prog=f"diet-jax {name}", registry=REGISTRY, **default)
    return dataclasses.replace(parsed, **brings) if brings else parsed


def _choices_of(module: Any) -> list[Any]:
    """The scores and rules that a config file brings; it may have the library's registries by their names."""
    brought = (getattr(module, name, None) for name in ("SCORES", "RULES"))
    return [None if isinstance(value, Registry) else value for value in brought]


def _own_of_a_run(module: Any, path: str) -> Own:
    """What a config file brings to a run that is there; its scores and rules can then be named."""
    with_choices(RunConfig(), *_choices_of(module))
    config = getattr(module, "CONFIG", None)
    recipe = config.train if isinstance(config, RunConfig) else None
    return dataclasses.replace(own_of(module, path), recipe=recipe)


def _with_sources(command: type, sources: Iterable[Source]) -> str:
    """The description of a command, and where its datasets come from; the config file may have added some."""
    return f"{inspect.cleandoc(command.__doc__ or '')}\n\nDatasets:\n{describe_sources(sources)}"


_CONFIG_HELP = """\
run, compare, score and train take a config file (diet-jax run configs/fashion_mnist.py), then options that
change it (--score.epoch 10). Without a file the config is that of the embedded digits."""
