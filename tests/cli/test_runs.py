"""`diet-jax runs` says of every run folder how far it is, and of broken ones that they are."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diet_jax.cli.main import main
from diet_jax.experiments.run_listing import list_runs
from diet_jax.experiments.run_log import METRICS
from diet_jax.files.records import CHECKSUM, with_checksum
from diet_jax.files.writing import hold, is_held

SMALL = ["--model.widths", "8", "--train.steps", "20", "--score.epoch", "0.5", "--score.num-seeds", "2"]
SMALL += ["--retrain.num-seeds", "2", "--select.fractions", "0.5", "--score.names", "el2n"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    main(["run", *SMALL, "--run-dir", str(folder), "--quiet"])
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def without_provenance(run: Path) -> None:
    (run / "provenance.json").unlink()
    next(run.glob("retrain/random_keep0.5/*.npz")).unlink()


def only_scored(run: Path) -> None:
    without_provenance(run)
    for name in ("masks", "retrain"):
        shutil.rmtree(run / name)


def all_diverged(run: Path) -> None:
    only_scored(run)
    shutil.rmtree(run / "scores")
    lines = [{"unit": f"score/seed_{seed:02d}", "step": 3, "diverged": "loss nan"} for seed in range(2)]
    (run / METRICS).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def of_an_earlier_version(run: Path) -> None:
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**values, "format": "diet_jax run 3"}))


def of_a_later_version(run: Path) -> None:
    values = json.loads((run / "config.json").read_text())
    values = {name: value for name, value in values.items() if name != CHECKSUM} | {
        "format": "diet_jax run 99"
    }
    (run / "config.json").write_text(json.dumps(with_checksum(values)))


def a_folder_for_a_log(run: Path) -> None:
    (run / METRICS).unlink()
    (run / METRICS).mkdir()


STATES = {
    "whole": (lambda _: None, "finished", (8, 8)),
    # Everything, el2n and random, of two seeds each, after two that scored.
    "stopped while it retrained": (without_provenance, "interrupted", (7, 8)),
    "stopped before it selected": (only_scored, "interrupted", (2, 2)),
    "nothing but networks that diverged": (all_diverged, "failed", (0, 2)),
    "an earlier version": (of_an_earlier_version, "earlier format", None),
    "a later version": (of_a_later_version, "damaged", None),
    "half a config": (lambda run: cut(run / "config.json"), "damaged", None),
    "no config": (lambda run: (run / "config.json").unlink(), "damaged", None),
    "half a provenance": (lambda run: cut(run / "provenance.json"), "damaged", None),
    "a log without its end": (lambda run: (run / METRICS).write_text(""), "damaged", None),
    "a folder for a log": (a_folder_for_a_log, "damaged", None),
    "half a line of starts": (lambda run: cut(run / "starts.jsonl"), "finished", (8, 8)),
}


@pytest.mark.parametrize("case", STATES)
def test_states(case, finished, tmp_path):
    change, state, counts = STATES[case]
    shutil.copytree(finished, tmp_path / "run")
    change(tmp_path / "run")
    (found,) = list_runs(tmp_path)
    assert found.state == state, found.about
    assert found.path == tmp_path / "run"
    assert bool(found.about) == (state in ("damaged", "failed"))
    if counts is not None:
        assert (found.done, found.wanted) == counts
        assert (found.dataset, found.model, found.scores) == ("digits", "mlp", ("el2n",))


def test_a_folder_that_a_process_holds_is_running(finished, tmp_path):
    """The lock of another process, and of this one."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert not is_held(run)
    code = "import sys; from pathlib import Path; from diet_jax.files.writing import hold\n"
    code += "with hold(Path(sys.argv[1]), 'run_dir'): print('held', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(run)], **pipes) as process:
        assert process.stdout.readline() == "held\n"
        (found,) = list_runs(tmp_path)
        process.stdin.close()
    assert found.state == "running"
    with hold(run, "run_dir"):
        assert is_held(run)
    (found,) = list_runs(tmp_path)
    assert found.state == "finished"


def test_score_and_train_have_states_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["diet-jax", "score"])
    main(["score", *SMALL, "--run-dir", str(tmp_path / "scored"), "--quiet"])
    monkeypatch.setattr("sys.argv", ["diet-jax", "train", "--num-seeds", "2"])
    main(["train", *SMALL, "--num-seeds", "2", "--run-dir", str(tmp_path / "trained"), "--quiet"])
    scored, trained = list_runs(tmp_path)
    assert (scored.command, scored.state, scored.done) == ("score", "finished", 2)
    assert (trained.command, trained.state, trained.done) == ("train", "finished", 2)
    next((tmp_path / "trained/trained").rglob("*.npz")).unlink()
    assert [run.state for run in list_runs(tmp_path)] == ["finished", "interrupted"]


def test_the_command_lists_them_and_leaves_other_folders_out(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "deep/er/one")
    shutil.copytree(finished, tmp_path / "two")
    cut(tmp_path / "two/config.json")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"architectures": ["Other"]}')
    (tmp_path / "loop").symlink_to(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if "loop" not in path.parts}
    main(["runs", str(tmp_path), "--json"])
    output = capsys.readouterr()
    runs = {Path(run["path"]).name: run for run in json.loads(output.out)["runs"]}
    assert {name: run["state"] for name, run in runs.items()} == {"one": "finished", "two": "damaged"}
    size = sum(p.lstat().st_size for p in (tmp_path / "deep/er/one").rglob("*") if p.is_file())
    assert runs["one"]["bytes"] == size
    assert "config.json is damaged" in " ".join(output.err.split())
    main(["runs", str(tmp_path), "--quiet"])
    assert sorted(capsys.readouterr().out.split()) == [str(tmp_path / "deep/er/one"), str(tmp_path / "two")]
    assert before == {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if "loop" not in path.parts
    }
    with pytest.raises(SystemExit) as stopped:
        main(["runs", str(tmp_path / "nowhere")])
    assert stopped.value.code == 2


def test_hundreds_of_folders_whose_data_is_gone(finished, tmp_path):
    values = json.loads((finished / "config.json").read_text())
    values["config"]["data"]["name"] = "folder:/nowhere"
    del values[CHECKSUM]
    for number in range(300):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/config.json").write_text(json.dumps(with_checksum(values)))
        shutil.copy(finished / "starts.jsonl", tmp_path / f"{number}")
    start = time.perf_counter()
    assert {run.state for run in list_runs(tmp_path)} == {"interrupted"}
    assert time.perf_counter() - start < 5


def test_a_pipe_by_the_name_of_a_config_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    assert list(list_runs(tmp_path)) == []
