"""The completion scripts are valid, and complete commands, options, values and files."""

import shutil
import subprocess

import pytest

from diet_jax.cli.command import command_names
from diet_jax.cli.commands.completion import script_of
from diet_jax.scores.score import SCORES

TRY = """
source ./script
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_diet_jax
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def completed(tmp_path_factory):
    """What bash completes a command line with, of which the last word is the one that is written."""
    if (bash := shutil.which("bash")) is None:
        pytest.skip("there is no bash")
    folder = tmp_path_factory.mktemp("completion")
    (folder / "script").write_text(script_of("bash"))
    subprocess.run([bash, "-n", folder / "script"], check=True)

    def complete(*words: str) -> list[str]:
        command = [bash, "-c", TRY, "bash", "diet-jax", *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    return complete


def test_bash_completes_commands_options_and_values(completed):
    assert completed("sc") == ["score"]
    assert {*completed("")} >= {*command_names()}
    assert completed("run", "--score.na") == ["--score.names"]
    assert {*completed("run", "--score.names", "el")} == {n for n in SCORES.names() if n.startswith("el")}
    # Where there is nothing to choose from, bash completes files.
    assert completed("verify", "ru") == []


def test_zsh_gets_a_script_too():
    script = script_of("zsh")
    assert script.startswith("#compdef diet-jax")
    if (zsh := shutil.which("zsh")) is not None:
        subprocess.run([zsh, "-n"], input=script, text=True, check=True)
