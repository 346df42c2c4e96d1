"""Every figure at the scale smoke, from one store; what is stored is not computed again."""

import csv
import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import diet_jax as dj
from diet_jax.cli.config_file import load_config
from diet_jax.cli.main import main
from diet_jax.experiments.config import DataConfig, ModelConfig
from diet_jax.experiments.reproduction import store as store_module
from diet_jax.experiments.reproduction.accuracy import AccuracyByFraction
from diet_jax.experiments.reproduction.experiment import Experiment
from diet_jax.experiments.reproduction.figure import (
    PaperFigure,
    Scale,
    config_folder,
    figure_names,
    make_figure,
)
from diet_jax.experiments.reproduction.outcome import Outcome, level, series
from diet_jax.experiments.reproduction.recipes import DIGITS
from diet_jax.experiments.reproduction.store import Store, Training, open_store, tie_key
from diet_jax.experiments.reproduction.task import ScoreAt, Task
from diet_jax.files.records import from_record, with_checksum
from diet_jax.scores.score import SCORES, Score
from diet_jax.training.recipe import TrainConfig

NAMES = figure_names()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with open_store(folder, None) as store:
        yield store


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "memorisation.csv"
    ids = dj.load_dataset("digits").train.ids
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("id", "memorisation"), *((i, n % 7 / 7) for n, i in enumerate(ids))])
    return str(path)


def config(name: str) -> PaperFigure:
    return load_config(str(config_folder() / f"{name.replace('-', '_')}.py"), PaperFigure)


def check_numbers(chart):
    """Every panel has something to see, and lines as long as their places."""
    for panel in chart.get("panels", []):
        for line in panel["series"] if chart["kind"] == "lines" else []:
            assert len(line["x"]) == len(line["mean"]) == len(line["x"])
            assert sorted(line["x"]) == line["x"]
            drawn = [
                (low, mean, high)
                for low, mean, high in zip(
                    line["low"] or line["mean"], line["mean"], line["high"] or line["mean"], strict=True
                )
                if mean is not None
            ]
            assert drawn
            if not panel.get("published"):
                assert all(np.isfinite(v) for values in drawn for v in values)
            if panel.get("percent"):
                assert all(-1 <= mean <= 1 for _, mean, _ in drawn)


def check_trainings(result, store, figure):
    """Every claim names its trainings, whose data the result describes; the title says both."""
    tasks = {task.identity: task for task in figure.smoke.all_tasks()}
    assert tasks.keys() <= result["trained"].keys()
    for claim in result["claims"]:
        assert {part["task"] for part in claim["parts"]} <= result["trained"].keys()
        assert claim["seeds"] in (1, 2)
    for name, task in tasks.items():
        setup, told = store.setup(task), result["trained"][name]
        assert told["fingerprints"] == [split.fingerprint for split in setup.splits]
        assert (told["dataset"], told["train_examples"], told["test_examples"]) == ("digits", 1078, 719)
        assert (told["epochs"], told["stored_as"]) == (task.train.epochs, None)
        assert told["wrong_labels"] == setup.changed.sum()
    networks = " and ".join(dict.fromkeys(task.network for task in tasks.values()))
    assert f"; digits, {networks} in place of ci" in result["title"]


# The quickest; the numbers of the others are computed a second way elsewhere.
QUICK = (*("fig12-correlations", "grand-at-init", "memorisation"),)
AT_SMOKE = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in NAMES]


@pytest.mark.parametrize("name", AT_SMOKE)
def test_the_figure_runs_at_smoke_and_again_without_training(name, shared, table, tmp_path, monkeypatch):
    figure = config(name)
    given = table if name == "memorisation" else None
    first = make_figure(name, figure, "smoke", shared, tmp_path, given)
    check_numbers(first["chart"])
    assert first["claims"] or name == "examples"
    assert all(claim["holds"] in ("yes", "no", "unclear") for claim in first["claims"])
    check_trainings(first, shared, figure)
    stored = json.loads((tmp_path / f"{name}_smoke.json").read_text())
    assert stored == first
    with Image.open(tmp_path / f"{name}_smoke.png") as image:
        assert min(image.size) > 300
        assert len(set(image.convert("L").tobytes())) > 2

    def fail(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(store_module.Store, "state", fail)
    second = make_figure(name, figure, "smoke", shared, tmp_path, given)
    assert second["chart"] == first["chart"]
    assert second["claims"] == first["claims"]


@pytest.mark.parametrize("name", NAMES)
def test_scales_are_other_settings_of_the_same_experiment(name):
    scales = [getattr(config(name), scale) for scale in get_args(Scale)]
    assert len(set(map(type, scales))) == 1
    assert len(set(scales)) == len(scales) == 4


def test_every_config_says_its_command():
    for name in NAMES:
        text = (config_folder() / f"{name.replace('-', '_')}.py").read_text()
        assert f"Command: diet-jax reproduce {name} --scale" in text


# The store.

TINY = Task(
    DataConfig("digits", num_train=120),
    ModelConfig("mlp", widths=(8,)),
    TrainConfig(epochs=4, batch_size=20, learning_rate=0.05, schedule="cosine", augment="none"),
)
RANKS = np.arange(120) % 17 * 1.0


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "store", None) as opened:
        yield opened


@pytest.mark.slow
def test_scores_are_those_of_score_ensemble(store):
    epochs = (ScoreAt("el2n", 2), ScoreAt("grand", 0), ScoreAt("el2n", 0), ScoreAt("forgetting", 4))
    found = store.scores(TINY, epochs, 2)
    setup = store.setup(TINY)
    for at in epochs:
        alone = dj.score_ensemble(
            dj.seed_keys(0, "score", 2),
            setup.model,
            setup.splits.train,
            config=TINY.train,
            step=int(at.epoch * 6),
            names=(at.name,),
            how="loop",
        )
        np.testing.assert_array_equal(found[at], alone.scores[at.name])


@pytest.mark.slow
def test_scores_do_not_depend_on_who_asked_first(store, tmp_path):
    late, early = ScoreAt("el2n", 3), ScoreAt("el2n", 1)
    first = store.scores(TINY, [late], 1)[late]
    after = store.scores(TINY, [early], 1)[early]
    with open_store(tmp_path / "other", None) as other:
        both = other.scores(TINY, [early, late], 1)
    np.testing.assert_array_equal(first, both[late])
    np.testing.assert_array_equal(after, both[early])


@pytest.mark.slow
def test_predictions_are_those_of_train_ensemble(store):
    setup = store.setup(TINY)
    train, test = setup.splits
    scores = np.arange(len(train)) % 7 * 1.0
    masks = {
        "half": dj.keep_highest(scores, 0.5, key=tie_key(TINY)),
        "random": store.random_masks(TINY, 0.5, 2),
        "all": None,
    }
    found = store.predictions(TINY, masks, 2)
    for name, keep in masks.items():
        alone = dj.train_ensemble(
            dj.seed_keys(0, "retrain", 2), setup.model, train, test, config=TINY.train, keep=keep, how="loop"
        )
        np.testing.assert_array_equal(found[name], alone.predicted)
    accuracy = store.accuracies(TINY, masks, 2)["all"]
    np.testing.assert_allclose(accuracy, (found["all"] == test.labels).mean(axis=1))


def test_noise_has_its_own_scores_and_clean_test_labels(store):
    noisy = TINY.with_noise(0.5)
    at = ScoreAt("el2n", 2)
    clean, other = (store.scores(task, [at], 1)[at] for task in (TINY, noisy))
    assert not np.array_equal(clean, other)
    setup = store.setup(noisy)
    assert 0.3 < setup.changed.mean() < 0.5
    np.testing.assert_array_equal(setup.clean_labels, store.setup(TINY).splits.train.labels)
    np.testing.assert_array_equal(setup.splits.test.labels, store.setup(TINY).splits.test.labels)
    assert not store.setup(TINY).changed.any()


def test_children_share_the_past_and_not_the_future(store):
    parent = Training(TINY, "score", 0)
    one, other = (Training(TINY, "child", child, parent=(0, 12)) for child in (0, 1))
    at_spawn = store.state(parent, 12)
    for child in (one, other):
        state = store.state(child, 12)
        for mine, theirs in zip(leaves(state.variables), leaves(at_spawn.variables), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    ends = [store.state(training, 24).variables for training in (parent, one, other)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        different = [not np.array_equal(x, y) for x, y in zip(leaves(ends[a]), leaves(ends[b]), strict=True)]
        assert any(different)
    again = store.state(Training(TINY, "child", 1, parent=(0, 12)), 24).variables
    for mine, theirs in zip(leaves(again), leaves(ends[2]), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def leaves(tree):
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_an_earlier_state_is_made_when_only_a_later_one_is_there(store):
    parent = Training(TINY, "score", 0)
    late = leaves(store.state(parent, 18).variables)
    early = leaves(store.state(parent, 6).variables)
    assert any(not np.array_equal(a, b) for a, b in zip(late, early, strict=True))
    again = leaves(store.state(parent, 18).variables)
    for a, b in zip(late, again, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_changed_file_is_refused(store):
    at = ScoreAt("el2n", 2)
    store.scores(TINY, [at], 2)
    one, other = sorted((store.path / "scores").glob("*.npz"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    with pytest.raises(dj.InputError, match=r"is not of this run .*delete it: the same command"):
        store.scores(TINY, [at], 2)
    one.write_bytes(content[:-40])
    with pytest.raises(dj.InputError, match="damaged"):
        store.scores(TINY, [at], 2)
    one.unlink()
    assert store.scores(TINY, [at], 2)[at].shape == (2, 120)


def test_other_data_under_the_same_name_is_refused(store):
    parent = Training(TINY, "score", 0)
    store.state(parent, 6)
    (header,) = store.path.glob("trainings/*/*/training.json")
    described = from_record(header.read_bytes())
    header.write_text(json.dumps(with_checksum({**described, "seed": 1})))
    with pytest.raises(dj.InputError, match="describes another training"):
        store.state(parent, 6)
    for damage in (json.dumps({**described, "seed": 1}).encode(), b"\xff\xfe"):
        header.write_bytes(damage)
        with pytest.raises(dj.InputError, match=r"training\.json is damaged .*delete that file"):
            store.state(parent, 6)


def test_a_store_is_for_one_process_at_a_time(store):
    with pytest.raises(dj.InputError, match="another process"), open_store(store.path, None):
        pass


def test_an_epoch_beyond_the_training_is_refused(store):
    with pytest.raises(dj.InputError, match=r"epoch 5 is step 30, beyond the 24 steps"):
        store.scores(TINY, [ScoreAt("el2n", 5)], 1)


# Words and numbers.


def test_series_and_levels_summarise_seeds():
    line = series("el2n", (1, 2), [[0.0, 1.0], None], label="EL2N")
    assert line == {
        "name": "el2n",
        "x": [1.0, 2.0],
        "label": "EL2N",
        "mean": [0.5, None],
        "low": [pytest.approx(0.16), None],
        "high": [pytest.approx(0.84), None],
    }
    assert level("random", [2.0])["mean"] == 2.0


def test_a_score_of_ones_own_is_drawn_and_claimed(store, monkeypatch):
    """Nothing is chosen by a name: a registered score that reads logits stands where EL2N does."""
    SCORES.names()
    monkeypatch.setattr(SCORES, "_items", dict(SCORES._items))
    built = SCORES.find("el2n").build
    SCORES.register(Score("mine", "my own", "as EL2N", "none", reads="logits", build=built))
    figure = AccuracyByFraction(TINY, (0.5,), (ScoreAt("mine", 2),), score_seeds=2, retrain_seeds=2)
    theirs = AccuracyByFraction(TINY, (0.5,), (ScoreAt("el2n", 2),), score_seeds=2, retrain_seeds=2)
    # The store asks only where a score is computed; the numbers stand for those of EL2N here.
    monkeypatch.setattr(Store, "mean_scores", lambda self, task, wanted, seeds: dict.fromkeys(wanted, RANKS))
    mine, known = figure.run(store, None), theirs.run(store, None)
    assert [line["label"] for line in mine.chart["panels"][0]["series"]] == ["random", "my own at epoch 2"]
    assert [claim.ours for claim in mine.claims] == [claim.ours for claim in known.claims]
    assert mine.claims[0].claim == "keep 0.5 by my own at epoch 2 loses no accuracy"
    assert figure.draw(store, dataclasses.asdict(mine)).axes


def test_a_score_that_nobody_registered_is_named():
    with pytest.raises(dj.InputError, match="no score is called 'el3n'; did you mean 'el2n'"):
        ScoreAt("el3n", 2)


@dataclass(frozen=True)
class TwoDots(Experiment):
    """A figure that no part of the package knows."""

    needs_table: ClassVar[bool] = True
    table: str | None = None

    def run(self, store, published):
        return Outcome("dots", "", {"kind": "none", "values": [1, 2]}, facts={"told": self.table})

    def draw(self, store, result):
        figure = Figure()
        figure.add_subplot().plot(result["chart"]["values"])
        return figure


def test_a_new_experiment_brings_its_picture_and_takes_the_table(store, tmp_path):
    result = make_figure("dots", PaperFigure(smoke=TwoDots()), "smoke", store, tmp_path, "a.csv")
    assert result["experiment"] == {"kind": "TwoDots"}
    assert result["facts"] == {"told": "a.csv"}
    assert (result["title"], result["trained"]) == ("dots", {})
    assert (tmp_path / "dots_smoke.png").is_file()
    with pytest.raises(dj.InputError, match="dots has no scale paper; it has smoke"):
        make_figure("dots", PaperFigure(smoke=TwoDots()), "paper", store, tmp_path, None)


# The command.


def test_the_command_lists_the_figures(capsys):
    main(["reproduce"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES


def test_the_command_makes_a_figure_and_prints_its_claims(tmp_path, capsys):
    main(
        [
            "reproduce",
            "grand-at-init",
            "--scale",
            "smoke",
            "--store",
            str(tmp_path / "s"),
            "--out",
            str(tmp_path / "o"),
        ]
    )
    out = capsys.readouterr().out
    assert "restore_checkpoint" in out
    assert "GraNd of the last" in out
    result = json.loads((tmp_path / "o" / "grand-at-init_smoke.json").read_text())
    labels = [line["label"] for line in result["chart"]["panels"][0]["series"]]
    assert len(labels) == len(set(labels)) == 5
    assert (tmp_path / "o" / "grand-at-init_smoke.png").is_file()
    assert str(tmp_path) not in json.dumps(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fig1-epoch-cifar10"], "did you mean fig1-epochs-cifar10?"),
        (["all", "examples"], "all stands alone"),
        (["memorisation"], "give --table"),
        (["examples", "--table", "t.csv"], "leave it out"),
        (["memorisation", "--table", "no.csv"], "no.csv: cannot be read: No such file"),
        (["no.py"], "no config file no.py"),
        (["examples", "examples"], "two figures are called examples"),
    ],
)
def test_bad_input_is_one_message(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", *arguments, "--scale", "smoke", "--store", str(tmp_path)])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: the first line must be 'id,memorisation', got ''"),
        ("id,memorization\n", "must be 'id,memorisation', got 'id,memorization'"),
        ("id,memorisation\nnobody,1\n", "line 2: no example of digits/train has the id 'nobody'"),
        ("id,memorisation\n{0},1\n{0},1\n", "line 3: the id '.*' was in line 2 already"),
        ("id,memorisation\n{0},nan\n", "line 2: 'nan' is no finite number"),
        ("id,memorisation\n{0},one\n", "line 2: 'one' is no finite number"),
        ("id,memorisation\n{0},1,2\n", "a line holds an id and a memorisation, got 3 cells"),
        ("id,memorisation\n{0},1\n", "1077 of 1078 examples have no line"),
    ],
)
def test_a_wrong_table_is_named(content, message, shared, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(content.format(shared.setup(DIGITS).splits.train.ids[0]))
    with pytest.raises(dj.InputError, match=message):
        make_figure("memorisation", config("memorisation"), "smoke", shared, tmp_path, str(path))
