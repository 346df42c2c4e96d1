"""What a claim stands on: what was measured of which networks. By it no training is counted twice."""

from dataclasses import dataclass
from typing import Any

from diet_jax.errors import InputError
from diet_jax.experiments.reproduction.task import ScoreAt, Task


@dataclass(frozen=True)
class Part:
    """Networks that a claim was judged by. Equal parts are the same trainings."""

    task: Task
    what: str
    """What was kept or scored: with the task, all that decides these networks but their own seeds."""


@dataclass(frozen=True)
class Evidence:
    """A measure of one part, or its comparison between several. Claims of equal evidence are one claim.

    Raises:
        InputError: it has no part, or one of them twice.
    """

    measure: str
    parts: tuple[Part, ...]
    seeds: int
    """Networks that the verdict is taken over."""
    score_seeds: int = 0
    """Networks whose mean score ranked the examples for these; 0 without, or where scores are judged."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError(f"the evidence of a claim needs a part, got none for {self.measure!r}")
        for part in self.parts:
            if self.parts.count(part) > 1:
                raise InputError(
                    f"a claim compares different things, and {part.what!r} of {part.task.name} is compared "
                    "with itself; compare it with another, or make no claim"
                )

    def facts(self) -> dict[str, Any]:
        """Returns it as JSON values, tasks by their identities."""
        parts = [{"task": part.task.identity, "what": part.what} for part in self.parts]
        return {
            "measure": self.measure,
            "parts": parts,
            "seeds": self.seeds,
            "score_seeds": self.score_seeds,
        }


def everything(task: Task) -> Part:
    """Networks trained on all examples."""
    return Part(task, "everything kept")


def at_random(task: Task, fraction: float) -> Part:
    """Networks trained on random subsets, one for each seed."""
    return Part(task, f"{fraction:g} kept at random")


def kept_by(
    task: Task,
    fraction: float,
    at: ScoreAt,
    num_seeds: int,
    *,
    offset: float | None = None,
    by: Task | None = None,
) -> Part:
    """Networks trained on what a score keeps.

    Args:
        task: that is trained.
        fraction: keep fraction.
        at: the score.
        num_seeds: networks that it is averaged over.
        offset: of a window of ranks; by default the highest are kept, which is the window that ends there.
        by: the task whose networks score, if it is another.
    """
    top = offset is None or abs(offset + fraction - 1) < 1e-9
    where = "highest" if top else f"from offset {offset:g}"
    scorer = f" of the task {by.identity}" if by is not None and by != task else ""
    return Part(task, f"{fraction:g} kept, {where} by {_ranking(at, num_seeds)}{scorer}")


def scored(task: Task, at: ScoreAt, num_seeds: int) -> Part:
    """Networks that score, and their mean score."""
    return Part(task, _ranking(at, num_seeds))


def _ranking(at: ScoreAt, num_seeds: int) -> str:
    epoch = f" at epoch {at.epoch:g}" if at.score.needs_training else ""
    return at.name + epoch + ("" if at.score.reads == "inputs" else f" of {num_seeds}")
