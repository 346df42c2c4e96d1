"""Ensembles: every way to run the seeds gives the numbers of one seed at a time, in one program."""

import contextlib
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import diet_jax as dj
from diet_jax.devices import defaults
from diet_jax.ensemble import over_seeds as ensemble
from diet_jax.errors import InputError
from diet_jax.training.step import run_keys

HOWS = ["vmap", "unroll", "map", "loop"]
ONE_PROGRAM = HOWS[:3]
CONFIG = dj.TrainConfig(steps=12, batch_size=8, steps_per_call=4)
NAMES = ("el2n", "grand", "grand_last_layer", "forgetting")
KEEP = np.arange(50) % 5 != 0


@pytest.fixture(scope="module")
def keys():
    return dj.seed_keys(0, "score", 2)


@contextlib.contextmanager
def compilations():
    """Collects the names of the programs that are compiled inside."""
    names = []

    def note(event: str, duration: float, **facts) -> None:
        if "backend_compile" in event:
            names.append(facts.get("fun_name", "unnamed"))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def test_compilations_are_seen():
    fresh = jax.jit(lambda x: x * 3)
    with compilations() as names:
        fresh(np.float32(1))
        fresh(np.float32(2))
    assert len(names) == 1


def test_moving_a_dataset_to_the_device_compiles_nothing():
    dataset = dj.Dataset.from_arrays(np.zeros((3, 5, 7, 2), np.uint8), [0, 1, 0])
    with compilations() as names:
        examples = dataset.examples()
    assert names == []
    assert examples.images.dtype == np.uint8
    assert [leaf.dtype for leaf in examples[1:]] == [np.int32, np.float32, np.float32]


@pytest.mark.parametrize("how", HOWS)
def test_over_seeds_equals_a_python_loop(how):
    weights = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 2)), jnp.float32)}
    x = jnp.ones((5, 4))

    def fn(one, x, offset):
        return {"y": jnp.tanh(x @ one["w"]) + offset, "key": jax.random.key(0)}

    result = dj.over_seeds(fn, how=how)(weights, x, jnp.float32(2))
    expected = np.stack([np.tanh(np.ones((5, 4)) @ np.asarray(w)) + 2 for w in weights["w"]])
    np.testing.assert_allclose(result["y"], expected, rtol=1e-5)
    assert result["key"].shape == (3,)


def test_over_seeds_refuses_what_has_no_seed_axis():
    double = dj.over_seeds(lambda x: x, how="vmap")
    for bad in ((jnp.ones(2), jnp.ones(3)), jnp.float32(1), jnp.ones((0, 2))):
        with pytest.raises(InputError, match="leading seed axis"):
            double(bad)


def test_an_unknown_how_is_refused(conv_model, train_split, test_split, keys, unchecked_types):
    with pytest.raises(InputError, match="how must be one of vmap, unroll, map, loop, mesh, auto"):
        dj.over_seeds(lambda x: x, how="pmap")
    with pytest.raises(InputError, match="how must be"):
        dj.score_ensemble(keys, conv_model, train_split, config=CONFIG, step=0, how="pmap")
    with pytest.raises(InputError, match="how must be"):
        dj.train_ensemble(keys, conv_model, train_split, test_split, config=CONFIG, how="pmap")


@pytest.fixture(scope="module")
def one_at_a_time(conv_model, train_split, keys):
    """Scores at step 7 without any of the ensemble's code."""
    scores, states, losses = {name: [] for name in NAMES}, [], []
    score_fns = {
        "el2n": functools.partial(dj.el2n, conv_model.predict),
        "grand": functools.partial(dj.grand, conv_model.predict),
        "grand_last_layer": functools.partial(dj.grand_last_layer, conv_model.features),
    }
    for key in keys:
        state, history = dj.train(key, conv_model, train_split, keep=KEEP, config=CONFIG, num_updates=7)
        for name, score_fn in score_fns.items():
            scores[name].append(dj.score_dataset(score_fn, state.variables, train_split, batch_size=20))
        scores["forgetting"].append(np.asarray(dj.forgetting_scores(state.dynamics["forgetting"], keep=KEEP)))
        states.append(jax.tree.map(np.asarray, state.variables))
        losses.append(history.loss)
    return {name: np.stack(rows) for name, rows in scores.items()}, states, np.stack(losses)


@pytest.mark.parametrize(
    "how", ["vmap", "loop", *(pytest.param(how, marks=pytest.mark.slow) for how in ("unroll", "map"))]
)
def test_score_ensemble_equals_one_seed_at_a_time(how, conv_model, train_split, keys, one_at_a_time):
    expected, states, losses = one_at_a_time
    arguments = (keys, conv_model, train_split)
    options = {"config": CONFIG, "step": 7, "names": NAMES, "keep": KEEP, "how": how, "batch_size": 20}
    with compilations() as first:
        result = dj.score_ensemble(*arguments, **options)
    with compilations() as second:
        dj.score_ensemble(*arguments, **options)
    if how in ONE_PROGRAM:
        assert first == ["jit(score_program)"]
    assert second == []
    assert set(result.scores) == set(NAMES)
    for name in NAMES:
        values = result.scores[name]
        assert (values.shape, values.dtype) == ((2, 50), np.float32)
        np.testing.assert_allclose(values, expected[name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert np.isnan(result.scores["forgetting"][:, ~KEEP]).all()
    np.testing.assert_allclose(result.history.loss, losses, rtol=1e-3, atol=1e-5)
    for seed in range(2):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5),
            dj.take_seed(result.variables, seed),
            states[seed],
        )
    # The seeds are different networks.
    assert np.abs(result.scores["el2n"][0] - result.scores["el2n"][1]).max() > 0.01


@pytest.mark.parametrize("how", ["vmap", pytest.param("map", marks=pytest.mark.slow), "loop"])
@pytest.mark.slow
def test_several_steps_are_scored_in_one_pass(how, conv_model, train_split, keys):
    score = functools.partial(
        dj.score_ensemble, keys, conv_model, train_split, config=CONFIG, keep=KEEP, how=how, batch_size=20
    )
    names, steps = ("el2n", "forgetting"), (0, 2, 7)
    with compilations() as compiled:
        result = score(step=steps, names=names)
    if how in ONE_PROGRAM:
        assert compiled == ["jit(score_program)"]
    # The single calls each are a program of their own: one of the middle will do.
    for place, step in ((1, 2), (2, 7)) if how == "loop" else ((1, 2),):
        alone = score(step=step, names=names)
        for name in names:
            assert result.scores[name].shape == (3, 2, 50)
            np.testing.assert_allclose(result.scores[name][place], alone.scores[name], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(result.history.loss[:, :step], alone.history.loss, rtol=1e-4, atol=1e-6)
    assert result.history.loss.shape == (2, 7)
    for seed, key in enumerate(keys):
        state, _ = dj.train(key, conv_model, train_split, keep=KEEP, config=CONFIG, num_updates=7)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5),
            dj.take_seed(result.variables, seed),
            state.variables,
        )
    # Training moved the scores, and there is nothing to forget before the first step.
    assert np.abs(np.diff(result.scores["el2n"], axis=0)).max(axis=(1, 2)).min() > 0.01
    assert np.isinf(result.scores["forgetting"][0][:, KEEP]).all()


def test_an_epoch_is_the_step_that_it_names(conv_model, train_split, keys):
    """Six steps of eight make one pass over 50 examples, however many are kept."""
    score = functools.partial(
        dj.score_ensemble, keys, conv_model, train_split, config=CONFIG, names=("el2n",)
    )
    for epoch, step in ((0.5, 3), ((0, 0.5, 1), (0, 3, 6))):
        by_epoch, by_step = score(epoch=epoch, keep=KEEP).scores, score(step=step, keep=KEEP).scores
        np.testing.assert_array_equal(by_epoch["el2n"], by_step["el2n"])
        assert by_epoch["el2n"].shape == ((3, 2, 50) if isinstance(epoch, tuple) else (2, 50))
    digits = dj.load_dataset("digits").train
    assert dj.epoch_to_step(5, dj.steps_per_epoch(len(digits), 32)) == 165


@pytest.mark.parametrize(
    "how", ["map", "mesh", *(pytest.param(how, marks=pytest.mark.slow) for how in ("vmap", "unroll"))]
)
def test_the_dataset_goes_to_the_device_once_and_the_scores_come_back_once(
    how, train_split, keys, monkeypatch
):
    model = dj.create_model("mlp", num_classes=3, widths=(4,))
    mesh = jax.set_mesh(dj.make_mesh(1)) if how == "mesh" else contextlib.nullcontext()
    with mesh:
        score = functools.partial(
            dj.score_ensemble, keys, model, train_split, config=CONFIG, step=(1, 3), how=how, batch_size=50
        )
        score()  # Tracing reads constants.
        sent, fetched = [], []
        put, get = jax.device_put, jax.device_get
        monkeypatch.setattr(
            jax, "device_put", lambda tree, *at: (sent.extend(jax.tree.leaves(tree)), put(tree, *at))[1]
        )
        monkeypatch.setattr(jax, "device_get", lambda tree: (fetched.append(get(tree)), fetched[-1])[1])
        with jax.transfer_guard("disallow"):
            result = score()
    host = [leaf for leaf in sent if isinstance(leaf, np.ndarray)]
    assert sum(leaf is train_split.images for leaf in host) == 1
    # Nothing else of that size: labels, mean, std and the rows to train on.
    assert sorted(leaf.shape for leaf in host) == [(2,), (2,), (50,), (50,), (50, 8, 8, 2)]
    assert len(fetched) == 1
    assert result.scores["grand"].shape == (2, 2, 50)
    assert sum(leaf.size for leaf in jax.tree.leaves(fetched)) == 2 * (2 * 2 * 50) + 2 * (2 * 3)


@pytest.mark.parametrize("how", ["vmap", "loop"])
def test_step_0_scores_the_initial_networks(how, conv_model, train_split, keys):
    result = dj.score_ensemble(
        keys, conv_model, train_split, config=CONFIG, step=0, names=("el2n",), how=how, batch_size=50
    )
    assert result.history.loss.shape == (2, 0)
    score_fn = functools.partial(dj.el2n, conv_model.predict)
    for seed, key in enumerate(keys):
        variables = conv_model.init(run_keys(key).init, (8, 8, 2))
        expected = dj.score_dataset(score_fn, variables, train_split, batch_size=50)
        np.testing.assert_allclose(result.scores["el2n"][seed], expected, rtol=1e-4)


@pytest.mark.parametrize("how", HOWS)
def test_train_ensemble_equals_one_seed_at_a_time_each_with_its_mask(
    how, conv_model, train_split, test_split, keys, trained_alone
):
    masks, expected = trained_alone
    arguments = (keys, conv_model, train_split, test_split)
    with compilations() as first:
        result = dj.train_ensemble(*arguments, config=CONFIG, keep=masks, how=how)
    with compilations() as second:
        dj.train_ensemble(*arguments, config=CONFIG, keep=masks, how=how)
    if how in ONE_PROGRAM:
        assert first == ["jit(train_program)"]
    assert second == []
    for seed, (logits, history) in enumerate(expected):
        # Another program rounds otherwise: of two classes as good as equal either may be predicted.
        chosen = np.take_along_axis(np.asarray(logits), result.predicted[seed][:, None], axis=-1)[:, 0]
        np.testing.assert_allclose(chosen, logits.max(axis=-1), rtol=1e-3, atol=1e-4)
        losses = jax.nn.logsumexp(logits, axis=-1) - logits[np.arange(23), test_split.labels]
        np.testing.assert_allclose(result.loss[seed], losses, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(result.history.loss[seed], history.loss, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def trained_alone(conv_model, train_split, test_split, keys):
    masks = np.stack([dj.keep_random(jax.random.key(s), 50, 0.6) for s in range(2)])
    mean, std = (np.array(v) for v in train_split.normalization)
    images = jnp.asarray((test_split.images - mean) / std, jnp.float32)
    expected = []
    for key, mask in zip(keys, masks, strict=True):
        state, history = dj.train(key, conv_model, train_split, keep=mask, config=CONFIG)
        expected.append((conv_model.predict(state.variables, images), history))
    return masks, expected


def test_score_ensemble_refuses_bad_arguments(conv_model, train_split, keys, unchecked_types):
    score = functools.partial(
        dj.score_ensemble, model=conv_model, dataset=train_split, config=CONFIG, step=1, how="loop"
    )
    for wrong, message in [
        ({"step": 13}, "between 0 and the 12 steps"),
        ({"step": -1}, "between 0 and the 12 steps"),
        ({"step": (1, 13)}, "between 0 and the 12 steps"),
        ({"step": (2, 1)}, r"several in ascending order; got \(2, 1\)"),
        ({"step": (2, 2)}, "several in ascending order"),
        ({"step": ()}, "several in ascending order"),
        ({"step": (0.5, 1)}, r"an integer, or a tuple of them, got \(0.5, 1\)"),
        ({"step": None}, "either step or epoch, got step=None and epoch=None"),
        ({"epoch": 1}, "either step or epoch, got step=1 and epoch=1"),
        (
            {"step": None, "epoch": 2.1},
            r"epoch=2.1, of 6 steps each: .* the 12 steps of the training, got 13",
        ),
        ({"step": None, "epoch": -1}, "epoch must be at least 0"),
        ({"step": None, "epoch": (1, 0.5)}, r"ascending order; got \(6, 3\)"),
        ({"step": None, "epoch": (1, 1.01)}, r"ascending order; got \(6, 6\)"),
        ({"step": None, "epoch": ()}, "several in ascending order"),
        ({"step": None, "epoch": [1, 2]}, r"a number, or a tuple of them, got \[1, 2\]"),
        ({"names": ("el3n",)}, "no score is called"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"keep": np.ones(49, bool)}, "one entry for each"),
        ({"keep": np.arange(50) < 5}, "only 5 examples"),
    ]:
        with pytest.raises(InputError, match=message):
            score(keys, **wrong)
    for no_keys in (keys[:0], keys[0]):
        with pytest.raises(InputError, match=r"leading seed axis|must be keys"):
            score(no_keys)


def test_a_model_without_features_has_no_last_layer_score(train_split, keys, conv_model):
    class Bare:
        init, apply, predict = conv_model.init, conv_model.apply, conv_model.predict

    with pytest.raises(InputError, match="needs a model with `features`"):
        dj.score_ensemble(keys, Bare(), train_split, config=CONFIG, step=0, names=("grand_last_layer",))


def test_train_ensemble_refuses_masks_that_do_not_fit(conv_model, train_split, test_split, keys):
    train = functools.partial(dj.train_ensemble, keys, conv_model, train_split, test_split, config=CONFIG)
    uneven = np.stack([np.arange(50) < 30, np.arange(50) < 31])
    for keep, message in [
        (uneven, r"equally many examples, got \[30, 31\]"),
        (np.ones((3, 50), bool), r"\(50,\) or \(2, 50\)"),
        (np.ones(49, bool), r"\(50,\) or \(2, 50\)"),
    ]:
        with pytest.raises(InputError, match=message):
            train(keep=keep)


def test_a_test_split_with_statistics_of_its_own_is_refused(conv_model, train_split, test_split, keys):
    own = dj.Dataset.from_arrays(test_split.images, test_split.labels, split="test")
    with pytest.raises(InputError, match=r"normalization=train\.normalization"):
        dj.train_ensemble(keys, conv_model, train_split, own, config=CONFIG)


def test_a_model_with_too_few_classes_is_refused(train_split, test_split, keys):
    model = dj.create_model("mlp", num_classes=2, widths=(4,))
    message = "the model has 2 logits but the dataset 3 classes"
    with pytest.raises(InputError, match=message):
        dj.train(keys[0], model, train_split, config=CONFIG)
    with pytest.raises(InputError, match=message):
        dj.score_ensemble(keys, model, train_split, config=CONFIG, step=0)
    with pytest.raises(InputError, match=message):
        dj.train_ensemble(keys, model, train_split, test_split, config=CONFIG)


def test_scores_come_in_the_order_that_was_asked_for(conv_model, train_split, keys):
    for how in ("map", "loop"):
        names = ("grand", "el2n")
        result = dj.score_ensemble(keys, conv_model, train_split, config=CONFIG, step=0, names=names, how=how)
        assert tuple(result.scores) == names


def test_take_seed_takes_one_slice_or_refuses():
    stacked = {"a": np.arange(6).reshape(3, 2), "b": jnp.arange(3)}
    np.testing.assert_array_equal(dj.take_seed(stacked, 2)["a"], [4, 5])
    assert int(dj.take_seed(stacked, 1)["b"]) == 1
    for bad in (-1, 3):
        with pytest.raises(InputError, match=r"seed must lie in 0\.\.2"):
            dj.take_seed(stacked, bad)


def test_seed_keys_of_all_purposes_are_disjoint_and_prefixes_of_each_other():
    purposes = ("score", "retrain", "random_subset", "tie_break")
    data = {
        (seed, p): np.asarray(jax.random.key_data(dj.seed_keys(seed, p, 30))).tolist()
        for seed in (0, 1)
        for p in purposes
    }
    assert len({tuple(key) for keys in data.values() for key in keys}) == 2 * 4 * 30
    for purpose in purposes:
        first = np.asarray(jax.random.key_data(dj.seed_keys(0, purpose, 4))).tolist()
        assert first == data[0, purpose][:4]
    for seed, count in ((-1, 3), (2**32, 3), (2**70, 3), (0, 0)):
        with pytest.raises(InputError, match="must be at least"):
            dj.seed_keys(seed, "score", count)


def test_seed_keys_of_an_unknown_purpose_are_refused(unchecked_types):
    with pytest.raises(InputError, match="purpose must be one of score, retrain"):
        dj.seed_keys(0, "scores", 1)


@pytest.mark.parametrize(
    ("name", "convolutional", "grouped", "how", "steps"),
    [
        ("cpu", True, True, "loop", 1),
        ("cpu", False, False, "map", 100),
        ("gpu", True, True, "map", 100),
        ("gpu", True, False, "vmap", 100),
        ("gpu", False, False, "vmap", 100),
    ],
)
def test_the_backend_and_the_model_decide_how(name, convolutional, grouped, how, steps, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    assert defaults.default_how(convolutional, lambda: grouped) == how
    assert defaults.default_steps_per_call(convolutional) == steps


def test_auto_looks_for_convolutions(conv_model, train_split):
    mlp = dj.create_model("mlp", num_classes=3, widths=(4,))
    assert defaults.model_has_convolution(conv_model, train_split.spec)
    assert not defaults.model_has_convolution(mlp, train_split.spec)
    for model in (conv_model, mlp):
        expected = defaults.default_how(
            defaults.model_has_convolution(model, train_split.spec), lambda: False
        )
        assert ensemble.resolve_how("auto", model, train_split) == expected


class _Own(nn.Module):
    """A network of a user's: a depthwise and a plain convolution, in one of the library's forms or none."""

    form: Callable | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        options = {"conv_general_dilated": self.form} if self.form else {}
        x = nn.Conv(4, (3, 3), **options)(x)
        return nn.Dense(3)(nn.Conv(8, (3, 3), feature_group_count=4, **options)(x).mean((1, 2)))


@pytest.mark.parametrize(
    ("form", "how"), [(None, "map"), (dj.unrolled_convolution, "vmap"), (dj.matmul_convolution, "map")]
)
def test_networks_whose_convolutions_would_be_grouped_run_in_turn(form, how, monkeypatch):
    images = np.zeros((3, 8, 8, 2), np.float32)
    data = dj.Dataset.from_arrays(images, np.arange(3), name="own")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert ensemble.resolve_how("auto", dj.from_linen(_Own(form)), data) == how
    assert ensemble.resolve_how("auto", dj.create_model("small_cnn", num_classes=3), data) == "vmap"
