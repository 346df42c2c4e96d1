"""The run folder: one experiment's files. It is continued by the same config and refused by any other."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.checks.values import check_path
from diet_jax.devices.processes import agree, from_writer, is_writer
from diet_jax.devices.progress import say
from diet_jax.errors import InputError, NotHereError
from diet_jax.experiments.config import LOCATIONS, SOURCES_OF_DATA, RunConfig
from diet_jax.experiments.environment import environment, versions_of_code
from diet_jax.experiments.run_log import METRICS, STARTS, RunLog
from diet_jax.experiments.writers.writer import opened
from diet_jax.files.arrays import load_checked, save_arrays
from diet_jax.files.records import CHECKSUM, from_record, with_checksum
from diet_jax.files.writing import hold, is_leftover, remove_leftovers, write_atomically
from diet_jax.options.plain import differences, from_json, to_json
from diet_jax.training.recipe import TrainConfig

FORMAT = "diet_jax run 5"
# What a folder holds as soon as anything is finished.
RESULTS = ("scores", "masks", "retrain", "trained", "checkpoints", "unfinished", "features.npz", "table.csv")
EARLIER = tuple(f"diet_jax run {number}" for number in range(1, 5))


class RunFolder(RunLog):
    """Paths and records of a run. Make one with `open_run` (to write) or `RunFolder(path)` (to read)."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(Path(check_path(path, "the run folder")))

    def identity(self) -> str:
        """Returns the checksum of config.json; without one the folder's name, in a store a digest.

        Raises:
            InputError: config.json is damaged.
        """
        if not self.place("config.json").is_file():
            return self.path.absolute().name
        return with_checksum(self.header())[CHECKSUM]

    def header(self) -> dict[str, Any]:
        """Returns config.json: the config, and what followed from it.

        Raises:
            InputError: this is no run folder, or its config.json is damaged.
        """
        file = self.path / "config.json"
        if not file.is_file():
            names = sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []
            left = (
                f", but {', '.join(names[:5])}; choose another folder, or delete what a run left"
                if names
                else ""
            )
            raise InputError(f"{self.path} is not a run folder: it has no config.json{left}")
        try:
            text = file.read_bytes()
            if json.loads(text)["format"] in EARLIER:
                raise InputError(
                    f"{self.path} was begun by an earlier diet_jax, with other options or without checksums, "
                    f"and can be continued by that version only; choose another run_dir"
                )
            header = from_record(text)
            if header["format"] != FORMAT:
                raise KeyError(header["format"])
            if not isinstance(header["config"], dict) or not isinstance(header["resolved"], dict):
                raise TypeError("config and resolved must be objects")
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"{file} is damaged or of another version ({error}); bring it back from a copy: without it "
                f"nothing in the folder is known to be this run's; or begin in another folder"
            ) from error
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
            raise InputError(
                f"{self.path / 'config.json'} is damaged: its config has no section train; bring it back "
                f"from a copy, or begin in another folder"
            )
        for name, value in ({} if recipe is None else to_json(recipe)).items():
            # Objects alone: nested options stand there as a dict.
            if isinstance(value, str) and values["train"].get(name) == value:
                values["train"][name] = getattr(recipe, name)
        for name in ("optimizer", "schedule"):
            # The name and the digest of a function.
            if isinstance(values["train"].get(name), str) and " " in values["train"][name]:
                raise NotHereError(
                    f"the {name} of {self.path} is an object of Python ({values['train'][name]}): name the "
                    f"config file that has it, or give the recipe in Python"
                )
        try:
            return from_json(RunConfig, values)
        except InputError as error:
            raise type(error)(f"{self.path / 'config.json'}: {error}") from error

    def missing(self, names: Sequence[str]) -> list[int]:
        """Returns the places in a list of those files, by paths in the folder, that are not there."""
        return from_writer(lambda: [i for i, name in enumerate(names) if not self.place(name).is_file()])

    def save(self, name: str, kind: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Writes arrays and what they belong to, whole or not at all, at a path in the folder."""
        from_writer(lambda: save_arrays(self.path / name, kind, arrays, facts))

    def load(
        self, name: str, kind: str, arrays: tuple[str, ...], facts: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Reads arrays at a path in the folder, which must belong to these facts."""
        return from_writer(lambda: load_checked(self.place(name), kind, arrays, facts))


@contextmanager
def open_run(
    config: RunConfig, resolved: dict[str, Any], *, writers: Sequence[str] = ()
) -> Iterator[RunFolder]:
    """Opens a run folder for writing: a new one, or one that the same config started.

    Args:
        config: of the run.
        resolved: what followed from the config and the data (steps, counts, fingerprint), JSON values.
        writers: what else gets the records of metrics.jsonl, by their names.

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
    with ExitStack() as held:
        from_writer(lambda: _take(folder, config, resolved, held))
        if writers and is_writer():
            folder.also = held.enter_context(opened(writers, folder.path, config.facts(), folder.metrics))
        yield folder


def _take(folder: RunFolder, config: RunConfig, resolved: dict[str, Any], held: ExitStack) -> None:
    """Holds the folder, which must be new or of this config, and writes down what is about to run."""
    path, anew = folder.path, False
    try:
        if path.exists() and not path.is_dir():
            raise InputError(f"run_dir {path} is a file; choose a folder")
        # A process killed at its first write leaves the lock and a part of config.json.
        if path.is_dir() and any(p.name != ".lock" and not is_leftover(p) for p in path.iterdir()):
            anew = _is_to_begin_anew(folder, config, resolved)
    except OSError as error:
        raise InputError(f"cannot read run_dir {path}: {error.strerror or error}; choose another") from error
    with ExitStack() as stack:
        stack.enter_context(hold(path, "run_dir"))
        if anew:
            say(f"{path} holds no result yet and is begun anew with the config as it is now")
            for name in (METRICS, STARTS, "noise.npz"):
                (path / name).unlink(missing_ok=True)
        if anew or not (path / "config.json").is_file():
            header = {"format": FORMAT, "config": config.facts(), "resolved": resolved}
            write_atomically(path / "config.json", json.dumps(with_checksum(header), indent=2) + "\n")
        else:
            check_same(folder, config, resolved)
        # What contradicts itself is left as it is.
        folder.check_logs()
        remove_leftovers(path)
        folder.log_start({**environment(), "code": versions_of_code()})
        held.push(stack.pop_all())


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
