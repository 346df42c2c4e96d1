"""Which networks share a basin: paths between them and the error barriers on them."""

from diet_jax.analysis.connectivity.barriers import (
    error_barrier,
    pairwise_barriers,
    path_correct,
    reestimate_statistics,
)
from diet_jax.analysis.connectivity.paths import barrier_height, connectivity_onset, interpolate, spawn

__all__ = [
    "barrier_height",
    "connectivity_onset",
    "error_barrier",
    "interpolate",
    "pairwise_barriers",
    "path_correct",
    "reestimate_statistics",
    "spawn",
]
