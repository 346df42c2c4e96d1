"""Ctrl-C: one message with the command that goes on, exit code 130, and what was finished is used again."""

import dataclasses
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from diet_jax.cli import main as cli
from diet_jax.cli.command import command_names, find_command

# What each leaves behind when it is stopped; a new command joins one of them.
GO_ON = {"compare", "prepare", "reproduce", "run", "score", "train"}


def test_which_commands_go_on():
    assert {name for name in command_names() if find_command(name).goes_on} == GO_ON


@pytest.mark.parametrize("name", command_names())
def test_every_command_says_how_to_go_on(name, monkeypatch, capsys, tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    command = find_command(name)
    monkeypatch.setattr(cli, "find_command", lambda _: dataclasses.replace(command, act=stop))
    # A config file of the first example would be looked for here.
    words = shlex.split(next(iter(command.examples)))
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 130
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("diet-jax: stopped; ")
    said, _, again = told.partition("To go on: " if name in GO_ON else "To begin anew: ")
    assert shlex.split(again) == ["diet-jax", *words]
    assert ("nothing was written" in said) == (name not in GO_ON)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "score", "train"])
def test_what_it_says_goes_on(command, tmp_path):
    small = "--train.epochs 40 --score.num-seeds 4 --score.how loop --retrain.num-seeds 2 --model.widths 16"
    words = [command, *small.split(), "--score.epoch", "40", "--run-dir", str(tmp_path / "my run")]
    # A network of `train` is known to be finished by its last checkpoint.
    words += ["--num-seeds", "4", "--checkpoint-epochs", "40"] if command == "train" else []
    start = [sys.executable, "-m", "diet_jax"]
    process = subprocess.Popen([*start, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    metrics, end = tmp_path / "my run/metrics.jsonl", time.monotonic() + 120
    # The first network is then finished.
    while not (metrics.is_file() and "seed_01" in metrics.read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    again = re.search(r"To go on: diet-jax (.*)", told)[1]
    lines = [line for line in metrics.read_text().splitlines() if "seed_00" in line]
    done = subprocess.run([*start, *shlex.split(again)], capture_output=True, text=True, check=True)
    # It was not trained again: then the time would be another one.
    assert lines == metrics.read_text().splitlines()[: len(lines)]
    assert done.stdout
