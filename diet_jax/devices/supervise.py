"""A computation in a child process, so that its death becomes one clear message.

When a process of a run is lost, JAX ends the others from its own C++ code, with a stack trace and no way to
catch it. So the work is done in a child, whose native output goes to a file, and the parent says what it was.
"""

import contextlib
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from typing import IO, Any

LOST = 3
"""Exit code where another process of the run was lost or never came."""
SECONDS_TO_STOP = 5.0
"""A process that is told to stop has so long to do so by itself."""
_AGAIN = "finished work is on disk: start all processes again with the same command to go on"


def supervised(work: Callable[[], None], *, verdict_seconds: float, connection: str) -> int:
    """Does `work` in a child process, says on stderr what killed it, if anything, and returns its exit code.

    To be called before JAX has touched a device.

    Args:
        work: ends with SystemExit where it wants an exit code other than 0.
        verdict_seconds: how long after a failed exchange of numbers JAX may take to name the lost process.
        connection: says where the processes meet, for the message if they do not.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with tempfile.TemporaryFile() as native:
        read_end, write_end = os.pipe()
        stoppers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        children: list[int] = []
        asked: list[int] = []

        def stop(number: int, _: Any = None) -> None:
            asked.append(number)
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, number)
                if len(asked) == 1:  # Native code that waits for other processes does not hear it.
                    timer = threading.Timer(SECONDS_TO_STOP, os.kill, (child, signal.SIGKILL))
                    timer.daemon = True
                    timer.start()

        # Before there is a child, for one that comes in between must not end this process alone.
        before = [signal.signal(number, stop) for number in stoppers]
        child = os.fork()
        if child == 0:
            for number, handler in zip(stoppers, before, strict=True):
                signal.signal(number, handler)
            os.close(write_end)
            _run(work, native, read_end, verdict_seconds)
        os.close(read_end)
        # The child has a process group of its own, so it gets each signal once, from here.
        children.append(child)
        if asked:
            number = asked[0]
            asked.clear()
            stop(number)
        _, status = os.waitpid(child, 0)
        for number, handler in zip(stoppers, before, strict=True):
            signal.signal(number, handler)
        os.close(write_end)
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return code
        if asked:
            print(f"diet-jax: stopped by {signal.Signals(asked[0]).name}; {_AGAIN}", file=sys.stderr)
            return 128 + asked[0]
        native.seek(0)
        text = native.read().decode(errors="replace")
    message, code = explain(text, -code, connection)
    print(f"diet-jax: {message}", file=sys.stderr)
    return code


def explain(native: str, killed_by: int, connection: str) -> tuple[str, int]:
    """Returns the message and the exit code for a child that a signal killed.

    Args:
        native: what its native code had written.
        killed_by: number of the signal.
        connection: says where the processes meet.
    """
    name = signal.Signals(killed_by).name
    if "JAX distributed service detected fatal errors" in native:
        if "CoordinationService/RegisterTask" in native:
            return (
                f"the processes of this run did not all find each other ({connection}): start process 0 "
                f"there and every other one, each with its own number, and see that this port can be reached "
                f"from all machines",
                LOST,
            )
        return f"{lost_processes(native)}; {_AGAIN}", LOST
    if killed_by in (signal.SIGTERM, signal.SIGHUP):
        return f"stopped by {name}; {_AGAIN}", 128 + killed_by
    tail = "\n".join(native.strip().splitlines()[-20:])
    return f"this process was ended by {name}; {_AGAIN}" + (f"\n{tail}" if tail else ""), 128 + killed_by


def lost_processes(native: str) -> str:
    """Says which processes JAX's coordination service has lost, from its last words."""
    found = re.search(r"stopped sending heartbeats\):?(.*?)The tasks", native, re.DOTALL)
    listed = "" if found is None else found[1]
    numbers = sorted({int(n) for n in re.findall(r"task:(\d+)", listed) or re.findall(r"\d+", listed)})
    if len(numbers) == 1:
        return f"process {numbers[0]} of this run was lost (it ended or cannot be reached)"
    if numbers:
        return f"processes {', '.join(map(str, numbers))} of this run were lost (ended or out of reach)"
    if re.search(r"UNAVAILABLE|GRPC error|DEADLINE_EXCEEDED", native):
        return "process 0 of this run was lost (it ended or cannot be reached)"
    return "another process of this run was lost (JAX does not say which)"


def _run(work: Callable[[], None], native: IO[bytes], parent: int, verdict_seconds: float) -> None:
    """The child: never returns."""
    code = 1
    try:
        os.setpgrp()
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        sys.stdout, sys.stderr = (_own_stream(number, native) for number in (1, 2))
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        # An exchange fails at once, but who is missing only JAX's heartbeats know; they end this process.
        if "RESOURCE_EXHAUSTED" not in str(error) and re.search(
            "Gloo|NCCL|Unavailable|UNAVAILABLE", str(error)
        ):
            time.sleep(verdict_seconds)
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


def _end_with(parent: int) -> None:
    """Ends this process when its parent has gone, by whatever way."""
    os.read(parent, 1)
    os._exit(LOST)


def _own_stream(number: int, native: IO[bytes]) -> Any:
    """Python's stdout or stderr where it was, while native code writes to a file."""
    kept = os.dup(number)
    os.dup2(native.fileno(), number)
    return os.fdopen(kept, "w", buffering=1, errors="replace")
