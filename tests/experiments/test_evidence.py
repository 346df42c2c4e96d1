"""What claims stand on: equal words for equal trainings, and nothing compared with itself."""

import dataclasses

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.experiments.config import DataConfig, ModelConfig
from diet_jax.experiments.reproduction.evidence import (
    Evidence,
    at_random,
    everything,
    kept_by,
    scored,
)
from diet_jax.experiments.reproduction.outcome import Published, verdict
from diet_jax.experiments.reproduction.task import ScoreAt, Task, digest
from diet_jax.experiments.reproduction.windows import Windows

TASK = Task(DataConfig("digits"), ModelConfig("mlp"))
WIDE = Task(DataConfig("digits"), ModelConfig("mlp", widths=(64,)))
EL2N = ScoreAt("el2n", 2)


def test_a_thing_compared_with_itself_is_refused():
    same = kept_by(TASK, 0.5, EL2N, 4, offset=0.5)
    with pytest.raises(dj.InputError, match=r"'0.5 kept, highest by el2n at epoch 2 of 4' of digits, mlp is"):
        Evidence("final test accuracy", (kept_by(TASK, 0.5, EL2N, 4), same), 3)
    with pytest.raises(dj.InputError, match="needs a part"):
        Evidence("final test accuracy", (), 3)
    assert Evidence("final test accuracy", (same, everything(TASK)), 3).facts()["parts"] == [
        {"task": TASK.identity, "what": "0.5 kept, highest by el2n at epoch 2 of 4"},
        {"task": TASK.identity, "what": "everything kept"},
    ]


def test_whatever_decides_a_training_is_in_its_words():
    parts = [
        kept_by(TASK, 0.5, EL2N, 4),
        kept_by(TASK, 0.4, EL2N, 4),
        kept_by(TASK, 0.5, EL2N, 2),
        kept_by(TASK, 0.5, ScoreAt("el2n", 3), 4),
        kept_by(TASK, 0.5, ScoreAt("grand", 2), 4),
        kept_by(TASK, 0.5, EL2N, 4, offset=0.25),
        kept_by(TASK, 0.5, EL2N, 4, by=WIDE),
        kept_by(WIDE, 0.5, EL2N, 4),
        kept_by(TASK.with_noise(0.1), 0.5, EL2N, 4),
        everything(TASK),
        at_random(TASK, 0.5),
        at_random(TASK, 0.4),
        scored(TASK, EL2N, 4),
        scored(TASK, ScoreAt("random"), 4),
        scored(TASK, ScoreAt("random"), 2),
        scored(TASK, ScoreAt("input_norm"), 4),
    ]
    assert len(set(parts)) == len(parts)
    # What does not: by whose networks is meant where it is the task's own, and seeds of a score without any.
    assert kept_by(TASK, 0.5, EL2N, 4, by=TASK) == parts[0]
    assert scored(TASK, ScoreAt("input_norm"), 2) == parts[-1]


@pytest.mark.parametrize("fraction", [0.4, 0.3, 0.7])
def test_the_top_window_is_what_is_kept_as_highest(fraction):
    scores, key = np.random.default_rng(0).integers(0, 40, 1000) / 7, dj.seed_keys(0, "tie_break", 1)[0]
    top = 1 - fraction
    np.testing.assert_array_equal(
        dj.keep_window(scores, fraction, offset=top, key=key), dj.keep_highest(scores, fraction, key=key)
    )
    assert kept_by(TASK, fraction, EL2N, 4, offset=top) == kept_by(TASK, fraction, EL2N, 4)


WINDOWS = Windows(TASK.with_noise(0.1), 0.5, (0.2, 0.4, 0.5), EL2N, score_seeds=4, retrain_seeds=3)
# Seeds differ by the same: no difference has an error to speak of.
SEEDS = np.array([0.0, 0.01, 0.02])


def claims(accuracy, tuned=None, **settings):
    """Of windows with these accuracies."""
    found = {"everything": 0.5 + SEEDS, **{offset: value + SEEDS for offset, value in accuracy.items()}}
    facts = {"changed_share": 0.09, **({} if tuned is None else {"tuned": {"offset": tuned}})}
    return dataclasses.replace(WINDOWS, **settings)._claims(found, Published(""), facts)


def offsets_of(claim):
    return [part.what.split(" by ")[0].split(", ")[-1] for part in claim.evidence.parts]


def test_the_top_window_stands_against_the_best_of_the_others():
    """Where it is the best itself, too: it was once compared with itself, and as good as itself."""
    best_is_top = {0.2: 0.6, 0.4: 0.8, 0.5: 0.9}
    for accuracy, top_is_best, holds, words in (
        (best_is_top, True, "yes", "offset 0.4: 81.00, the top window (offset 0.5) 91.00, difference -10.00"),
        (best_is_top, False, "no", "offset 0.4: 81.00, the top window (offset 0.5) 91.00, difference -10.00"),
        ({0.2: 0.6, 0.4: 0.8, 0.5: 0.7}, True, "no", "offset 0.4: 81.00, the top window (offset 0.5) 71.00"),
        (
            {0.2: 0.6, 0.4: 0.8, 0.5: 0.7},
            False,
            "yes",
            "offset 0.4: 81.00, the top window (offset 0.5) 71.00",
        ),
    ):
        first, second = claims(accuracy, top_is_best=top_is_best)
        assert (first.holds, offsets_of(first)) == (holds, ["from offset 0.4", "highest"])
        assert first.ours.startswith(words)
        # Against everything it is the best that stands, whichever that is.
        best = "highest" if accuracy is best_is_top else "from offset 0.4"
        assert offsets_of(second) == [best, "everything kept"]
    assert claims({0.5: 0.9}) == claims({0.2: 0.6, 0.4: 0.8}) == ()


def test_a_chosen_window_stands_against_the_best_of_the_others():
    accuracy = {0.2: 0.6, 0.4: 0.9, 0.5: 0.8}
    chosen = claims(accuracy, tuned=0.4)[-1]
    assert (chosen.holds, offsets_of(chosen)) == ("yes", ["from offset 0.4", "highest"])
    assert chosen.ours == "chose offset 0.4: 91.00, difference +10.00 ± n/a to the next best"
    other = claims(accuracy, tuned=0.2)[-1]
    assert (other.holds, offsets_of(other)) == ("no", ["from offset 0.2", "from offset 0.4"])
    assert other.ours == "chose offset 0.2: 61.00, difference -30.00 ± n/a"
    # The same two windows as in the first claim, and another measure: not the same claim.
    assert len({claim.evidence for claim in claims(accuracy, tuned=0.4)}) == 3


def test_a_verdict_over_few_seeds_says_so():
    assert [verdict("yes", seeds) for seeds in (1, 2, 3, 10)] == [
        "yes (1 seed)",
        "yes (2 seeds)",
        "yes",
        "yes",
    ]


def test_a_task_is_named_by_its_unusual_settings():
    """Each setting counts; one that is added later, at its usual value, does not change the name."""
    tasks = [
        TASK,
        WIDE,
        TASK.with_noise(0.1),
        TASK.with_noise(0.1, "uniform"),
        dataclasses.replace(TASK, seed=1),
        dataclasses.replace(TASK, data=DataConfig("digits", num_train=100)),
        *(dataclasses.replace(TASK, train=dataclasses.replace(TASK.train, epochs=e)) for e in (40, 41)),
    ]
    assert len({task.identity for task in tasks}) == len(tasks)
    assert TASK.identity == Task().identity == digest({})
    assert WIDE.identity == digest({"model": {"widths": [64]}})
    assert tasks[-1].identity == digest({"train": {"epochs": 41}})
