"""Rules over the ranks of one score: the highest, the lowest, a window; and the random baseline."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from diet_jax.checks.values import check_count, check_key, check_number
from diet_jax.errors import InputError
from diet_jax.selection.masks import checked_scores, num_kept
from diet_jax.selection.rule import DEFAULT_TIE_SEED, RULES, Rule
from diet_jax.types import THREEFRY, PRNGKey


def keep_highest(scores: Any, fraction: float, *, key: PRNGKey | None = None) -> np.ndarray:
    """Keeps the share of examples with the highest scores: the paper's pruning.

    Args:
        scores: float `[n]`; infinite scores are allowed, NaN is not.
        fraction: share to keep, above 0 and at most 1.
        key: decides between examples with equal scores; a fixed key by default.

    Returns:
        bool `[n]`, True = train on it; exactly `num_kept(n, fraction)` are True.

    Raises:
        InputError: the fraction is out of range, or the scores are not one NaN-free vector.

    Paper: section 3.

    Example:
        >>> keep_highest([0.1, 0.9, 0.5, 0.7], 0.5).tolist()
        [False, True, False, True]
    """
    scores = checked_scores(scores)
    return _keep_ranks(scores, len(scores) - num_kept(len(scores), fraction), len(scores), key)


def keep_lowest(scores: Any, fraction: float, *, key: PRNGKey | None = None) -> np.ndarray:
    """Keeps the share of examples with the lowest scores, the easiest.

    Args, Returns and Raises as for `keep_highest`.

    Example:
        >>> keep_lowest([0.1, 0.9, 0.5, 0.7], 0.5).tolist()
        [True, False, True, False]
    """
    scores = checked_scores(scores)
    return _keep_ranks(scores, 0, num_kept(len(scores), fraction), key)


def keep_window(scores: Any, fraction: float, *, offset: float, key: PRNGKey | None = None) -> np.ndarray:
    """Keeps a window of ranks: sorts ascending, skips the share `offset`, keeps the next `fraction`.

    With label noise the best window leaves out the very highest scores. `offset = 1 - fraction` is
    `keep_highest`, `offset = 0` is `keep_lowest`.

    Args:
        scores: float `[n]`, NaN-free.
        fraction: share to keep, above 0 and at most 1.
        offset: share of lowest-scored examples to skip, at least 0; offset + fraction at most 1.
        key: decides between examples with equal scores; a fixed key by default.

    Returns:
        bool `[n]`, True = train on it.

    Raises:
        InputError: fraction or offset is out of range, or the window ends above the highest score: it is
            never silently shortened.

    Paper: section 4, Figure 2.

    Example:
        >>> keep_window([0.1, 0.9, 0.5, 0.7], 0.5, offset=0.25).tolist()
        [False, False, True, True]
    """
    scores = checked_scores(scores)
    count = num_kept(len(scores), fraction)
    check_window(fraction, offset)
    # Where offset and fraction both round up, the window still ends at the highest score.
    first = min(math.floor(len(scores) * offset + 0.5), len(scores) - count)
    return _keep_ranks(scores, first, first + count, key)


def check_window(fraction: float, offset: float) -> None:
    """Raises InputError unless a window of ranks lies within them."""
    check_number(fraction, "keep fraction", above=0, most=1)
    check_number(offset, "offset", least=0, below=1)
    # The margin is for sums such as 0.7 + 0.2 + 0.1 that only miss 1 by the rounding of floats.
    if offset + fraction > 1 + 1e-9:
        raise InputError(
            f"offset {offset} and keep fraction {fraction} ask for a window that ends above the highest "
            f"score; their sum must be at most 1"
        )


def keep_random(key: PRNGKey, num_examples: int, fraction: float) -> np.ndarray:
    """Keeps a random share of the examples: the baseline that every score has to beat.

    Args:
        key: decides which; use a key of its own for every training run.
        num_examples: size of the dataset.
        fraction: share to keep, above 0 and at most 1.

    Returns:
        bool `[n]`, True = train on it; exactly `num_kept(n, fraction)` are True.

    Raises:
        InputError: the fraction is out of range.

    Example:
        >>> import jax
        >>> int(keep_random(jax.random.key(0), 10, 0.3).sum())
        3
    """
    check_count(num_examples, "num_examples")
    num_kept(num_examples, fraction)
    return keep_lowest(random_bits(key, num_examples).astype(np.float64), fraction, key=key)


def ranked_rows(scores: Any, key: PRNGKey | None = None) -> np.ndarray:
    """Returns the rows of the examples by rising score, int64 `[n]`; the key decides between equal ones.

    Example:
        >>> ranked_rows([0.5, 0.1, 0.9]).tolist()
        [1, 0, 2]
    """
    scores = checked_scores(scores)
    # lexsort's last key is the first to sort by; random bits decide between equal scores.
    return np.lexsort((random_bits(key, len(scores)), scores))


def _keep_ranks(scores: np.ndarray, first: int, stop: int, key: PRNGKey | None) -> np.ndarray:
    keep = np.zeros(len(scores), bool)
    keep[ranked_rows(scores, key)[first:stop]] = True
    return keep


def random_bits(key: PRNGKey | None, count: int) -> np.ndarray:
    """Returns uint32 `[count]` of a key, or of a fixed one."""
    key = jax.random.key(DEFAULT_TIE_SEED, impl=THREEFRY) if key is None else key
    return np.asarray(jax.random.bits(check_key(key), (count,), "uint32"))


def random_rows(key: PRNGKey | None, count: int) -> np.ndarray:
    """Returns all rows in random order, int64 `[count]`: that of equal scores in `ranked_rows`."""
    return np.argsort(random_bits(key, count), kind="stable")


def _check_window_given(fraction: float, offset: float | None) -> None:
    """Raises InputError where no window is chosen: with the least offset it is the rule lowest."""
    if offset is None:
        raise InputError(
            "the rule window needs its option offset, the share of the lowest-scored examples to skip: set "
            '--select.window.offset (select: --window.offset; Python: options={"window": {"offset": 0.1}})'
        )
    check_window(fraction, offset)


@dataclass(frozen=True)
class WindowOptions:
    """Options of the rule "window"."""

    offset: float | None = None
    """Share of the lowest-scored examples to skip; must be given."""


HIGHEST = RULES.register(
    Rule(
        name="highest",
        words="the highest scores",
        reference="Paul et al. 2021, section 3",
        select=keep_highest,
        about=lambda: "",
        risky_up_to=0.3,
    )
)

LOWEST = RULES.register(
    Rule(
        name="lowest",
        words="the lowest scores",
        reference="the control of Paul et al. 2021, section 3",
        select=keep_lowest,
        about=lambda: "the lowest scores kept",
    )
)

WINDOW = RULES.register(
    Rule(
        name="window",
        words="a window of ranks",
        reference="Paul et al. 2021, section 4",
        select=keep_window,
        options=WindowOptions(),
        check=_check_window_given,
        about=lambda offset: f"windows that leave out the lowest {offset:g}",
    )
)
