"""Forgetting events, folded inside the training loop."""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from diet_jax.checks.rows import check_rows_within
from diet_jax.checks.values import (
    check_array,
    check_count,
    check_number,
    check_same_length,
    check_type,
)
from diet_jax.errors import InputError
from diet_jax.per_example.losses import predicted_classes
from diet_jax.scores.moments import CLEAN_PASS, MOMENTS, MOMENTS_CLEAN, Moments, of_moments
from diet_jax.scores.score import SCORES, Fold, Score
from diet_jax.types import AnyArray, Array, Mask


class ForgettingState(NamedTuple):
    """What is remembered of every row of the dataset between its presentations."""

    was_correct: Bool[Array, "*s n"]
    ever_correct: Bool[Array, "*s n"]
    events: Int[Array, "*s n"]


def init_forgetting(num_examples: int) -> ForgettingState:
    """Returns the state before the first presentation: nothing was correct, no event.

    Args:
        num_examples: rows of the whole dataset, also when training on a subset of them.

    Returns:
        A state with arrays `[n]`.

    Example:
        >>> init_forgetting(3).events.tolist()
        [0, 0, 0]
    """
    check_count(num_examples, "num_examples")
    # Two arrays, not one twice: a training step may overwrite each in place.
    return ForgettingState(
        was_correct=jnp.zeros(num_examples, bool),
        ever_correct=jnp.zeros(num_examples, bool),
        events=jnp.zeros(num_examples, jnp.int32),
    )


def update_forgetting(
    state: ForgettingState, rows: Int[AnyArray, "b"], correct: Bool[AnyArray, "b"]
) -> ForgettingState:
    """Counts a forgetting event for each row that was correct at its previous presentation and is not now.

    The authors' counting: `correct` is judged on the training forward pass (augmented images, train-mode
    BatchNorm, the weights before the update), and a row that was never presented counts as not correct.

    Args:
        state: of all `n` rows.
        rows: int `[b]`, the rows of this batch, each at most once.
        correct: bool `[b]`, whether each is classified right.

    Returns:
        The new state.

    Paper: section 2 (forgetting events, after Toneva et al.).

    Example:
        >>> import jax.numpy as jnp
        >>> state, row = init_forgetting(2), jnp.array([0])
        >>> for correct in (True, False, True, False):
        ...     state = update_forgetting(state, row, jnp.array([correct]))
        >>> state.events.tolist()
        [2, 0]
    """
    check_type(state, "state", ForgettingState, "a ForgettingState, of init_forgetting")
    rows = check_array(rows, "rows", "b", "integers")
    correct = check_array(correct, "correct", "b", "booleans")
    check_same_length("correct", correct, "rows", rows)
    check_rows_within(rows, len(state.events))
    forgotten = state.was_correct[rows] & ~correct
    return ForgettingState(
        was_correct=state.was_correct.at[rows].set(correct),
        ever_correct=state.ever_correct.at[rows].max(correct),
        events=state.events.at[rows].add(forgotten.astype(jnp.int32)),
    )


def forgetting_scores(
    state: ForgettingState | Bool[AnyArray, "t n"],
    *,
    never_learned: float = float("inf"),
    keep: Mask | None = None,
) -> Float[Array, "n"]:
    """Returns the number of forgetting events of each row so far.

    Args:
        state: of all `n` rows; or bool `[t n]`, whether row i was classified right at its t-th presentation,
            in the order of the presentations, such as once for each epoch.
        never_learned: score of rows that were never correct. The default is the authors' `+inf`, which
            makes the mean over seeds infinite as soon as one seed never learned the row; Toneva et al.
            use the number of epochs.
        keep: bool `[n]`, the rows that were trained on; the others, of which nothing is known, get NaN.

    Returns:
        float32 `[n]`; high means hard (forgotten often, or never learned).

    Raises:
        InputError: `keep` is not a boolean vector of all rows, or `state` neither of the two.

    Paper: section 2; `forgetting.py` of the authors' code.

    Example:
        >>> import jax.numpy as jnp
        >>> state = update_forgetting(init_forgetting(2), jnp.array([0]), jnp.array([True]))
        >>> forgetting_scores(state).tolist()
        [0.0, inf]
        >>> forgetting_scores(jnp.array([[True, False], [False, False], [True, True]])).tolist()
        [1.0, 0.0]
    """
    if not isinstance(state, ForgettingState):
        state = _from_presentations(state)
    never_learned = check_number(never_learned, "never_learned", above=-math.inf)
    scores = jnp.where(state.ever_correct, state.events.astype(jnp.float32), jnp.float32(never_learned))
    if keep is None:
        return scores
    mask = check_array(keep, "keep", "...", "anything")
    if mask.shape != scores.shape or mask.dtype != bool:
        raise InputError(
            f"keep must be a boolean vector {scores.shape}, one entry per row; "
            f"got {mask.dtype} of shape {mask.shape}"
        )
    return jnp.where(mask, scores, jnp.nan)


def _from_presentations(correct: Any) -> ForgettingState:
    correct = jnp.asarray(check_array(correct, "state", "...", "anything"))
    if correct.ndim != 2 or correct.dtype != bool:
        raise InputError(
            "state must be a ForgettingState (init_forgetting, update_forgetting) or a boolean matrix "
            f"[presentations, examples]; got {correct.dtype} of shape {correct.shape}"
        )
    events = jnp.sum(correct[:-1] & ~correct[1:], axis=0, dtype=jnp.int32)
    return ForgettingState(correct[-1:].any(axis=0), correct.any(axis=0), events)


def _update(state: ForgettingState, rows: Array, logits: Array, labels: Array) -> ForgettingState:
    return update_forgetting(state, rows, predicted_classes(logits) == labels)


FORGETTING_FOLD = Fold("forgetting", init_forgetting, _update)


@dataclass(frozen=True)
class ForgettingOptions:
    """Options of the forgetting score."""

    never_learned: float | Literal["epochs", "zero"] = math.inf
    """Score of examples that were never correct: inf (the authors), epochs (Toneva et al.: how often it was
    presented), zero (DeepCore, CCS, DUAL: counted as never forgotten), or a number (cartography: 1000)."""

    def __post_init__(self) -> None:
        if not isinstance(self.never_learned, str) and not self.never_learned > -math.inf:
            raise InputError(
                f"never_learned must be a number or inf, epochs or zero, got {self.never_learned}"
            )


def _counts_epochs(never_learned: float | str) -> Fold:
    return MOMENTS if never_learned == "epochs" else FORGETTING_FOLD


def _forgetting(never_learned: float | str) -> Any:
    if never_learned == "epochs":
        return _of_moments(never_learned)
    value = _number(never_learned)

    def scores(state: ForgettingState, keep: Mask | None) -> Float[Array, "n"]:
        return forgetting_scores(state, never_learned=value, keep=keep)

    return scores


def _number(never_learned: float | str) -> float:
    return 0.0 if never_learned == "zero" else float(never_learned)


def _of_moments(never_learned: float | str) -> Any:
    def read(moments: Moments) -> Array:
        never = moments.count if never_learned == "epochs" else jnp.float32(_number(never_learned))
        return jnp.where(moments.corrects > 0, moments.events, never)

    return of_moments(read)()


FORGETTING = SCORES.register(
    Score(
        name="forgetting",
        label="forgetting",
        formula="forgetting events in training: correct at the previous presentation, wrong at this one",
        reference="Toneva et al. 2019; Paul et al. 2021, section 2",
        reads="dynamics",
        build=_forgetting,
        make_fold=_counts_epochs,
        options=ForgettingOptions(),
        infinite_means="never learned",
        color="#009E73",
        marker="^",
        elsewhere=(
            "Paul et al. (data_diet): forgetting, inf where never learned",
            "Toneva et al. (example_forgetting): forgetting counts, the epochs where never learned",
            "DeepCore, CCS, DUAL's baselines, dPrune: forgetting, 0 where never learned",
            "cartography: forgetfulness, 1000 where never learned",
        ),
    )
)
FORGETTING_CLEAN = SCORES.register(
    Score(
        name="forgetting_clean",
        label="forgetting (clean)",
        formula=f"forgetting events: correct at the end of the epoch before, wrong at the end of this one, "
        f"{CLEAN_PASS}",
        reference="Toneva et al. 2019",
        reads="dynamics",
        build=_of_moments,
        fold=MOMENTS_CLEAN,
        options=ForgettingOptions(),
        infinite_means="never learned",
    )
)
