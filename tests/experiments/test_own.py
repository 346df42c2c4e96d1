"""Runs of anyone's examples, models, scores and rules: by objects, by config files, by score files."""

import contextlib
import dataclasses
import functools
import json
import pathlib
import subprocess
import sys

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diet_jax as dj
from diet_jax.cli.main import main
from diet_jax.experiments import prune

CONFIG = dj.RunConfig(
    train=dj.TrainConfig(steps=24, batch_size=32, learning_rate=0.05, augment="none"),
    score=dj.ScoreConfig(names=("el2n",), epoch=0.5, num_seeds=2),
    select=dj.SelectConfig(fractions=(0.5,)),
    retrain=dj.RetrainConfig(num_seeds=2),
)


@pytest.fixture(scope="module")
def digits():
    return dj.load_dataset("digits")


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The result of the config alone."""
    return dj.run(in_folder(tmp_path_factory.mktemp("usual")))


def in_folder(folder, **changes):
    return dataclasses.replace(CONFIG, run_dir=str(folder / "run"), **changes)


class Net(nn.Module):
    """A network with BatchNorm and dropout, of images or tables."""

    width: int = 16

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(self.width)(x.reshape(len(x), -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(10)(nn.Dropout(0.2, deterministic=not train)(x))


def margin(predict_fn, variables, inputs, labels):
    """Minus the logit of the label."""
    return -jnp.take_along_axis(predict_fn(variables, inputs), labels[:, None], axis=1)[:, 0]


def score_of(fn, name="margin"):
    return dj.Score(
        name=name,
        label="margin",
        formula="minus the logit of the label",
        reference="none",
        reads="logits",
        build=lambda model: functools.partial(fn, model.predict),
    )


def rule_of(name="first", step=1, **options):
    """Keeps the first rows, or the last ones with step -1."""

    def keep(scores, fraction, *, key):
        return (np.arange(len(scores)) < dj.num_kept(len(scores), fraction))[::step]

    return dj.Rule(name=name, words="the first rows", reference="none", select=keep, **options)


FIRST = rule_of()


@pytest.mark.slow
def test_objects_give_the_numbers_of_the_names_that_they_stand_for(tmp_path, digits, usual):
    model = dj.create_model("mlp", num_classes=10)
    objects = dj.run(
        in_folder(tmp_path), train=digits.train, test=digits.test, model=model, scores=dj.SCORES.find("el2n")
    )
    assert objects.rows == usual.rows
    np.testing.assert_array_equal(objects.scores["el2n"].per_seed, usual.scores["el2n"].per_seed)
    assert (objects.path / "table.csv").read_text() == (usual.path / "table.csv").read_text()
    header = json.loads((objects.path / "config.json").read_text())
    assert header["config"]["model"]["name"] == "MLP"
    assert set(header["resolved"]["code"]) == {"model", "score el2n", "rule highest"}


def test_own_model_data_score_and_rules_in_one_table(tmp_path, digits):
    rows = np.random.default_rng(0).permutation(len(digits.train))[:400]
    train = dj.Dataset.from_arrays(digits.train.images[rows], digits.train.labels[rows], name="mine")
    test = dj.Dataset.from_arrays(
        digits.test.images[:200],
        digits.test.labels[:200],
        name="mine",
        split="test",
        normalization=train.normalization,
    )
    model, score = dj.from_linen(Net()), score_of(margin)
    run = functools.partial(
        dj.run,
        in_folder(
            tmp_path,
            train=dataclasses.replace(CONFIG.train, batch_size=40),
            score=dataclasses.replace(CONFIG.score, epoch=2),
            select=dj.SelectConfig(fractions=(0.75,)),
        ),
        train=train,
        test=test,
        model=model,
        scores=("el2n", score),
        rules=("highest", FIRST),
    )
    result = run()
    kept_by = ["everything", "el2n highest", "margin highest", "el2n first", "margin first", "random"]
    assert [row["kept_by"] for row in result.rows] == kept_by
    # The same by the functions that run is made of.
    keys = dj.seed_keys(0, "score", 2)
    config = dataclasses.replace(CONFIG.train, batch_size=40)
    scored = dj.score_ensemble(keys, model, train, config=config, step=20, names=("el2n", score))
    for name, values in scored.scores.items():
        np.testing.assert_allclose(result.scores[name].per_seed, values, rtol=2e-5, atol=1e-6)
    keep = dj.keep_highest(result.scores["margin"].scores, 0.75, key=dj.seed_keys(0, "tie_break", 1)[0])
    np.testing.assert_array_equal(result.masks["margin-highest_keep0.75"].keep, keep)
    assert result.masks["el2n-first_keep0.75"].keep.tolist() == [True] * 300 + [False] * 100
    trained = dj.train_ensemble(dj.seed_keys(0, "retrain", 2), model, train, test, config=config, keep=keep)
    accuracy = (trained.predicted == test.labels).mean()
    assert result.rows[2]["accuracy"] == pytest.approx(accuracy, abs=0.011)
    # The two selections of the first rows are one.
    assert result.rows[3]["accuracy"] == result.rows[4]["accuracy"]
    assert "kept by highest, first" in (result.path / "table.md").read_text()
    before = (result.path / "table.csv").read_bytes()
    assert run().rows == result.rows
    assert (result.path / "table.csv").read_bytes() == before


@pytest.mark.parametrize("as_path", [True, False], ids=["path", "object"])
def test_scores_made_elsewhere_select_as_their_own_kind_does(tmp_path, digits, usual, as_path):
    el2n = usual.scores["el2n"]
    other = dj.ScoreFile.from_seeds("mine", el2n.per_seed, digits.train, step=16)
    config, objects = in_folder(tmp_path), {"scores": ("el2n", other)}
    if as_path:
        other.save(tmp_path / "elsewhere.npz")
        config = in_folder(
            tmp_path, score=dataclasses.replace(CONFIG.score, files=(str(tmp_path / "elsewhere.npz"),))
        )
        objects = {}
    result = dj.run(config, **objects)
    by_name = {row["kept_by"]: row["accuracy"] for row in result.rows}
    assert (
        by_name["mine"] == by_name["el2n"] == {row["kept_by"]: row["accuracy"] for row in usual.rows}["el2n"]
    )
    assert (result.path / "figures" / "scores_mine.png").is_file()
    np.testing.assert_array_equal(result.scores["mine"].per_seed, el2n.per_seed)
    # Other scores under that name are another run.
    changed = dj.ScoreFile.from_seeds("mine", 2 * el2n.per_seed, digits.train, step=16)
    with pytest.raises(dj.InputError, match="scores of mine"):
        dj.run(in_folder(tmp_path), scores=("el2n", changed))


def test_scores_made_elsewhere_alone_need_no_training(tmp_path, digits):
    values = np.random.default_rng(1).random((1, len(digits.train)))
    result = dj.run(in_folder(tmp_path), scores=dj.ScoreFile.from_seeds("mine", values, digits.train, step=0))
    assert [row["kept_by"] for row in result.rows] == ["everything", "mine", "random"]
    assert not (result.path / "scores" / "per_seed").exists()
    keep = dj.keep_highest(values[0].astype(np.float32), 0.5)
    np.testing.assert_array_equal(result.masks["mine_keep0.5"].keep, keep)


@pytest.mark.slow
def test_other_code_is_another_run(tmp_path):
    config = in_folder(tmp_path)
    model = dj.from_linen(Net())
    dj.run(config, model=model, scores=score_of(margin), rules=FIRST)

    def steeper(predict_fn, variables, inputs, labels):
        return 2 * margin(predict_fn, variables, inputs, labels)

    for changed, what in (
        ({"model": dj.from_linen(Net(17))}, "model: Net"),
        ({"scores": score_of(steeper)}, "score margin: margin"),
        ({"rules": rule_of(step=-1)}, "rule first: first"),
    ):
        given = {"model": model, "scores": score_of(margin), "rules": FIRST, **changed}
        with pytest.raises(dj.InputError, match=f"other code.*{what}"):
            dj.run(config, **given)
    dj.run(config, model=dj.from_linen(Net()), scores=score_of(margin), rules=FIRST)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (lambda d: {"train": d.train}, "train without test"),
        (lambda d: {"test": d.test}, "test without train"),
        (lambda d: {"model": dj.create_model("mlp", num_classes=3)}, "3 logits but the dataset 10 classes"),
        (lambda d: {"scores": ()}, "there is no score"),
        (lambda d: {"scores": "random"}, "leave that score out"),
        (lambda d: {"scores": ("el2n", "el2n")}, "each once"),
        (lambda d: {"rules": ()}, "at least one rule"),
        (lambda d: {"rules": ("highest", "highest")}, "each once"),
        (
            lambda d: {
                "scores": (
                    "el2n",
                    dj.ScoreFile.from_seeds("el2n", np.ones((1, len(d.train))), d.train, step=0),
                )
            },
            "two scores are called el2n",
        ),
        (
            lambda d: {"scores": dj.ScoreFile.from_seeds("mine", np.ones((1, len(d.test))), d.test, step=0)},
            "belongs to digits/test",
        ),
        (
            lambda d: {"rules": rule_of("two", num_scores=2)},
            "reads 2 scores, there are 1: el2n",
        ),
        (
            lambda d: {"train": d.train, "test": dj.Dataset.from_arrays(d.test.images, d.test.labels)},
            "normalization=train.normalization",
        ),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_written(tmp_path, digits, objects, message):
    with pytest.raises(dj.InputError, match=message):
        dj.run(in_folder(tmp_path), **objects(digits))
    assert not (tmp_path / "run").exists()


def test_wrong_objects_are_told_what_to_write():
    """In a process of its own: here the types of arguments are checked first."""
    script = """
import numpy as np, flax.linen as nn, diet_jax as dj
train, test = dj.load_dataset("digits")
for given in ({"train": train.images, "test": test}, {"train": train, "test": 3}, {"model": nn.Dense(10)}):
    try:
        dj.run(**given)
    except dj.InputError as error:
        print(error)
from types import SimpleNamespace
from diet_jax.cli.config_file import own_of
try:
    own_of(SimpleNamespace(MODEL=nn.Dense(10)), "mine.py")
except dj.InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    words = (
        "train must be a dj.Dataset, got ndarray",
        "got int",
        "dj.from_linen",
        "MODEL of config file mine.py",
    )
    lines = done.stdout.splitlines()
    for line, word in zip(lines, words, strict=True):
        assert word in line


def test_what_fails_before_any_result_leaves_no_folder_that_is_locked(tmp_path, digits):
    table = dj.Dataset.from_arrays(digits.train.images.reshape(-1, 64).astype("float32"), digits.train.labels)
    test = dj.Dataset.from_arrays(
        digits.test.images.reshape(-1, 64).astype("float32"),
        digits.test.labels,
        split="test",
        normalization=table.normalization,
    )
    crops = dataclasses.replace(CONFIG.train, augment="crop_flip")
    with pytest.raises(dj.InputError, match="the examples are table; set augment to none"):
        dj.run(in_folder(tmp_path, train=crops), train=table, test=test)
    wrong = score_of(lambda predict_fn, variables, inputs, labels: predict_fn(variables, inputs))
    with pytest.raises(dj.InputError, match=r"margin must return float \[2\]"):
        dj.run(in_folder(tmp_path), scores=wrong)
    values = np.ones(len(digits.train))
    values[3] = np.nan
    with pytest.warns(UserWarning, match="hole is NaN for 1 of 1,078 examples"):
        hole = dj.ScoreFile.from_seeds("hole", values[None], digits.train, step=0)
    with pytest.raises(dj.InputError, match="hole is NaN for 1 of 1,078 examples, first in row 3"):
        dj.run(in_folder(tmp_path), scores=("el2n", hole))
    for name in ("../evil", "a b", ""):
        with pytest.raises(dj.InputError, match="letters, digits and _"):
            dj.run(
                in_folder(tmp_path), scores=dataclasses.replace(hole, name=name, scores=np.ones(len(values)))
            )
    assert not (tmp_path / "run").exists()

    def raises(scores, fraction, *, key):
        raise RuntimeError("not yet")

    values = dj.ScoreFile.from_seeds("mine", np.arange(1078.0)[None], digits.train, step=0)
    rule = dj.Rule(name="first", words="", reference="", select=raises)
    with pytest.raises(RuntimeError, match="not yet"):
        dj.run(in_folder(tmp_path), scores="el2n", rules=rule)
    # Scores are a result; the corrected rule needs another folder.
    with pytest.raises(dj.InputError, match="other code"):
        dj.run(in_folder(tmp_path), scores="el2n", rules=FIRST)
    other = in_folder(tmp_path / "other", score=dataclasses.replace(CONFIG.score, epoch=0.25))
    with monkeypatch_scoring(), pytest.raises(KeyboardInterrupt):
        dj.run(other)
    done = dj.run(in_folder(tmp_path / "other"), scores=values)
    assert [row["kept_by"] for row in done.rows] == ["everything", "mine", "random"]


def monkeypatch_scoring():
    """Stops a run when it is about to score."""
    patch = pytest.MonkeyPatch.context()

    @contextlib.contextmanager
    def stopped():
        with patch as monkeypatch:
            monkeypatch.setattr(prune, "score_stage", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            yield

    return stopped()


def test_other_numbers_of_the_same_arrays_are_other_data(tmp_path, digits):
    objects = {"scores": dj.ScoreFile.from_seeds("mine", np.arange(1078.0)[None], digits.train, step=0)}
    dj.run(in_folder(tmp_path), train=digits.train, test=digits.test, **objects)
    other = dj.Normalization((3.0,), (5.0,))
    splits = {
        split: dataclasses.replace(getattr(digits, split), normalization=other) for split in ("train", "test")
    }
    with pytest.raises(dj.InputError, match="its normalization is"):
        dj.run(in_folder(tmp_path), **splits, **objects)


def test_a_config_keeps_the_objects_that_it_was_given(digits):
    def scaled(factor):
        return score_of(lambda *arguments: factor * margin(*arguments))

    configs = [dj.ScoreConfig(names=(scaled(factor), "el2n")) for factor in (1.0, -1.0)]
    model = dj.create_model("mlp", num_classes=10)
    variables = model.init(dj.seed_keys(0, "score", 1)[0], (8, 8, 1))
    inputs = dj.normalized_inputs(digits.train)[:4]
    first, second = (
        config.scores[0].function(model)(variables, inputs, digits.train.labels[:4]) for config in configs
    )
    np.testing.assert_array_equal(first, -second)
    assert dataclasses.replace(configs[0], epoch=1.0).scores[0] is configs[0].scores[0]
    rules = [dj.SelectConfig(method=rule_of(step=step)).rules[0] for step in (1, -1)]
    assert rules[0](np.arange(4.0), fraction=0.5)[0]
    assert not rules[1](np.arange(4.0), fraction=0.5)[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (margin, "got '<function margin.*wrap a function: dj.Score"),
        (pathlib.Path("x.npz"), "dj.ScoreFile.load"),
        ((score for score in ("el2n",)), "give a tuple of them"),
        (("el2n", None), "got 'None' .NoneType."),
        ({"el2n"}, "give a tuple of them"),
    ],
)
def test_scores_of_other_kinds_are_told_what_to_write(given, message):
    with pytest.raises(dj.InputError, match=f"names must hold names and Score objects, .*{message}"):
        dj.run(CONFIG, scores=given)
    assert dj.RunConfig().score.names == ("el2n", "grand")


def test_optimisers_that_need_more_than_gradients_are_told(tmp_path):
    sam = optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.01))
    train = dj.TrainConfig(steps=24, batch_size=32, optimizer=sam, augment="none")
    with pytest.raises(dj.InputError, match="optimizer: its update fails"):
        dj.run(in_folder(tmp_path, train=train))
    assert not (tmp_path / "run").exists()


def test_two_networks_or_two_datasets_are_one_too_many(tmp_path, digits):
    model = dj.create_model("mlp", num_classes=10)
    with pytest.raises(dj.InputError, match="leave out one of the two"):
        dj.run(in_folder(tmp_path, model=dj.ModelConfig(name="small_cnn")), model=model)
    with pytest.raises(dj.InputError, match="cifar10 and there are examples of one's own, digits"):
        dj.run(in_folder(tmp_path, data=dj.DataConfig(name="cifar10")), train=digits.train, test=digits.test)


def test_the_result_reads_well(usual):
    assert "| everything | 1 |" in usual.table
    assert {"accuracy", "scores_el2n", "examples_el2n"} <= set(usual.figures)
    assert str(usual).endswith(f"run folder: {usual.path}")
    shown = usual._repr_html_()
    assert shown.count("<tr>") == 1 + len(usual.rows)
    assert "data:image/png;base64," in shown
    assert all(f"note: {note}" in str(usual) for note in usual.notes)
    assert shown.count("<p>note: ") == len(usual.notes) > 0
    strange = dataclasses.replace(usual, rows=[{**usual.rows[0], "kept_by": "<b>"}])
    assert "<b>" not in strange._repr_html_()
    assert "unfinished" in dataclasses.replace(usual, rows=[], unfinished="0 of 2")._repr_html_()


def test_changed_labels_of_own_data_and_how_well_they_are_found(tmp_path, digits):
    noisy = in_folder(tmp_path, data=dj.DataConfig(label_noise=0.2))
    result = dj.run(noisy, train=digits.train, test=digits.test)
    text = (result.path / "table.md").read_text()
    quality = dj.detection_quality(
        result.scores["el2n"].scores, np.load(result.path / "noise.npz")["changed"]
    )
    assert f"| el2n | {quality.roc_auc:.3f} | {quality.average_precision:.3f} |" in text


FILE = """
import flax.linen as nn
import numpy as np
import diet_jax as dj

class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.relu(nn.Dense({width})(x))
        return nn.Dense(3)(nn.Dropout(0.1, deterministic=not train)(x))

rng = np.random.default_rng(0)
labels = np.arange(120) % 3
table = (rng.normal(size=(120, 5)) + labels[:, None]).astype("float32")
TRAIN = dj.Dataset.from_arrays(table[:90], labels[:90], name="table", class_names=("a", "b", "c"))
TEST = dj.Dataset.from_arrays(
    table[90:], labels[90:], name="table", split="test", class_names=("a", "b", "c"),
    normalization=TRAIN.normalization,
)
MODEL = dj.from_linen(Net())
CONFIG = dj.RunConfig(
    train=dj.TrainConfig(steps=12, batch_size=30, augment="none"),
    score=dj.ScoreConfig(names=("el2n",), epoch=1, num_seeds=2),
    select=dj.SelectConfig(fractions=(0.5,)),
    retrain=dj.RetrainConfig(num_seeds=2),
)
SCORES = ("el2n",)
RULES = ("highest", "lowest")
if __name__ == "__main__":
    print(dj.run(CONFIG, train=TRAIN, test=TEST, model=MODEL, scores=SCORES, rules=RULES))
"""


@pytest.mark.slow
def test_a_config_file_brings_its_own_and_every_command_takes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE.format(width=8))
    main(["run", "mine.py", "--checkpoint-epochs", "1"])
    assert "el2n lowest" in capsys.readouterr().out
    folder = tmp_path / "runs" / "table-Net"
    header = json.loads((folder / "config.json").read_text())
    assert (header["config"]["data"]["name"], header["config"]["model"]["name"]) == ("table", "Net")
    main(["run", "mine.py", "--checkpoint-epochs", "1", "--plan", "--plan-tflops", "1"])
    assert "plan of table, Net" in capsys.readouterr().out
    main(["score", "mine.py", "--from-run", str(folder), "--step", "3"])
    early = dj.ScoreFile.load(folder / "scores" / "step_3" / "el2n.npz")
    np.testing.assert_array_equal(early.per_seed, dj.ScoreFile.load(folder / "scores" / "el2n.npz").per_seed)
    main(["train", "mine.py", "--run-dir", "trained"])
    assert "step 12, test accuracy" in capsys.readouterr().out

    def refused(arguments):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        return capsys.readouterr().err

    assert "TRAIN and TEST" in refused(["score", "--from-run", str(folder), "--step", "3"])
    assert "leave out one of the two" in refused(["run", "mine.py", "--model.name", "small_cnn"])
    (tmp_path / "mine.py").write_text(FILE.format(width=9))
    assert "model: Net" in refused(["run", "mine.py", "--checkpoint-epochs", "1"])


@pytest.mark.slow
def test_a_script_and_the_command_go_on_with_each_others_runs(tmp_path):
    (tmp_path / "mine.py").write_text(FILE.format(width=8))
    command = functools.partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    first = command([sys.executable, "mine.py"])
    again = command([sys.executable, "-m", "diet_jax", "run", "mine.py"])
    assert "used again" in again.stderr
    assert "used again" not in first.stderr
    assert "run folder: runs/table-Net" in first.stdout
    assert "run folder: runs/table-Net" in again.stdout


def test_starts_name_the_commits_of_the_code(tmp_path, monkeypatch, digits):
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-C", str(tmp_path)]
    (tmp_path / "mine.txt").write_text("one")
    for command in (["init", "-q"], ["add", "mine.txt"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.chdir(tmp_path)
    values = dj.ScoreFile.from_seeds("mine", np.arange(len(digits.train))[None], digits.train, step=0)
    for content, dirty in (("one", False), ("two", True)):
        (tmp_path / "mine.txt").write_text(content)
        result = dj.run(in_folder(tmp_path), scores=values)
        start = json.loads((result.path / "starts.jsonl").read_text().splitlines()[-1])
        assert (len(start["code"]["here"]["commit"]), start["code"]["here"]["dirty"]) == (40, dirty)
