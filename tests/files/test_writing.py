"""How files are written: whole or not at all, with the user's umask, never through a link."""

import contextlib
import dataclasses
import os
import resource
import shutil
import stat
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.experiments.run_folder import RunFolder, open_run
from diet_jax.files import writing
from diet_jax.files.arrays import save_arrays
from diet_jax.files.records import append_lines, read_lines
from diet_jax.files.writing import (
    PART,
    append,
    hold,
    make_folder,
    remove_leftovers,
    write_atomically,
    write_together,
)
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.loop import start, train_between


@contextlib.contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def files_of_at_most(count):
    """No file can be longer: what a full disk does, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, train_split, test_split):
    """A run with every file that one has, made with a umask of its own."""
    path = tmp_path_factory.mktemp("runs") / "run"
    config = dj.RunConfig(
        data=dj.DataConfig(label_noise=0.1),
        train=dj.TrainConfig(steps=4, batch_size=16, augment="none"),
        score=dj.ScoreConfig(names=("el2n",), epoch=0.5, num_seeds=1),
        select=dj.SelectConfig(fractions=(0.5,)),
        retrain=dj.RetrainConfig(num_seeds=1),
        checkpoint_epochs=(0.5,),
        run_dir=str(path),
    )
    with umask(0o027):
        dj.run(config, train=train_split, test=test_split, model=dj.create_model("mlp", num_classes=3))
    return path


def opened(finished, path):
    """Opens a folder as the command that made the finished run does."""
    run = RunFolder(finished)
    config = dataclasses.replace(run.config(), run_dir=str(path))
    return open_run(config, run.header()["resolved"])


def test_no_file_of_a_run_is_written_through_a_link(finished, tmp_path):
    names = [path.relative_to(finished) for path in sorted(finished.rglob("*"))]
    assert {"metrics.jsonl", "starts.jsonl", "config.json", "noise.npz", ".lock", "table.csv"} <= set(
        map(str, names)
    )
    folder, target = shutil.copytree(finished, tmp_path / "run"), tmp_path / "target"
    before = everything(folder)
    for name in names:
        place = folder / name
        place.rename(target)
        place.symlink_to(target)
        pointed_to = everything(target)
        with pytest.raises(dj.InputError, match=f"{place.name} is a symbolic link"), opened(finished, folder):
            pass
        assert everything(target) == pointed_to
        place.unlink()
        target.rename(place)
    assert everything(folder) == before


def everything(path):
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(file, file.read_bytes(), file.stat().st_mode) for file in files if file.is_file()]


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "table.csv", "scores/el2n.npz", "checkpoints/score/seed_00"]
)
def test_a_link_that_comes_while_a_run_works_is_not_followed(finished, tmp_path, name):
    folder, target = tmp_path / "run", tmp_path / "target"
    shutil.copytree(finished, folder)
    target.mkdir()
    with opened(finished, folder) as run:
        place = folder / name
        place = place if place.parent == folder else place.parent
        (shutil.rmtree if place.is_dir() else os.unlink)(place)
        inside = target if place.suffix == "" else target / "file"
        place.symlink_to(inside)
        writes = {
            "metrics.jsonl": lambda: run.log("a", step=1),
            "checkpoints/score/seed_00": lambda: make_folder(folder / name),
        }
        with pytest.raises(dj.InputError, match="is a symbolic link to"):
            writes.get(name, lambda: write_atomically(folder / name, "x"))()
    assert not list(target.iterdir())


def test_a_file_elsewhere_is_not_written_through_a_link(tmp_path):
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link.csv").symlink_to(tmp_path / "target")
    file = dj.ScoreFile.from_seeds("x", [1.0], dj.Dataset.from_arrays([[0.1]], [0]), step=1)
    for write in (file.to_csv, file.save, lambda path: append(path, b"x")):
        with pytest.raises(dj.InputError, match="is a symbolic link"):
            write(tmp_path / "link.csv")
    assert (tmp_path / "target").read_text() == "kept"
    # A folder may be one: it is the user's choice where things go.
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").symlink_to(tmp_path / "folder")
    file.to_csv(tmp_path / "other" / "a.csv")
    assert (tmp_path / "folder" / "a.csv").is_file()


def test_a_run_folder_may_be_a_link_itself(finished, tmp_path):
    (tmp_path / "link").symlink_to(shutil.copytree(finished, tmp_path / "run"))
    with opened(finished, tmp_path / "link") as folder:
        folder.log("a", step=1)


def test_files_have_the_mode_that_the_umask_leaves(finished):
    for path in [finished, *finished.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o750 if path.is_dir() else 0o640), path


def test_what_killed_processes_left_is_removed_at_the_next_start_and_nothing_else(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    before = set(folder.rglob("*"))
    left = [folder / PART.format("0" * 16), folder / "scores" / PART.format("a" * 16)]
    for path in left:
        path.write_text("half")
    for name in ("4.orbax-checkpoint-tmp", "removing-4"):
        left.append(next(folder.glob("checkpoints/score/*")) / name / "file")
        left[-1].parent.mkdir()
        left[-1].write_text("half")
    kept = [folder / ".notes.part", folder / "scores" / PART.format("mine")]
    for path in kept:
        path.write_text("mine")
    with opened(finished, folder):
        pass
    assert set(folder.rglob("*")) == before | set(kept)


def test_old_parts_elsewhere_are_removed_too(tmp_path):
    old, new = (tmp_path / PART.format(letter * 16) for letter in "ab")
    old.write_text("half")
    new.write_text("of a process that writes now")
    os.utime(old, (time.time() - 2 * writing.SECONDS_OF_A_WRITE,) * 2)
    write_atomically(tmp_path / "file", "x")
    assert sorted(tmp_path.iterdir()) == [new, tmp_path / "file"]


USES = {
    "log": lambda folder: folder.log("a", step=1),
    "save": lambda folder: folder.save("scores/a.npz", "a", {"x": np.zeros(2)}, {}),
    "write": lambda folder: write_atomically(folder.path / "figures" / "a.png", b"x"),
    "checkpoint": lambda folder: make_folder(folder.path / "checkpoints" / "a"),
    "missing": lambda folder: folder.missing(["scores/a.npz"]),
    "load": lambda folder: folder.load("noise.npz", "label noise", ("ids",), {}),
    "diverged": lambda folder: folder.diverged(),
    "forget": lambda folder: folder.forget_between(["a"], 0),
}


@pytest.mark.parametrize(
    ("use", "how"),
    [*((use, "deleted") for use in USES), ("log", "moved"), ("save", "replaced"), ("log", "emptied")],
)
def test_a_run_whose_folder_vanishes_stops_and_leaves_nothing_behind(finished, tmp_path, use, how):
    folder = shutil.copytree(finished, tmp_path / "run")
    with opened(finished, folder) as run:
        if how == "emptied":
            for path in folder.iterdir():
                (shutil.rmtree if path.is_dir() else os.unlink)(path)
        elif how == "moved":
            folder.rename(tmp_path / "moved")
        else:
            shutil.rmtree(folder)
        if how == "replaced":
            folder.mkdir()
        with pytest.raises(dj.InputError, match="deleted, moved or replaced"):
            USES[use](run)
    assert folder.exists() == (how in ("replaced", "emptied"))
    assert not folder.exists() or not list(folder.iterdir())
    if how == "moved":
        (tmp_path / "moved").rename(folder)
    with opened(finished, folder) as run:
        assert run.missing(["scores/el2n.npz"]) == ([] if how == "moved" else [0])


def test_what_is_left_of_a_folder_is_said(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "config.json").unlink()
    before = everything(folder)
    with (
        pytest.raises(dj.InputError, match=r"no config\.json, but \.lock, checkpoints"),
        opened(finished, folder),
    ):
        pass
    assert everything(folder) == before


def test_a_held_folder_is_held_by_one(tmp_path):
    with hold(tmp_path, "store"):
        with pytest.raises(dj.InputError, match=r"another process .*another store"), hold(tmp_path, "store"):
            pass
        write_atomically(tmp_path / "file", "x")
    with hold(tmp_path, "store"):
        remove_leftovers(tmp_path)
    assert not writing._held


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path, lines = tmp_path / "file", tmp_path / "lines.jsonl"
    write_atomically(path, "before")
    append_lines(lines, [{"unit": "a"}], "run")
    before = everything(tmp_path)
    with files_of_at_most(100):
        for write in (
            lambda: write_atomically(path, b"x" * 1000),
            lambda: write_together({tmp_path / "new": "short", path: b"x" * 1000}),
            lambda: save_arrays(path, "a", {"x": np.arange(1000)}, {}),
            # A part of it fits.
            lambda: append_lines(lines, [{"unit": "b" * 1000}], "run"),
        ):
            with pytest.raises(dj.InputError) as raised:
                write()
            message = str(raised.value)
            assert "File too large; what was finished stays: make room, and the same" in message
            assert "\n" not in message
            assert everything(tmp_path) == before
    append_lines(lines, [{"unit": "b"}], "run")
    assert [line["unit"] for line in read_lines(lines, "run").values] == ["a", "b"]


def test_a_full_disk_is_said_in_one_line_whatever_orbax_says(
    tmp_path, capfd, conv_model, train_split, monkeypatch
):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    config = dj.TrainConfig(steps=1, batch_size=16, augment="none")
    program = dj.training.loop.program_of(conv_model, train_split, config, num_kept=len(train_split))
    state = start(jax.random.key(0), train_split, program=program)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state)
    later = next(train_between(state, train_split.examples(), np.arange(50), [1], program=program))[0]
    capfd.readouterr()
    with files_of_at_most(500), pytest.raises(dj.InputError) as raised:
        checkpoints.save(later)
    assert str(raised.value) == (
        f"cannot write the checkpoint of step 1 in {tmp_path / 'checkpoints'}: File too large; what was "
        f"finished stays: make room, and the same command goes on"
    )
    assert capfd.readouterr() == ("", "")
    assert checkpoints.steps() == [0]
    checkpoints.save(later)
    # Nothing of the one that failed is left, however late Orbax's threads gave up.
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["0", "1"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_output_to_a_full_disk_is_one_line_too():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "diet_jax", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in done.stderr
