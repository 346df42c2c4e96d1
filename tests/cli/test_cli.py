"""The command line: bad input gives one message and exit code 2, and leaves the disk alone."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diet_jax as dj
from diet_jax.cli.main import main
from diet_jax.selection.file import KeepFile

ROOT = Path(__file__).parents[2]


def refused(capsys, *arguments: str) -> str:
    """Runs a command that must be refused and returns its message."""
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    output = capsys.readouterr()
    assert stopped.value.code == 2
    message = output.err + output.out
    assert "Traceback" not in message
    return " ".join(message.replace("│", " ").split())


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands run in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


BAD_OPTIONS = {
    "dataset": (["--data.name", "digitz"], "did you mean 'digits'|digits"),
    "model": (["--model.name", "resnet19"], "resnet18"),
    "misspelt option": (["--scores.epoch", "3"], "--score.epoch"),
    "value of the wrong type": (["--score.num-seeds", "many"], "num-seeds|int"),
    "score": (["--score.names", "el2m"], "el2n"),
    "keep fraction 0": (["--select.fractions", "0"], "keep fraction must be above 0 and at most 1, got 0"),
    "keep fraction 1.2": (["--select.fractions", "1.2"], "at most 1, got 1.2"),
    "keep fraction NaN": (["--select.fractions", "nan"], "at most 1, got nan"),
    "negative keep fraction": (["--select.fractions", "-0.5"], "got -0.5"),
    "batch larger than the data": (
        ["--train.batch-size", "5000"],
        "--train.batch-size is 5000 but only 1,078",
    ),
    "score epoch beyond training": (["--score.epoch", "41"], "step 1353, beyond the 1320 steps"),
    "checkpoint beyond training": (["--checkpoint-epochs", "50"], "--checkpoint-epochs 50"),
    "no seeds": (["--score.num-seeds", "0"], "--score.num-seeds must be at least 1, got 0"),
    "option of another model": (["--model.name", "resnet18", "--model.widths", "3"], "widths"),
    "width 0": (["--model.widths", "0"], "width"),
    "stem of another model": (["--model.stem", "imagenet"], "stem: model 'mlp' has no such option"),
    "first stage of width 0": (["--model.name", "resnet18", "--model.width", "0"], "width: expected"),
    "precision of GraNd": (["--score.names", "grand", "--score.grand.precision", "half"], "highest"),
    "offset without window": (["--select.window.offset", "0.3"], "method is highest; choose it there"),
    "window out of range": (
        ["--select.method", "window", "--select.window.offset", "0.6", "--select.fractions", "0.5"],
        "at most 1",
    ),
    "negative seed": (["--seed", "-1"], "seed must be at least 0"),
    "seed beyond 32 bits": (["--seed", "4294967296"], r"below 2\*\*32, got 4294967296"),
    "endless training": (["--train.epochs", "1e300"], "no step beyond 2147483647"),
    "warm-up without an end": (
        ["--train.warmup", "0.9999", "--train.schedule", "linear"],
        "warm-up must end before",
    ),
    "NaN learning rate": (["--train.learning-rate", "nan"], "--train.learning-rate"),
    "optimizer": (["--train.optimizer", "adam"], "'sgd', 'adamw'"),
    "schedule": (["--train.schedule", "step"], "'piecewise', 'linear', 'cosine'"),
    "momentum of AdamW": (
        ["--train.optimizer", "adamw", "--train.momentum", "0.5"],
        r"momentum is 0.5 \(default 0.9\), but optimizer sgd alone reads that",
    ),
    "AdamW without its name": (["--train.adamw.b1", "0.5"], "adamw.b1 is 0.5 .default 0.9.* choose adamw"),
    "epochs and equal steps mixed": (
        ["--train.steps", "10", "--train.budget", "equal_epochs"],
        "equal_epochs",
    ),
    "checkpoints of a batched ensemble": (["--checkpoint-epochs", "1", "--score.how", "vmap"], "one by one"),
    "not prepared": (["--data.name", "cifar10", "--data.data-dir", "empty"], "cifar10.*empty.*prepare"),
    "missing folder": (["--data.name", "folder:nowhere"], "nowhere"),
    "config file": (["missing.py"], "no config file missing.py"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_are_refused_before_anything_is_written(capsys, elsewhere, case):
    import re

    options, message = BAD_OPTIONS[case]
    said = refused(capsys, "run", *options)
    assert re.search(message, said), said
    assert list(elsewhere.iterdir()) == []


def test_unknown_command_and_no_command(capsys):
    assert "did you mean 'score'" in refused(capsys, "scor")
    assert "diet-jax run" in refused(capsys)


def test_a_stream_that_lacks_a_letter_shows_a_question_mark(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stderr", stream)
    with pytest.raises(SystemExit):
        main(["runn\u2013"])
    stream.seek(0)
    assert "unknown command 'runn?'" in stream.read()


def test_a_reader_that_leaves_early_gets_no_traceback():
    command = f"{sys.executable} -m diet_jax run --help"
    done = subprocess.run(["sh", "-c", f"{command} | true"], capture_output=True, text=True, cwd=ROOT)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "select" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CONFIG = 3", "must define CONFIG"),
        ("import nothing_of_the_kind", "fails in line 1: ModuleNotFoundError"),
        # In the file, not in what it calls.
        ("import json\n\nCONFIG = json.loads('{')", "config file bad.py fails in line 3: JSONDecodeError"),
        (
            "from diet_jax.experiments.config import RunConfig\nCONFIG = RunConfig(seed=-3)",
            "seed must be at least 0 and below 2**32, got -3",
        ),
        ("def", "SyntaxError"),
    ],
)
def test_bad_config_files(capsys, elsewhere, text, message):
    (elsewhere / "bad.py").write_text(text)
    assert message in refused(capsys, "run", "bad.py")
    assert not (elsewhere / "runs").exists()


def image_folder(root: Path, *, classes=("cat", "dog"), damage=False) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 6)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    if damage:
        file = root / "train" / "cat" / "3.png"
        file.write_bytes(file.read_bytes()[:60])
    return root


def test_a_damaged_image_is_named(capsys, tmp_path):
    folder = image_folder(tmp_path / "images", damage=True)
    assert "3.png" in refused(capsys, "run", "--data.name", f"folder:{folder}")


@pytest.mark.parametrize("target", ["nowhere.png", "link.png"], ids=["dangling", "looping"])
def test_a_link_to_no_image_is_named(capsys, tmp_path, target):
    folder = image_folder(tmp_path / "images")
    (folder / "train" / "cat" / "link.png").symlink_to(target)
    assert "link.png" in refused(capsys, "run", "--data.name", f"folder:{folder}")


def test_a_file_as_run_folder_and_a_folder_that_cannot_be_written(capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    assert f"--run-dir {file} is a file; choose a folder" in refused(capsys, "run", "--run-dir", file)
    assert str(file / "below") in refused(capsys, "run", "--run-dir", file / "below")
    assert "cannot write" in refused(capsys, "run", "--run-dir", "/proc/diet_jax")
    assert file.read_text() == "mine"


def test_a_folder_of_something_else_is_left_alone(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "not a run folder" in refused(capsys, "run", "--run-dir", tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["notes.txt"]


TINY = ["--train.epochs", "2", "--score.num-seeds", "2", "--retrain.num-seeds", "2", "--score.epoch", "1"]
TINY += ["--select.fractions", "0.5", "--model.widths", "16"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of one small finished run, with forgetting among the scores."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    main(["run", *TINY, "--run-dir", str(folder), "--score.names", "el2n", "grand", "forgetting"])
    return folder


FORGETTING = [*TINY, "--score.names", "el2n", "grand", "forgetting"]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"}


def test_a_run_leaves_everything_a_reader_needs(finished):
    header = json.loads((finished / "config.json").read_text())
    assert header["config"]["train"]["epochs"] == 2
    assert header["resolved"]["steps"] == 66
    assert header["resolved"]["score_step"] == 33
    assert header["resolved"]["kept_examples"] == {"0.5": 539}
    start = json.loads((finished / "starts.jsonl").read_text().splitlines()[0])
    assert set(start["versions"]) >= {"jax", "flax", "optax", "numpy"}
    for name in ("accuracy", "scores_el2n", "examples_forgetting"):
        with Image.open(finished / "figures" / f"{name}.png") as image:
            assert min(image.size) > 300
    assert "| el2n | 0.5 | 539 |" in (finished / "table.md").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line["unit"] == "retrain/random_keep0.5/seed_01"]
    assert steps[-1] == 66
    assert any(line["unit"] == "stage/scoring" for line in lines)
    assert (finished / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_score_and_mask_files_carry_the_ids_of_the_dataset(finished):
    train = dj.load_dataset("digits").train
    file = dj.ScoreFile.load(finished / "scores" / "el2n.npz", dataset=train)
    np.testing.assert_array_equal(file.ids, train.ids)
    np.testing.assert_array_equal(file.labels, train.labels)
    assert file.step == 33
    assert file.per_seed.shape == (2, 1078)
    mask = KeepFile.load(finished / "masks" / "el2n_keep0.5.npz", dataset=train)
    assert file.scores[mask.keep].min() >= file.scores[~mask.keep].max()
    random = KeepFile.load(finished / "masks" / "random_keep0.5.npz")
    assert random.keep.shape == (2, 1078)
    assert (random.keep[0] != random.keep[1]).any()


def test_the_scores_of_a_run_are_those_of_the_functions(finished):
    train = dj.load_dataset("digits").train
    config = dj.TrainConfig(epochs=2, batch_size=32, learning_rate=0.05, schedule="cosine", augment="none")
    model = dj.create_model("mlp", num_classes=10, widths=(16,))
    names = ("el2n", "forgetting")
    result = dj.score_ensemble(
        dj.seed_keys(0, "score", 2), model, train, config=config, step=33, names=names, how="loop"
    )
    for name in names:
        file = dj.ScoreFile.load(finished / "scores" / f"{name}.npz")
        np.testing.assert_allclose(file.per_seed, result.scores[name], rtol=2e-4, atol=1e-6)


def test_the_table_is_that_of_the_saved_predictions(finished):
    labels = dj.load_dataset("digits").test.labels
    rows = (finished / "table.csv").read_text().splitlines()
    columns = rows[0].split(",")
    for row in (dict(zip(columns, r.split(","), strict=True)) for r in rows[1:]):
        name = "everything" if row["kept_by"] == "everything" else f"{row['kept_by']}_keep0.5"
        accuracies = []
        for file in sorted((finished / "retrain" / name).iterdir()):
            with np.load(file) as arrays:
                accuracies.append((arrays["predicted"] == labels).mean())
        assert float(row["accuracy"]) == pytest.approx(np.mean(accuracies))


@pytest.mark.slow
def test_the_same_config_continues_and_computes_nothing_again(finished, capsys):
    before = {p: p.stat().st_mtime_ns for p in (finished / "retrain").rglob("*.npz")}
    table = (finished / "table.csv").read_bytes()
    main(["run", *FORGETTING, "--run-dir", str(finished)])
    assert {p: p.stat().st_mtime_ns for p in (finished / "retrain").rglob("*.npz")} == before
    assert (finished / "table.csv").read_bytes() == table
    assert "everything" in capsys.readouterr().out


def test_another_config_is_refused_and_named(finished, capsys):
    before = snapshot(finished)
    message = refused(capsys, "run", *FORGETTING, "--run-dir", finished, "--train.epochs", "3")
    assert "train.epochs: 3, was 2" in message or "train.epochs: 3.0, was 2.0" in message
    assert snapshot(finished) == before


@pytest.mark.slow
def test_a_missing_result_is_computed_again_to_the_same_numbers(finished):
    table = (finished / "table.csv").read_bytes()
    lost = finished / "retrain" / "grand_keep0.5" / "seed_01.npz"
    before = lost.read_bytes()
    lost.unlink()
    lines = len((finished / "metrics.jsonl").read_text().splitlines())
    main(["run", *FORGETTING, "--run-dir", str(finished)])
    assert lost.read_bytes() == before
    assert (finished / "table.csv").read_bytes() == table
    # Two stages are timed again, and the end is told; no epoch is logged twice.
    assert len((finished / "metrics.jsonl").read_text().splitlines()) == lines + 3


def test_a_damaged_result_of_a_run_is_named(finished, capsys):
    file = finished / "scores" / "per_seed" / "seed_00.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    try:
        assert "seed_00.npz is damaged" in refused(capsys, "run", *FORGETTING, "--run-dir", finished)
    finally:
        file.write_bytes(whole)


def test_a_result_of_another_selection_is_refused(finished, capsys):
    results = finished / "retrain"
    file = results / "random_keep0.5" / "seed_00.npz"
    own = file.read_bytes()
    file.write_bytes((results / "el2n_keep0.5" / "seed_00.npz").read_bytes())
    try:
        assert "is not of this run (mask is" in refused(capsys, "run", *FORGETTING, "--run-dir", finished)
    finally:
        file.write_bytes(own)


@pytest.mark.slow
def test_a_selection_that_empties_a_class_has_its_row_and_says_so(capsys, tmp_path):
    folder = image_folder(tmp_path / "images")
    run = tmp_path / "run"
    # One class is the same image over and over: all its examples rank above, or all below, the others.
    for path in (folder / "train" / "cat").iterdir():
        Image.new("RGB", (8, 8), (255, 255, 255)).save(path)
    options = ["--data.name", f"folder:{folder}", "--train.batch-size", "4", *TINY, "--score.epoch", "2"]
    options += ["--train.epochs", "8", "--select.fractions", "0.1", "--train.learning-rate", "0.02"]
    main(["run", *options, "--run-dir", str(run)])
    said = capsys.readouterr()
    assert "no example of 1 of 2 classes is kept: " in said.err
    assert "--select.min-per-class keeps some of each" in said.err
    assert "el2n, keep 0.1: no example of 1 of 2 classes is kept: " in (run / "table.md").read_text()
    rows = [line.split(",") for line in (run / "table.csv").read_text().splitlines()]
    least = {row[0]: row[rows[0].index("least_kept_of_a_class")] for row in rows[1:]}
    assert least["el2n"] == "0"
    main(["run", *options, "--select.min-per-class", "1", "--run-dir", str(tmp_path / "guarded")])
    assert "no example of" not in capsys.readouterr().err


def test_figures_that_cannot_be_written(finished, capsys):
    figures, aside = finished / "figures", finished / "aside"
    figures.rename(aside)
    figures.write_text("")
    try:
        assert "figures" in refused(capsys, "run", *FORGETTING, "--run-dir", finished)
    finally:
        figures.unlink()
        aside.rename(figures)


def test_a_run_folder_in_use_is_refused(finished, capsys):
    import filelock

    with filelock.FileLock(finished / ".lock"):
        assert "another process" in refused(capsys, "run", *FORGETTING, "--run-dir", finished)


@pytest.mark.slow
def test_infinite_forgetting_means_are_reported(finished, capsys):
    file = dj.ScoreFile.load(finished / "scores" / "forgetting.npz")
    assert file.num_infinite > 0
    main(["run", *FORGETTING, "--run-dir", str(finished)])
    assert (
        f"forgetting: {file.num_infinite} of 1,078 examples have an infinite mean" in capsys.readouterr().err
    )


def test_select_writes_mask_and_ids_and_never_overwrites(finished, capsys, elsewhere):
    scores = str(finished / "scores" / "el2n.npz")
    main(["select", scores, "--out", "half.npz", "--fraction", "0.5"])
    mask = KeepFile.load("half.npz")
    ids = [int(i) for i in Path("half.kept_ids.txt").read_text().split()]
    assert ids == mask.ids[mask.keep].tolist()
    assert len(ids) == 539
    assert "exists already" in refused(capsys, "select", scores, "--out", "half.npz", "--fraction", "0.4")
    assert int(KeepFile.load("half.npz").keep.sum()) == 539


def test_select_writes_a_table_with_the_mask(finished, capsys, elsewhere):
    scores = [str(finished / "scores" / f"{name}.npz") for name in ("el2n", "grand")]
    main(["select", scores[0], "--out", "half.npz", "--fraction", "0.5", "--csv", "half.csv"])
    assert "half.npz, half.kept_ids.txt, half.csv" in capsys.readouterr().out
    mask, file = KeepFile.load("half.npz"), dj.ScoreFile.load(scores[0])
    with open("half.csv", newline="") as text:
        lines = list(csv.DictReader(text))
    assert list(lines[0]) == ["row", "id", "class", "score", "kept"]
    assert [int(line["row"]) for line in lines if line["kept"] == "True"] == mask.rows.tolist()
    assert [int(line["id"]) for line in lines] == file.ids.tolist()
    assert [int(line["class"]) for line in lines] == file.labels.tolist()
    assert [float(line["score"]) for line in lines] == file.scores.tolist()

    whole = Path("half.csv").read_bytes()
    more = ["--fraction", "0.4", "--csv"]
    message = refused(capsys, "select", scores[0], "--out", "new.npz", *more, "half.csv")
    assert "half.csv exists already; choose another --csv" in message
    assert "must end in .csv" in refused(capsys, "select", scores[0], "--out", "new.npz", *more, "x.txt")
    message = refused(capsys, "select", scores[0], "--out", "new.npz", *more, "half.csv/x.csv")
    assert "cannot write half.csv/x.csv" in message
    assert Path("half.csv").read_bytes() == whole
    assert sorted(path.name for path in elsewhere.iterdir()) == ["half.csv", "half.kept_ids.txt", "half.npz"]


def test_the_table_of_several_scores_has_a_column_for_each(finished, capsys, elsewhere):
    el2n = str(finished / "scores" / "el2n.npz")
    (elsewhere / "both.py").write_text(BOTH, encoding="utf-8")
    options = ["--method", "both_scores", "--fraction", "0.5", "--out", "both.npz", "--csv", "both.csv"]
    main(["select", "both.py", el2n, str(finished / "scores" / "grand.npz"), *options])
    header, first = Path("both.csv").read_text().splitlines()[:2]
    assert header == "row,id,class,el2n,grand,kept"
    files = [dj.ScoreFile.load(finished / "scores" / f"{name}.npz") for name in ("el2n", "grand")]
    assert [float(value) for value in first.split(",")[3:5]] == [file.scores[0] for file in files]
    again = [option.replace("both.", "again.") for option in options]
    main(["select", "both.py", el2n, el2n, *again])
    assert Path("again.csv").read_text().startswith("row,id,class,el2n,el2n_2,kept")


BOTH = """
import diet_jax as dj
from diet_jax.selection.rule import RULES, Rule

def both(one, other, fraction, *, key):
    return dj.keep_highest(one + other, fraction, key=key)

RULES.register(Rule(name="both_scores", words="w", reference="r", select=both, num_scores=2))
"""


@pytest.mark.parametrize("width", [40, 80, 130])
def test_the_table_fits_the_terminal_and_no_number_is_cut(finished, capsys, monkeypatch, width):
    monkeypatch.setattr("diet_jax.plotting.save_figure", lambda figure, path: None)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    main(["run", *FORGETTING, "--run-dir", str(finished)])
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    table = [line for line in shown.splitlines() if line[:1] in "┏┃┡│└"]
    assert len(table) > 8
    assert width < 80 or max(map(len, table)) <= width
    assert "…" not in shown
    with open(finished / "table.csv", newline="") as text:
        for row in csv.DictReader(text):
            (line,) = [each for each in table if each.startswith(f"│ {row['kept_by']} ")]
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            assert cells[1] == f"{float(row['keep_fraction']):g}"
            assert f"{100 * float(row['accuracy']):.2f}" in cells
            if row["minus_random"]:
                assert any(cell.startswith(f"{100 * float(row['minus_random']):+.2f} ±") for cell in cells)
    assert ("no room for" in shown) == (width < 130)
    assert ("16–84 %" in "".join(table)) == (width == 130)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fraction", "0"], "keep fraction must be above 0"),
        (["--fraction", "nan"], "got nan"),
        (["--fraction", "0.6", "--method", "window", "--window.offset", "0.5"], "at most 1"),
        (["--fraction", "0.6", "--window.offset", "0.5"], "method is highest"),
    ],
)
def test_select_refuses_what_it_cannot_keep(finished, capsys, elsewhere, options, message):
    scores = str(finished / "scores" / "el2n.npz")
    assert message in refused(capsys, "select", scores, "--out", "m.npz", *options)
    assert list(elsewhere.iterdir()) == []


def test_damaged_and_foreign_score_files(finished, capsys, elsewhere):
    whole = (finished / "scores" / "el2n.npz").read_bytes()
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :],
        "empty": b"",
        "text": b"not an archive",
    }
    for name, content in damaged.items():
        (elsewhere / f"{name}.npz").write_bytes(content)
        message = refused(capsys, "select", f"{name}.npz", "--out", "m.npz", "--fraction", "0.5")
        assert f"{name}.npz is damaged" in message
    mask = str(finished / "masks" / "el2n_keep0.5.npz")
    assert "expected 'diet_jax scores 2'; give a file of scores" in refused(
        capsys, "select", mask, "--out", "m.npz", "--fraction", "0.5"
    )
    scores = str(finished / "scores" / "el2n.npz")
    assert "expected 'diet_jax keep 2'; diet-jax select makes a mask of scores" in refused(
        capsys, "train", "--keep", scores, "--run-dir", "of-scores"
    )
    assert "no file gone.npz" in refused(capsys, "select", "gone.npz", "--out", "m.npz", "--fraction", "0.5")
    assert not (elsewhere / "m.npz").exists()


def test_train_says_what_a_dynamic_pruning_left_out_and_writes_its_last_subset(capsys, tmp_path):
    run = tmp_path / "trained"
    options = ["--train.epochs", "3", "--model.widths", "8", "--run-dir", str(run)]
    main(["train", *options, "--train.dynamic", "infobatch", "--train.infobatch.leave-out", "0.8"])
    said = re.search(r"infobatch left out (\d+\.\d)% of the examples that it chose", capsys.readouterr().out)
    file = KeepFile.load(run / "subsets/retrain/everything/seed_00.npz")
    counts = file.provenance
    assert said is not None
    assert float(said[1]) == round(100 * counts["left_out"] / counts["offered"], 1)
    assert (counts["method"], counts["offered"] % 1078) == ("infobatch", 0)
    message = refused(capsys, "train", *options, "--train.hardest.fraction", "0.2")
    assert "--train.hardest.fraction is 0.2 (default 0.5), but dynamic is none" in message


@pytest.mark.slow
def test_train_with_a_mask_and_score_its_checkpoints(finished, capsys, tmp_path):
    run = tmp_path / "trained"
    options = ["--train.epochs", "2", "--model.widths", "16", "--run-dir", str(run)]
    options += ["--checkpoint-epochs", "0", "1", "2", "--score.num-seeds", "2"]
    mask = str(finished / "masks" / "el2n_keep0.5.npz")
    main(["train", *options, "--keep", mask])
    assert "step 66, test accuracy 0." in capsys.readouterr().out
    assert "no checkpoints of scoring seeds" in refused(capsys, "score", "--from-run", run, "--step", "0")
    main(["train", *options, "--purpose", "score"])
    for step in ("0", "33"):
        main(["score", "--from-run", str(run), "--step", step, "--names", "el2n", "loss", "forgetting"])
    # At step 0 forgetting has no ranks, and two scores are no matrix.
    figures = sorted(path.parent.name for path in (run / "figures").glob("*/correlations.png"))
    assert figures == ["step_33"]
    message = refused(capsys, "score", "--from-run", run, "--step", "34")
    assert "no checkpoint of step 34" in message
    assert "steps there: 0, 33, 66" in message
    assert "already there" in refused(capsys, "score", "--from-run", run, "--step", "33", "--names", "el2n")
    assert "leave out" in refused(capsys, "score", "--from-run", run, "--step", "33", "--seed", "1")
    assert "needs --step" in refused(capsys, "score", "--from-run", run)
    # The same seeds, data and steps as the run above: the same scores.
    for name in ("el2n", "forgetting"):
        again = dj.ScoreFile.load(run / "scores" / "step_33" / f"{name}.npz")
        once = dj.ScoreFile.load(finished / "scores" / f"{name}.npz")
        np.testing.assert_allclose(again.per_seed, once.per_seed, rtol=2e-4, atol=1e-6)
    assert np.isinf(dj.ScoreFile.load(run / "scores" / "step_0" / "forgetting.npz").scores).all()


def test_a_mask_of_other_data_is_refused(finished, capsys, tmp_path):
    folder = image_folder(tmp_path / "images")
    mask = str(finished / "masks" / "el2n_keep0.5.npz")
    message = refused(
        capsys, "train", "--data.name", f"folder:{folder}", "--train.batch-size", "8", "--keep", mask
    )
    assert "belongs to digits/train" in message
