"""A run that is stopped anywhere and started again is the run that nobody stopped, bit for bit."""

import crashes
import pytest
from contents import contents, differences
from crashes import Point


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    # In a process of its own, as the others: what tests before this one left in theirs has no part in it.
    code, said = crashes.start(folder)
    assert code == 0, said
    return contents(folder / "run")


@pytest.mark.slow
def test_three_crashes_in_one_run(wanted, tmp_path):
    stops = [
        # Half a line of the log, a checkpoint without its record, and a written part that has no name yet.
        Point("append", 3, "half"),
        Point("record", 3, "before"),
        Point("replace", 8, "before", "SIGTERM"),
    ]
    found, seen = crashes.outcome(stops, tmp_path, wanted)
    assert found == "same", seen


@pytest.mark.slow
def test_thirty_crashes(tmp_path):
    found = crashes.run_all(30, tmp_path)
    assert [str(each) for each in found if each[1] != "same"] == []


# What goes wrong, exit status and what is said; afterwards the same command ends in the same bits.
TROUBLES = {
    "disk full": (Point("fsync", 9, "before", "28"), "No space left on device; what was finished stays"),
    "read-only": (Point("fsync", 1, "before", "30"), "Read-only file system"),
    "folder removed": (Point("append", 6, "before", "remove"), "was deleted, moved or replaced while"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_is_told_and_the_same_command_goes_on(name, wanted, tmp_path):
    point, words = TROUBLES[name]
    code, said = crashes.start(tmp_path, point)
    assert (code, "Traceback" in said) == (2, False)
    assert words in said.splitlines()[-1]
    assert crashes.outcome([], tmp_path, wanted)[0] == "same"


@pytest.mark.slow
def test_two_processes_at_once(wanted, tmp_path):
    assert crashes.start(tmp_path, Point("append", 4, "before", "second"))[0] == 0
    said = (tmp_path / "second.txt").read_text()
    assert said.startswith("2 ")
    assert "another process is working in run" in said.splitlines()[-1]
    assert differences(contents(tmp_path / "run"), wanted) == []


@pytest.mark.slow
def test_a_stale_lock_holds_nobody(wanted, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").write_text("of a process that is gone")
    assert crashes.outcome([], tmp_path, wanted)[0] == "same"
