"""Progress without a terminal: a line now and then."""

import io
import itertools
import re
import sys
import time

from diet_jax.devices.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


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
    said = ["training: 10%", "training: 30%, about 3 min left"]
    assert capsys.readouterr().err.splitlines() == ["training ...", *said]
    with Progress("training", total=10) as progress:
        for _ in range(6):
            now[0] += 12
            progress.update(1)
    # 12 s are too little to tell by; then 12 s for each of the pieces left.
    left = ["about 85 s", "about 70 s", "about 60 s", "about 50 s"]
    said = [f"training: {10 * done}%, {text} left" for done, text in zip(range(3, 7), left, strict=True)]
    assert capsys.readouterr().err.splitlines() == ["training ...", "training: 10%", "training: 20%", *said]


def test_an_uneven_beginning_does_not_make_the_time_left_jump(capsys, monkeypatch):
    """A second piece that takes a tenth of the others: what is said hardly rises."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Progress, "SECONDS_BETWEEN_LINES", 0.0)
    with Progress("training", total=100) as progress:
        for seconds in (30, 0.5, *[5] * 40):
            now[0] += seconds
            progress.update(1)
    told = [line for line in capsys.readouterr().err.splitlines() if "left" in line]
    minutes = [float(re.search(r"about (\d+) min", line)[1]) for line in told]
    assert max(later / earlier for earlier, later in itertools.pairwise(minutes)) < 1.2


def test_a_terminal_shows_the_same_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr", Terminal())
    with Progress("training", total=10) as progress:
        for _ in range(2):
            now[0] += 30
            progress.update(1)
        now[0] += 1
    assert "about 4 min left" in sys.stderr.getvalue()


def test_what_is_done_in_a_moment_says_nothing(capsys, monkeypatch):
    with Progress("indexing", total=4, brief=True) as progress:
        progress.update(4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(Progress, "SECONDS_OF_BRIEF", -1.0)
    with Progress("indexing", total=4, brief=True) as progress:
        progress.update(2)
        progress.update(2)
    assert capsys.readouterr().err == "indexing ...\n"
