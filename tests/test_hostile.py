"""Wrong arguments of every public function: the right answer or one clear error, never a crash or a hang."""

import random

import hostile
import pytest

CASES = list(hostile.all_cases())
# They compile a training, or read a folder, for each call.
QUICK = [case for case in CASES if case[0] not in hostile.SLOW]


def check(cases):
    found = {case: hostile.outcome(*case) for case in cases}
    ends = {case: end for case, end in found.items() if end[0] not in ("answer", "refused", "named")}
    assert not ends
    assert {kind for kind, _ in found.values()} >= {"refused"}


def test_a_sample_of_hostile_calls():
    check(random.Random(1).sample(QUICK, 150))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_all_hostile_calls(part):
    check(CASES[part::8])


LOST = ("masked", "complex array", "complex", "of text", "+ 2**32", "- 2**32", "ragged", "object", "dict")
# Text and objects that say numbers or booleans in full, as columns of tables do; names are text.
MEANT = {("Dataset", "labels"), ("replace_labels", "labels")}
UNREAD = {("input_norm", "labels"), ("KeepFile", "provenance"), ("ScoreFile", "provenance")}


@pytest.mark.slow
def test_nothing_is_lost_on_the_way_in():
    """Masked and imaginary parts, upper bits, text for numbers: no such argument has an answer."""
    cases = [case for case in QUICK if case[2] in LOST and case[:2] not in MEANT | UNREAD]
    assert not [case for case in cases if hostile.outcome(*case)[0] == "answer"]
