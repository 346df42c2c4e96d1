"""The tangent kernel: how the logits of examples move together, how fast that changes, and regression."""

from diet_jax.analysis.ntk.distance import kernel_distance, kernel_velocity
from diet_jax.analysis.ntk.estimates import (
    KernelDistanceEstimate,
    LogitGramEstimate,
    estimate_kernel_distance,
    estimate_logit_gram,
)
from diet_jax.analysis.ntk.gram import BLOCK_BYTES, logit_gram
from diet_jax.analysis.ntk.regression import kernel_regression

__all__ = [
    "BLOCK_BYTES",
    "KernelDistanceEstimate",
    "LogitGramEstimate",
    "estimate_kernel_distance",
    "estimate_logit_gram",
    "kernel_distance",
    "kernel_regression",
    "kernel_velocity",
    "logit_gram",
]
