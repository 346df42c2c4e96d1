"""Rules that read features and class errors, balanced selections and an automatic size, in whole runs."""

import dataclasses
import json

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.cli.main import main
from diet_jax.experiments.features import read_beside

RULES = ("highest", "d2", "k_centre", "best_window", "class_quotas")
CONFIG = dj.RunConfig(
    model=dj.ModelConfig(widths=(16,)),
    data=dj.DataConfig(num_train=200),
    train=dj.TrainConfig(steps=30, batch_size=20, learning_rate=0.05, augment="none"),
    score=dj.ScoreConfig(names=("el2n",), epoch=1, num_seeds=2),
    select=dj.SelectConfig(method=RULES, fractions=(0.1, 0.3)),
    retrain=dj.RetrainConfig(num_seeds=1),
    checkpoint_epochs=(1,),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rules") / "run"
    return dj.run(dataclasses.replace(CONFIG, run_dir=str(folder)))


def test_features_and_class_errors_are_those_of_the_first_scoring_network(run):
    found = dict(np.load(run.path / "features.npz"))
    network = dj.load_checkpoint(run.path, seed=0, step=10)
    train = network.splits.train
    inputs = (train.inputs - np.float32(train.normalization.mean)) / np.float32(train.normalization.std)
    logits, features, _ = network.model.features(network.variables, inputs.astype(np.float32))
    np.testing.assert_allclose(found["features"], features, rtol=1e-4, atol=1e-5)
    wrong = np.argmax(np.asarray(logits), axis=1) != train.labels
    errors = [(wrong[train.labels == c].sum() + 1) / ((train.labels == c).sum() + 2) for c in range(10)]
    np.testing.assert_allclose(found["class_errors"], errors)
    facts = json.loads(str(found["header"]))
    assert facts["seed"] == 0
    assert "class errors (w + 1) / (n + 2) on the train examples" in facts["about"]


def test_a_rule_without_scores_selects_once_and_all_is_verified(run, capsys):
    kept_by = [row["kept_by"] for row in run.rows if row["keep_fraction"] == 0.1]
    wanted = ["el2n highest", "el2n d2", "k_centre", "el2n best_window", "class_quotas", "random"]
    assert kept_by == wanted
    main(["verify", str(run.path)])
    assert "features" in capsys.readouterr().out
    (run.path / "features.npz").rename(run.path / "away.npz")
    with pytest.raises(SystemExit):
        main(["verify", str(run.path)])
    assert "no file" in capsys.readouterr().out
    (run.path / "away.npz").rename(run.path / "features.npz")


@pytest.mark.parametrize("method", ["d2", "k-centre", "class-quotas", "best-window"])
def test_select_keeps_what_the_run_kept(run, method, tmp_path, capsys):
    out, name = tmp_path / "mask.npz", method.replace("-", "_")
    command = ["select", str(run.path / "scores" / "el2n.npz"), "--fraction", "0.3", "--out", str(out)]
    with pytest.raises(SystemExit):
        main([*command, "--method", name])
    assert f"the rule {name} reads" in capsys.readouterr().err.replace("\n", " ")
    main([*command, "--method", name, "--features", str(run.path / "features.npz")])
    mask = dj.KeepFile.load(out)
    assert mask.provenance["features_file"] == "features.npz"
    place = f"{name}_keep0.3.npz" if name in ("k_centre", "class_quotas") else f"el2n-{name}_keep0.3.npz"
    np.testing.assert_array_equal(mask.keep, dj.KeepFile.load(run.path / "masks" / place).keep)


def scores_of(ids):
    data = dj.Dataset.from_arrays(np.zeros((len(ids), 1)), np.arange(len(ids)) % 2, ids)
    return dj.ScoreFile.from_seeds("mine", np.arange(len(ids)), data, step=0)


def test_features_of_ones_own_are_joined_by_id(tmp_path):
    ids, features = np.array(["a", "b", "c"]), np.arange(6.0).reshape(3, 2)
    np.savez(tmp_path / "own.npz", ids=ids[::-1], features=features[::-1])
    np.testing.assert_array_equal(read_beside(tmp_path / "own.npz", scores_of(ids))["features"], features)
    # Of more examples, and numbers as text.
    np.savez(tmp_path / "more.npz", ids=["12", "7", "3", "5"], features=np.arange(8.0).reshape(4, 2))
    found = read_beside(tmp_path / "more.npz", scores_of([3, 5, 12]))["features"]
    assert found.tolist() == [[4, 5], [6, 7], [0, 1]]
    for arrays, message in (
        ({"ids": ids[:2], "features": features[:2]}, r"1 of 3 ids are missing \('c'\)"),
        ({"ids": ids[[0, 1, 1]], "features": features}, r"1 ids occur more than once \('b'\)"),
        ({"ids": ids[:2], "features": features}, r"3 rows and ids of shape \(2,\)"),
        ({"features": features}, "must hold features"),
        ({"x": features}, r"or class_errors \[c\]; it holds x"),
    ):
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(dj.InputError, match=message):
            read_beside(tmp_path / "bad.npz", scores_of(ids))
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(dj.InputError, match=r"damaged or no \.npz"):
        read_beside(tmp_path / "bad.npz", scores_of(ids))


def test_features_of_a_run_on_other_data_are_refused(run):
    """Their ids may be the same: row numbers are those of any data."""
    own = dj.ScoreFile.load(run.path / "scores" / "el2n.npz")
    assert len(read_beside(run.path / "features.npz", own)["features"]) == 200
    with pytest.raises(dj.InputError, match="is of a run on other inputs, labels or ids"):
        read_beside(run.path / "features.npz", scores_of(own.ids))


def test_select_warns_of_a_risk_and_refuses_idle_features(run, tmp_path, capsys):
    command = ["select", str(run.path / "scores" / "el2n.npz"), "--fraction", "0.1", "--out"]
    main([*command, str(tmp_path / "a.npz")])
    assert "may well do worse than random" in capsys.readouterr().err
    main([*command, str(tmp_path / "b.npz"), "--balanced"])
    assert "worse than random" not in capsys.readouterr().err
    labels = dj.ScoreFile.load(run.path / "scores" / "el2n.npz").labels
    assert np.bincount(labels[dj.KeepFile.load(tmp_path / "b.npz").keep]).tolist() == [2] * 10
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / "c.npz"), "--features", str(run.path / "features.npz")])
    assert "reads no features; leave out --features" in capsys.readouterr().err.replace("\n", " ")


def test_a_model_without_features_is_refused_before_anything_runs(tmp_path):
    def init(key, shape):
        return dj.Variables({"w": np.zeros((64, 10), np.float32)}, {})

    def apply(variables, inputs, train):
        return inputs.reshape(len(inputs), -1) @ variables.params["w"], {}

    model, changes = (
        dj.from_functions(init, apply),
        {"model": dj.ModelConfig(), "data": dj.DataConfig(), "checkpoint_epochs": ()},
    )
    changes["score"] = dj.ScoreConfig(names=("el2n",), epoch=0, num_seeds=1)
    config = dataclasses.replace(CONFIG, **changes, run_dir=str(tmp_path / "run"))
    train, test = dj.load_dataset("digits")
    with pytest.raises(dj.InputError, match="the rule d2 reads what the last layer is given"):
        dj.run(config, train=train, test=test, model=model)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_stops_at_the_fraction_that_loses_little_enough(tmp_path, capsys):
    select = dj.SelectConfig(fractions=(0.9, 0.2, 0.4), max_loss=0.5, balanced=True)
    changes = {"select": select, "retrain": dj.RetrainConfig(num_seeds=2), "checkpoint_epochs": ()}
    config = dataclasses.replace(CONFIG, **changes, run_dir=str(tmp_path / "run"))
    result = dj.run(config)
    assert [row["keep_fraction"] for row in result.rows] == [1.0, 0.2, 0.2]
    text = "\n".join(result.notes)
    assert "keep 0.4, 0.9: not retrained on, for less suffices: select.max_loss 0.5" in text
    assert "el2n: keep 0.2 is the smallest tried that loses at most 0.5, by half of the test examples" in text
    assert "as many of every class are kept" in text
    assert {row["least_kept_of_a_class"] for row in result.rows[1:]} == {4}
    main(["verify", str(result.path)])
    assert dj.run(config).rows == result.rows

    strict = dataclasses.replace(config, select=dataclasses.replace(select, max_loss=0.0))
    result = dj.run(dataclasses.replace(strict, run_dir=str(tmp_path / "strict")))
    assert len(result.rows) == 7
    with pytest.raises(dj.InputError, match=r"retrain\.num_seeds must be at least 2, got 1"):
        dataclasses.replace(config, retrain=dj.RetrainConfig(num_seeds=1))
