"""Progress of a long step, on stderr: a bar with the time left on a terminal, else a line now and then.

Of several processes the first one shows it.
"""

import sys
import time
from typing import Any

from diet_jax.devices.processes import is_writer


class Progress:
    """Counts towards a total. It has the four members that pooch asks of a progress bar.

    Args:
        description: what is being done.
        total: how much there is to do; 0 if that is not known yet.
        quiet: show nothing.
        brief: show nothing of what is done within a second, as it is for small data.
    """

    SECONDS_BETWEEN_LINES = 10.0
    SECONDS_OF_BRIEF = 1.0
    SECONDS_BEFORE_A_GUESS = 20.0
    """Before, pieces that take longer than others, or shorter, would make the time left jump."""

    def __init__(self, description: str, total: int = 0, *, quiet: bool = False, brief: bool = False) -> None:
        self.description = description
        self.total = total
        self._done = 0
        self._start = self._shown = time.monotonic()
        # When the first piece was done, and how much that was: it took longer than others, for compiling.
        self._first: tuple[float, int] | None = None
        self._bar: Any = None
        self._lines = False
        self._waits = brief and not quiet and is_writer()
        if not (quiet or brief) and is_writer():
            self._show()

    def _show(self) -> None:
        self._waits = False
        self._lines = not sys.stderr.isatty()
        if self._lines:
            print(f"{self.description} ...", file=sys.stderr)
        else:
            self._bar = _rich_bar()
            self._task = self._bar.add_task(self.description, total=self.total or None, left="")
            self._bar.start()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, count: int) -> None:
        """Adds `count` to what is done."""
        self._done += count
        now = time.monotonic()
        if self._waits and now - self._start > self.SECONDS_OF_BRIEF:
            self._show()
        if self._bar is not None:
            left = self._left(now)
            self._bar.update(self._task, completed=self._done, total=self.total or None, left=left)
        elif self._lines and self.total and self._done and now - self._shown > self.SECONDS_BETWEEN_LINES:
            self._shown = now
            left = self._left(now)
            text = f"{self.description}: {self._done / self.total:.0%}" + f", {left}" * bool(left)
            print(text, file=sys.stderr)
        if count and self._first is None:
            self._first = now, self._done

    def _left(self, now: float) -> str:
        """How long the rest takes at the speed since the first piece; "" before enough is known."""
        since, before = self._first or (now, self._done)
        if not self.total or self._done <= before or now - since < self.SECONDS_BEFORE_A_GUESS:
            return ""
        seconds = (now - since) * (self.total - self._done) / (self._done - before)
        return f"about {_roughly(seconds)} left" if seconds > 0 else ""

    def reset(self) -> None:
        """Sets what is done back to nothing."""
        self._done, self._first = 0, None

    def close(self) -> None:
        """Takes the bar down."""
        if self._bar is not None:
            self._bar.stop()


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as RichProgress

    about = TextColumn("{task.description}"), TextColumn("{task.fields[left]}")
    columns = (about[0], BarColumn(), TaskProgressColumn(), about[1])
    return RichProgress(*columns, console=Console(stderr=True))


def _roughly(seconds: float) -> str:
    """A time as far as it can be known."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def say(message: str, *, quiet: bool = False) -> None:
    """Prints one line to stderr."""
    if not quiet and is_writer():
        print(message, file=sys.stderr)
