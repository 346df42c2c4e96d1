"""The main job, stopped at a point, started again until it ends, and compared with the run nobody stopped.

A point is an event in the writing of files (a replace, a rename, an fsync, an appended line), its number, a
moment (before, after, or when half of it is done) and a signal; or a time after the start.
"""

import argparse
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contents import contents, differences

JOB = [
    *("--data.name", "digits", "--data.num-train", "64", "--model.name", "mlp", "--model.widths", "4"),
    *("--train.steps", "4", "--train.batch-size", "32", "--checkpoint-epochs", "1"),
    *("--score.num-seeds", "2", "--score.names", "el2n", "--score.epoch", "1"),
    *("--select.fractions", "0.5", "--retrain.num-seeds", "2"),
]
# Runs in the child before the library: at the event that it is told it dies, or does something else.
HOOK = """
import os, signal, subprocess, sys

event, number, moment, how, trace = sys.argv.pop(1).split(",")
seen, started = 0, os.getpid()
# A shell leaves its background processes deaf to it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def act(name):
    if trace:
        with open(trace, "a") as file:
            file.write(name + "\\n")
    global seen
    if name == event or (event == "record" and name == "replace:digest.json"):
        seen += 1
        return seen == int(number)
    return False


def end():
    if how == "remove":
        import shutil
        shutil.rmtree("run")
    elif how == "second":
        # Another process on the same folder, at this moment.
        command = [sys.executable, "-m", "diet_jax", *sys.argv[1:]]
        other = subprocess.run(command, capture_output=True, text=True)
        with open("second.txt", "w") as file:
            file.write(f"{other.returncode} {other.stderr}")
    elif how.isdecimal():
        raise OSError(int(how), os.strerror(int(how)))
    else:
        os.kill(started, getattr(signal, how))


def around(name, fn, half=None, target=None):
    def call(*args, **kwargs):
        mine = act(f"{name}:{target}" if target and str(args[1]).endswith(target) else name)
        if mine and moment == "before":
            end()
        if mine and moment == "half":
            half(*args, **kwargs)
            end()
            return None
        result = fn(*args, **kwargs)
        if mine and moment == "after":
            end()
        return result

    return call


def torn(descriptor):
    import stat

    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)


os.replace = around("replace", os.replace, target="digest.json")
os.rename = around("rename", os.rename)
os.fsync = around("fsync", os.fsync, torn)
# As `diet_jax/__main__.py`, whose imports these are.
signal.signal(signal.SIGINT, lambda *_: os._exit(130))
from diet_jax.files import writing

signal.signal(signal.SIGINT, signal.default_int_handler)
whole = writing.append


def begun(path, content, after=None):
    whole(path, content[: len(content) // 2], after)


writing.append = around("append", whole, begun)
from diet_jax.__main__ import command

sys.argv[0] = "diet-jax"
command()
"""


@dataclasses.dataclass(frozen=True)
class Point:
    """Where a run is stopped."""

    event: str = ""
    number: int = 1
    moment: str = "before"
    how: str = "SIGKILL"
    """A signal, the number of an error, or what else happens: remove, second."""
    seconds: float = 0.0
    """After the start, in place of an event."""

    def __str__(self) -> str:
        where = f"{self.seconds:.2f} s" if self.seconds else f"{self.moment} {self.event} {self.number}"
        return f"{self.how} {where}"


def start(place: Path, point: Point = Point(), trace: str = "", options: Any = ()) -> tuple[int, str]:
    """Runs the job in place/run up to its end or the point: exit status and what it said."""
    told = f"{point.event},{point.number},{point.moment},{point.how},{trace}"
    command = [sys.executable, "-c", HOOK, told, "run", *JOB, *options, "--run-dir", "run"]
    child = subprocess.Popen(
        command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
    )
    if point.seconds:
        try:
            said = child.communicate(timeout=point.seconds)[1]
        except subprocess.TimeoutExpired:
            child.send_signal(getattr(signal, point.how))
            said = child.communicate(timeout=120)[1]
    else:
        said = child.communicate(timeout=300)[1]
    return child.returncode, said


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"}


def count_events(place: Path) -> dict[str, int]:
    """How often each event happens in a run that nobody stops; the run is left in place/run."""
    code, said = start(place, trace="trace.txt")
    assert code == 0, said
    names = (place / "trace.txt").read_text().split()
    counts = {name: names.count(name) for name in ("replace", "rename", "fsync", "append")}
    counts["record"] = names.count("replace:digest.json")
    return counts


def points(counts: dict[str, int], count: int, seconds: float, seed: int = 0) -> list[Point]:
    """So many points, two thirds at events of every kind, the others at times up to `seconds`."""
    rng, found = random.Random(seed), []
    moments = [(event, moment) for event in counts for moment in ("before", "after") if counts[event]]
    moments += [(event, "half") for event in ("fsync", "append")]
    signals = ["SIGKILL", "SIGKILL", "SIGTERM", "SIGINT"]
    for number in range(count):
        how = signals[number % 4]
        if number % 3 == 2:
            found.append(Point(how=how, seconds=rng.uniform(0.2, seconds)))
            continue
        event, moment = moments[(number - number // 3) % len(moments)]
        # Half of something is left by no one but who is killed at once.
        how = "SIGKILL" if moment == "half" else how
        found.append(Point(event, rng.randint(1, counts[event]), moment, how))
    return found


def outcome(stops: list[Point], place: Path, wanted: dict[str, Any]) -> tuple[str, str]:
    """Stops a run at each of these points in turn, lets it end, and says how that went.

    Returns:
        "same" or "wrong", and what was seen.
    """
    ends = []
    for point in stops:
        code, said = start(place, point)
        while code == 0 and point.seconds > 0.1:
            # It had ended by then.
            shutil.rmtree(place / "run")
            point = dataclasses.replace(point, seconds=point.seconds / 2)
            code, said = start(place, point)
        if code == 0:
            return "wrong", f"{point}: nothing was stopped"
        ends.append(code)
        if "Traceback" in said:
            return "wrong", f"{point}: a traceback: {said[-500:]}"
        if code not in (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 130, 143, 2):
            return "wrong", f"{point}: exit status {code}: {said[-300:]}"
    code, said = start(place)
    if code:
        return "wrong", f"after {', '.join(map(str, stops))} the command does not go on: {said[-500:]}"
    changed = differences(contents(place / "run"), wanted)
    return ("wrong", f"differs in {', '.join(changed)}") if changed else ("same", f"ended with {ends}")


def run_all(count: int, folder: Path) -> list[tuple[Point, str, str]]:
    """Every point with a folder of its own."""
    whole = folder / "whole"
    whole.mkdir()
    begin = time.monotonic()
    counts = count_events(whole)
    seconds, wanted = time.monotonic() - begin, contents(whole / "run")
    found = []
    for number, point in enumerate(points(counts, count, seconds)):
        place = folder / str(number)
        place.mkdir()
        found.append((point, *outcome([point], place, wanted)))
        print(*found[-1], file=sys.stderr, flush=True)
        shutil.rmtree(place)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=30)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run_all(args.points, Path(folder))
    wrong = [each for each in found if each[1] != "same"]
    print(f"{len(found)} points, {len(found) - len(wrong)} the same, {len(wrong)} wrong")


if __name__ == "__main__":
    main()
