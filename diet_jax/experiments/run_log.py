"""The log of a run folder: what trainings reported, and who diverged; and when the run was started."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.devices.mesh import fetch
from diet_jax.devices.processes import from_writer, is_writer
from diet_jax.devices.progress import say
from diet_jax.ensemble.over_seeds import take_seed
from diet_jax.errors import InputError
from diet_jax.files.records import (
    DAMAGED,
    Lines,
    append_lines,
    from_record,
    read_lines,
    text_of_lines,
    words_of,
)
from diet_jax.files.writing import check_still_there, write_atomically
from diet_jax.options.plain import plain
from diet_jax.training.divergence import Divergence, first_bad

METRICS, STARTS, PROVENANCE = "metrics.jsonl", "starts.jsonl", "provenance.json"
UNFINISHED = "**Unfinished**"
"""With it the table of a run begins that a deadline stopped."""
# The last line of a finished run, which provenance.json names.
FINISHED = "stage/finished"


class RunLog(ABC):
    """The lines of metrics.jsonl and starts.jsonl in a folder; each says which run it is of, and its number.

    Of several processes only the first has the folder; what the others log is left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.also: Callable[[Mapping[str, Any]], None] = lambda record: None
        """What else is given each record of metrics.jsonl."""

    def place(self, name: str) -> Path:
        """Returns where a file is, in a folder that must be there still."""
        check_still_there(self.path.absolute() / name)
        return self.path / name

    @abstractmethod
    def identity(self) -> str:
        """Returns what the lines say that they belong to, the same wherever the folder is."""

    @abstractmethod
    def header(self) -> dict[str, Any]:
        """Returns what followed from the config: "resolved" has "score_step"."""

    def log(self, unit: str, **values: Any) -> None:
        """Appends one line to metrics.jsonl: which training or stage, and its numbers."""
        self._log([{"unit": unit, **values}])

    def log_histories(self, units: list[str], history: Any, per_epoch: int) -> None:
        """Logs a stacked history, one unit per seed, one line per epoch, in place of what they logged."""
        self.forget_between(units, 0)
        history = fetch(history)
        for seed, unit in enumerate(units):
            self.log_history(unit, take_seed(history, seed), 0, per_epoch)

    def log_history(
        self, unit: str, history: Any, first_step: int, per_epoch: int, cut: int = 0
    ) -> Divergence | None:
        """Logs a history, see `epoch_means`, up to the first loss that is not finite.

        Returns:
            Where that is; None without any. The unit then counts as diverged.
        """
        place = first_bad(history.loss)
        if place is not None:
            loss, history = history.loss[place], type(history)(*(values[:place] for values in history))
        self._log([{"unit": unit, **line} for line in epoch_means(history, first_step, per_epoch, cut)])
        if place is None:
            return None
        return self.log_divergence(unit, first_step + place + 1, per_epoch, f"loss {float(loss)}")

    def log_divergence(self, unit: str, step: int, per_epoch: int, what: str) -> Divergence:
        """Says and logs that a training diverged, and where."""
        divergence = Divergence(step, step / per_epoch, what)
        say(f"{unit or self.path.name} diverged: {divergence}")
        self.log(unit, step=step, epoch=divergence.epoch, diverged=what)
        return divergence

    def log_finished(self, token: str) -> None:
        """Logs that a run finished, by a word that provenance.json has too."""
        self.log(FINISHED, token=token)

    def log_start(self, about: dict[str, Any]) -> None:
        """Appends one line to starts.jsonl."""
        append_lines(self.path / STARTS, [about], self.identity())

    def diverged(self) -> dict[str, Divergence]:
        """Returns which trainings diverged, and where, as they were logged.

        Raises:
            InputError: a line is damaged, or there is what a training cannot have made if it diverged.
        """
        return from_writer(self._diverged)

    def _diverged(self) -> dict[str, Divergence]:
        found: dict[str, Divergence] = {}
        for place, line in enumerate(self.metrics(), 1):
            if "diverged" not in line:
                continue
            unit, divergence = line["unit"], Divergence(line["step"], line["epoch"], line["diverged"])
            for made in self._made_after(unit, divergence.step):
                raise InputError(
                    f"line {place} of {self.path / METRICS} says that {unit} diverged ({divergence}), and "
                    f"{made} is there, which it then cannot have made; delete what is not of this run"
                )
            if unit not in found or divergence.step < found[unit].step:
                found[unit] = divergence
        return found

    def _made_after(self, unit: str, step: int) -> Iterator[Path]:
        """What is there that a training makes beyond a step: predictions, scores, checkpoints."""
        purpose, _, seed = unit.partition("/")
        files = [self.path / f"{unit}.npz", self.path / "trained" / f"{unit}.npz"]
        if purpose == "score" and self.header()["resolved"]["score_step"] >= step:
            files.append(self.path / "scores/per_seed" / f"{seed}.npz")
        yield from (file for file in files if file.is_file())
        for state in (self.path / "checkpoints" / unit).glob("*"):
            if state.name.isdecimal() and int(state.name) > step:
                yield state

    def _log(self, lines: list[dict[str, Any]]) -> None:
        if is_writer():
            now = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            records = [{**plain(line), **now} for line in lines]
            append_lines(self.path / METRICS, records, self.identity())
            for record in records:
                self.also(record)

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl; one that a killed process left unfinished does not count.

        Raises:
            InputError: another line is damaged, or of another run.
        """
        return self._metrics().values

    def _metrics(self) -> Lines:
        file = self.place(METRICS)
        found = read_lines(file, self.identity())
        for place, values in enumerate(found.values, 1):
            try:
                _ = values["unit"], values.get("step", 0) + 0
            except (KeyError, TypeError) as error:
                raise InputError(f"{file}: {words_of({place: DAMAGED})}") from error
        return found

    def forget_between(self, units: list[str], step: int, stop: float = math.inf) -> None:
        """Drops the units' metrics beyond `step`, up to `stop`: they are about to do those steps again."""
        if not is_writer():
            return
        found, redone = self._metrics(), set(units)
        kept, dropped = [], 0
        for number, line in zip(found.numbers, found.values, strict=True):
            if line["unit"] in redone and step < line.get("step", 0) <= stop:
                dropped += 1
            else:
                # What was missing before is missing still.
                kept.append((number - dropped, line))
        if dropped:
            write_atomically(self.path / METRICS, text_of_lines(kept, self.identity()))

    def check_logs(self) -> None:
        """Raises InputError where a log is damaged, contradicts results, or has lost its end."""
        self.diverged()
        starts = read_lines(self.place(STARTS), self.identity())
        for name, what in self.lost(self.metrics(), starts).items():
            raise InputError(f"{self.path / name}: {what}")

    def lost(self, metrics: list[dict[str, Any]], starts: Lines) -> dict[str, str]:
        """Says of which logs the end is missing that they had when the run finished, by their names."""
        try:
            values = from_record((self.path / PROVENANCE).read_bytes())
            token, count = values["finished"], int(values["starts"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
        remedy = (
            f"bring the file back from a copy; without one, delete {PROVENANCE}, and the same command goes "
            f"on without those lines"
        )
        found = {}
        if not any(line["unit"] == FINISHED and line.get("token") == token for line in metrics):
            found[METRICS] = f"the line is missing by which the run finished, and maybe others; {remedy}"
        if (starts.numbers or [0])[-1] < count:
            found[STARTS] = f"lines are missing of {count:,} that were there when the run finished; {remedy}"
        return found


def epoch_means(history: Any, first_step: int, per_epoch: int, cut: int = 0) -> Iterator[dict[str, float]]:
    """Cuts a history at the ends of epochs: the mean loss and accuracy of the steps up to each.

    Args:
        history: loss and accuracy of steps first_step+1, ..., float32 `[t]`.
        first_step: updates done before.
        per_epoch: steps in an epoch.
        cut: a step within an epoch at which it is cut too.

    Yields:
        step, epoch, loss and accuracy of each piece.
    """
    last = first_step + len(history.loss)
    start = first_step
    while start < last:
        stop = min((start // per_epoch + 1) * per_epoch, last, cut if cut > start else last)
        piece = slice(start - first_step, stop - first_step)
        yield {
            "step": stop,
            "epoch": stop / per_epoch,
            "loss": float(np.mean(history.loss[piece])),
            "accuracy": float(np.mean(history.accuracy[piece])),
        }
        start = stop
