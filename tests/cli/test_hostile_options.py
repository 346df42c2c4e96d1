"""Options, config files and folders that are wrong: one message and exit code 2, no traceback."""

import json
import os
import subprocess
import sys

import pytest

from diet_jax.cli.main import main

COUNTS = (
    *("--data.num-train", "--data.image-size", "--data.workers", "--model.width", "--model.widths"),
    *("--train.steps", "--train.batch-size", "--train.steps-per-call", "--score.num-seeds"),
    *("--score.min-seeds", "--score.batch-size", "--select.min-per-class", "--retrain.num-seeds"),
    *("--mesh.seed", "--mesh.data", "--seed", "--num-processes", "--process-id"),
)
# Counts that may be 0, and a seed that may be large.
MAY_BE = {*((option, "0") for option in ("--data.workers", "--select.min-per-class", "--seed"))}
MAY_BE |= {("--seed", str(2**31))}
NUMBERS = ("--train.epochs", "--score.epoch", "--select.fractions")
TEXTS = (
    "--score.files",
    "--coordinator",
    "--run-dir",
    "--data.data-dir",
    "--data.labels",
    "--data.noise-matrix",
    "--data.name",
    "--model.name",
)
WRONG = [
    *(
        ["run", "--plan", option, value]
        for option in COUNTS
        for value in ("-1", "0", str(2**31), str(2**63), str(10**30))
        if (option, value) not in MAY_BE
    ),
    *(
        ["run", "--plan", option, value]
        for option in (*TEXTS, "--score.files", "--coordinator")
        for value in ("", " ")
    ),
    *(["train", "--num-seeds", value] for value in ("-1", "0", str(2**63))),
    ["train", "--keep", ""],
    ["score", "--from-run", "", "--step", "1"],
    ["score", "--from-run", ".", "--step", str(2**63)],
    ["reproduce", "--store", ""],
    ["reproduce", "--out", ""],
    ["reproduce", "--table="],
    ["select", "", "--out", "x.npz", "--fraction", "0.5"],
    ["select", "a.npz", "--out", "", "--fraction", "0.5"],
    ["prepare", ""],
    ["run", "--run-dir="],
    *(
        ["run", option, "nan"]
        for option in ("--minutes", "--train.epochs", "--score.epoch", "--select.fractions")
    ),
    *(["run", option, "1e300"] for option in ("--train.epochs", "--score.epoch", "--select.fractions")),
]


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert stopped.value.code == 2, arguments
    assert "Traceback" not in said.err + said.out
    return said.err + said.out


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_wrong_counts_and_empty_texts_are_refused(every, capsys, tmp_path, monkeypatch, unchecked_types):
    monkeypatch.chdir(tmp_path)
    for arguments in WRONG[::every]:
        assert refused(capsys, *arguments), arguments
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys\nsys.exit(3)", r"calls sys.exit\(3\)"),
        ("raise SystemExit", "sys.exit"),
        ("import sys\nexit()", "sys.exit|NameError"),
        ("1 / 0", "line 1: ZeroDivisionError"),
        ("import numpy as np\nnp.zeros(3).reshape(2)", "line 2: ValueError"),
        ("CONFIG = 3", "must define CONFIG"),
        ("def broken(:", "SyntaxError"),
        ("\0", "config.py"),
    ],
)
def test_a_config_file_that_ends_the_program_is_refused(text, said, capsys, tmp_path):
    import re

    file = tmp_path / "config.py"
    file.write_text(text)
    assert re.search(said, refused(capsys, "run", file))


DAMAGE = {
    "a number that is text": lambda c: c["train"].update(learning_rate="infx"),
    "half a word": lambda c: c["train"].update(epochs="Na"),
    "NaN": lambda c: c["train"].update(epochs=float("nan")),
    "a list": lambda c: c["train"].update(epochs=[1]),
    "no section": lambda c: c.pop("train"),
    "a section of text": lambda c: c.update(train="x"),
    "another section of text": lambda c: c.update(score="x"),
    "a word for a count": lambda c: c["score"].update(num_seeds="two"),
    "a count of 2**63": lambda c: c["score"].update(num_seeds=2**63),
    "an option too many": lambda c: c["data"].update(more=1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_config_is_named(damage, capsys, tmp_path, unchecked_types):
    import diet_jax as dj
    from diet_jax.experiments.run_folder import FORMAT

    values = dj.RunConfig().facts()
    DAMAGE[damage](values)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"format": FORMAT, "config": values, "resolved": {}}))
    assert str(file) in refused(capsys, "score", "--from-run", tmp_path, "--step", "1").replace("\n", "")


@pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "import os; os.kill(os.getpid(), 2)"])
def test_ctrl_c_while_modules_are_imported_is_one_message(tmp_path, how):
    """A module that the command line imports behaves as if Ctrl-C came then."""
    (tmp_path / "tyro.py").write_text(f"{how}\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "diet_jax", "run"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr == "diet-jax: stopped; nothing was written. To begin anew: diet-jax run\n"
