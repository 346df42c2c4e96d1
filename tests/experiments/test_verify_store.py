"""`diet-jax verify` of a store of `diet-jax reproduce`, and of its figures."""

import json
import shutil
from pathlib import Path

import pytest
from contents import flip

from diet_jax.cli.main import main
from diet_jax.experiments.config import DataConfig, ModelConfig
from diet_jax.experiments.reproduction.store import Training, open_store
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.files.records import with_checksum
from diet_jax.files.writing import write_atomically
from diet_jax.training.recipe import TrainConfig

TINY = Task(
    DataConfig("digits", num_train=60),
    ModelConfig("mlp", widths=(4,)),
    TrainConfig(epochs=1, batch_size=20, learning_rate=0.05, schedule="cosine", augment="none"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "store"
    with open_store(path, None) as store:
        store.state(Training(TINY, "score", 0), 2)
        store.state(Training(TINY, "score", 1), 2)
        store.scores(TINY, [ScoreAt("input_norm")], 1)
    figure = with_checksum({"figure": "mine", "scale": "smoke", "claims": []})
    write_atomically(path / "figures" / "mine_smoke.json", json.dumps(figure, indent=1))
    return path


@pytest.fixture
def store(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "store"))


def verified(folder):
    """The exit code of the command."""
    try:
        main(["verify", str(folder), "--no-compilation-cache"])
    except SystemExit as stopped:
        return stopped.code
    return 0


def test_a_store_matches(finished, capsys):
    assert verified(finished) == 0
    rows = [line.split("│")[1:4] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [(name.strip(), int(count), result.strip()) for name, count, result in rows] == [
        ("trainings", 2, "matches"),
        ("logs", 2, "matches"),
        ("checkpoints", 2, "matches"),
        ("scores and predictions", 1, "matches"),
        ("numbers of figures", 1, "matches"),
    ]
    assert verified(finished / "figures") == 0


@pytest.mark.parametrize(
    "pattern",
    [
        "trainings/*/*/training.json",
        "trainings/*/*/metrics.jsonl",
        "trainings/*/*/checkpoints/2/digest.json",
        "scores/*.npz",
        "figures/*.json",
    ],
)
def test_a_changed_byte_is_named(store, capsys, pattern):
    path = sorted(store.glob(pattern))[0]
    flip(path)
    assert verified(store) == 1
    named = path.parent if path.name == "digest.json" else path
    assert f"\n{named.relative_to(store)}: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "pattern",
    ["trainings/*/*/training.json", "trainings/*/*/checkpoints/2", "scores/*.npz", "figures/*.json"],
)
def test_what_is_in_another_place_is_named(store, capsys, pattern):
    first, *others = sorted(store.glob(pattern))
    if others:
        between = others[0].with_name("between")
        for one, other in ((first, between), (others[0], first), (between, others[0])):
            one.rename(other)
    else:
        first = first.rename(first.with_name(f"x{first.name}"))
    assert verified(store) == 1
    assert f"\n{first.relative_to(store)}: " in capsys.readouterr().out


def test_a_run_folder_without_its_config_is_no_store(tmp_path, capsys):
    for name in ("figures", "scores", "retrain"):
        (tmp_path / name).mkdir()
    (tmp_path / "provenance.json").write_text("{}")
    assert verified(tmp_path) == 2
    assert "is not a run folder: it has no config.json" in capsys.readouterr().err
