"""Label noise whose extent is known: a dataset with other labels, and which of them are wrong."""

import math
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np

from diet_jax.checks.arrays import plain_array
from diet_jax.checks.values import check_choice, check_key, check_number
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.errors import InputError
from diet_jax.types import PRNGKey

NoiseMode = Literal["permute", "uniform", "different", "matrix"]
NOISE_MODES: tuple[NoiseMode, ...] = get_args(NoiseMode)

# A row of a transition matrix may miss a sum of 1 by the rounding of its printed digits.
ROW_SUM_TOLERANCE = 1e-6


class NoisyLabels(NamedTuple):
    """A dataset with noisy labels, and where they are noise. The clean labels stay in the clean dataset."""

    dataset: Dataset
    """The same images, ids and name, rows in place; the fingerprint is its own, for it covers the labels."""
    changed: np.ndarray
    """bool `[n]`: the label differs from the clean one; `changed.mean()` is the changed share."""


def flip_labels(
    key: PRNGKey, dataset: Dataset, fraction: float, *, mode: NoiseMode = "permute", matrix: Any = None
) -> NoisyLabels:
    """Returns a dataset in which the labels of a random share of the examples are noise.

    `m = floor(n * fraction + 1/2)` examples are chosen, then given a label by `mode`; `c` classes:

    - "permute": the chosen examples' labels are permuted among them. Class counts stay exactly as they
      are; with balanced classes about `fraction * (1 - 1/c)` of all labels change.
    - "uniform": drawn anew from all classes, so that the same share changes on average.
    - "different": drawn from the other classes; exactly the chosen labels change.
    - "matrix": drawn from row `k` of `matrix` for an example of clean class `k`; with a fraction of 1 the
      matrix is that of the whole dataset.

    Which examples are chosen depends on the key alone, not on the mode, and those chosen for a smaller
    fraction are among those for a larger one.

    Args:
        key: decides which examples are chosen and what they become.
        dataset: with clean labels; it is not changed.
        fraction: share of the examples that are chosen, from 0 to 1; 0 changes no label.
        mode: of "permute", "uniform", "different" and "matrix".
        matrix: float `[c c]`, only with the mode "matrix": row `k` holds the probabilities of the noisy
            classes of an example of clean class `k`, and sums to 1.

    Returns:
        The noisy dataset, and bool `[n]` of the labels that really differ.

    Raises:
        InputError: a fraction out of range or NaN, an unknown mode, a matrix that is missing, not asked for
            or not one of probabilities, or no other class to change to.

    Paper: section 4, Figure 2 right; the authors' 10 % "randomised" labels are the mode "permute".

    Example:
        >>> import jax, diet_jax as dj
        >>> train = dj.load_dataset("digits").train
        >>> noisy = flip_labels(jax.random.key(0), train, 0.1, mode="different")
        >>> int(noisy.changed.sum()), noisy.dataset.fingerprint == train.fingerprint
        (108, False)
    """
    check_key(key)
    check_dataset(dataset)
    check_choice(mode, "mode", NOISE_MODES)
    check_number(fraction, "noise fraction", least=0, most=1)
    if (matrix is None) == (mode == "matrix"):
        if matrix is None:
            raise InputError("mode 'matrix' needs a matrix [c c], a row for each clean class; give matrix=")
        raise InputError(f"matrix belongs to the mode 'matrix', but mode is {mode!r}; leave one of them out")
    count, classes = len(dataset), dataset.num_classes
    choose_key, draw_key = jax.random.split(key)
    num_chosen = math.floor(count * fraction + 0.5)
    chosen = np.asarray(jax.random.permutation(choose_key, count))[:num_chosen]
    clean = dataset.labels[chosen]
    # Drawn for every row, so that a row becomes the same class whatever the fraction.
    if mode == "permute":
        # The chosen rows are in random order already: sorting them is a random permutation.
        chosen = np.sort(chosen)
        drawn = clean
    elif mode == "uniform":
        drawn = np.asarray(jax.random.randint(draw_key, (count,), 0, classes, "int32"))[chosen]
    elif mode == "different":
        if classes < 2:
            raise InputError("mode 'different' needs another class to change to, but there is only 1 class")
        steps = np.asarray(jax.random.randint(draw_key, (count,), 1, classes, "int32"))
        drawn = (clean + steps[chosen]) % classes
    else:
        probabilities = _checked_matrix(matrix, classes)
        level = np.asarray(jax.random.bits(draw_key, (count,), "uint32"))[chosen] / 2**32
        drawn = _classes_at(level, probabilities, clean)
    labels = dataset.labels.copy()
    labels[chosen] = drawn
    return _with_labels(dataset, labels)


def replace_labels(dataset: Dataset, labels: Any) -> NoisyLabels:
    """Returns a dataset with labels from elsewhere, such as those of other annotators.

    Args:
        dataset: with clean labels; it is not changed.
        labels: int `[n]` in `0 .. c-1` or names of classes, row i for example i; for a file with ids
            see `read_labels`.

    Returns:
        The dataset with these labels, and bool `[n]` of the labels that differ.

    Raises:
        InputError: another length or dtype, or a label out of range.

    Example:
        >>> import diet_jax as dj
        >>> train = dj.load_dataset("digits").train
        >>> labels = train.labels.copy()
        >>> labels[:3] = (labels[:3] + 1) % 10
        >>> int(replace_labels(train, labels).changed.sum())
        3
    """
    check_dataset(dataset)
    return _with_labels(dataset, labels)


def _with_labels(dataset: Dataset, labels: Any) -> NoisyLabels:
    """Binds labels to the dataset."""
    noisy = dataset.with_labels(labels)
    return NoisyLabels(noisy, noisy.labels != dataset.labels)


def _classes_at(level: np.ndarray, probabilities: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """The class at each level, in [0, 1), of the distribution function in its clean class's row."""
    limits = np.cumsum(probabilities, axis=1)
    # Exactly 1 from the last possible class on, so that every level is below it.
    limits /= limits[:, -1:]
    drawn = np.empty_like(clean)
    for label in np.unique(clean):
        rows = clean == label
        # An impossible class has the limit of the one before it: to its right, it is never met.
        drawn[rows] = np.searchsorted(limits[label], level[rows], side="right")
    return drawn


def _checked_matrix(matrix: Any, classes: int) -> np.ndarray:
    values = plain_array(matrix, "matrix")
    if values.dtype.kind not in "biuf":
        raise InputError(f"matrix must hold probabilities, got {values.dtype}; give matrix.astype(float)")
    values = values.astype(np.float64)
    if values.shape != (classes, classes):
        raise InputError(
            f"matrix must have shape ({classes}, {classes}), a row for each clean class and a column for "
            f"each noisy one; got {values.shape}"
        )
    if not (np.isfinite(values).all() and (values >= 0).all()):
        row, column = np.argwhere(~(np.isfinite(values) & (values >= 0)))[0]
        raise InputError(
            f"matrix must hold probabilities, got {values[row, column]} in row {row}, column {column}"
        )
    sums = values.sum(axis=1)
    wrong = np.flatnonzero(np.abs(sums - 1) > ROW_SUM_TOLERANCE)
    if len(wrong):
        raise InputError(
            f"each row of matrix must sum to 1: row {wrong[0]} sums to {sums[wrong[0]]:.9g}; divide the rows "
            f"by their sums, or transpose it if its columns sum to 1"
        )
    return values
