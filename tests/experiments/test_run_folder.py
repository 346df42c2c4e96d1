"""Run folders that a stopped process or an accident left behind."""

import json

import pytest

import diet_jax as dj
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.run_folder import RunFolder, open_run
from diet_jax.files.writing import PART

RESOLVED = {"fingerprint": "f"}


@pytest.fixture
def config(tmp_path):
    return RunConfig(run_dir=str(tmp_path / "run"))


def opened(config) -> RunFolder:
    with open_run(config, RESOLVED) as folder:
        return folder


def test_a_process_killed_in_its_first_write_can_start_again(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / PART.format("0" * 16)).write_text("{")
    assert opened(config).config() == config


@pytest.mark.parametrize("name", ["config", "resolved"])
@pytest.mark.parametrize("change", ["missing", None, []])
def test_a_damaged_config_is_named(config, name, change):
    file = opened(config).path / "config.json"
    header = json.loads(file.read_text())
    header = {k: v for k, v in header.items() if k != name} | ({} if change == "missing" else {name: change})
    file.write_text(json.dumps(header))
    with pytest.raises(dj.InputError, match=r"config\.json is damaged"):
        opened(config)
    with pytest.raises(dj.InputError, match=r"config\.json is damaged"):
        RunFolder(file.parent).config()


def test_an_unfinished_line_is_dropped_and_never_glued_to_the_next(config):
    folder = opened(config)
    folder.log("a", step=1)
    folder.log("b", step=2)
    file = folder.path / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    folder.log("c", step=3)
    assert [m["unit"] for m in folder.metrics()] == ["a", "c"]


@pytest.mark.parametrize("line", [b"garbage", b"\xff", b"[1]", b"{}", b'{"unit": "a", "step": "x"}'])
def test_a_damaged_line_of_the_metrics_is_named(config, line):
    folder = opened(config)
    folder.log("a", step=1)
    with open(folder.path / "metrics.jsonl", "ab") as file:
        file.write(line + b"\n")
    with pytest.raises(dj.InputError, match=r"metrics\.jsonl: line 2 is damaged"):
        folder.forget_between(["a"], 0)


@pytest.mark.parametrize("name", ["metrics.jsonl", "starts.jsonl"])
def test_a_log_that_cannot_be_written_is_named(config, name):
    folder = opened(config)
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).mkdir()
    with pytest.raises(dj.InputError, match=r"cannot write .*jsonl"):
        opened(config).log("a", step=1)
