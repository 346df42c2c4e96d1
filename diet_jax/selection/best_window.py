"""The window of ranks on which ridge regression of the labels does best: no network is retrained (BWS)."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from diet_jax.checks.values import check_number
from diet_jax.errors import InputError
from diet_jax.selection.masks import checked_scores, num_kept
from diet_jax.selection.ranks import keep_window, ranked_rows
from diet_jax.selection.rule import RULES, Rule
from diet_jax.types import PRNGKey


class RegressedWindows(NamedTuple):
    """What `regressed_windows` returns."""

    offsets: np.ndarray
    """float64 `[o]`, shares of the lowest-scored examples that are skipped, rising."""
    accuracies: np.ndarray
    """float64 `[o]`, of all examples by the regression on each window; high is good."""

    @property
    def best(self) -> float:
        """The offset of the highest accuracy, the lowest of equal ones."""
        return float(self.offsets[int(np.argmax(self.accuracies))])


def regressed_windows(
    scores: Any,
    fraction: float,
    *,
    labels: Any,
    features: Any,
    step: float = 0.05,
    ridge: float = 0.01,
    key: PRNGKey | None = None,
) -> RegressedWindows:
    """Judges windows of ranks by ridge regression of the labels on features, within seconds.

    The kernel is linear: on a window's features `X` and targets `Y`, one-hot labels minus `1/c`, the weights
    are `(XᵀX + λI)⁻¹ XᵀY` with `λ = ridge · mean ‖x‖²`. That is `kernel_regression` with the kernel `X Xᵀ`,
    solved in the features' dimension. The accuracy is that of the largest output, on all examples.

    Args:
        scores: float `[n]`, NaN-free.
        fraction: share to keep, above 0 and at most 1.
        labels: int `[n]`.
        features: float `[n d]`.
        step: from one offset to the next, a share of all examples; the last window is that of the highest.
        ridge: at least 0, relative to the kernel's mean diagonal.
        key: decides between equal scores.

    Returns:
        Offsets with accuracies.

    Raises:
        InputError: a number is out of range, or there is one class only.

    Paper: Choi et al. 2024 (BWS).

    Example:
        >>> import numpy as np
        >>> features = np.array([[1.0], [1.0], [-1.0], [-1.0], [1.0], [-1.0]])
        >>> labels = np.array([0, 0, 1, 1, 1, 0])  # The two hardest have the wrong label.
        >>> found = regressed_windows(np.arange(6), 0.5, labels=labels, features=features, step=0.25)
        >>> found.best, found.accuracies.round(2).tolist()
        (0.0, [0.67, 0.67, 0.33])
    """
    scores = checked_scores(scores)
    count = num_kept(len(scores), fraction)
    check_number(step, "step", above=0, most=1)
    check_number(ridge, "ridge", least=0)
    rows = ranked_rows(scores, key)
    inputs = np.asarray(features, np.float64)
    labels = np.asarray(labels)
    if len(np.unique(labels)) < 2:
        raise InputError("windows are judged by how well they tell classes apart; the labels are all one")
    classes = int(labels.max()) + 1
    targets = np.eye(classes)[labels] - 1 / classes
    last = 1 - fraction
    offsets = np.append(np.arange(math.ceil(last / step - 1e-9)) * step, last)
    accuracies = []
    for offset in offsets:
        first = min(math.floor(len(scores) * offset + 0.5), len(scores) - count)
        window = rows[first : first + count]
        kept = inputs[window]
        covariance = kept.T @ kept
        shift = ridge * np.trace(covariance) / count
        weights = np.linalg.lstsq(
            covariance + shift * np.eye(len(covariance)), kept.T @ targets[window], rcond=None
        )[0]
        accuracies.append(float(np.mean(np.argmax(inputs @ weights, axis=1) == labels)))
    return RegressedWindows(offsets, np.array(accuracies))


def keep_best_window(
    scores: Any,
    fraction: float,
    *,
    labels: Any,
    features: Any,
    step: float = 0.05,
    ridge: float = 0.01,
    key: PRNGKey | None = None,
) -> np.ndarray:
    """Keeps the window of ranks that `regressed_windows` finds best.

    Args and Raises as for `regressed_windows`.

    Returns:
        bool `[n]`, True = train on it; exactly `num_kept(n, fraction)` are True.

    Paper: Choi et al. 2024 (BWS).

    Example:
        >>> import numpy as np
        >>> features, labels = np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.array([0, 1, 1, 0])
        >>> keep_best_window(np.arange(4), 0.5, labels=labels, features=features, step=0.5).tolist()
        [True, True, False, False]
    """
    options: Any = {"step": step, "ridge": ridge, "key": key}
    best = regressed_windows(scores, fraction, labels=labels, features=features, **options).best
    return keep_window(scores, fraction, offset=best, key=key)


@dataclass(frozen=True)
class BestWindowOptions:
    """Options of the rule "best_window"."""

    step: float = 0.05
    """From one offset to the next, a share of all examples."""
    ridge: float = 0.01
    """Of the regression, relative to the mean of the kernel's diagonal."""

    def __post_init__(self) -> None:
        check_number(self.step, "step", above=0, most=1)
        check_number(self.ridge, "ridge", least=0)


BEST_WINDOW = RULES.register(
    Rule(
        name="best_window",
        words="the window of ranks on which ridge regression of the labels does best",
        reference="Choi et al. 2024 (BWS)",
        select=keep_best_window,
        reads=("labels", "features"),
        options=BestWindowOptions(),
        across_classes=True,
        about=lambda step, ridge: f"windows chosen by ridge regression (steps of {step:g}, ridge {ridge:g})",
    )
)
