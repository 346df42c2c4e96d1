"""Batch-hardest: of more candidates than a batch holds, those that are hardest now are trained on."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int

from diet_jax.errors import InputError
from diet_jax.options.typed import check_types
from diet_jax.scores.score import SCORES, Score
from diet_jax.training.dynamic_pruning.method import DynamicPruning, none_yet
from diet_jax.types import Array, Inputs, Labels, Model, Variables


@dataclass(frozen=True)
class HardestOptions:
    """Options of batch-hardest."""

    fraction: float = 0.5
    """Share of the candidates of every step that is trained on: batch_size / fraction are drawn."""
    by: str = "loss"
    """What ranks them: the name of a score that reads logits, gradients, features or inputs."""

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 < self.fraction <= 1:
            raise InputError(f"hardest.fraction must be a share above 0, at most 1, got {self.fraction}")

    def candidates(self, batch_size: int) -> int:
        """Returns how many examples are drawn for a batch of so many."""
        return math.floor(batch_size / self.fraction + 0.5)

    def score(self) -> Score:
        """Returns the score that ranks.

        Raises:
            InputError: there is no such score, or it is none of examples by themselves.
        """
        score = SCORES.find(self.by)
        if not score.of_examples:
            raise InputError(
                f"hardest.by is {self.by}, which reads {score.reads}: candidates are ranked by the network "
                f"as it is; choose loss, el2n or another score of logits"
            )
        return score


class HardestState(NamedTuple):
    """What is remembered of all rows of the dataset."""

    kept: Bool[Array, "n"]
    """Whether each was among the hardest when it was last a candidate."""
    updates: Int[Array, "n"]
    """How often it was trained on."""
    offered: Array
    """Candidates of all steps."""
    left_out: Array
    """How many of those were not trained on."""


HardestState.method = "hardest"  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Hardest(DynamicPruning):
    """The method for a training: how many stay of how many candidates, and the score that ranks them."""

    batch_size: int
    candidates: int
    score: Score

    def init(self, num_examples: int) -> HardestState:
        """No example was a candidate."""
        rows = jnp.zeros(num_examples, bool), jnp.zeros(num_examples, jnp.int32)
        return HardestState(*rows, none_yet(), none_yet())

    def choose(
        self,
        own: HardestState,
        model: Model,
        variables: Variables,
        inputs: Inputs,
        labels: Labels,
        rows: Array,
    ) -> tuple[HardestState, Array | None]:
        """Ranks the candidates in a forward pass in eval mode: no BatchNorm is moved, nothing is random."""
        if self.candidates == self.batch_size:
            chosen, picked = None, rows
        else:
            hardness = self.score.function(model)(variables, inputs, labels)
            # In the order of the draw, as a batch without pruning has it.
            chosen = jnp.sort(jax.lax.top_k(hardness, self.batch_size)[1])
            picked = rows[chosen]
        own = HardestState(
            kept=own.kept.at[rows].set(False).at[picked].set(True),
            updates=own.updates.at[picked].add(1),
            offered=own.offered + jnp.uint32(self.candidates),
            left_out=own.left_out + jnp.uint32(self.candidates - self.batch_size),
        )
        return own, chosen
