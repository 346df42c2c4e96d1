"""Distances of features: k-means by another route, and the same scores however the dataset is passed over."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans

import diet_jax as dj
from diet_jax.data.sources import load_dataset, load_streamed
from diet_jax.scores.features import (
    CLASS_CENTER_DISTANCE,
    PROTOTYPE_DISTANCE,
    ClassCenterOptions,
    PrototypeOptions,
)

NAMES = ("class_center_distance", "prototype_distance")
CONFIG = dj.TrainConfig(epochs=2, batch_size=10, learning_rate=0.05, augment="none")
KEYS = dj.seed_keys(0, "score", 2)
RNG = np.random.default_rng(2)


@pytest.mark.parametrize("offset", [0, 1e4])
def test_prototypes_of_separate_clusters_are_those_of_scikit_learn(offset):
    middles = 20 * np.eye(5)[:, :3] + np.arange(5)[:, None] * [30, 0, -30]
    points = (np.repeat(middles, 30, axis=0) + RNG.normal(size=(150, 3)) + offset).astype(np.float32)
    expected = (
        KMeans(5, n_init=5, random_state=0).fit(points.astype(np.float64)).transform(points).min(axis=1)
    )
    for seed in range(3):
        found = dj.prototype_distance(jax.random.key(seed), jnp.asarray(points), num_prototypes=5)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


def test_the_cosine_is_that_of_the_nearest_centre_as_sorscher_et_al_have_it():
    middles = 20 * np.eye(5)[:, :3] + np.arange(5)[:, None] * [30, 0, -30] + 50
    points = (np.repeat(middles, 30, axis=0) + RNG.normal(size=(150, 3))).astype(np.float32)
    means = KMeans(5, n_init=5, random_state=0).fit(points.astype(np.float64))
    centres = means.cluster_centers_[means.labels_]
    cosine = (points * centres).sum(1) / np.linalg.norm(points, axis=1) / np.linalg.norm(centres, axis=1)
    options = {"num_prototypes": 5, "distance": "cosine"}
    found = dj.prototype_distance(jax.random.key(0), jnp.asarray(points), **options)
    np.testing.assert_allclose(found, 1 - cosine, rtol=1e-3, atol=1e-7)
    score = PROTOTYPE_DISTANCE.with_options(PrototypeOptions(**options))
    by_score = score.function()(jnp.asarray(points), jnp.zeros(150, jnp.int32), 5)
    np.testing.assert_allclose(by_score, found, rtol=1e-6)


def test_prototypes_of_one_cloud_are_nearly_the_best_there_are():
    """Where k-means has many ends: close to the best of scikit-learn's, and the same for the same key."""
    points = jnp.asarray(RNG.normal(size=(200, 4)), jnp.float32)
    found = dj.prototype_distance(jax.random.key(1), points, num_prototypes=6)
    again = dj.prototype_distance(jax.random.key(1), points, num_prototypes=6)
    np.testing.assert_array_equal(found, again)
    total = float(jnp.sum(jnp.square(found)))
    best = KMeans(6, n_init=20, random_state=0).fit(points).inertia_
    worst = KMeans(6, n_init=1, init="random", max_iter=1, random_state=0).fit(points).inertia_
    assert best * (1 - 1e-5) <= total < min(1.15 * best, worst)


@pytest.mark.parametrize("num_prototypes", [1, 3, 7])
def test_prototypes_of_few_examples(num_prototypes):
    """One is the mean; with as many as there are different examples, or more, each is its own."""
    points = jnp.asarray([[0.0, 0], [0, 0], [0, 0], [4, 0], [4, 0], [0, 8], [0, 8]])
    found = dj.prototype_distance(jax.random.key(0), points, num_prototypes=num_prototypes)
    mean = np.asarray(points).mean(axis=0)
    expected = np.linalg.norm(np.asarray(points) - mean, axis=1) if num_prototypes == 1 else np.zeros(7)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(dj.InputError, match="num_prototypes must be at most 7, as many as examples; got 8"):
        dj.prototype_distance(jax.random.key(0), points, num_prototypes=8)


def test_labels_without_examples_and_beyond_the_classes(unchecked_types):
    features, labels = jnp.asarray([[1.0], [3.0], [7.0]]), np.array([4, 4, 9])
    for dtype in ("uint8", "int32", "int64"):
        for center in ("mean", "median"):
            found = dj.class_center_distance(features, labels.astype(dtype), num_classes=6, center=center)
            np.testing.assert_array_equal(found, [1, 1, np.nan])


@pytest.fixture(scope="module")
def mlp():
    return dj.create_model("mlp", num_classes=3, widths=(4,))


def by_hand(model, variables, data):
    """From the features that the network's own method gives, all at once."""
    _, features, _ = model.features(variables, jnp.asarray(dj.normalized_inputs(data)))
    labels = jnp.asarray(data.labels)
    key = jax.random.key(0, impl="threefry2x32")
    return {
        "class_center_distance": dj.class_center_distance(features, labels, num_classes=3),
        "prototype_distance": dj.prototype_distance(key, features, num_prototypes=3),
    }


@pytest.mark.parametrize(
    ("how", "network", "kept"),
    [
        ("map", "conv_model", 50),
        ("loop", "mlp", 30),
        pytest.param("vmap", "mlp", 30, marks=pytest.mark.slow),
        pytest.param("map", "mlp", 50, marks=pytest.mark.slow),
    ],
)
def test_an_ensemble_has_the_scores_of_its_networks(request, train_split, how, network, kept):
    """Whatever was trained on: centres are those of all examples."""
    model = request.getfixturevalue(network)
    options = {"config": CONFIG, "step": (0, 4), "names": NAMES, "how": how, "batch_size": 7}
    found = dj.score_ensemble(KEYS, model, train_split, keep=np.arange(50) < kept, **options)
    for seed in range(2):
        expected = by_hand(model, dj.take_seed(found.variables, seed), train_split)
        for name in NAMES:
            np.testing.assert_allclose(found.scores[name][1, seed], expected[name], rtol=1e-4, atol=1e-5)
            assert not np.allclose(found.scores[name][0, seed], expected[name], rtol=0.01)


def test_streamed_data_have_the_scores_of_those_in_memory(mlp, image_folder, tmp_path):
    pytest.importorskip("grain")
    streamed = load_streamed(f"folder:{image_folder}").train
    held = load_dataset(f"folder:{image_folder}", quiet=True).train
    variables = mlp.init(jax.random.key(0), (8, 8, 3))
    expected = by_hand(mlp, variables, held)
    options = {"names": (*NAMES, "el2n"), "folder": tmp_path / "shards", "batch_size": 4, "shard_size": 7}
    # In two parts, the second of which finds the shards of the first.
    assert dj.score_streamed(mlp, variables, streamed, part=(0, 2), **options) == {}
    found = dj.score_streamed(mlp, variables, streamed, part=(1, 2), **options)
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
    assert found["el2n"].shape == found["prototype_distance"].shape == (len(held),)


@pytest.mark.slow
def test_a_run_has_them_and_says_what_they_hold(tmp_path):
    config = dj.RunConfig(
        data=dj.DataConfig(name="digits"),
        train=dj.TrainConfig(epochs=2, batch_size=128, augment="none"),
        score=dj.ScoreConfig(names=NAMES, epoch=1, num_seeds=2, how="loop"),
        select=dj.SelectConfig(fractions=(0.5,)),
        retrain=dj.RetrainConfig(num_seeds=1),
        run_dir=str(tmp_path / "run"),
    )
    dj.run(config)
    for name in NAMES:
        file = dj.ScoreFile.load(tmp_path / "run" / "scores" / f"{name}.npz")
        assert file.per_seed.shape == (2, 1078)
        assert np.isfinite(file.per_seed).all()
        assert "features" in file.provenance["definition"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measure": None}, "a score that reads the dataset, and no other, has a measure; it reads dataset"),
        ({"reads": "logits"}, "has a measure; it reads logits"),
    ],
)
def test_what_cannot_be_a_score_of_the_dataset(changes, message):
    with pytest.raises(dj.InputError, match=message):
        dataclasses.replace(CLASS_CENTER_DISTANCE, **changes)


WRONG = {
    "values of another length": (lambda v, x, y: x[1:], None, r"the measure of the score mine must return"),
    "values that are no floats": (lambda v, x, y: y, None, r"must return float \[\d+ ...\]; got int32"),
    "a score of another length": (None, lambda v, y, c: v[:1, 0], r"the score mine must return float \[50\]"),
}


@pytest.mark.parametrize("how", ["map", "loop"])
@pytest.mark.parametrize("case", WRONG)
def test_functions_that_return_something_else_are_named(mlp, train_split, how, case):
    measured, of_all, message = WRONG[case]
    own = dataclasses.replace(
        CLASS_CENTER_DISTANCE,
        name="mine",
        measure=lambda model: measured or (lambda variables, x, y: x.reshape(len(x), -1)),
        build=lambda: of_all or (lambda values, labels, num_classes: values[:, 0]),
        options=None,
    )
    with pytest.raises(dj.InputError, match=message):
        dj.score_ensemble(KEYS, mlp, train_split, config=CONFIG, step=1, names=(own,), how=how)


def test_a_model_without_features_and_options(train_split):
    model = dj.from_functions(
        lambda key, shape: jnp.zeros((int(np.prod(shape)), 3)), lambda w, x: x.reshape(len(x), -1) @ w
    )
    with pytest.raises(dj.InputError, match="class_center_distance needs a model with `features`"):
        dj.score_ensemble(KEYS, model, train_split, config=CONFIG, step=0, names=NAMES)
    for wrong in ({"num_prototypes": 0}, {"seed": -1}):
        with pytest.raises(dj.InputError, match=next(iter(wrong))):
            PrototypeOptions(**wrong)
    median = CLASS_CENTER_DISTANCE.with_options(ClassCenterOptions("median"))
    assert median.definition.endswith("(center median)")
