"""Networks back from run folders; masks of one row per seed for `train --keep`."""

import dataclasses
import json

import numpy as np
import optax
import pytest

import diet_jax as dj
from diet_jax.cli.main import main

CONFIG = dj.RunConfig(
    train=dj.TrainConfig(steps=33, batch_size=32, learning_rate=0.05, augment="none"),
    score=dj.ScoreConfig(names=("el2n",), epoch=0.5, num_seeds=2),
    select=dj.SelectConfig(fractions=(0.5,)),
    retrain=dj.RetrainConfig(num_seeds=2),
    checkpoint_epochs=(0.5, 1),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks") / "run"
    return dj.run(dataclasses.replace(CONFIG, run_dir=str(folder)))


def test_a_scoring_network_gives_the_scores_of_its_file(run):
    network = dj.load_checkpoint(run.path, seed=1, step=17)
    train = network.splits.train
    inputs = dj.normalized_inputs(train)
    el2n = dj.el2n(network.model.predict, network.variables, inputs, train.labels)
    np.testing.assert_allclose(el2n, run.scores["el2n"].per_seed[1], rtol=1e-4, atol=1e-6)
    assert int(network.state.step) == 17
    assert network.config == dataclasses.replace(CONFIG, run_dir=str(run.path))


def test_a_retrained_network_predicts_what_its_file_says(run):
    network = dj.load_checkpoint(run.path, of="retrain/el2n_keep0.5", seed=0, step=33)
    test = network.splits.test
    logits = network.model.predict(network.variables, dj.normalized_inputs(test))
    stored = np.load(run.path / "retrain/el2n_keep0.5/seed_00.npz")["predicted"]
    np.testing.assert_array_equal(np.argmax(logits, axis=1), stored)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 0, "step": 5}, "no checkpoint of step 5"),
        ({"seed": 7, "step": 33}, "no checkpoints of score/seed_07; there are those of"),
        ({"seed": 0, "step": 33, "of": "retrain/other"}, "retrain/everything/seed_00"),
        ({"seed": 0, "step": 33, "model": dj.create_model("mlp", num_classes=10)}, "leave out one|model"),
        ({"seed": 0, "step": 33, "run": "nowhere"}, "nowhere is not a run folder"),
        ({"seed": 0, "step": 33, "recipe": dj.TrainConfig(learning_rate=9)}, "recipe is not that of"),
        ({"seed": "0", "step": 33}, "seed must be an integer"),
        ({"seed": 0, "step": 33.0}, "step must be an integer"),
    ],
)
def test_what_is_not_there_is_told(run, options, words, unchecked_types):
    folder = options.pop("run", run.path)
    with pytest.raises(dj.InputError, match=words):
        dj.load_checkpoint(folder, **options)


@pytest.mark.slow
def test_own_objects_come_back_with_the_call(tmp_path, unchecked_types):
    train, test = dj.load_dataset("digits")
    model = dj.create_model("mlp", num_classes=10, widths=(8,))
    recipe = dj.TrainConfig(steps=33, batch_size=32, optimizer=optax.adam(1e-3), augment="none")
    config = dataclasses.replace(CONFIG, train=recipe, run_dir=str(tmp_path / "run"))
    objects = {"train": train, "test": test, "model": model}
    dj.run(config, **objects)
    network = dj.load_checkpoint(tmp_path / "run", seed=0, step=17, recipe=recipe, **objects)
    assert network.model is model
    for lacking in ({"recipe": None}, {"model": None}):
        with pytest.raises(dj.InputError):
            dj.load_checkpoint(tmp_path / "run", seed=0, step=17, **{"recipe": recipe, **objects, **lacking})


def test_each_seed_takes_its_own_mask(run, tmp_path, capsys):
    masks = run.path / "masks" / "random_keep0.5.npz"
    options = ["--train.steps", "33", "--train.batch-size", "32", "--train.learning-rate", "0.05"]
    options += ["--train.schedule", "piecewise", "--train.augment", "none"]
    folder = tmp_path / "trained"
    main(["train", *options, "--keep", str(masks), "--num-seeds", "2", "--run-dir", str(folder)])
    assert "seed_01.npz: step 33, test accuracy" in capsys.readouterr().out
    for seed in range(2):
        (mine,) = (folder / "trained" / "retrain").glob(f"random_keep0.5-*/seed_{seed:02d}.npz")
        other = run.path / "retrain" / "random_keep0.5" / f"seed_{seed:02d}.npz"
        np.testing.assert_array_equal(np.load(mine)["predicted"], np.load(other)["predicted"])
    mixed = np.zeros((2, 1078), bool)
    mixed[0, :600], mixed[1, :200] = True, True
    dj.KeepFile.from_mask(mixed, dj.load_dataset("digits").train).save(tmp_path / "mixed.npz")
    with pytest.raises(SystemExit):
        main(["train", *options, "--keep", str(tmp_path / "mixed.npz"), "--num-seeds", "2"])
    assert "keeps 600 examples for seed 0 and 200 for another seed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", *options, "--keep", str(masks), "--num-seeds", "3", "--run-dir", str(folder)])
    assert "holds one mask for each of 2 seeds, --num-seeds is 3" in capsys.readouterr().err
    assert json.loads((folder / "config.json").read_text())["config"]["train"]["steps"] == 33
