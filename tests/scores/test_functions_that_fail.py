"""A score, rule or loss of one's own that fails: whose it was is said, and why NumPy cannot be used."""

import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj

INPUTS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)
DATASET = dj.Dataset.from_arrays(INPUTS, LABELS)
MODEL = dj.create_model("mlp", num_classes=3, widths=[4])
CONFIG = dj.TrainConfig(steps=2, batch_size=3, augment="none")


def own_score(fn):
    about = {"label": "own", "formula": "own", "reference": "none", "reads": "logits"}
    return dj.Score(name="own", **about, build=lambda model: fn)


def with_numpy(variables, inputs, labels):
    return np.linalg.norm(np.asarray(inputs), axis=1)


def with_if(variables, inputs, labels):
    return jnp.zeros(len(inputs)) if inputs.sum() > 0 else jnp.ones(len(inputs))


def with_bug(variables, inputs, labels):
    return {}["missing"]


@pytest.mark.parametrize("fn", [with_numpy, with_if])
def test_a_score_of_numpy_says_to_use_jax_numpy(fn):
    keys = dj.seed_keys(0, "score", 1)
    with pytest.raises(dj.InputError, match=r"the score own uses NumPy.*use jax\.numpy"):
        dj.score_ensemble(keys, MODEL, DATASET, config=CONFIG, step=0, names=[own_score(fn)])
    with pytest.raises(dj.InputError, match=r"score_fn uses NumPy.*use jax\.numpy"):
        dj.score_dataset(fn, MODEL.init(jax.random.key(0), (4,)), DATASET)


@pytest.mark.parametrize(
    ("fn", "got"),
    [
        (lambda v, x, y: jnp.float32(1), r"\(\) for a batch of 1"),
        (lambda v, x, y: x, r"\(1, 4\) for a batch of 1"),
        (lambda v, x, y: jnp.ones((1, len(x))), r"\(1, 1\) for a batch of 1"),
        (lambda v, x, y: jnp.ones(1), r"\(1,\) for a batch of [2-6]"),
        (lambda v, x, y: None, "NoneType for"),
        (lambda v, x, y: [1.0] * len(x), "list for"),
    ],
    ids=["a number", "inputs", "a row", "too few", "nothing", "a list"],
)
def test_a_score_fn_that_returns_something_else_is_refused_before_the_pass(fn, got):
    with pytest.raises(dj.InputError, match=rf"score_fn must return float \[b\], one per example; got {got}"):
        dj.score_dataset(fn, MODEL.init(jax.random.key(0), (4,)), DATASET)


def test_another_error_keeps_its_traceback_and_says_whose_it_was():
    keys = dj.seed_keys(0, "score", 1)
    with pytest.raises(KeyError) as raised:
        dj.score_ensemble(keys, MODEL, DATASET, config=CONFIG, step=0, names=[own_score(with_bug)])
    assert any("the score own" in note for note in raised.value.__notes__)
    assert any(frame.name == "with_bug" for frame in traceback.extract_tb(raised.value.__traceback__))


@pytest.mark.parametrize("score", [dj.el2n, dj.grand, dj.grand_vmap])
def test_a_predict_fn_is_named(score):
    def predict(variables, inputs):
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order") as raised:
        score(predict, {"w": jnp.ones(4)}, INPUTS, LABELS)
    assert any("predict_fn" in note for note in raised.value.__notes__)


def test_a_rule_and_a_loss_are_named():
    def broken(*args, **options):
        raise RuntimeError("out of order")

    rule = dj.Rule(name="own", words="own", reference="none", select=broken)
    with pytest.raises(RuntimeError) as raised:
        rule(np.arange(4.0), fraction=0.5)
    assert any("the rule own" in note for note in raised.value.__notes__)
    with pytest.raises(RuntimeError) as raised:
        dj.per_example_grad_norms(broken)(jnp.ones(4), INPUTS)
    assert any("loss_fn" in note for note in raised.value.__notes__)


def test_what_is_lost_on_the_way_in_is_refused(unchecked_types):
    values = np.arange(6.0)
    masked = np.ma.array(values, mask=values == 2)
    for wrong in (masked, values + 1j, values.astype(str), values > 2):
        with pytest.raises(dj.InputError, match="scores"):
            dj.keep_highest(wrong, 0.5)
    for wrong in (masked, values + 1j, values.astype(str), [[1, 2], [3]]):
        with pytest.raises(dj.InputError, match="per_seed"):
            dj.ScoreFile.from_seeds("own", wrong, DATASET, step=1)
    for wrong in (float("nan"), {}, 1.5, True, -1):
        with pytest.raises(dj.InputError, match="step"):
            dj.ScoreFile.from_seeds("own", values, DATASET, step=wrong)
    with pytest.raises(dj.InputError, match="labels must fit 32 bits"):
        dj.cross_entropy(np.zeros((6, 3), np.float32), LABELS.astype(np.int64) + 2**32)
    with jax.enable_x64(True):
        wide = jnp.asarray(LABELS, jnp.int64) + 2**32
        assert np.isnan(dj.cross_entropy(np.zeros((6, 3), np.float32), wide)).all()
