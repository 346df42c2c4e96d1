"""`diet-jax verify`: a finished run matches, and each damage is named."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from contents import contents as matrix_contents
from contents import differences, flip

import diet_jax as dj
from diet_jax.cli.main import main
from diet_jax.errors import NotHereError
from diet_jax.experiments.run_folder import RunFolder, open_run
from diet_jax.experiments.scoring import KIND
from diet_jax.files.arrays import load_arrays, save_arrays
from diet_jax.files.records import append_lines

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


def rows_of(out):
    """How many, and the result, by what was verified."""
    rows = [line.split("│")[1:4] for line in out.splitlines() if "│" in line]
    # What is long goes on in the next line.
    return {name.strip(): (int(count), result.strip()) for name, count, result in rows if count.strip()}


def contents(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_finished_run_matches_and_is_left_as_it_is(finished, capsys, monkeypatch):
    before = contents(finished)
    # Also by a path from here.
    monkeypatch.chdir(finished.parent)
    assert verified(finished.name) == 0
    assert contents(finished) == before
    found = rows_of(capsys.readouterr().out)
    assert {result for name, (_, result) in found.items() if name != "states to go on from"} == {"matches"}
    assert found["scores, from checkpoints"][0] == 2 * 2 * 32
    assert found["masks, selected again"][0] == found["masks"][0] == 3
    # Two networks that score, and two on each of four selections, after one epoch each.
    assert found["checkpoints"][0] == 2 + 2 * 4


def damaged(name, how):
    return lambda run: how(run / name)


def emptied(path):
    path.write_bytes(b"")


def removed(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def without_line(number):
    def change(path):
        lines = path.read_bytes().splitlines(keepends=True)
        del lines[number]
        path.write_bytes(b"".join(lines))

    return change


def with_a_line_of_another(path):
    """Of a run with all the same names, whose network diverged."""
    other = path.with_name("other")
    append_lines(other, [{"unit": "score/seed_00", "step": 1, "epoch": 0.25, "diverged": "x"}], "another")
    path.write_bytes(path.read_bytes() + other.read_bytes())
    other.unlink()


def of_another(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    append_lines(
        path, [{k: line[k] for k in line if k not in ("checksum", "run", "line")} for line in lines], "b"
    )


def says_diverged(unit, step):
    """With the run's own number and checksum."""
    return lambda run: RunFolder(run).log(unit, step=step, epoch=step / 4, diverged="loss nan")


AGAIN, DELETE = "the same command makes it again", "delete it: the same command makes it again"
COPY, BOTH = "bring the file back from a copy", ": the same command makes both again"
SEED, EVERYTHING, MASK = (
    "scores/per_seed/seed_01.npz",
    "retrain/everything/seed_00.npz",
    "masks/el2n_keep0.5.npz",
)
END, KEPT = "the line is missing by which the run finished", "checkpoints/retrain/everything/seed_00"
# What is done to a finished run; the file that is named, what is said of it, and the remedy.
CASES = [
    (damaged("config.json", flip), "config.json", "is damaged", "bring it back from a copy: without it "),
    (damaged("starts.jsonl", flip), "starts.jsonl", "line 1 is damaged", COPY),
    (damaged("starts.jsonl", emptied), "starts.jsonl", "lines are missing of 1 that were there", COPY),
    (damaged("starts.jsonl", removed), "starts.jsonl", "lines are missing of 1 that were there", COPY),
    (damaged("metrics.jsonl", flip), "metrics.jsonl", "is damaged", "what damaged ones said is lost"),
    (damaged("metrics.jsonl", emptied), "metrics.jsonl", END, "without one, delete provenance.json"),
    (damaged("metrics.jsonl", removed), "metrics.jsonl", END, COPY),
    (damaged("metrics.jsonl", without_line(-1)), "metrics.jsonl", END, COPY),
    (
        damaged("metrics.jsonl", without_line(5)),
        "metrics.jsonl",
        "the line with the number 6 is missing",
        COPY,
    ),
    (damaged("metrics.jsonl", with_a_line_of_another), "metrics.jsonl", "line 41 is of another run", COPY),
    (damaged("metrics.jsonl", of_another), "metrics.jsonl", "line 1 (and 39 more) is of another run", COPY),
    (
        says_diverged("retrain/everything/seed_00", 3),
        "metrics.jsonl",
        EVERYTHING,
        "delete what is not of this",
    ),
    (says_diverged("score/seed_01", 2), "metrics.jsonl", SEED, "delete what is not of this"),
    (damaged("noise.npz", flip), "noise.npz", "is damaged", AGAIN),
    (damaged("noise.npz", removed), "noise.npz", "it is missing", AGAIN),
    (damaged("scores/el2n.npz", flip), "scores/el2n.npz", "is damaged", AGAIN),
    (damaged("scores/el2n.npz", removed), "scores/el2n.npz", "it is missing", AGAIN),
    (damaged(SEED, flip), SEED, "is damaged", DELETE),
    (damaged(SEED, emptied), SEED, "is damaged", DELETE),
    (damaged("scores/per_seed", removed), SEED, "it is missing", AGAIN),
    (damaged(MASK, flip), MASK, "is damaged", AGAIN),
    (damaged("masks", removed), MASK, "it is missing", AGAIN),
    (damaged(EVERYTHING, flip), EVERYTHING, "is damaged", DELETE),
    (damaged("retrain", removed), EVERYTHING, "it is missing", AGAIN),
    (
        damaged(f"{CHECKPOINT}/digest.json", flip),
        CHECKPOINT,
        "digest.json is not",
        f"delete it and {SEED}{BOTH}",
    ),
    (damaged(f"{CHECKPOINT}/manifest.ocdbt", flip), CHECKPOINT, "manifest.ocdbt is not", BOTH),
    (damaged("checkpoints", removed), CHECKPOINT, "it is missing", f"; delete {SEED}{BOTH}"),
    (damaged(KEPT, removed), f"{KEPT}/4", "it is missing", f"; delete {EVERYTHING}{BOTH}"),
    (damaged("table.csv", flip), "table.csv", "it is not what the run wrote", AGAIN),
    (damaged("table.csv", removed), "table.csv", "it is missing", AGAIN),
    (damaged("table.md", flip), "table.md", "it is not what the run wrote", AGAIN),
    (damaged("figures/accuracy.png", flip), "figures/accuracy.png", "it is not what the run wrote", AGAIN),
    (damaged("figures", removed), "figures/accuracy.png", "it is missing", AGAIN),
    (damaged("provenance.json", flip), "provenance.json", "it is damaged", AGAIN),
    (damaged("provenance.json", emptied), "provenance.json", "it is damaged", AGAIN),
    (damaged("provenance.json", removed), "provenance.json", "it is missing", AGAIN),
]
NAMES = [f"{number}-{case[1]}" for number, case in enumerate(CASES)]


@pytest.mark.parametrize(
    ("change", "name", "what", "remedy"),
    [pytest.param(*case, marks=pytest.mark.slow if number % 2 else ()) for number, case in enumerate(CASES)],
    ids=NAMES,
)
def test_what_is_changed_or_missing_is_named_with_a_remedy(run, capsys, change, name, what, remedy):
    change(run)
    assert verified(run, "--examples", "1") == 1
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith(f"{name}: "))
    assert what in line
    assert remedy in line
    # Python's own words say nothing to a reader.
    assert not re.search(r"\b(Key|Index|Type|Value|FileNotFound|JSONDecode)Error: ", out)
    found = rows_of(out)
    if name.endswith(".jsonl"):
        count = len((run / name).read_bytes().splitlines()) if (run / name).is_file() else 0
        other = {"metrics.jsonl": 1, "starts.jsonl": 40}[name]
        assert found["logs"][0] == count + other
    if name.startswith(("checkpoints", "table", "figures", "provenance", "starts", "noise")):
        assert found["masks, selected again"][1] == "matches"
    if name.startswith(("checkpoints", "figures", "provenance", "starts", "noise")):
        assert found["table, from predictions"][1] == "matches"


# What a command that writes to the folder must not build upon.
REFUSED = [case for case in CASES if case[1].endswith(".jsonl") and "number 6" not in case[2]]


@pytest.mark.parametrize(("change", "name", "what", "remedy"), REFUSED)
def test_no_command_goes_on_from_a_log_that_is_wrong(run, change, name, what, remedy):
    change(run)
    before = contents(run)
    config = dataclasses.replace(CONFIG, run_dir=str(run))
    with (
        pytest.raises(dj.InputError) as error,
        open_run(config, RunFolder(run).header()["resolved"]),
    ):
        pass
    assert all(word in str(error.value) for word in (str(run / name), what, remedy))
    assert contents(run) == before


# A file of each kind that is made again; what must be deleted beside it.
REMEDIES = [
    *((name, ()) for name in ("noise.npz", "scores/el2n.npz", MASK, "table.md", "figures/accuracy.png")),
    *((name, (name,)) for name in (SEED, EVERYTHING)),
    (f"{CHECKPOINT}/digest.json", (CHECKPOINT, SEED)),
    (f"{KEPT}/4/digest.json", (f"{KEPT}/4", EVERYTHING)),
]


def test_the_remedies_are_true(run):
    before = matrix_contents(run)
    for name, _ in REMEDIES:
        flip(run / name)
    assert verified(run) == 1
    for path in {path for _, paths in REMEDIES for path in paths}:
        removed(run / path)
    dj.run(dataclasses.replace(CONFIG, run_dir=str(run)))
    assert verified(run) == 0
    # The log says anew how well scores find the changed labels.
    assert differences(matrix_contents(run), before) == ["metrics.jsonl"]


def test_a_log_that_lost_its_middle_keeps_that_however_it_is_written_again(run, capsys):
    """What is forgotten is no gap, and a gap is not filled up."""
    folder = RunFolder(run)
    before = len(folder.metrics())
    folder.forget_between(["score/seed_00"], 0)
    assert len(folder.metrics()) == before - 1
    without_line(3)(run / "metrics.jsonl")
    folder.forget_between(["score/seed_01"], 0)
    folder.log("another", step=1)
    assert verified(run, "--examples", "0") == 1
    out = capsys.readouterr().out
    assert re.search(r"\nmetrics.jsonl: the line with the number \d is missing; ", out)
    assert "metrics.jsonl: it has no line of score/seed_00 at step 4 (and of 1 more), whose result" in out


def test_a_line_of_another_run_costs_no_score(run):
    """As the log of another seed of the same job."""
    with_a_line_of_another(run / "metrics.jsonl")
    command = ["score", "--from-run", str(run), "--step", "4", "--no-compilation-cache"]
    with pytest.raises(SystemExit, match="2"):
        main(command)
    without_line(-1)(run / "metrics.jsonl")
    main(command)
    assert dj.ScoreFile.load(run / "scores/step_4/el2n.npz").seed_numbers == [0, 1]


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
    monkeypatch.setattr("diet_jax.experiments.setup.load_dataset", refuse)
    assert verified(run) == 0
    assert "not there: no data here" in capsys.readouterr().out
    flip(run / "table.csv")
    assert verified(run) == 1
    assert "\ntable.csv: " in capsys.readouterr().out


def refuse(*_, **__):
    raise NotHereError("no data here")


IMAGES = [
    *("--model.widths", "4", "--train.epochs", "2", "--train.batch-size", "5", "--train.augment", "none"),
    *("--score.epoch", "1", "--score.num-seeds", "1", "--score.names", "el2n", "forgetting"),
    *("--select.fractions", "0.5", "--retrain.num-seeds", "1", "--no-compilation-cache"),
]


@pytest.mark.slow
def test_images_on_disk_that_have_moved_and_then_are_damaged(image_folder, tmp_path, capsys):
    pytest.importorskip("grain")
    images, run = tmp_path / "images", tmp_path / "run"
    shutil.copytree(image_folder, images)
    name = f"folder:{images}"
    options = ["--data.name", name, "--data.streaming", "--data.image-size", "7", "--checkpoint-epochs", "1"]
    main(["run", *IMAGES, *options, "--run-dir", str(run)])
    assert verified(run) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    # All 30 by two scores.
    assert "scores, from checkpoints 60 matches" in out
    moved = images.rename(tmp_path / "moved")
    assert verified(run) == 0
    assert "skipped: not there: folder" in capsys.readouterr().out
    assert verified(run, "--data.name", f"folder:{moved}") == 0
    out = capsys.readouterr().out
    assert "skipped" not in out.replace("states to go on from", "")
    image = next((moved / "train" / "a").iterdir())
    image.write_bytes(image.read_bytes()[:60])
    assert verified(run, "--data.name", f"folder:{moved}") == 1
    assert image.name in capsys.readouterr().out.rpartition("\ndata and options: ")[2]


def test_labels_that_have_moved(tmp_path, capsys):
    train, labels, run = dj.load_dataset("digits").train, tmp_path / "labels.csv", tmp_path / "run"
    given = (train.labels + (np.arange(len(train)) < 9)) % 10
    rows = (f"{i},{label}" for i, label in zip(train.ids, given, strict=True))
    labels.write_text("\n".join(["id,label", *rows]))
    main(["score", *IMAGES, "--data.labels", str(labels), "--run-dir", str(run)])
    moved = labels.rename(tmp_path / "moved.csv")
    assert verified(run) == 0
    assert "skipped: not there: " in capsys.readouterr().out
    assert verified(run, "--data.labels", str(moved)) == 0
    assert "not there" not in capsys.readouterr().out
    moved.write_text("id,label\n")
    assert verified(run, "--data.labels", str(moved)) == 1
    assert "\ndata and options: " in capsys.readouterr().out


OWN = """
import numpy as np
import diet_jax as dj

def split(count, seed, normalization=None):
    labels = np.arange(count) % 2
    inputs = (np.random.default_rng(seed).normal(size=(count, 3)) + labels[:, None]).astype(np.float32)
    about = {"name": "mine", "split": "test" if seed else "train", "kind": "table"}
    return dj.Dataset.from_arrays(inputs, labels, normalization=normalization, **about)

def predict(params, inputs):
    return inputs @ params

def init(key, spec):
    import jax
    return 0.1 * jax.random.normal(key, (3, 2))

def size(predict_fn, variables, inputs, labels):
    import jax.numpy as jnp
    return jnp.abs(predict_fn(variables, inputs)).sum(axis=-1)

def build(model):
    import functools
    return functools.partial(size, model.predict)

def sgd(learning_rate):
    import optax
    return optax.sgd(learning_rate)

TRAIN = split(40, 0)
TEST = split(20, 1, TRAIN.normalization)
SCORES = (
    dj.Score(name="size", label="size", formula="f", reference="r", reads="logits", build=build),
    dj.ScoreFile.from_seeds("made", np.random.default_rng(2).random((1, 40)), TRAIN, step=0),
)
MODEL = dj.from_functions(init, predict)
CONFIG = dj.RunConfig(
    train=dj.TrainConfig(steps=8, batch_size=10, optimizer=sgd, augment="none"),
    score=dj.ScoreConfig(epoch=1, num_seeds=1),
    select=dj.SelectConfig(fractions=(0.5,)),
    retrain=dj.RetrainConfig(num_seeds=1),
    checkpoint_epochs=(1,),
)
"""


@pytest.mark.slow
def test_what_a_config_file_brings(tmp_path, capsys, monkeypatch):
    """Data, model, optimiser, and scores: a function, and a file of which the run has a copy."""
    file, run = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(OWN)
    main(["run", str(file), "--run-dir", str(run), "--no-compilation-cache"])
    # As in another process.
    monkeypatch.delitem(dj.SCORES._items, "size")
    main(["score", str(file), "--from-run", str(run), "--step", "4", "--no-compilation-cache"])
    assert (run / "scores" / "step_4" / "size.npz").is_file()
    monkeypatch.delitem(dj.SCORES._items, "size")
    assert verified(str(file), str(run)) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    # By the run, and by --from-run.
    assert "scores, from checkpoints 64 matches" in out
    assert verified(run) == 0
    assert "skipped: not there: the optimizer of" in " ".join(capsys.readouterr().out.split())
    file.write_text(OWN.replace("seed).normal", "seed + 5).normal"))
    assert verified(str(file), str(run)) == 1
    assert "the ids are the same, so labels or inputs are others" in capsys.readouterr().out


@pytest.mark.slow
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


@pytest.mark.slow
def test_scores_made_elsewhere_and_scores_of_other_steps(finished, tmp_path, capsys):
    run, one = tmp_path / "run", dj.RetrainConfig(num_seeds=1)
    elsewhere = dj.ScoreFile.load(finished / "scores" / "el2n.npz")
    elsewhere.save(tmp_path / "el2n.npz")
    score = dataclasses.replace(CONFIG.score, names=("grand",), files=(str(tmp_path / "el2n.npz"),))
    config = dataclasses.replace(CONFIG, score=score, retrain=one, checkpoint_epochs=(0.5,), run_dir=str(run))
    dj.run(config)
    # The folder has a copy.
    (tmp_path / "el2n.npz").unlink()
    names = ["--names", "grand_last_layer"]
    main(["score", "--from-run", str(run), "--step", "2", *names, "--no-compilation-cache"])
    assert dj.load_checkpoint(run, seed=1, step=2).state.step == 2
    assert verified(run) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    # By both networks; those of step 4 kept no checkpoint.
    assert "scores, from checkpoints 64 skipped: for 2 of 4 seeds no checkpoint is there of the step" in out
    changed = dataclasses.replace(elsewhere, per_seed=elsewhere.per_seed + 1, scores=elsewhere.scores + 1)
    changed.save(run / "scores" / "el2n.npz")
    assert verified(run, "--examples", "0") == 1
    assert "scores of el2n" in capsys.readouterr().out
