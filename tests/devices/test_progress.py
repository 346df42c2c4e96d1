"""Progress without a terminal: a line now and then."""

from diet_jax.devices.progress import Progress


def test_a_slow_start_with_nothing_done_yet_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(Progress, "SECONDS_BETWEEN_LINES", -1.0)
    with Progress("training", total=4) as progress:
        progress.update(0)
        progress.update(2)
    assert capsys.readouterr().err == "training ...\ntraining: 50%, about 0 s left\n"


def test_what_is_done_in_a_moment_says_nothing(capsys, monkeypatch):
    with Progress("indexing", total=4, brief=True) as progress:
        progress.update(4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(Progress, "SECONDS_OF_BRIEF", -1.0)
    with Progress("indexing", total=4, brief=True) as progress:
        progress.update(2)
        progress.update(2)
    assert capsys.readouterr().err == "indexing ...\n"
