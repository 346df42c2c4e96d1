"""Which run folders there are below a folder, and how far each is. Nothing but their own records is read."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diet_jax.analysis.results import RS2
from diet_jax.errors import InputError
from diet_jax.experiments.provenance import read_provenance
from diet_jax.experiments.run_folder import EARLIER, RunFolder
from diet_jax.experiments.run_log import FINISHED, METRICS, STARTS
from diet_jax.files.writing import is_held

# What a run folder has, and no other folder is likely to.
LOGS = (METRICS, STARTS)
_DIVERGED_SCORER = re.compile(rb'"unit": "(score/seed_\d+)"[^\n]*"diverged"')


@dataclass(frozen=True)
class RunState:
    """What a run folder says of itself.

    Attributes:
        path: the folder.
        state: finished, running (a process holds the folder), interrupted (the same command goes on), failed
            (all scoring networks diverged), damaged, or earlier format.
        about: why it is damaged, or else "".
        command: run, score, train, or "" where it was started in Python.
        dataset: name.
        model: name.
        scores: names.
        done: trainings that are finished: of scoring networks and of retrained ones.
        wanted: how many there will be, as far as the folder says: before it has selected, the scoring
            networks alone.
        time: of the last start, ISO 8601; "" if it is not known.
        bytes: of all files.
    """

    path: Path
    state: str
    about: str = ""
    command: str = ""
    dataset: str = ""
    model: str = ""
    scores: tuple[str, ...] = ()
    done: int = 0
    wanted: int = 0
    time: str = ""
    bytes: int = 0


def list_runs(folder: Path) -> Iterator[RunState]:
    """Yields every run folder that is a folder or lies below it, by path; links are not followed.

    Args:
        folder: where to look.

    Raises:
        InputError: it is no folder.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; give one that has run folders in it, such as runs")
    for place, folders, files in os.walk(folder):
        path = Path(place)
        if _is_run(path, files):
            folders.clear()
            yield state_of(path)
        folders.sort()


def _is_run(path: Path, files: list[str]) -> bool:
    if any(name in files for name in LOGS):
        return True
    # A pipe by that name would be waited for.
    if "config.json" not in files or not (path / "config.json").is_file():
        return False
    try:
        with open(path / "config.json", "rb") as file:
            return b'"diet_jax run ' in file.read(200)
    except OSError:
        return False


def state_of(path: Path) -> RunState:
    """Returns what a run folder says of itself; one that is damaged says so, and nothing is raised."""
    about: dict[str, Any] = {"bytes": _bytes(path)}
    try:
        about |= _last_start(path)
        asked = about.pop("asked", None)
        try:
            header = RunFolder(path).header()
        except InputError as error:
            early = _format(path) in EARLIER
            return RunState(
                path, "earlier format" if early else "damaged", "" if early else str(error), **about
            )
        config = header["config"]
        about |= {
            "dataset": str(header["resolved"].get("dataset") or config["data"]["name"]),
            "model": str(config["model"]["name"]),
            "scores": tuple(config["score"]["names"]),
        }
        state, why = _state(path, header, about, asked)
    except (OSError, InputError, ValueError, KeyError, TypeError, AttributeError) as error:
        return RunState(path, "damaged", f"{type(error).__name__}: {error}", **about)
    return RunState(path, state, why, **about)


def _state(path: Path, header: dict[str, Any], about: dict[str, Any], asked: int | None) -> tuple[str, str]:
    """How far it is; adds the counts to what is known."""
    config, command = header["config"], about.get("command")
    scorers, per_seed = config["score"]["num_seeds"], config["retrain"]["num_seeds"]
    scored = len(list(path.glob("scores/per_seed/seed_*.npz")))
    trained = len(list(path.glob("trained/**/*.npz")))
    retrained = len(list(path.glob("retrain/*/*.npz")))
    about["done"] = trained if command == "train" else scored + retrained
    log = (path / METRICS).read_bytes() if (path / METRICS).is_file() else b""
    if command == "train":
        about["wanted"] = max(asked or scorers, trained)
    else:
        groups = {mask.stem for mask in path.glob("masks/*.npz")}
        # RS2 has no mask.
        if groups and RS2 in config["select"]["baselines"] and config["train"]["budget"] == "equal_epochs":
            groups |= {
                f"{RS2}_keep{float(f):.15g}" for f in header["resolved"]["kept_examples"] if float(f) < 1
            }
        retrains = per_seed * (1 + len(groups)) if groups and command != "score" else 0
        about["wanted"] = scorers + retrains
    if is_held(path):
        return "running", ""
    if (path / "provenance.json").is_file():
        finished = read_provenance(RunFolder(path))["finished"]
        if f'"{FINISHED}"'.encode() not in log or str(finished).encode() not in log:
            return "damaged", f"{METRICS} has lost the line by which the run finished"
        # Trainings that diverged, and seeds that were not needed, are not to come any more.
        about["wanted"] = about["done"]
        return "finished", ""
    if len({*_DIVERGED_SCORER.findall(log)}) >= scorers:
        return "failed", "all scoring networks diverged"
    files = [path / "scores" / f"{name}.npz" for name in about["scores"]]
    if command == "train" and trained == about["wanted"]:
        return "finished", ""
    if command == "score" and all(file.is_file() for file in files):
        about["wanted"] = about["done"]
        return "finished", ""
    return "interrupted", ""


def _format(path: Path) -> Any:
    try:
        return json.loads((path / "config.json").read_bytes())["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _last_start(path: Path) -> dict[str, Any]:
    """The command and the time of the last line of starts.jsonl that is whole."""
    if not (path / STARTS).is_file():
        return {}
    for line in reversed((path / STARTS).read_bytes().splitlines()):
        try:
            values = json.loads(line)
            words = values["command"]
            of_command_line = len(words) > 1 and Path(words[0]).name in ("diet-jax", "__main__.py")
            command = words[1] if of_command_line else ""
            return {"time": str(values["time"]), "command": command, **_asked(command, words)}
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return {}


def _asked(command: str, words: list[str]) -> dict[str, int]:
    """How many networks `train` was asked for; 0: as many as score."""
    if command != "train":
        return {}
    text = " ".join(words).replace("=", " ").replace("_", "-")
    number = re.search(r"--num-seeds (\d+)", text)
    return {"asked": int(number[1]) if number else int("--purpose score" not in text)}


def _bytes(path: Path) -> int:
    total = 0
    for place, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total
