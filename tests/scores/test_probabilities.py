"""Probabilities for cleanlab: the mean of the softmax, written in the ways that it is read."""

import csv
import io

import numpy as np
import pytest
from scipy.special import softmax

import diet_jax as dj
from diet_jax.cli.main import main

RNG = np.random.default_rng(0)
IDS = ["b/ä.png", "a,1", 'c"2']
DATASET = dj.Dataset.from_arrays(np.zeros((3, 2)), [1, 0, 1], IDS, class_names=("cat", "id"), name="mine")
LOGITS = 20 * RNG.normal(size=(4, 3, 2))


def test_they_are_the_mean_of_the_softmax_and_sum_to_one():
    file = dj.ProbabilityFile.from_logits(LOGITS.astype(np.float32), DATASET, out_of_sample=True)
    expected = softmax(LOGITS.astype(np.float32).astype(np.float64), axis=-1).mean(axis=0)
    np.testing.assert_allclose(file.pred_probs, expected, rtol=1e-12)
    np.testing.assert_allclose(file.pred_probs.sum(axis=1), 1, rtol=4e-16)
    one = dj.ProbabilityFile.from_logits(1e30 * LOGITS[0], DATASET, out_of_sample=False)
    np.testing.assert_array_equal(one.pred_probs, np.eye(2)[LOGITS[0].argmax(axis=1)])
    assert repr(one).endswith("1 network, of what was trained on>")


def test_they_come_back_from_every_file(tmp_path, capsys):
    file = dj.ProbabilityFile.from_logits(LOGITS, DATASET, out_of_sample=True, provenance={"folds": 5})
    file.save(tmp_path / "p.npz")
    again = dj.ProbabilityFile.load(tmp_path / "p.npz")
    for name in ("pred_probs", "ids", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(file, name))
    assert (again.class_names, again.provenance) == (file.class_names, file.provenance)
    assert again.provenance == {"networks": 4, "out_of_sample": True, "folds": 5}
    for ending in ("npy", "csv"):
        main(["convert", str(tmp_path / "p.npz"), str(tmp_path / f"p.{ending}")])
    assert "4 networks, out of sample" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), file.pred_probs)
    file.to_npy(tmp_path / "q.npy")
    assert (tmp_path / "q.npy").read_bytes() == (tmp_path / "p.npy").read_bytes()
    header, *lines = csv.reader(io.StringIO((tmp_path / "p.csv").read_text()))
    assert header == ["row", "id", "label", "cat", "id_1"]
    assert [line[1] for line in lines] == IDS
    np.testing.assert_array_equal(np.array([line[3:] for line in lines], float), file.pred_probs)
    assert again.rows_of(IDS[::-1]).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (LOGITS[:, :2], r"logits must be floats \[s, 3, 2\].*got float64 of shape \(4, 2, 2\)"),
        (LOGITS[..., 0], r"got float64 of shape \(4, 3\)"),
        (LOGITS[0, 0], r"got float64 of shape \(2,\)"),
        (LOGITS > 0, "got bool"),
        (LOGITS * np.nan, "must be finite"),
        (LOGITS[:0], "of one network at least"),
    ],
)
def test_other_logits_are_refused(logits, message):
    with pytest.raises(dj.InputError, match=message):
        dj.ProbabilityFile.from_logits(logits, DATASET, out_of_sample=True)


def test_other_files_are_refused(tmp_path, capsys):
    file = dj.ProbabilityFile.from_logits(LOGITS, DATASET, out_of_sample=True)
    file.save(tmp_path / "p.npz")
    with pytest.raises(dj.InputError, match="expected 'diet_jax scores"):
        dj.ScoreFile.load(tmp_path / "p.npz")
    with pytest.raises(SystemExit):
        main(["convert", str(tmp_path / "p.npz"), str(tmp_path / "p.npy"), "--high-means", "hard"])
    assert "holds probabilities: leave --high-means out" in capsys.readouterr().err.replace("\n", " ")
    (tmp_path / "p.npz").write_bytes((tmp_path / "p.npz").read_bytes()[:-40])
    with pytest.raises(dj.InputError, match="is damaged"):
        dj.ProbabilityFile.load(tmp_path / "p.npz")
