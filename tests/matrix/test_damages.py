"""Whatever is flipped or cut in files that are read again is named, or changes nothing."""

import collections

import damages
import pytest


def check(found, each):
    wrong = [case for case in found if case[3] not in ("detected", "same", "made anew")]
    assert wrong == []
    assert collections.Counter(case[0] for case in found) == dict.fromkeys(damages.KINDS, each)
    # Damages that change nothing are few where a file is read at all.
    assert all(case[3] == "detected" for case in found if case[0] == "checkpoints")
    assert sum(case[3] == "detected" for case in found) > len(found) / 3


@pytest.mark.parametrize("each", [2, pytest.param(80, marks=pytest.mark.slow)])
def test_no_damage_is_silently_wrong(each, tmp_path, unchecked_types):
    check(damages.run_all(each, tmp_path), each)


def test_a_result_that_is_wrong_would_be_seen(tmp_path, monkeypatch, unchecked_types):
    matrix = damages.Matrix.__new__(damages.Matrix)
    matrix.wanted = {"prepared": "right"}
    monkeypatch.setattr(matrix, "copy", lambda kind: tmp_path)
    monkeypatch.setattr(matrix, "read", lambda *_: "another")
    victim = tmp_path / "file"
    victim.write_bytes(b"abc")
    assert damages.outcome(matrix, "prepared", victim, damages.flip, 0)[0] == "wrong"
