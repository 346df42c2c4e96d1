"""The command `diet-jax`. Bad input ends in one clear message and exit code 2."""

import dataclasses
import difflib
import inspect
import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tyro

from diet_jax.cli.command import Command, command_names, find_command
from diet_jax.cli.config_file import config_of, own_of, run_file
from diet_jax.cli.objects import REGISTRY, RefusedOptionError
from diet_jax.cli.option_names import with_options_named
from diet_jax.cli.options import Compiling, Experiment
from diet_jax.cli.stopped import EXIT_CODE, stopped
from diet_jax.data.sources.source import SOURCES, describe_sources
from diet_jax.errors import InputError
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.own import NOTHING, Own, with_choices
from diet_jax.options.registry import Registry


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
        command = parse(arguments)
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
        from diet_jax.cli.compilation_cache import keep_programs
        from diet_jax.cli.console import answer
        from diet_jax.devices import processes

        if getattr(command, "distributed", False):
            processes.start(command.coordinator, command.num_processes, command.process_id)
            each = ("config", "own", "process_id")
            processes.agree({n: str(v) for n, v in vars(command).items() if n not in each}, "option")
        if isinstance(command, Compiling):
            keep_programs(wanted=not command.no_compilation_cache)
        act = find_command(arguments[0]).act
        code = answer(lambda: act(command), quiet=command.quiet, as_json=command.json)
        processes.stop()
        # None where the caller closed it.
        if sys.stdout is not None:
            sys.stdout.flush()
        if code:
            raise SystemExit(code)


@contextmanager
def _one_message(arguments: list[str]) -> Iterator[None]:
    """Turns what a user can mend into one message and an exit code."""
    try:
        yield
    except (InputError, RefusedOptionError) as error:
        message = str(error)
        if arguments and arguments[0] in command_names():
            message = with_options_named(message, find_command(arguments[0]).options)
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
        goes_on = bool(arguments) and arguments[0] in command_names() and find_command(arguments[0]).goes_on
        print(stopped(arguments, goes_on=goes_on), file=sys.stderr)
        raise SystemExit(EXIT_CODE) from None


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
    except SystemExit as exit:
        if exit.code == EXIT_CODE:
            # XLA may still be compiling in other threads, which end in a crash when Python takes itself down.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(EXIT_CODE)
        raise


def parse(arguments: list[str]) -> Any:
    """Returns a command line as its command's options; nothing runs but a config file."""
    names = command_names()
    usage = f"usage: diet-jax {{{','.join(names)}}} ...   (diet-jax COMMAND --help)"
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {name:{max(map(len, names))}} {find_command(name).about}" for name in names]
        print("\n".join([usage, "", *lines, "", _CONFIG_HELP]))
        raise SystemExit(0 if arguments else 2)
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        from diet_jax import __version__

        print(f"diet-jax {__version__}")
        raise SystemExit(0)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"unknown command {name!r}{hint}\n{usage}")
    for before, word in zip(arguments, rest, strict=False):
        # Path("") would be the current folder, and an empty text the same as none.
        if not word.strip() or (word.startswith("--") and word.endswith("=")):
            raise InputError(f"{word.rstrip('=') if word.strip() else before} is given an empty value")
    command = find_command(name)
    default: Any = {}
    brings: dict[str, Any] = {}
    path = rest.pop(0) if command.takes_file and _is_file(command, rest) else None
    module = None if path is None else run_file(path)
    if issubclass(command.options, Experiment):
        config, own = RunConfig(), NOTHING
        if path is not None:
            # With --from-run the config is that of the run; the file brings what that cannot hold.
            if "--from-run" in rest:
                own = _own_of_a_run(module, path)
            else:
                config, files = with_choices(config_of(module, path), *_choices_of(module))
                own = dataclasses.replace(own_of(module, path), files=files)
        default = {"default": command.options(config=config, own=own)}
    elif path is not None and "own" in (field.name for field in dataclasses.fields(command.options)):
        brings = {"own": _own_of_a_run(module, path)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parsed = tyro.cli(
            command.options,
            args=rest,
            prog=f"diet-jax {name}",
            description=_description(command),
            registry=REGISTRY,
            **default,
        )
    return dataclasses.replace(parsed, **brings) if brings else parsed


def _is_file(command: Command, rest: list[str]) -> bool:
    """Whether the first word is a file of one's own; other commands have other files as their arguments."""
    of_its_own = issubclass(command.options, Experiment)
    return bool(rest) and (not rest[0].startswith("-") if of_its_own else rest[0].endswith(".py"))


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


def _description(command: Command) -> str:
    """What the help says first: what the command does, examples, and where datasets come from.

    The config file may have added sources.
    """
    parts = [inspect.cleandoc(command.options.__doc__ or ""), "Examples:\n" + examples_text(command.examples)]
    if command.sources is not None:
        parts.append("Datasets:\n" + describe_sources(filter(command.sources, SOURCES)))
    return "\n\n".join(parts)


def examples_text(examples: Mapping[str, str]) -> str:
    """Returns command lines with what each does above it."""
    return "\n".join(f"  # {about}\n  diet-jax {line}" for line, about in examples.items())


_CONFIG_HELP = """\
run, compare, score and train take a config file (diet-jax run configs/fashion_mnist.py), then options that
change it (--score.epoch 10). Without a file the config is that of the embedded digits."""
