"""The examples that every command's help shows are understood by the command line as it is."""

import shlex
from pathlib import Path

import pytest

from diet_jax.cli.command import command_names, find_command
from diet_jax.cli.main import main, parse

ROOT = Path(__file__).parents[2]
EXAMPLES = [(name, line) for name in command_names() for line in find_command(name).examples]


@pytest.mark.parametrize(("name", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_an_example_is_understood(name, line, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)
    assert words[0] == name
    assert isinstance(parse(words), find_command(name).options)


@pytest.mark.parametrize("name", command_names())
def test_every_help_shows_its_examples(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    examples = find_command(name).examples
    assert 2 <= len(examples) <= 3
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for line, about in examples.items():
        assert f"# {about} diet-jax {line}" in told


@pytest.mark.parametrize("line", ["run --score.epok 1", "select --fraction 0.3", "prepare"])
def test_what_is_no_example_is_refused(line):
    """What the first test cannot do is let anything pass."""
    with pytest.raises(SystemExit) as stopped:
        parse(shlex.split(line))
    assert stopped.value.code == 2
