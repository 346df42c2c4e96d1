"""On the command line messages name options; in Python they name arguments."""

import pytest

import diet_jax as dj
from diet_jax.cli.commands import run
from diet_jax.cli.commands.run import Run
from diet_jax.cli.commands.select import Select
from diet_jax.cli.main import main
from diet_jax.cli.option_names import with_options_named
from diet_jax.experiments.run_result import RunResult


@pytest.mark.parametrize(
    ("arguments", "words", "in_python"),
    [
        (["--score.num-seeds", "0"], "--score.num-seeds must be at least 1", "score.num_seeds must"),
        (["--score.epoch", "500"], "--score.epoch 500 is step", None),
        (["--train.batch-size", "5000"], "--train.batch-size is 5000 but only 1,078", None),
        (["--train.batch-size", "0"], "--train.batch-size must be at least 1", None),
        (["--train.warmup", "2"], "--train.warmup must be at least 0 and below 1", None),
        (["--train.epochs", "0.0001"], "--train.epochs is 0.0001", None),
        (["--train.optimizer", "adamw", "--train.adamw.b1", "3"], "--train.adamw.b1 must be", None),
        (["--train.optimizer", "adamw", "--train.momentum", "0.3"], "--train.momentum is 0.3", None),
        (["--select.fractions", "0"], "--select.fractions 0: keep fraction must be above 0", None),
        (
            ["--select.method", "window", "--select.window.offset", "0.9"],
            "--select.fractions 0.2: offset",
            None,
        ),
        (["--select.method", "window"], "the rule window needs its option offset", None),
        (["--select.min-per-class", "-1"], "--select.min-per-class must be at least 0", None),
        (["--data.num-train", "0"], "--data.num-train must be at least 1", None),
        (["--data.noise-mode", "uniform"], "set --data.label-noise or leave it out", None),
        (["--checkpoint-epochs", "999"], "--checkpoint-epochs 999 is step", None),
        (["--seed", "-1"], "--seed must be at least 0", None),
        (["--minutes", "0"], "--minutes must be a finite number", None),
        (["--model.name", "small_cn"], "no model is called 'small_cn'", None),
    ],
)
def test_the_command_names_its_option(arguments, words, in_python, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", *arguments, "--run-dir", str(tmp_path / "run")])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("diet-jax: ")
    assert words in said
    assert "╭" not in said
    assert not (tmp_path / "run").exists()


def test_notes_below_a_table_name_options_too(tmp_path, monkeypatch, capsys):
    notes = ("train.learning_rate is 0.1", "keep 0.1 is left out: batch_size is 32")
    monkeypatch.setattr(run, "run_prune", lambda *_, **__: RunResult(tmp_path, [], notes=notes))
    main(["run", "--no-compilation-cache"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "note: --train.learning-rate is 0.1",
        "note: keep 0.1 is left out: --train.batch-size is 32",
    ]


def test_python_names_the_argument():
    with pytest.raises(dj.InputError, match=r"^score\.num_seeds must be at least 1"):
        dj.RunConfig(score=dj.ScoreConfig(num_seeds=0))
    with pytest.raises(dj.InputError, match=r"^warmup must be"):
        dj.TrainConfig(warmup=2)


@pytest.mark.parametrize(
    ("message", "command", "named"),
    [
        # What only looks like an option stays: files, longer names, options, words of prose.
        ("no file runs/score.epoch/x.npz", Run, None),
        ("cannot write score.epoch.npz", Run, None),
        ("my_batch_size must be odd", Run, None),
        ("set --score.num-seeds", Run, None),
        ("data is missing", Run, None),
        ("seeds is a word", Run, None),
        ("min_per_class 3 asks for 30", Select, "--min-per-class 3 asks for 30"),
        ("min_per_class 3 asks for 30", Run, "--select.min-per-class 3 asks for 30"),
        ("no example has the id 'learning_rate'", Run, None),
        ("num_seeds must be odd", Run, None),
        ("select.min_per_class must be", Run, "--select.min-per-class must be"),
        ("batch_size and learning_rate", Run, "--train.batch-size and --train.learning-rate"),
        ("batch_size", Select, None),
        ("choose another run_dir, or bring back", Run, "choose another --run-dir, or bring back"),
    ],
)
def test_only_options_are_renamed(message, command, named):
    assert with_options_named(message, command) == (named or message)
