"""Scores of training dynamics that running sums suffice for: AUM, data maps, mean loss, times of learning."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from diet_jax.checks.values import check_count
from diet_jax.errors import InputError
from diet_jax.scores.outcomes import Outcomes, both_passes, where_known
from diet_jax.scores.score import SCORES, Fold, Score
from diet_jax.types import Array, Mask


class Moments(NamedTuple):
    """What is remembered of every row, float32 `[n]` each; in the training's state they are one array."""

    count: Array
    """How often it was presented."""
    margins: Array
    """Sum of margins of logits."""
    softmax_margins: Array
    """Sum of margins of probabilities."""
    mean: Array
    """Of the label's probability."""
    squares: Array
    """Sum of squared deviations of the label's probability from its mean."""
    corrects: Array
    """How often it was classified right."""
    losses: Array
    """Sum of losses."""
    was_correct: Array
    """1 if it was right at its last presentation."""
    events: Array
    """How often it was forgotten."""
    first_correct: Array
    """Number of the first presentation at which it was right, counted from 1; 0 for none."""
    last_wrong: Array
    """Number of the last presentation at which it was wrong; 0 for none."""


def init_moments(num_examples: int) -> Float[Array, "n k"]:
    """Returns the state before the first presentation: a column for each field of `Moments`."""
    return jnp.zeros((num_examples, len(Moments._fields)), jnp.float32)


def absorb_moments(state: Float[Array, "b k"], values: Outcomes) -> Float[Array, "b k"]:
    """Returns the state of some rows after one more presentation.

    Mean and squared deviations of the probability are updated by Welford's formula, which loses no digits
    where an example is certain all the time.
    """
    old, correct = Moments(*state.T), values.correct.astype(jnp.float32)
    count = old.count + 1
    deviation = values.probability - old.mean
    mean = old.mean + deviation / count
    new = Moments(
        count=count,
        margins=old.margins + values.margin,
        softmax_margins=old.softmax_margins + values.softmax_margin,
        mean=mean,
        squares=old.squares + deviation * (values.probability - mean),
        corrects=old.corrects + correct,
        losses=old.losses + values.loss,
        was_correct=correct,
        events=old.events + old.was_correct * (1 - correct),
        first_correct=jnp.where((old.corrects == 0) & values.correct, count, old.first_correct),
        last_wrong=jnp.where(values.correct, old.last_wrong, count),
    )
    return jnp.stack(new, axis=1)


MOMENTS, MOMENTS_CLEAN = both_passes("moments", init_moments, absorb_moments)

TRAINING_PASS = "in the training's own pass: augmented, train mode, at every presentation"
CLEAN_PASS = "in a clean pass at the end of every epoch: un-augmented, eval mode"


def of_moments(read: Callable[[Moments], Array]) -> Callable[[], Any]:
    """Returns the `build` of a score that is a function of the moments; NaN for rows never presented."""

    def scores(state: Float[Array, "n k"], keep: Mask) -> Float[Array, "n"]:
        moments = Moments(*state.T)
        return where_known(moments.count > 0, keep, read(moments))

    return lambda: scores


def _first_correct(moments: Moments) -> Array:
    return jnp.where(moments.corrects > 0, moments.first_correct, moments.count + 1)


def register_both(*, clean: bool = True, **fields: Any) -> tuple[Score, ...]:
    """Registers a score of the training's own pass and, where asked for, its twin of a clean pass.

    Args:
        clean: whether there is a twin, whose name ends in `_clean`.
        **fields: of the `Score`; the formula is completed by the pass. `folds` are those of both passes, or
            functions of the score's options that return them.
    """
    folds, formula = fields.pop("folds"), fields.pop("formula")
    registered = []
    for is_clean in (False, True)[: 1 + clean]:
        own = dict(fields)
        if is_clean:
            own |= {"name": f"{own['name']}_clean", "label": f"{own['label']} (clean)", "elsewhere": ()}
        own["formula"] = f"{formula}, {CLEAN_PASS if is_clean else TRAINING_PASS}"
        fold = folds[is_clean]
        own["fold" if isinstance(fold, Fold) else "make_fold"] = fold
        registered.append(SCORES.register(Score(reads="dynamics", **own)))
    return tuple(registered)


_register = functools.partial(register_both, folds=(MOMENTS, MOMENTS_CLEAN))

AUM, AUM_CLEAN = _register(
    name="aum",
    label="AUM",
    formula="minus the mean margin: logit of the label minus the largest other logit",
    reference="Pleiss et al. 2020",
    build=of_moments(lambda m: -m.margins / m.count),
    elsewhere=("Pleiss et al. (aum): AUM, without the minus",),
)
(AUM_SOFTMAX,) = _register(
    clean=False,
    name="aum_softmax",
    label="AUM (softmax)",
    formula="minus the mean margin of probabilities: that of the label minus the largest other one",
    reference="Zheng et al. 2023 (CCS)",
    build=of_moments(lambda m: -m.softmax_margins / m.count),
    elsewhere=(
        "CCS: AUM (accumulated_margin), the sum, without the minus",
        "DUAL's baselines: AUM, of the last epoch alone, for its sum begins anew at every epoch",
    ),
)
MEAN_CONFIDENCE, MEAN_CONFIDENCE_CLEAN = _register(
    name="mean_confidence",
    label="mean confidence",
    formula="minus the mean probability of the label",
    reference="Swayamdipta et al. 2020 (data maps)",
    build=of_moments(lambda m: -m.mean),
    elsewhere=("cartography: confidence, without the minus",),
)
VARIABILITY, VARIABILITY_CLEAN = _register(
    name="variability",
    label="variability",
    formula="standard deviation of the probability of the label (divided by the number)",
    reference="Swayamdipta et al. 2020 (data maps)",
    build=of_moments(lambda m: jnp.sqrt(jnp.maximum(m.squares, 0) / m.count)),
    high_means="undecided",
    elsewhere=("cartography: variability",),
)
(CORRECTNESS,) = _register(
    clean=False,
    name="correctness",
    label="correctness",
    formula="minus the share of presentations that are classified right",
    reference="Swayamdipta et al. 2020 (data maps)",
    build=of_moments(lambda m: -m.corrects / m.count),
    elsewhere=("cartography, CCS: correctness, the number of right ones, without the minus",),
)
MEAN_LOSS, MEAN_LOSS_CLEAN = _register(
    name="mean_loss",
    label="mean loss",
    formula="mean cross-entropy, in nats",
    reference="a common baseline; single losses select in Han et al. 2018 (co-teaching)",
    build=of_moments(lambda m: m.losses / m.count),
)
(FIRST_LEARNED,) = _register(
    clean=False,
    name="first_learned",
    label="first learned",
    formula="number of the first presentation that is classified right, counted from 1; one more than there "
    "were if none is",
    reference="Toneva et al. 2019",
    build=of_moments(_first_correct),
    elsewhere=("Toneva et al. (example_forgetting): first_learned, counted from 0, NaN for none",),
)
(LAST_WRONG,) = _register(
    clean=False,
    name="last_wrong",
    label="last wrong",
    formula="number of the last presentation that is classified wrong, counted from 1: after it the example "
    "is learned for good; 0 if none is",
    reference="Toneva et al. 2019",
    build=of_moments(lambda m: m.last_wrong),
    elsewhere=("Toneva et al. (example_forgetting): presentations_needed_to_learn",),
)


@dataclass(frozen=True)
class EL2NSumOptions:
    """Options of the summed EL2N."""

    first: int = 0
    """The first presentation that counts, from 0."""
    stop: int = 10
    """The first one after it that no longer counts."""

    def __post_init__(self) -> None:
        check_count(self.first, "first", least=0)
        check_count(self.stop, "stop")
        if self.stop <= self.first:
            raise InputError(f"stop must be above first, got first {self.first} and stop {self.stop}")


@functools.cache
def el2n_sum_fold(first: int, stop: int) -> Fold:
    """Returns the fold of count and sum of EL2N of the presentations from `first` on, before `stop`."""

    def init(num_examples: int) -> Float[Array, "n k"]:
        return jnp.zeros((num_examples, 2), jnp.float32)

    def absorb(state: Float[Array, "b k"], values: Outcomes) -> Float[Array, "b k"]:
        count, total = state.T
        counts = (count >= first) & (count < stop)
        return jnp.stack([count + 1, total + jnp.where(counts, values.error, 0)], axis=1)

    return both_passes(f"el2n_sum_{first}_{stop}", init, absorb)[0]


def _el2n_sum(first: int, stop: int) -> Any:
    return lambda state, keep: where_known(state[:, 0] > first, keep, state[:, 1])


(EL2N_SUM,) = register_both(
    clean=False,
    folds=(el2n_sum_fold,),
    name="el2n_sum",
    label="EL2N sum",
    formula="sum of EL2N over the presentations from first on, before stop, counted from 0",
    reference="Zheng et al. 2023 (CCS)",
    build=_el2n_sum,
    options=EL2NSumOptions(),
    elsewhere=(
        "CCS: EL2N, of the first 10 epochs",
        "DUAL's baselines: EL2N, of the presentation in epoch 20 alone (first 20, stop 21), of one network",
    ),
)
