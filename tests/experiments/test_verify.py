"""`diet-jax verify`: a finished run matches, and each damage is named."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.cli.main import main
from diet_jax.experiments.scoring import KIND
from diet_jax.files.arrays import load_arrays, save_arrays

CONFIG = dj.RunConfig(
    data=dj.DataConfig("digits", num_train=120, label_noise=0.1),
    model=dj.ModelConfig("mlp", widths=(8,)),
    train=dj.TrainConfig(steps=8, batch_size=30, augment="none"),
    score=dj.ScoreConfig(names=("el2n", "forgetting"), epoch=1, num_seeds=2),
    select=dj.SelectConfig(fractions=(0.5,)),
    retrain=dj.RetrainConfig(num_seeds=2),
    checkpoint_epochs=(1,),
)
CHECKPOINT = "checkpoints/score/seed_01/4"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run"
    dj.run(dataclasses.replace(CONFIG, run_dir=str(path)))
    return path


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def verified(run, *options):
    """The exit code of the command."""
    try:
        main(["verify", str(run), "--no-compilation-cache", *options])
    except SystemExit as stopped:
        return stopped.code
    return 0


def contents(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_finished_run_matches_and_is_left_as_it_is(finished, capsys):
    before = contents(finished)
    assert verified(finished) == 0
    assert contents(finished) == before
    rows = [line.split("│")[1:4] for line in capsys.readouterr().out.splitlines() if "│" in line]
    found = {name.strip(): (int(count.strip()), result.strip()) for name, count, result in rows}
    assert {result for name, (_, result) in found.items() if name != "states to go on from"} == {"matches"}
    assert found["scores, from checkpoints"][0] == 2 * 2 * 32
    assert found["masks, selected again"][0] == found["masks"][0] == 3
    # Two networks that score, and two on each of four selections, after one epoch each.
    assert found["checkpoints"][0] == 2 + 2 * 4


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGED = {
    "config.json": "config.json",
    "starts.jsonl": "starts.jsonl",
    "metrics.jsonl": "metrics.jsonl",
    "noise.npz": "noise.npz",
    "scores/el2n.npz": "scores/el2n.npz",
    "scores/per_seed/seed_01.npz": "scores/per_seed/seed_01.npz",
    "masks/el2n_keep0.5.npz": "masks/el2n_keep0.5.npz",
    "retrain/everything/seed_00.npz": "retrain/everything/seed_00.npz",
    f"{CHECKPOINT}/digest.json": CHECKPOINT,
    f"{CHECKPOINT}/manifest.ocdbt": CHECKPOINT,
    "table.csv": "table.csv",
    "table.md": "table.md",
    "figures/accuracy.png": "figures/accuracy.png",
    "provenance.json": "provenance.json",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_changed_byte_is_named(run, capsys, name):
    flip(run / name)
    assert verified(run, "--examples", "1") == 1
    assert f"\n{DAMAGED[name]}: " in capsys.readouterr().out


def exchange(one, other):
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


@pytest.mark.parametrize("place", ["scores/per_seed", "retrain/everything", "checkpoints/score"])
def test_exchanged_seeds_are_named(run, capsys, place):
    end = "" if place == "checkpoints/score" else ".npz"
    exchange(run / place / f"seed_00{end}", run / place / f"seed_01{end}")
    assert verified(run, "--examples", "1") == 1
    assert f"\n{place}/seed_00{end}" in capsys.readouterr().out


def test_a_score_that_is_another_with_all_checksums_right_is_found_by_its_network(run, capsys):
    path = run / "scores" / "per_seed" / "seed_01.npz"
    arrays, facts = load_arrays(path, KIND, None)
    row = int(arrays["el2n"].argmax())
    # The highest one grows: no selection changes.
    arrays["el2n"][row] *= 1.05
    save_arrays(path, KIND, arrays, {name: facts[name] for name in facts if name != "format"})
    file = dj.ScoreFile.load(run / "scores" / "el2n.npz")
    per_seed = np.stack([file.per_seed[0], arrays["el2n"]])
    scores = per_seed.mean(axis=0, dtype=np.float64)
    dataclasses.replace(file, per_seed=per_seed, scores=scores).save(run / "scores" / "el2n.npz")
    assert verified(run, "--examples", "0") == 0
    capsys.readouterr()
    assert verified(run, "--examples", "120") == 1
    assert "\nscores/el2n.npz: by seed 1 1 of 120 scores are others: " in capsys.readouterr().out


def test_a_mask_that_the_scores_do_not_select_is_named(run, capsys):
    path = run / "masks" / "el2n_keep0.5.npz"
    file = dj.KeepFile.load(path)
    dataclasses.replace(file, keep=~file.keep).save(path)
    assert verified(run, "--examples", "0") == 1
    # Its networks were trained on another one.
    assert "\nretrain/el2n_keep0.5/seed_00.npz: " in capsys.readouterr().out
    shutil.rmtree(run / "retrain" / "el2n_keep0.5")
    assert verified(run, "--examples", "0") == 1
    assert "\nmasks/el2n_keep0.5.npz: it is not what the scores select" in capsys.readouterr().out


def test_what_is_not_there_is_said_and_the_rest_is_verified(run, capsys, monkeypatch):
    shutil.rmtree(run / "checkpoints")
    assert verified(run) == 0
    out = capsys.readouterr().out
    assert "the run kept none" in out
    assert "2 scoring networks kept no checkpoint" in " ".join(out.replace("│", " ").split())
    monkeypatch.setattr("diet_jax.experiments.setup.load_dataset", refuse)
    assert verified(run) == 0
    assert "no data here" in capsys.readouterr().out
    flip(run / "table.csv")
    assert verified(run) == 1
    assert "\ntable.csv: " in capsys.readouterr().out


def refuse(*_, **__):
    raise dj.InputError("no data here")


def test_a_run_whose_networks_train_on_later_still_matches(tmp_path):
    """Scored within an epoch of which the log has one line when they have trained on."""
    options = ["--data.num-train", "120", "--model.widths", "8", "--train.steps", "8"]
    options += ["--train.batch-size", "30", "--score.names", "el2n", "--score.epoch", "0.75"]
    options += ["--score.num-seeds", "2", "--select.fractions", "0.5", "--retrain.num-seeds", "1"]
    options += ["--checkpoint-epochs", "1", "--run-dir", str(tmp_path / "run"), "--no-compilation-cache"]
    main(["run", *options])
    main(["train", *options, "--purpose", "score"])
    assert verified(tmp_path / "run") == 0


@pytest.mark.parametrize("options", [(), ("--examples", "-1"), ("--seed", "-1")])
def test_bad_input(tmp_path, capsys, finished, options):
    assert verified(finished if options else tmp_path, *options) == 2
    assert (options or ["is not a run folder"])[0] in capsys.readouterr().err


def test_scores_made_elsewhere_and_scores_of_other_steps(finished, tmp_path, capsys):
    run, one = tmp_path / "run", dj.RetrainConfig(num_seeds=1)
    elsewhere = dj.ScoreFile.load(finished / "scores" / "el2n.npz")
    elsewhere.save(tmp_path / "el2n.npz")
    score = dataclasses.replace(CONFIG.score, names=("grand",), files=(str(tmp_path / "el2n.npz"),))
    config = dataclasses.replace(CONFIG, score=score, retrain=one, checkpoint_epochs=(0.5,), run_dir=str(run))
    dj.run(config)
    main(
        [
            "score",
            "--from-run",
            str(run),
            "--step",
            "2",
            "--names",
            "grand_last_layer",
            "--no-compilation-cache",
        ]
    )
    # The folder has a copy.
    (tmp_path / "el2n.npz").unlink()
    assert verified(run) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    # By both networks; those of step 4 kept no checkpoint.
    assert "scores, from checkpoints 64 skipped: 2 scoring networks kept no checkpoint of the step" in out
    changed = dataclasses.replace(elsewhere, per_seed=elsewhere.per_seed + 1, scores=elsewhere.scores + 1)
    changed.save(run / "scores" / "el2n.npz")
    assert verified(run, "--examples", "0") == 1
    assert "scores of el2n" in capsys.readouterr().out
