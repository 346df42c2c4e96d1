"""Several processes as one run: started together, in agreement, and only process 0 reads and writes results.

With one process everything here does nothing. A process that is lost ends the others, see supervise.py.
"""

import json
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
import numpy as np

from diet_jax.devices.messages import packed_message, unpacked_message
from diet_jax.errors import InputError

HEARTBEAT_SECONDS = 20
"""A process that was not heard of for so long counts as lost; the others then end."""
CONNECT_SECONDS = 120
"""For so long processes wait for each other at the start."""

Result = TypeVar("Result")

_inside: ContextVar[bool] = ContextVar("inside from_writer", default=False)


def start(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Connects this process with the others of its run; to be called before anything touches a device.

    Args:
        coordinator: HOST:PORT of process 0, as all processes reach it. Without the three arguments JAX reads
            them from the cluster: Slurm, Open MPI, Kubernetes, TPU slices.
        num_processes: how many there are.
        process_id: which one this is, from 0.

    Raises:
        InputError: only some of the three are given, one is impossible, or there is no cluster to read them
            from; the port is in use; processes were started with different numbers.
    """
    given = {"--coordinator": coordinator, "--num-processes": num_processes, "--process-id": process_id}
    _check_flags(given)
    by_flags = coordinator is not None
    if coordinator is not None and process_id == 0:
        _check_port(int(coordinator.rpartition(":")[2]))
    # It would catch SIGTERM, with which clusters end what has run too long.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            cluster_detection_method="deactivate" if by_flags else None,
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=CONNECT_SECONDS,
        )
    except ValueError as error:
        raise InputError(
            f"--distributed found no Slurm, Open MPI, Kubernetes or TPU slice to read the processes from "
            f"({error}); give {', '.join(given)}"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            f"process 0 cannot serve at {coordinator or 'the port of this job'} ({error}); is the port in "
            f"use? Choose another for all processes with --coordinator"
        ) from error
    agree(num_processes or jax.process_count(), "--num-processes")


def stop() -> None:
    """Leaves the run, after all processes have come to its end."""
    if jax.distributed.is_initialized():
        from_writer(lambda: None)
        jax.distributed.shutdown()


def is_writer() -> bool:
    """Returns whether this is the process that reads and writes results: process 0, or the only one."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def is_alone() -> bool:
    """Returns whether there is one process only."""
    return not jax.distributed.is_initialized() or jax.process_count() == 1


def from_writer(action: Callable[[], Result]) -> Result:
    """Does something in process 0 and returns its result in all: arrays and plain values, see `messages.py`.

    All processes wait for it. `action` must not compute on the devices of others; it has one of its own.

    Raises:
        InputError: in the other processes, what `action` raised in process 0.
    """
    # What process 0 does inside of it is its own affair: the others wait for the whole.
    if is_alone() or _inside.get():
        return action()
    result, error, message = None, None, b""
    if is_writer():
        token = _inside.set(True)
        try:
            with jax.set_mesh(jax.sharding.Mesh(np.asarray(jax.local_devices()[:1]), ("own",))):
                result = action()
            message = packed_message([result, None])
        except Exception as raised:
            error, message = raised, packed_message([None, str(raised) or type(raised).__name__])
        finally:
            _inside.reset(token)
    sent = _broadcast(message)
    if error is not None:
        raise error
    # In process 0 the result as it is: a copy could only differ by mistake.
    if not is_writer():
        result, text = unpacked_message(sent)
        if text is not None:
            raise InputError(f"process 0 failed: {text}")
    return result  # type: ignore[return-value]


def together(action: Callable[[], Result]) -> Result:
    """Does something in every process and returns each its own result; all fail where one does.

    Raises:
        InputError: what `action` raised in any process, with the number of that process.
    """
    if is_alone():
        return action()
    result, error = None, None
    try:
        result = action()
    except InputError as raised:
        error = raised
    texts = [text.decode() for text in gather(b"" if error is None else str(error).encode())]
    if any(texts):
        lines = [f"process {number}: {text}" for number, text in enumerate(texts) if text]
        raise InputError(lines[0] if len(set(texts)) > 1 else texts[0])
    return result  # type: ignore[return-value]


def agree(value: Any, what: str) -> None:
    """Raises InputError, in all processes, unless all of them hold the same value.

    Args:
        value: JSON values, such as a number, a fingerprint or a config.
        what: its name, for the message.
    """
    if is_alone():
        return
    first, *others = (json.loads(text) for text in gather(json.dumps(value).encode()))
    for number, other in enumerate(others, 1):
        if other != first:
            path, ours, theirs = _first_difference(first, other, (what,))
            raise InputError(
                f"all processes need the same {'.'.join(path)}: process 0 has {ours!r}, process {number} has "
                f"{theirs!r}; start all with the same command, data and versions"
            )


def _first_difference(a: Any, b: Any, path: tuple[str, ...]) -> tuple[tuple[str, ...], Any, Any]:
    """Where two JSON values differ, and what they are there."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted({*a, *b}):
            if a.get(name) != b.get(name):
                return _first_difference(a.get(name), b.get(name), (*path, name))
    return path, a, b


def _broadcast(data: bytes) -> bytes:
    """The bytes of process 0, in all processes."""
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    filled = np.zeros(size, np.uint8)
    if is_writer():
        filled[:] = np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(filled)).tobytes()


def gather(data: bytes) -> list[bytes]:
    """Returns the bytes of every process, in all processes."""
    from jax.experimental import multihost_utils

    sizes = multihost_utils.process_allgather(np.int32(len(data))).ravel()
    filled = np.zeros(int(sizes.max()) + 1, np.uint8)
    filled[: len(data)] = np.frombuffer(data, np.uint8)
    rows = multihost_utils.process_allgather(filled)
    return [np.asarray(row)[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]


def _check_port(port: int) -> None:
    """Raises InputError where another program serves there: JAX would say so, and now and then crash."""
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
        except OSError as error:
            raise InputError(
                f"process 0 cannot serve at port {port} ({error.strerror}); is it in use? Choose another for "
                f"all processes with --coordinator"
            ) from error


def _check_flags(given: dict[str, Any]) -> None:
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        there = [name for name in given if name not in missing]
        raise InputError(
            f"{', '.join(there)} without {', '.join(missing)}: give all three, or none where JAX finds them "
            f"itself (Slurm, Open MPI, Kubernetes, TPU slices)"
        )
    if missing:
        return
    coordinator, num_processes, process_id = given.values()
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(
            f"--coordinator must be HOST:PORT of process 0, such as 10.0.0.1:8476, got {coordinator}"
        )
    if num_processes < 1:
        raise InputError(f"--num-processes must be at least 1, got {num_processes}")
    if not 0 <= process_id < num_processes:
        raise InputError(
            f"--process-id must lie in 0..{num_processes - 1} for --num-processes {num_processes}, "
            f"got {process_id}"
        )
