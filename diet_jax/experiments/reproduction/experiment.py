"""What an experiment of the paper is: it runs in a store, and its outcome is drawn."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from diet_jax.experiments.reproduction.outcome import Outcome, Published
from diet_jax.experiments.reproduction.store import Store
from diet_jax.experiments.reproduction.task import Task
from diet_jax.plotting import draw_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Experiment(ABC):
    """A frozen dataclass of settings that knows how to run; its name and settings stand in the result.

    A new figure of the paper is one of these in a file of its own, and a config that says its settings at one
    or more scales.
    """

    needs_table: ClassVar[bool] = False
    """Whether it compares with values that the user brings: the path of their file is its field `table`."""

    def all_tasks(self) -> tuple[Task, ...]:
        """Returns what it trains, for titles and the data's record; by default its field `task`, if any."""
        task = getattr(self, "task", None)
        return () if task is None else (task,)

    @abstractmethod
    def run(self, store: Store, published: Published | None) -> Outcome:
        """Trains and scores what the store lacks, and returns what was found.

        Args:
            store: of trainings, scores and predictions.
            published: the paper's points, if they are known.
        """

    def draw(self, store: Store, result: Mapping[str, Any]) -> "Figure":
        """Returns the picture of a result; by default of its chart.

        Args:
            store: that it was found in.
            result: the outcome as JSON values, as it is written.
        """
        return draw_result(result)
