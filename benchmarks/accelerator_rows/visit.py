"""One visit to a machine: tasks in order, each result written at once, and an end in time."""

import datetime
import gc
import json
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# Seconds that a task of a kind takes on an accelerator, of weight 1: what is assumed before one was seen.
GUESSES = {
    "ceiling": 10,
    "training": 35,
    "written out": 20,
    "scores": 20,
    "layers": 15,
    "eager": 30,
    "torch.compile": 90,
}
RESERVE_S = 3
# What a later visit tries again: without a result, or with more to do.
AGAIN = {"failed", "skipped", "goes_on"}
# What two visits must share for the later one to go on with the rows of the earlier one.
IDENTITY = ("scale", "device", "devices", "platform", "sources", "python", "packages")


class Skipped(Exception):
    """There is nothing to measure here, for the reason that is given."""


@dataclass(frozen=True)
class Task:
    """Something to measure."""

    part: str
    """Section of the report."""
    what: str
    """Its name there, unique in its part."""
    measure: Callable[[], Row | list[Row]]
    """Returns the figures: of one row, or of several, each with its own "what"."""
    kind: str = ""
    """Tasks of a kind take about as long for their weight; one of none fits into whatever time there is."""
    weight: float = 1
    """How much longer it takes than others of its kind."""


class Visit:
    """The rows of one machine, and the files that hold them.

    `FOLDER/gpu.json` and `gpu.md` hold all visits and are written anew, whole, after each row; `rows.jsonl`
    gets a line for each. If the last visit in `gpu.json` was to the same kind of machine with the same code,
    this one goes on with it: what has a result is not measured again.

    Args:
        folder: of the files.
        environment: what the numbers depend on.
        render: makes Markdown of all visits.
        deadline: when to end, by `time.monotonic`.
        caution: how many times the first guess a task is taken to need.
    """

    def __init__(
        self,
        folder: Path,
        environment: Row,
        render: Callable[[list[Row]], str],
        deadline: float,
        caution: float = 1,
    ) -> None:
        self.folder, self.render, self.deadline, self.caution = folder, render, deadline, caution
        self.children: list[subprocess.Popen] = []
        self._lock, self._closed, self._running = threading.Lock(), False, None
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "gpu.json"
        self.visits: list[Row] = (
            json.loads(path.read_text(encoding="utf-8"))["visits"] if path.exists() else []
        )
        if not self.visits or _identity(self.visits[-1]["environment"]) != _identity(environment):
            self.visits.append({"environment": environment, "rows": []})
        self.visits[-1].update(not_begun=[], ended="")
        self.rows: list[Row] = self.visits[-1]["rows"]

    def left(self) -> float:
        """Returns the seconds until the deadline, less what closing takes."""
        return self.deadline - time.monotonic() - RESERVE_S

    def estimate(self, task: Task) -> float:
        """Returns the seconds that a task may take: by its weight, the most of the last three of its kind."""
        if not task.kind:
            return 0
        seen = [row["seconds"] / row["weight"] for row in self.rows if row.get("kind") == task.kind]
        # The first also waits for what all need.
        return task.weight * max(seen[-3:], default=self.caution * GUESSES[task.kind])

    def run(self, tasks: Iterable[Task]) -> None:
        """Does what has no result yet, in order, as far as time is left for it."""
        for task in tasks:
            if any(_of_task(row, task) and not AGAIN & row.keys() for row in self.rows):
                continue
            need, left = self.estimate(task), self.left()
            if need > left:
                reason = f"it would take about {need:.0f} s, and {max(0, left):.0f} s were left"
                self._change(lambda task=task, reason=reason: self._not_begun(task, reason))
                continue
            self._running, begin = task, time.monotonic()
            found = _result(task)
            took = round(time.monotonic() - begin, 2)
            about = {
                "part": task.part,
                "task": task.what,
                "kind": task.kind,
                "weight": task.weight,
                "seconds": took,
                "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            }
            new = [{**about, "what": task.what, **row} for row in found]
            self._change(lambda task=task, new=new: self._put(task, new))
            self._running = None

    def close(self, ended: str) -> None:
        """Says how the visit ended; what still runs can write nothing any more, its children are ended."""
        running = self._running
        self._change(lambda: self.visits[-1].update(ended=_ending(ended, running)))
        self._closed = True
        for child in [*multiprocessing.active_children(), *self.children]:
            child.kill()

    def _put(self, task: Task, new: list[Row]) -> None:
        self.rows[:] = [row for row in self.rows if not _of_task(row, task)] + new
        with (self.folder / "rows.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in new)
        for row in new:
            print(_line(row), flush=True)

    def _not_begun(self, task: Task, reason: str) -> None:
        self.visits[-1]["not_begun"].append({"part": task.part, "what": task.what, "why": reason})

    def _change(self, change: Callable[[], None]) -> None:
        with self._lock:
            if not self._closed:
                change()
                numbers = json.dumps({"visits": self.visits}, indent=1, ensure_ascii=False) + "\n"
                _replace(self.folder / "gpu.json", numbers)
                _replace(self.folder / "gpu.md", self.render(self.visits))


def in_time(work: Callable[[], None], seconds: float) -> str:
    """Does something in a thread of its own, and returns when it is done, its time is up or a signal comes.

    A compiler cannot be interrupted: the thread that waits for it is left behind, and ends with the process.

    Returns:
        "done", "out of time", or the name of the signal.
    """
    done, raised = threading.Event(), []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)
        done.set()

    def stop(number: int, _: Any) -> None:
        raise _SignalReceived(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        threading.Thread(target=guarded, daemon=True).start()
        ended = "done" if done.wait(max(0, seconds)) else "out of time"
    except _SignalReceived as received:
        ended = str(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if raised:
        raise raised[0]
    return ended


class _SignalReceived(Exception):
    """Someone wants the process to end."""


def _result(task: Task) -> list[Row]:
    try:
        found = task.measure()
    except Skipped as reason:
        return [{"skipped": str(reason)}]
    except Exception as error:
        failed = f"{type(error).__name__}: {error}"
        # The frames of the exception hold arrays on the device.
        del error
        gc.collect()
        # What went wrong in another process stands at the end of what that process says.
        return [{"failed": failed if len(failed) < 800 else f"{failed[:200]} … {failed[-600:]}"}]
    return found if isinstance(found, list) else [found]


def _line(row: Row) -> str:
    """What is told while it runs: the numbers that are a single one."""
    told = {key: value for key, value in row.items() if isinstance(value, float) and key != "weight"}
    numbers = ", ".join(f"{key} {value:.4g}" for key, value in told.items())
    return f"{row['part']}: {row['what']}: {row.get('failed') or row.get('skipped') or numbers}"


def _of_task(row: Mapping[str, Any], task: Task) -> bool:
    return (row["part"], row["task"]) == (task.part, task.what)


def _identity(environment: Mapping[str, Any]) -> list[Any]:
    return [environment.get(name) for name in IDENTITY]


def _ending(ended: str, running: Task | None) -> str:
    if ended == "done":
        return ""
    at = f" during {running.part}: {running.what}" if running else ""
    return f"{ended}{at}"


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
