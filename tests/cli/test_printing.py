"""--quiet and --json, of every command by one way: stdout is for the result alone."""

import json
import sys

import pytest

from diet_jax.cli import main as cli
from diet_jax.cli.command import Answer, command_names, find_command
from diet_jax.cli.console import answer
from diet_jax.cli.main import main

SMALL = ["--model.widths", "8", "--train.steps", "20", "--score.epoch", "0.5", "--score.num-seeds", "4"]
SMALL += ["--retrain.num-seeds", "2", "--select.fractions", "0.5", "--score.names", "el2n"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("printing") / "run"
    main(["run", *SMALL, "--run-dir", str(folder), "--quiet"])
    return folder


def said(capsys, *arguments):
    capsys.readouterr()
    main([str(a) for a in arguments])
    return capsys.readouterr()


def test_every_command_has_both():
    for name in command_names():
        fields = find_command(name).options.__dataclass_fields__
        assert {"quiet", "json"} <= set(fields), name


def test_run(finished, capsys):
    output = said(capsys, "run", *SMALL, "--run-dir", finished, "--quiet")
    assert (output.out.strip(), output.err) == (str(finished), "")
    output = said(capsys, "run", *SMALL, "--run-dir", finished, "--json")
    result = json.loads(output.out)
    assert (result["run_dir"], result["finished"], result["left"]) == (str(finished), True, "")
    assert [row["kept_by"] for row in result["rows"]] == ["everything", "el2n", "random"]
    assert "final test accuracy" in output.err
    # The same numbers as those of the table's file, which has all digits.
    table = (finished / "table.csv").read_text().splitlines()
    column = table[0].split(",").index("accuracy")
    assert [row["accuracy"] for row in result["rows"]] == [
        float(line.split(",")[column]) for line in table[1:]
    ]


def test_both_together_print_the_object_alone(finished, capsys):
    output = said(capsys, "run", *SMALL, "--run-dir", finished, "--json", "--quiet")
    assert json.loads(output.out)["finished"]
    assert output.err == ""


def test_a_plan(capsys):
    output = said(capsys, "run", *SMALL, "--plan", "--plan-tflops", "1", "--json")
    plan = json.loads(output.out)["plan"]
    assert plan["seconds"] == pytest.approx(sum(stage["seconds"] for stage in plan["stages"]))


def test_commands_on_files(finished, tmp_path, capsys):
    scores = finished / "scores/el2n.npz"
    out = tmp_path / "mask.npz"
    result = json.loads(said(capsys, "select", scores, "--fraction", "0.3", "--out", out, "--json").out)
    assert (result["mask"], result["kept"], result["examples"]) == (str(out), 323, 1078)
    assert said(capsys, "convert", scores, tmp_path / "s.csv", "--quiet").out.split() == [
        str(tmp_path / "s.csv")
    ]
    result = json.loads(said(capsys, "stability", scores, "--fractions", "0.2", "--json").out)
    assert [row["seeds"] for row in result["rows"]] == [1, 2]
    assert -1 <= result["rows"][0]["correlation"]["mean"] <= 1
    assert 0 < result["expected"][0]["left"]["0.2"] <= 1


def test_what_is_wrong_is_an_exit_code_and_a_line(finished, tmp_path, capsys):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    result = json.loads(said(capsys, "verify", run, "--examples", "0", "--json").out)
    assert result["matches"] is True
    (run / "masks/el2n_keep0.5.npz").write_bytes(b"")
    for option in ("--quiet", "--json"):
        with pytest.raises(SystemExit) as stopped:
            main(["verify", str(run), "--examples", "0", option])
        assert stopped.value.code == 1
        output = capsys.readouterr()
        assert "masks/el2n_keep0.5.npz" in output.err
        if option == "--json":
            assert json.loads(output.out)["matches"] is False
        else:
            assert output.out.split() == [str(run)]


def test_lists_of_figures(capsys):
    figures = json.loads(said(capsys, "reproduce", "--json").out)["figures"]
    assert figures["fig4-barriers-cifar10"]


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_an_error_is_said_and_nothing_else(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--score.num-seeds", "0", option])
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("diet-jax: --score.num-seeds must be at least 1")


def test_numbers_that_json_does_not_have_are_null(capsys):
    values = {"a": float("nan"), "b": [float("inf"), 1.5], "c": {1: None}, "d": "ä"}
    assert answer(lambda: Answer(values), quiet=False, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": {"1": None}, "d": "ä"}


def test_an_error_within_is_printed_where_errors_go(capsys, monkeypatch):
    """Quiet hides what is printed while it works, not why it ended."""

    def fails(_):
        print("hidden")
        print("hidden", file=sys.stderr)
        raise OSError("the disk is full")

    import dataclasses

    command = dataclasses.replace(find_command("runs"), act=fails)
    monkeypatch.setattr(cli, "find_command", lambda _: command)
    with pytest.raises(SystemExit):
        main(["runs", "--quiet"])
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "diet-jax: the disk is full; nothing that was finished is lost\n"


def test_a_closed_stdout_is_no_crash(finished, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    main(["runs", str(finished)])
