"""The ImageNet recipe in small: a narrow ResNet on a few JPEGs of many sizes; and its learning rate."""

import json
import runpy
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import diet_jax as dj
from diet_jax.training.recipe import make_schedule, total_steps

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import image_folder  # noqa: E402

CONFIG = runpy.run_path(str(ROOT / "configs" / "imagenet.py"))["CONFIG"]


def test_the_rate_is_that_of_the_usual_recipe():
    config = CONFIG.train
    steps = total_steps(config, 1_281_167)
    assert steps == 90 * 5004
    schedule = make_schedule(config, steps)

    def rate(step):
        return schedule(jnp.int32(step))

    warm = 5 * 5004
    np.testing.assert_allclose(config.learning_rate, 0.1 * config.batch_size / 256)
    np.testing.assert_allclose(float(rate(warm // 2)), config.learning_rate / 2, rtol=1e-5)
    np.testing.assert_allclose(float(rate(warm)), config.learning_rate, rtol=1e-5)
    np.testing.assert_allclose(float(rate((warm + steps) // 2)), config.learning_rate / 2, rtol=1e-4)
    np.testing.assert_allclose(float(rate(steps)), 0, atol=1e-8)


def test_a_class_is_a_pattern_and_sizes_differ(tmp_path):
    image_folder.write(image_folder.Folder(tmp_path / "f", classes=2, train=8, test=2, scale=0.2))
    files = sorted((tmp_path / "f" / "train").glob("*/*.jpg"))
    assert len(files) == 8
    images = [np.asarray(Image.open(file), np.float64) for file in files]
    assert len({image.shape for image in images}) > 4
    means = np.stack([image.mean((0, 1)) for image in images])
    within = [np.ptp(part, axis=0).max() for part in (means[:4], means[4:])]
    assert np.abs(means[:4].mean(0) - means[4:].mean(0)).max() > max(within)
    with pytest.raises(SystemExit, match="not empty"):
        image_folder.write(image_folder.Folder(tmp_path / "f"))


def test_the_recipe_trains_and_scores_in_small(tmp_path, monkeypatch):
    pytest.importorskip("grain")
    from diet_jax import models
    from diet_jax.cli.main import main

    entry = models._MODELS["resnet50"]

    def shallow(**options):
        return entry.build(**options).clone(stage_sizes=(1,))

    # One block: the rest is more of the same, and a minute to compile.
    monkeypatch.setitem(models._MODELS, "resnet50", entry._replace(build=shallow))
    image_folder.write(image_folder.Folder(tmp_path / "f", classes=2, train=16, test=4, scale=0.15))
    options = {
        "data.name": f"folder:{tmp_path / 'f'}",
        "data.image-size": "32",
        "data.workers": "0",
        "model.width": "2",
        "train.steps": "4",
        "train.batch-size": "4",
        "score.epoch": "0.5",
        "score.num-seeds": "1",
        "score.names": "el2n",
        "checkpoint-epochs": "0.5",
        "run-dir": str(tmp_path / "run"),
    }
    given = [text for name, value in options.items() for text in (f"--{name}", value)]
    main(["score", str(ROOT / "configs" / "imagenet.py"), *given])
    file = dj.ScoreFile.load(tmp_path / "run" / "scores" / "el2n.npz")
    assert (file.per_seed.shape, file.step) == ((1, 16), 2)
    assert np.isfinite(file.scores).all()
    assert len(set(file.scores.tolist())) > 8
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (config["model"]["stem"], config["model"]["dtype"]) == ("imagenet", "bfloat16")
    assert (config["data"]["streaming"], config["train"]["augment"]) == (True, "resized_crop")
