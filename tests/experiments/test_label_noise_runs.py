"""Noisy labels and part of the data as options of a run: the same numbers as by hand, kept with the run."""

import csv
import json

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.cli.main import main
from diet_jax.data.dataset import first_examples
from diet_jax.errors import InputError
from diet_jax.experiments.config import DataConfig, ModelConfig, RunConfig
from diet_jax.experiments.setup import load_splits
from diet_jax.scores.file import ScoreFile

QUICK = [
    *("--model.widths", "8", "--train.epochs", "2", "--score.num-seeds", "1", "--score.names", "el2n"),
    *("--score.epoch", "1", "--select.fractions", "0.5", "--retrain.num-seeds", "1"),
]


def noise_file(folder):
    with np.load(folder / "noise.npz") as file:
        return {name: file[name] for name in file}


def test_a_run_keeps_clean_labels_and_what_changed(tmp_path, capsys):
    main(["run", *QUICK, "--data.label-noise", "0.2", "--run-dir", str(tmp_path / "run")])
    said = capsys.readouterr().err
    train, test = dj.load_dataset("digits")
    noise = noise_file(tmp_path / "run")
    np.testing.assert_array_equal(noise["clean_labels"], train.labels)
    np.testing.assert_array_equal(noise["changed"], noise["labels"] != train.labels)
    np.testing.assert_array_equal(noise["ids"], train.ids)
    # The default permutes, so that classes keep their sizes.
    np.testing.assert_array_equal(np.bincount(noise["labels"]), np.bincount(train.labels))
    share = noise["changed"].mean()
    assert 0.15 < share < 0.2
    assert f"{share:.2%} of the train labels differ" in said
    scores = ScoreFile.load(tmp_path / "run" / "scores" / "el2n.npz")
    np.testing.assert_array_equal(scores.labels, noise["labels"])
    assert "el2n finds the changed labels with ROC AUC" in said
    table = (tmp_path / "run" / "table.md").read_text()
    assert f"\n{share:.1%} of the train labels changed\n\n|" in table
    header = json.loads((tmp_path / "run" / "config.json").read_text())
    assert header["resolved"]["changed_labels"] == noise["changed"].sum()
    assert header["resolved"]["fingerprint"][1] == test.fingerprint
    with pytest.raises(InputError, match="belongs to"):
        ScoreFile.load(tmp_path / "run" / "scores" / "el2n.npz", dataset=train)
    with pytest.raises(SystemExit):
        main(["run", *QUICK, "--data.label-noise", "0.1", "--run-dir", str(tmp_path / "run")])
    assert "--data.label-noise: 0.1, was 0.2); choose another --run-dir" in capsys.readouterr().err


def test_labels_from_a_file_give_the_scores_of_the_same_labels_drawn(tmp_path):
    drawn, read = tmp_path / "drawn", tmp_path / "read"
    main(
        [
            "score",
            *QUICK,
            "--data.label-noise",
            "0.3",
            "--data.noise-mode",
            "different",
            "--run-dir",
            str(drawn),
        ]
    )
    noise = noise_file(drawn)
    path = tmp_path / "labels.csv"
    with open(path, "w", newline="") as file:
        rows = list(zip(noise["ids"], noise["labels"], strict=True))[::-1]
        csv.writer(file).writerows([("id", "label"), *rows])
    main(["score", *QUICK, "--data.labels", str(path), "--run-dir", str(read)])
    for name in noise:
        if name != "header":
            np.testing.assert_array_equal(noise_file(read)[name], noise[name])
    one, other = (ScoreFile.load(folder / "scores" / "el2n.npz").scores for folder in (drawn, read))
    np.testing.assert_array_equal(one, other)


def test_noise_by_a_matrix_moves_only_the_classes_it_names(tmp_path):
    matrix = np.eye(10)
    matrix[[3, 3], [3, 8]] = 0, 1
    path = tmp_path / "matrix.csv"
    np.savetxt(path, matrix, delimiter=",")
    data = DataConfig(label_noise=1.0, noise_mode="matrix", noise_matrix=str(path))
    (train, _), clean = load_splits(RunConfig(data=data))
    expected = np.where(clean == 3, 8, clean)
    np.testing.assert_array_equal(train.labels, expected)


def test_a_run_without_noise_writes_no_noise_file(tmp_path):
    main(["score", *QUICK, "--run-dir", str(tmp_path)])
    assert not (tmp_path / "noise.npz").exists()


def test_noise_depends_on_the_seed_alone():
    def labels(seed, width):
        config = RunConfig(
            data=DataConfig(label_noise=0.4), model=ModelConfig("mlp", widths=(width,)), seed=seed
        )
        return load_splits(config)[0].train.labels

    np.testing.assert_array_equal(labels(1, 8), labels(1, 16))
    assert not np.array_equal(labels(1, 8), labels(2, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_noise": 1.5}, "share from 0 to 1, got 1.5"),
        ({"label_noise": float("nan")}, "share from 0 to 1"),
        ({"label_noise": 0.1, "noise_mode": "matrix"}, "noise_matrix goes with"),
        ({"label_noise": 0.1, "noise_matrix": "m.csv"}, "noise_matrix goes with"),
        ({"label_noise": 0.1, "labels": "l.csv"}, "two sources"),
        ({"noise_mode": "uniform"}, "uniform without noise"),
        ({"num_train": 0}, "at least 1, got 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        RunConfig(data=DataConfig(**options))


def test_more_examples_than_there_are_is_one_message(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--data.num-train", "1079", "--run-dir", str(tmp_path / "run")])
    assert stopped.value.code == 2
    assert "--data.num-train is 1,079, digits/train has 1,078 examples" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", [1, 3, 10, 77, 1077, 1078])
def test_the_first_examples_are_dealt_out_class_by_class(count):
    train = dj.load_dataset("digits").train
    part = first_examples(train, count)
    # A loop that takes the next example of each class in turn.
    queues = [list(np.flatnonzero(train.labels == label)) for label in range(10)]
    rounds = []
    while any(queues):
        rounds.append(sorted(queue.pop(0) for queue in queues if queue))
    expected = sorted([row for turn in rounds for row in turn][:count])
    np.testing.assert_array_equal(part.ids, train.ids[expected])
    np.testing.assert_array_equal(part.images, train.images[expected])
    np.testing.assert_array_equal(part.labels, train.labels[expected])
    assert part.normalization == train.normalization
    assert (part.fingerprint == train.fingerprint) == (count == 1078)


def test_part_of_the_data_keeps_all_classes():
    config = RunConfig(data=DataConfig(num_train=10))
    (train, test), clean = load_splits(config)
    assert clean is None
    assert sorted(train.labels) == list(range(10))
    assert len(test) == 719


def test_keys_of_purposes_do_not_change_when_purposes_are_added():
    """Scores and random subsets of earlier runs stay what they were."""
    for place, purpose in enumerate(("score", "retrain", "random_subset", "tie_break")):
        expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), place), 2)
        assert (
            jax.random.key_data(dj.seed_keys(7, purpose, 3)[2]).tolist()
            == jax.random.key_data(expected).tolist()
        )
