"""What has no influence on the bits of a run: processor cores, hash seeds, and checkpoints."""

import os

import crashes
import pytest
from contents import contents, differences

# Checkpoints have seeds trained one by one; together they are the same to rounding only.
LOOP = ("--score.how", "loop", "--retrain.how", "loop")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_cores_and_hash_seeds_change_no_bit(tmp_path, monkeypatch):
    cores, found = os.sched_getaffinity(0), []
    try:
        for number, (allowed, seed) in enumerate(((cores, "1"), ({min(cores)}, "2"))):
            place = tmp_path / str(number)
            place.mkdir()
            monkeypatch.setenv("PYTHONHASHSEED", seed)
            os.sched_setaffinity(0, allowed)
            code, said = crashes.start(place)
            assert code == 0, said
            found.append(contents(place / "run"))
    finally:
        os.sched_setaffinity(0, cores)
    assert differences(*found) == []


@pytest.mark.slow
def test_without_checkpoints_the_results_have_the_same_bits(tmp_path):
    found = []
    for number, options in enumerate(((), ("0", "0.5", "2"))):
        place = tmp_path / str(number)
        place.mkdir()
        code, said = crashes.start(place, options=[*LOOP, "--checkpoint-epochs", *options])
        assert code == 0, said
        found.append(contents(place / "run"))
    changed = differences(*found)
    # Two of these name them, and the log has a line up to each.
    named = ["config.json", "metrics.jsonl", "provenance.json"]
    assert [n for n in changed if not n.startswith("checkpoints/")] == named
