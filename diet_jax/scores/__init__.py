"""Scores of examples. In all of them high means hard."""

from diet_jax.scores.dynamics import (
    ForgettingState,
    forgetting_scores,
    init_forgetting,
    update_forgetting,
)
from diet_jax.scores.gradients import grand, grand_last_layer, grand_vmap
from diet_jax.scores.logits import el2n

__all__ = [
    "ForgettingState",
    "el2n",
    "forgetting_scores",
    "grand",
    "grand_last_layer",
    "grand_vmap",
    "init_forgetting",
    "update_forgetting",
]
