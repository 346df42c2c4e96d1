"""The run folder: one experiment's files. It is continued by the same config and refused by any other."""

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from diet_jax.checks.values import check_path
from diet_jax.devices.mesh import fetch
from diet_jax.devices.processes import agree, from_writer, is_writer
from diet_jax.devices.progress import say
from diet_jax.ensemble.over_seeds import take_seed
from diet_jax.errors import InputError
from diet_jax.experiments.config import LOCATIONS, SOURCES_OF_DATA, RunConfig
from diet_jax.experiments.environment import environment, versions_of_code
from diet_jax.files.arrays import load_checked, save_arrays, write_atomically
from diet_jax.options.plain import differences, from_json, plain, to_json
from diet_jax.training.divergence import Divergence, first_bad
from diet_jax.training.recipe import TrainConfig

FORMAT = "diet_jax run 3"
# What a folder holds as soon as anything is finished.
RESULTS = ("scores", "masks", "retrain", "trained", "checkpoints", "unfinished", "table.csv")
EARLIER = ("diet_jax run 1", "diet_jax run 2")


class RunFolder:
    """Paths and records of a run. Make one with `open_run` (to write) or `RunFolder(path)` (to read).

    Of several processes only the first has the folder; what the others log is left out.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(check_path(path, "the run folder"))

    def header(self) -> dict[str, Any]:
        """Returns config.json: the config, and what followed from it.

        Raises:
            InputError: this is no run folder, or its config.json is damaged.
        """
        file = self.path / "config.json"
        if not file.is_file():
            raise InputError(f"{self.path} is not a run folder: it has no config.json")
        try:
            header = json.loads(file.read_text())
            if header["format"] in EARLIER:
                raise InputError(
                    f"{self.path} was begun by an earlier diet_jax whose configs had other options, and can "
                    f"be continued by that version only; choose another run_dir"
                )
            if header["format"] != FORMAT:
                raise KeyError(header["format"])
            if not isinstance(header["config"], dict) or not isinstance(header["resolved"], dict):
                raise TypeError("config and resolved must be objects")
        except InputError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} is damaged or of another version ({error})") from error
        return header

    def config(self, recipe: TrainConfig | None = None) -> RunConfig:
        """Returns the config that the run was started with.

        Args:
            recipe: where the functions are that a config may hold, of which the folder has the names only.

        Raises:
            InputError: there is no such folder, or it needs functions that `recipe` does not have.
        """
        values = self.header()["config"]
        if not isinstance(values.get("train"), dict):
            raise InputError(f"{self.path / 'config.json'} is damaged: its config has no section train")
        for name, value in ({} if recipe is None else to_json(recipe)).items():
            # Objects alone: nested options stand there as a dict.
            if isinstance(value, str) and values["train"].get(name) == value:
                values["train"][name] = getattr(recipe, name)
        for name in ("optimizer", "schedule"):
            # The name and the digest of a function.
            if isinstance(values["train"].get(name), str) and " " in values["train"][name]:
                raise InputError(
                    f"the {name} of {self.path} is an object of Python ({values['train'][name]}): name the "
                    f"config file that has it, or give the recipe in Python"
                )
        try:
            return from_json(RunConfig, values)
        except InputError as error:
            raise InputError(f"{self.path / 'config.json'}: {error}") from error

    def missing(self, names: Sequence[str]) -> list[int]:
        """Returns the places in a list of those files, by paths in the folder, that are not there."""
        return from_writer(lambda: [i for i, name in enumerate(names) if not (self.path / name).is_file()])

    def save(self, name: str, kind: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Writes arrays and what they belong to, whole or not at all, at a path in the folder."""
        from_writer(lambda: save_arrays(self.path / name, kind, arrays, facts))

    def load(
        self, name: str, kind: str, arrays: tuple[str, ...], facts: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Reads arrays at a path in the folder, which must belong to these facts."""
        return from_writer(lambda: load_checked(self.path / name, kind, arrays, facts))

    def log(self, unit: str, **values: Any) -> None:
        """Appends one line to metrics.jsonl: which training or stage, and its numbers."""
        self._log([{"unit": unit, **values}])

    def log_histories(self, units: list[str], history: Any, per_epoch: int) -> None:
        """Logs a stacked history, one unit per seed, one line per epoch, in place of what they logged."""
        self.forget_between(units, 0)
        history = fetch(history)
        for seed, unit in enumerate(units):
            self.log_history(unit, take_seed(history, seed), 0, per_epoch)

    def log_history(self, unit: str, history: Any, first_step: int, per_epoch: int) -> Divergence | None:
        """Logs a history, see `epoch_means`, up to the first loss that is not finite.

        Returns:
            Where that is; None without any. The unit then counts as diverged.
        """
        place = first_bad(history.loss)
        if place is not None:
            loss, history = history.loss[place], type(history)(*(values[:place] for values in history))
        self._log([{"unit": unit, **line} for line in epoch_means(history, first_step, per_epoch)])
        if place is None:
            return None
        return self.log_divergence(unit, first_step + place + 1, per_epoch, f"loss {float(loss)}")

    def log_divergence(self, unit: str, step: int, per_epoch: int, what: str) -> Divergence:
        """Says and logs that a training diverged, and where."""
        divergence = Divergence(step, step / per_epoch, what)
        say(f"{unit or self.path.name} diverged: {divergence}")
        self.log(unit, step=step, epoch=divergence.epoch, diverged=what)
        return divergence

    def diverged(self) -> dict[str, Divergence]:
        """Returns which trainings diverged, and where, as they were logged."""
        lines = from_writer(lambda: [line for line in self.metrics() if "diverged" in line])
        lines.sort(key=lambda line: line["step"], reverse=True)
        return {m["unit"]: Divergence(m["step"], m["epoch"], m["diverged"]) for m in lines}

    def _log(self, lines: list[dict[str, Any]]) -> None:
        if is_writer():
            now = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            _append(self.path / "metrics.jsonl", [json.dumps({**plain(line), **now}) for line in lines])

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl; one that a killed process left unfinished does not count.

        Raises:
            InputError: another line is damaged.
        """
        file = self.path / "metrics.jsonl"
        if not file.is_file():
            return []
        metrics = []
        for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], 1):
            try:
                values = json.loads(line)
                _ = values["unit"], values.get("step", 0) + 0
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"line {number} of {file} is damaged; delete that line") from error
            metrics.append(values)
        return metrics

    def forget_between(self, units: list[str], step: int, stop: float = math.inf) -> None:
        """Drops the units' metrics beyond `step`, up to `stop`: they are about to do those steps again."""
        if not is_writer():
            return
        lines, redone = self.metrics(), set(units)
        kept = [m for m in lines if m["unit"] not in redone or not step < m.get("step", 0) <= stop]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        file = self.path / "metrics.jsonl"
        if file.is_file() and file.read_bytes() != text.encode():
            write_atomically(file, text)


@contextmanager
def open_run(config: RunConfig, resolved: dict[str, Any]) -> Iterator[RunFolder]:
    """Opens a run folder for writing: a new one, or one that the same config started.

    Args:
        config: of the run.
        resolved: what followed from the config and the data (steps, counts, fingerprint), JSON values.

    Raises:
        InputError: the folder cannot be written, is in use by another process, holds something else, or
            belongs to another config or dataset. Nothing in it was changed.
    """
    shared = config.facts()
    for options, name in ((shared, "run_dir"), (shared["data"], "data_dir")):
        del options[name]
    agree(shared, "config")
    agree(resolved, "data")
    agree(environment()["versions"], "versions")
    folder = RunFolder(config.folder())
    locks: list[filelock.BaseFileLock] = []
    from_writer(lambda: _take(folder, config, resolved, locks))
    try:
        yield folder
    finally:
        for lock in locks:
            lock.release()


def _take(
    folder: RunFolder, config: RunConfig, resolved: dict[str, Any], locks: list[filelock.BaseFileLock]
) -> None:
    """Locks the folder, which must be new or of this config, and writes down what is about to run."""
    path, anew = folder.path, False
    try:
        if path.exists() and not path.is_dir():
            raise InputError(f"run_dir {path} is a file; choose a folder")
        # A process killed at its first write leaves the lock and a temporary config.json.
        if path.is_dir() and any(
            p.name != ".lock" and p.name[:13] != ".config.json." for p in path.iterdir()
        ):
            anew = _is_to_begin_anew(folder, config, resolved)
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / ".lock")
        lock.acquire(timeout=0)
        locks.append(lock)
    except filelock.Timeout as error:
        raise InputError(
            f"another process is working in {path}; wait for it or choose another run_dir"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot write to run_dir {path}: {error.strerror or error}; choose another"
        ) from error
    try:
        if anew:
            say(f"{path} holds no result yet and is begun anew with the config as it is now")
            for name in ("metrics.jsonl", "noise.npz"):
                (path / name).unlink(missing_ok=True)
        if anew or not (path / "config.json").is_file():
            header = {"format": FORMAT, "config": config.facts(), "resolved": resolved}
            write_atomically(path / "config.json", json.dumps(header, indent=2) + "\n")
        else:
            check_same(folder, config, resolved)
        _append(path / "starts.jsonl", [json.dumps({**environment(), "code": versions_of_code()})])
    except BaseException:
        lock.release()
        raise


def epoch_means(history: Any, first_step: int, per_epoch: int) -> Iterator[dict[str, float]]:
    """Cuts a history at the ends of epochs: the mean loss and accuracy of the steps up to each.

    Args:
        history: loss and accuracy of steps first_step+1, ..., float32 `[t]`.
        first_step: updates done before.
        per_epoch: steps in an epoch.

    Yields:
        step, epoch, loss and accuracy of each piece.
    """
    last = first_step + len(history.loss)
    start = first_step
    while start < last:
        stop = min((start // per_epoch + 1) * per_epoch, last)
        piece = slice(start - first_step, stop - first_step)
        yield {
            "step": stop,
            "epoch": stop / per_epoch,
            "loss": float(np.mean(history.loss[piece])),
            "accuracy": float(np.mean(history.accuracy[piece])),
        }
        start = stop


def _append(path: Path, lines: list[str]) -> None:
    """Appends lines, after cutting off one that a killed process left unfinished."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            size = file.tell()
            file.seek(max(size - 1, 0))
            if file.read(1) not in (b"", b"\n"):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.write("".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _is_to_begin_anew(folder: RunFolder, config: RunConfig, resolved: dict[str, Any]) -> bool:
    """Whether a run folder of another config has no result to lose; raises InputError if it has one."""
    try:
        check_same(folder, config, resolved)
    except InputError:
        folder.header()
        results = any((folder.path / name).exists() for name in RESULTS)
        if results or any("diverged" in line for line in folder.metrics()):
            raise
        return True
    return False


def check_same(folder: RunFolder, config: RunConfig, resolved: dict[str, Any]) -> None:
    """Raises InputError unless a run folder belongs to a config with its data and code."""
    header = folder.header()
    same_data = header["resolved"].get("fingerprint") == resolved["fingerprint"]
    free = LOCATIONS | SOURCES_OF_DATA if same_data else LOCATIONS
    changed = differences(header["config"], config.facts(), leaving_out=free)
    if changed:
        raise InputError(
            f"run folder {folder.path} belongs to another config ({'; '.join(changed)}); choose another "
            f"run_dir, or repeat the old options to continue it"
        )
    code = (of["resolved"].get("code", {}) for of in (header, {"resolved": resolved}))
    if changed := differences(*code):
        raise InputError(
            f"run folder {folder.path} was begun with other code or scores of one's own "
            f"({'; '.join(changed)}); choose another run_dir, or bring back what was there"
        )
    # What the fingerprint of the arrays does not cover.
    for name in ("fingerprint", "normalization", "kind", "classes"):
        old, new = header["resolved"].get(name), resolved.get(name)
        if old != new:
            raise InputError(
                f"run folder {folder.path} belongs to other data: its {name} is {str(old)[:100]}, that of "
                f"the data now {str(new)[:100]}"
            )
