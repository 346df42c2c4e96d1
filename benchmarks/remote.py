"""Functions in a process of their own: called by name, one at a time, timed where they run.

Two frameworks in one process would share its threads and its memory. In two processes of which only one is
ever at work they have the same cores, and can still take turns within every round.
"""

import importlib
import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Literal

SETTLE_S = 0.1  # Threads that wait by spinning have gone to sleep by then.

Functions = dict[str, Callable[[], Any]]
Clock = Literal["perf_counter", "process_time"]


class Remote:
    """A child process that holds functions; close it, or use it in a `with` block.

    Args:
        build: importable by name; makes the functions in the child, and imports there what they need.
        *args: of `build`; must pickle.
    """

    def __init__(self, build: Callable[..., Functions], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(end, build, args), daemon=True)
        self._process.start()
        end.close()

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def seconds(self, name: str, clock: Clock = "perf_counter") -> float:
        """Calls a function and returns how long it took in the child, or its processor time there."""
        time.sleep(SETTLE_S)
        return self._ask(name, clock)

    def result(self, name: str) -> Any:
        """Calls a function and returns what it returned; that must pickle."""
        return self._ask(name, None)

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()

    def _ask(self, name: str, clock: Clock | None) -> Any:
        try:
            self._pipe.send((name, clock))
            failed, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(10)
            raise RuntimeError(f"the process of {name!r} ended: {self._process.exitcode}") from error
        if failed:
            raise RuntimeError(f"{name!r} failed in its process:\n{answer}")
        return answer


def built_by(module: str, *args: Any) -> Functions:
    """The functions that `build` of a module makes, which only the child imports: a `build` for `Remote`."""
    return importlib.import_module(module).build(*args)


def _serve(pipe: Connection, build: Callable[..., Functions], args: tuple[Any, ...]) -> None:
    functions: Functions | None = None
    while True:
        try:
            name, clock = pipe.recv()
        except EOFError:
            return
        try:
            if functions is None:
                functions = build(*args)
            now = getattr(time, clock or "perf_counter")
            begin = now()
            result = functions[name]()
            took = now() - begin
            pipe.send((False, took if clock else result))
        except Exception:
            pipe.send((True, traceback.format_exc()))
