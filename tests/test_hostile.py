"""Wrong arguments of every public function: the right answer or one clear error, never a crash or a hang."""

import random

import hostile
import pytest

NAMES = hostile.public_names()
# Their valid calls take well below a second.
SAMPLED = [
    *("KeepFile", "ScoreFile", "best_window", "clipping_factors", "cross_entropy", "detection_quality"),
    *("el2n", "error_norm", "forgetting_scores", "held_out", "keep_highest", "keep_window", "normalize"),
    *("kernel_distance", "num_kept", "seed_keys", "take_seed", "tie_mass", "update_forgetting"),
]
MAY_END_IN = ("answer", "refused", "named")


def ends_of(cases):
    return {case: hostile.outcome(*case) for case in cases}


def test_a_sample_of_hostile_calls(unchecked_types):
    cases = list(hostile.all_cases(SAMPLED))
    found = ends_of(random.Random(0).sample(cases, 200))
    assert not {case: end for case, end in found.items() if end[0] not in MAY_END_IN}
    assert sum(kind == "refused" for kind, _ in found.values()) > 100


# Masked and imaginary parts, upper bits, and text for numbers must not get lost: they have no answer.
LOST = ("masked", "complex array", "complex", "of text", "+ 2**32", "- 2**32", "ragged", "object", "dict")
# Labels as text are names of classes; the others are not looked at, or are pytrees of any kind.
MEANT = {("Dataset", "labels"), ("replace_labels", "labels"), ("input_norm", "labels")}
MEANT |= {("input_norm", "variables"), ("KeepFile", "provenance"), ("ScoreFile", "provenance")}
MEANT |= {("example_loss", "model_state")}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_all_hostile_calls(part, unchecked_types):
    found = ends_of(hostile.all_cases(NAMES[part::8]))
    assert not {case: end for case, end in found.items() if end[0] not in MAY_END_IN}
    answered = [case for case, (kind, _) in found.items() if kind == "answer"]
    assert not [case for case in answered if case[2] in LOST and case[:2] not in MEANT]
