"""A slice of a long run: when it must stop, and what is not begun because it would end too late."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from diet_jax.devices.processes import from_writer
from diet_jax.errors import InputError

# Kept at the end for writing, checkpoints above all; of a short slice the last tenth.
RESERVE_SECONDS = 20.0


class OutOfTime(Exception):
    """The time of a slice is over. What was finished is on disk, and what was not can go on from there."""

    def __init__(self) -> None:
        super().__init__("the time is over")
        self.report: list[str] = []
        """What is finished of the work that was stopped, in words."""


class Deadline:
    """The end of a slice of a run; without a number of minutes it never comes. It decides no number.

    Of several processes the first one's clock counts, except where each works for itself.

    Args:
        minutes: how long from now.
        clock: seconds.
    """

    def __init__(self, minutes: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        if minutes is not None and not 0 < minutes < math.inf:
            raise InputError(f"minutes must be a finite number above 0, got {minutes}")
        self.minutes, self.clock = minutes, clock
        self._begun = clock()
        seconds = math.inf if minutes is None else 60 * minutes
        self._end = self._begun + max(seconds - RESERVE_SECONDS, 0.9 * seconds)
        self._steps = 0
        self._lasted: dict[str, float] = {}

    @property
    def comes(self) -> bool:
        """Whether there is one."""
        return self.minutes is not None

    def is_over(self, lasting: float = 0.0) -> bool:
        """Whether work that lasts so many seconds would end too late, for all processes."""
        return self.comes and from_writer(lambda: self.clock() + lasting >= self._end)

    def check(self, lasting: float = 0.0) -> None:
        """Raises OutOfTime, in all processes, where work of so many seconds must not begin."""
        if self.is_over(lasting):
            raise OutOfTime

    def check_here(self) -> None:
        """Raises OutOfTime by this process's own clock, where it works for itself."""
        if self.clock() >= self._end:
            raise OutOfTime

    @contextmanager
    def whole(self, what: str) -> Iterator[None]:
        """Guards work that cannot be interrupted; it begins if there is time for it, as far as is known.

        Args:
            what: names the work: how long it takes is known from the last time.

        Raises:
            OutOfTime: before the work.
        """
        self.check(self._lasted.get(what, 0.0))
        start = self.clock()
        yield
        # The first time compiles as well.
        self._lasted[what] = min(self.clock() - start, self._lasted.get(what, math.inf))

    def worked(self, steps: int) -> None:
        """Counts training steps that were done now."""
        self._steps += steps

    def time_for(self, steps: int) -> str:
        """Says how long so many training steps would take at the speed so far, all else included."""
        if not steps:
            return ""
        if not self._steps:
            return "; no step was trained in this slice: give it more minutes"
        if steps > 50 * self._steps:  # Most of the slice was spent on beginning.
            return ""
        minutes = (self.clock() - self._begun) * steps / self._steps / 60
        time = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
        return f", about {time} at this speed"

    def used(self) -> str:
        """Says how long the slice took."""
        seconds = self.clock() - self._begun
        return f"{seconds / 60:.1f} minutes" if seconds > 90 else f"{seconds:.0f} s"


NEVER = Deadline()
