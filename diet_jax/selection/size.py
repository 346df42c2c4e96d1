"""How much to keep: the smallest measured fraction that loses no more accuracy than is allowed."""

from typing import Any, NamedTuple

import numpy as np

from diet_jax.checks.values import check_array, check_number
from diet_jax.errors import InputError


class SmallestFraction(NamedTuple):
    """What `smallest_fraction` returns; losses are by rising fraction."""

    fraction: float
    """The smallest that is allowed, 1 where none of those measured is."""
    fractions: np.ndarray
    """float64 `[f]`, those measured, rising."""
    loss: np.ndarray
    """float64 `[f]`, mean over seeds, made to fall with the fraction."""
    standard_error: np.ndarray
    """float64 `[f]`, of the mean loss as measured."""


def smallest_fraction(fractions: Any, accuracies: Any, full: Any, *, max_loss: float) -> SmallestFraction:
    """Returns the smallest keep fraction that loses at most so much accuracy, with a standard error to spare.

    The loss of a seed is its accuracy with everything minus that with the fraction. Its mean over seeds is
    made to fall with the fraction by monotone regression (least squares): that more examples do harm is taken
    for chance. A fraction is allowed if that plus the standard error of its mean is at most `max_loss`, and
    the same holds for all larger ones that were measured. Nothing is interpolated.

    Args:
        fractions: float `[f]`, distinct, above 0 and at most 1.
        accuracies: float `[f s]`, by held-out examples that nothing else is judged by.
        full: float `[s]`, of the same seeds with everything kept.
        max_loss: in the unit of the accuracies, at least 0; 0.01 is a point where they are shares.

    Returns:
        The fraction, with the losses and their errors, float64 `[f]`, that led to it.

    Raises:
        InputError: shapes that do not fit, fewer than two seeds, a value that is not finite, or a fraction
            out of range or twice.

    Example:
        >>> import numpy as np
        >>> measured = np.array([[0.80, 0.82], [0.899, 0.899], [0.90, 0.902]])
        >>> smallest_fraction([0.1, 0.3, 0.5], measured, [0.90, 0.90], max_loss=0.01).fraction
        0.3
    """
    shares = np.asarray(check_array(fractions, "fractions", "f", "numbers"), np.float64)
    values = np.asarray(check_array(accuracies, "accuracies", "f s", "numbers"), np.float64)
    whole = np.asarray(check_array(full, "full", "s", "numbers"), np.float64)
    max_loss = check_number(max_loss, "max_loss", least=0)
    if values.shape != (len(shares), len(whole)) or len(whole) < 2 or not len(shares):
        raise InputError(
            f"accuracies must have shape [fractions, seeds] = [{len(shares)}, {len(whole)}], of at least two "
            f"seeds; got {values.shape}"
        )
    if not (np.isfinite(values).all() and np.isfinite(whole).all()):
        raise InputError("accuracies and full must be finite: leave out seeds that diverged")
    for share in shares:
        check_number(share, "fractions", above=0, most=1)
    if len(np.unique(shares)) < len(shares):
        raise InputError(f"fractions must be distinct, got {shares.tolist()}")
    order = np.argsort(shares)
    losses = whole - values[order]
    mean = _falling(losses.mean(axis=1))
    error = losses.std(axis=1, ddof=1) / np.sqrt(len(whole))
    allowed = mean + error <= max_loss
    from_here_on = np.logical_and.accumulate(allowed[::-1])[::-1]
    rising = shares[order]
    fraction = float(rising[from_here_on.argmax()]) if from_here_on.any() else 1.0
    return SmallestFraction(fraction, rising, mean, error)


def _falling(values: np.ndarray) -> np.ndarray:
    """The falling sequence nearest to some values in least squares: neighbours that rise are averaged."""
    blocks: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, count = value, 1
        while blocks and blocks[-1][0] < mean:
            before, number = blocks.pop()
            mean, count = (before * number + mean * count) / (number + count), number + count
        blocks.append((mean, count))
    return np.repeat([mean for mean, _ in blocks], [count for _, count in blocks])
