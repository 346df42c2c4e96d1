"""The recipes of CONTRIBUTING.md, as they stand: a score, a rule, a source and a figure, of one file each."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.selection.file import KeepFile

ROOT = Path(__file__).parents[2]
RECIPES = re.compile(r"^`(\w+\.py)`:\n\n```python\n(.*?)```", re.DOTALL | re.MULTILINE)
CONFIG = """
import both_ends, gap, rings
from diet_jax.experiments.config import DataConfig, RetrainConfig, RunConfig, ScoreConfig, SelectConfig
from diet_jax.training.recipe import TrainConfig

CONFIG = RunConfig(
    data=DataConfig(name="rings"),
    train=TrainConfig(epochs=4, batch_size=20, learning_rate=0.05, schedule="cosine", augment="none"),
    score=ScoreConfig(names=("el2n", gap.GAP), epoch=1, num_seeds=2),
    select=SelectConfig(method=both_ends.BOTH_ENDS, fractions=(0.5,)),
    retrain=RetrainConfig(num_seeds=2),
)
"""
OPTIONS = ("--score.gap.temperature", "2", "--select.both-ends.hard", "0.6")


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """A folder with the files of CONTRIBUTING.md and a config that uses three of them."""
    folder = tmp_path_factory.mktemp("recipes")
    found = dict(RECIPES.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert list(found) == ["gap.py", "both_ends.py", "rings.py", "spread.py", "score_spread.py"]
    for name, text in {**found, "config.py": CONFIG}.items():
        (folder / name).write_text(text)
    return folder


def command(folder, *arguments):
    """Runs the command as a user does: the recipes are known to no other test."""
    arguments = (sys.executable, "-m", "diet_jax", *arguments)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(arguments, cwd=folder, env=env, capture_output=True, text=True)


def table_of(run):
    """The rows of a run's table."""
    return list(csv.DictReader((run / "table.csv").read_text().splitlines()))


@pytest.mark.slow
def test_a_run_with_a_score_a_rule_and_a_source_of_ones_own(recipes):
    done = command(recipes, "run", "config.py", *OPTIONS, "--run-dir", "run")
    assert done.returncode == 0, done.stderr[-3000:]
    run = recipes / "run"
    rows = table_of(run)
    assert [(row["kept_by"], row["examples"]) for row in rows] == [
        ("everything", "200"),
        ("el2n", "100"),
        ("gap", "100"),
        ("random", "100"),
    ]
    assert "60% of each selection from the highest scores" in (run / "table.md").read_text()

    file = dj.ScoreFile.load(run / "scores/gap.npz")
    assert file.dataset == "rings/train"
    assert file.ids[:2].tolist() == ["train-0", "train-1"]
    assert file.provenance["definition"].startswith("probability gap: 1 minus the gap")
    assert file.provenance["definition"].endswith("(temperature 2)")
    assert file.per_seed.shape == (2, 200)
    assert (file.per_seed >= 0).all()
    assert (file.per_seed <= 1).all()

    # Sixty of the hundred are the highest, forty the lowest.
    keep = KeepFile.load(run / "masks/gap_keep0.5.npz").keep
    order = np.argsort(file.scores, kind="stable")
    np.testing.assert_array_equal(np.flatnonzero(keep), np.sort(np.r_[order[:40], order[-60:]]))

    for picture in ("accuracy", "scores_gap", "examples_gap"):
        assert (run / f"figures/{picture}.png").stat().st_size > 5000

    # Once more: nothing is computed again, and the result is the same.
    (run / "scores/gap.npz").unlink()
    before = {path: path.stat().st_mtime_ns for path in run.glob("retrain/*/*.npz")}
    again = command(recipes, "run", "config.py", *OPTIONS, "--run-dir", "run")
    assert again.returncode == 0, again.stderr[-3000:]
    assert "scoring 200 examples" not in again.stderr
    assert table_of(run) == rows
    assert {path: path.stat().st_mtime_ns for path in run.glob("retrain/*/*.npz")} == before
    np.testing.assert_array_equal(dj.ScoreFile.load(run / "scores/gap.npz").per_seed, file.per_seed)

    other = command(recipes, "run", "config.py", "--run-dir", "run")
    assert other.returncode == 2
    assert "score.options.gap.temperature: 1.0, was 2.0" in other.stderr


def test_the_help_lists_what_the_config_file_brings(recipes):
    shown = command(recipes, "run", "config.py", "--help").stdout
    for text in ("--score.gap.temperature", "What the logits are", "--select.both-ends.hard", "both_ends"):
        assert text in shown


def test_a_figure_of_ones_own(recipes):
    done = command(
        recipes, "reproduce", "score_spread.py", "--scale", "smoke", "--store", "store", "--out", "figures"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((recipes / "figures/score-spread_smoke.json").read_text())
    assert result["experiment"]["kind"] == "ScoreSpread"
    assert result["claims"][0]["holds"] == "yes"
    assert (recipes / "figures/score-spread_smoke.png").stat().st_size > 5000


# The longest of them; what they show is tested in parts elsewhere.
LONG = ("nnx_transformer", "equinox_table", "own_model", "own_run", "own_score")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem in LONG else ())
        for path in sorted((ROOT / "examples").glob("*.py"))
    ],
)
def test_examples_run_alone_and_are_short(path, tmp_path):
    """Copied into an empty folder: the package is all that they need of the clone."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    if "flax import nnx" in text:
        pytest.importorskip("flax.nnx", reason="this Flax does not work with this JAX", exc_type=Exception)
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "diet_jax").symlink_to(ROOT / "diet_jax")
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(path, folder)
    env = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, path.name], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()
