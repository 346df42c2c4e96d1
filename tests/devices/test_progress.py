"""Progress without a terminal: a line now and then."""

import time

from diet_jax.devices.progress import Progress


def test_a_slow_start_with_nothing_done_yet_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(Progress, "SECONDS_BETWEEN_LINES", -1.0)
    with Progress("training", total=4) as progress:
        progress.update(0)
        progress.update(2)
    assert capsys.readouterr().err == "training ...\ntraining: 50%\n"


def test_the_first_piece_does_not_count_for_the_time_that_is_left(capsys, monkeypatch):
    """It contains compiling: 100 s here, where every other piece takes 2 s."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress("training", total=10) as progress:
        for seconds, count in ((100, 1), (2, 1), (2, 1), (50, 0)):
            now[0] += seconds
            progress.update(count)
    said = ["training: 10%", "training: 30%, about 189 s left"]
    assert capsys.readouterr().err.splitlines() == ["training ...", *said]
    with Progress("training", total=10) as progress:
        for _ in range(6):
            now[0] += 12
            progress.update(1)
    said = [f"training: {10 * done}%, about {12 * (10 - done)} s left" for done in range(2, 7)]
    assert capsys.readouterr().err.splitlines() == ["training ...", "training: 10%", *said]


def test_what_is_done_in_a_moment_says_nothing(capsys, monkeypatch):
    with Progress("indexing", total=4, brief=True) as progress:
        progress.update(4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(Progress, "SECONDS_OF_BRIEF", -1.0)
    with Progress("indexing", total=4, brief=True) as progress:
        progress.update(2)
        progress.update(2)
    assert capsys.readouterr().err == "indexing ...\n"
