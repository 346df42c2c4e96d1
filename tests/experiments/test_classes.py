"""Classes in a run: without examples, lost by a selection, guarded; and what is said of bad selections."""

import dataclasses

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.cli.main import main

CONFIG = dj.RunConfig(
    train=dj.TrainConfig(steps=30, batch_size=10, learning_rate=0.05, augment="none"),
    score=dj.ScoreConfig(names=("el2n",), epoch=1, num_seeds=2),
    select=dj.SelectConfig(fractions=(0.3,)),
    retrain=dj.RetrainConfig(num_seeds=2),
)
NAMES = ("a", "b", "c", "d")


def splits(train=(40, 40, 20, 0), test=(20, 20, 10, 0), names=NAMES):
    """Tables of four numbers, as many rows of each class as asked for."""

    def made(counts, split, seed, normalization=None):
        labels = np.repeat(np.arange(len(counts)), counts)
        inputs = np.random.default_rng(seed).normal(size=(len(labels), 4)) + labels[:, None]
        about = {"class_names": names, "name": "table", "split": split, "kind": "table"}
        return dj.Dataset.from_arrays(inputs.astype(np.float32), labels, normalization=normalization, **about)

    first = made(train, "train", 0)
    return {"train": first, "test": made(test, "test", 1, first.normalization)}


def in_folder(folder, **changes):
    return dataclasses.replace(CONFIG, run_dir=str(folder / "run"), **changes)


def by_class(train, values):
    """A score file by which whole classes rank above others."""
    score = np.asarray(values)[train.labels] + np.arange(len(train)) / 1000
    return dj.ScoreFile.from_seeds("mine", score[None], train, step=0)


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ((40, 40, 20, 0), (20, 20, 10, 0), ["table: 1 class has no example at all: d"]),
        ((90, 0, 10, 5), (20, 20, 10, 0), ["no train example: b", "is not defined): d"]),
    ],
)
@pytest.mark.slow
def test_classes_without_examples_are_said_once_and_run(tmp_path, capsys, train, test, said):
    result = dj.run(in_folder(tmp_path), **splits(train, test))
    told = capsys.readouterr().err
    for words in said:
        assert told.count(words) == 1
        assert words in (result.path / "table.md").read_text()
    assert [row["kept_by"] for row in result.rows] == ["everything", "el2n", "random"]
    assert all(np.isfinite(row["worst_class_accuracy"]) for row in result.rows)
    assert result.rows[0]["least_kept_of_a_class"] == min(count for count in train if count)


@pytest.mark.slow
def test_more_classes_than_occur_are_usual():
    rng = np.random.default_rng(0)
    train = dj.Dataset.from_arrays(rng.normal(size=(60, 2, 2, 1)), rng.choice(900, 60), num_classes=900)
    model = dj.create_model("mlp", num_classes=900, widths=[4])
    config = dj.TrainConfig(steps=4, batch_size=16, augment="none")
    scored = dj.score_ensemble(dj.seed_keys(0, "score", 2), model, train, config=config, step=2)
    assert np.isfinite(scored.scores["el2n"]).all()
    trained = dj.train_ensemble(dj.seed_keys(0, "retrain", 1), model, train, train, config=config)
    assert trained.predicted.shape == (1, 60)


def test_a_lost_class_has_its_row_its_mask_and_its_words(tmp_path, capsys):
    data = splits()
    result = dj.run(in_folder(tmp_path), **data, scores=by_class(data["train"], (2, 1, 0)))
    note = "mine, keep 0.3: no example of 2 of the 3 classes that have any is kept: b, c"
    assert f"{note} (--select.min-per-class keeps some of each)" in capsys.readouterr().err
    assert note in result.notes
    assert f"- {note}" in (result.path / "table.md").read_text()
    row = result.rows[1]
    assert (row["examples"], row["least_kept_of_a_class"]) == (30, 0)
    # Of the classes that no network has seen none is right; of class a, with nothing else, all are.
    assert (row["worst_class_accuracy"], row["accuracy"]) == (0, pytest.approx(20 / 50))


@pytest.mark.parametrize("rule", ["highest", "lowest"])
def test_the_guard_keeps_some_of_each_in_all_selections(tmp_path, rule):
    data = splits()
    select = dj.SelectConfig(method=rule, fractions=(0.3,), min_per_class=4)
    result = dj.run(in_folder(tmp_path, select=select), **data, scores=by_class(data["train"], (2, 1, 0)))
    for row in result.rows:
        assert row["least_kept_of_a_class"] >= 4
    mask = result.masks["mine_keep0.3"]
    counts = np.bincount(data["train"].labels[mask.keep])
    assert counts.tolist() == ([22, 4, 4] if rule == "highest" else [4, 6, 20])
    assert mask.provenance["min_per_class"] == 4


@pytest.mark.slow
def test_rows_that_cannot_be_trained_are_left_out_with_the_reason(tmp_path, capsys):
    select = dj.SelectConfig(fractions=(0.001, 0.05, 0.5))
    config = in_folder(tmp_path, select=select)
    result = dj.run(config, **splits())
    assert [row["keep_fraction"] for row in result.rows] == [1, 0.5, 0.5]
    told = capsys.readouterr().err
    assert "keep 0.05 is left out: batch_size is 10 but only 5 examples" in told
    assert "keep 0.001 is left out" in told
    assert sum("left out" in note for note in result.notes) == 2
    nothing = in_folder(tmp_path / "nothing", select=dataclasses.replace(select, fractions=(0.001, 0.05)))
    with pytest.raises(dj.InputError, match=r"no keep fraction can be .*keep 0.001: .*; keep 0.05: batch_"):
        dj.run(nothing, **splits())
    assert not (tmp_path / "nothing").exists()
    guarded = dataclasses.replace(select, min_per_class=9, fractions=(0.2, 0.5))
    other = dataclasses.replace(in_folder(tmp_path / "other"), select=guarded)
    result = dj.run(other, **splits())
    assert "min_per_class 9 asks for 27 examples of 3 classes, the keep fraction keeps 20" in result.notes[-1]
    assert [row["keep_fraction"] for row in result.rows] == [1, 0.5, 0.5]


@pytest.mark.slow
def test_scorers_that_have_hardly_learned_and_seeds_that_disagree(tmp_path):
    data = splits()
    noise = data["train"].with_labels(np.random.default_rng(5).integers(3, size=100))
    still = dataclasses.replace(CONFIG.train, learning_rate=1e-9)
    apart = dj.ScoreFile.from_seeds("apart", np.random.default_rng(0).random((3, 100)), noise, step=0)
    result = dj.run(in_folder(tmp_path, train=still), train=noise, test=data["test"], scores=("el2n", apart))
    assert any("they have hardly learned, guessing gives" in note for note in result.notes)
    assert any("apart: seeds disagree" in note for note in result.notes)
    told = (result.path / "table.md").read_text()
    assert "hardly learned" in told
    accuracy = result.scores["el2n"].provenance["scorer_accuracy"]
    assert f"had {100 * accuracy:.1f} % accuracy" in told
    learned = dj.run(in_folder(tmp_path / "learned"), **data)
    assert not any("hardly" in note for note in learned.notes)


@pytest.mark.slow
def test_how_far_scorers_had_learned_is_told_of_the_whole_epoch(tmp_path):
    data, score = splits(), dataclasses.replace(CONFIG.score, epoch=1.7)
    keys, model = dj.seed_keys(0, "score", 2), dj.create_model("mlp", num_classes=4)
    options = {"config": CONFIG.train, "step": 17, "how": "loop"}
    by_hand = dj.score_ensemble(keys, model, data["train"], **options).history.accuracy[:, 10:].mean()
    # Checkpoints within the epoch cut its line in the log.
    few = {"retrain": dj.RetrainConfig(num_seeds=1), "checkpoint_epochs": (1.2, 1.5, 2)}
    told = dj.run(in_folder(tmp_path, score=score, **few), **data).scores["el2n"].provenance
    assert told["scorer_accuracy"] == pytest.approx(by_hand, abs=1e-6)


def test_select_says_what_is_lost_and_guards(tmp_path, capsys):
    data = splits()
    by_class(data["train"], (2, 1, 0)).save(tmp_path / "mine.npz")
    command = ["select", str(tmp_path / "mine.npz"), "--fraction", "0.3", "--out"]
    main([*command, str(tmp_path / "bare.npz")])
    said = capsys.readouterr()
    lost = "no example of 2 of the 3 classes that have any is kept: b, c (--min-per-class keeps some of each)"
    assert lost in said.err
    main([*command, str(tmp_path / "some.npz"), "--min-per-class", "3"])
    assert "no example" not in capsys.readouterr().err
    keep = dj.KeepFile.load(tmp_path / "some.npz").keep
    assert np.bincount(data["train"].labels[keep]).tolist() == [24, 3, 3]
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / "many.npz"), "--min-per-class", "11"])
    assert "asks for 33 examples" in capsys.readouterr().err
    assert not (tmp_path / "many.npz").exists()


def test_the_plan_leaves_out_what_the_run_leaves_out(tmp_path, capsys):
    main(
        [
            "run",
            "--select.fractions",
            "0.01",
            "0.5",
            "--plan",
            "--plan-tflops",
            "1",
            "--run-dir",
            str(tmp_path),
        ]
    )
    said = capsys.readouterr()
    assert "keep 0.01 is left out" in said.err
    assert "keep 0.5" in said.out
    assert "keep 0.01" not in said.out
