"""Which scores share a pass over the examples."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from diet_jax.scores.score import Score
from diet_jax.types import Array, Model


class ScorePass(NamedTuple):
    """One pass over the examples, and the scores that it is made for."""

    scores: tuple[Score, ...]
    """In the order of what it returns."""
    fn: Callable[..., Any]
    """`(variables, inputs, labels) -> values [b ...]` of its one score, or a tuple of several."""

    @property
    def name(self) -> str:
        """Of its scores, such as "el2n, loss"."""
        return ", ".join(score.name for score in self.scores)

    def by_score(self, values: Any) -> list[tuple[Score, Any]]:
        """Returns what the pass returned, for each score."""
        return list(zip(self.scores, values if len(self.scores) > 1 else (values,), strict=True))


def passes_of(scores: Iterable[Score], model: Model) -> tuple[ScorePass, ...]:
    """Returns the passes that scores need: one for all that read logits, with one forward pass.

    XLA sees that they compute the same logits. Gradients and features have passes of their own, for what they
    take of memory differs; scores that no pass is made for are left out.

    Args:
        scores: which.
        model: what is scored with.
    """
    on_batches = {score: fn for score in scores if (fn := score.on_batches(model)) is not None}
    of_logits = tuple(score for score in on_batches if score.reads == "logits")
    groups = [of_logits] * bool(of_logits) + [(score,) for score in on_batches if score not in of_logits]
    return tuple(ScorePass(group, _together(*(on_batches[score] for score in group))) for group in groups)


@functools.lru_cache(maxsize=64)
def _together(*functions: Callable[..., Any]) -> Callable[..., Any]:
    """The same object for the same functions, so that programs are found again."""
    return functions[0] if len(functions) == 1 else functools.partial(_all_of, functions)


def _all_of(
    functions: tuple[Callable[..., Any], ...], variables: Any, inputs: Any, labels: Any
) -> tuple[Array, ...]:
    return tuple(fn(variables, inputs, labels) for fn in functions)
