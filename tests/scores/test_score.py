"""What a score is: its options, its function, and whatever it reads, through an ensemble."""

import dataclasses
import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.scores.dynamics import FORGETTING
from diet_jax.scores.gradients import GRAND, GrandOptions
from diet_jax.scores.score import folds_of, resolve_scores
from diet_jax.training.step import init_state

CONFIG = dj.TrainConfig(epochs=4, batch_size=10, learning_rate=0.05, schedule="cosine", augment="none")
KEYS = dj.seed_keys(0, "score", 2)


def scaled_error(predict_fn, variables, images, labels, *, scale):
    return scale * dj.el2n(predict_fn, variables, images, labels)


@dataclass(frozen=True)
class ScaleOptions:
    scale: float = 1.0


def build(model, scale):
    return functools.partial(scaled_error, model.predict, scale=scale)


SCALED = dj.Score(
    name="scaled",
    label="scaled error",
    formula="a multiple of EL2N",
    reference="none",
    reads="logits",
    build=build,
    options=ScaleOptions(),
)


def init_seen(num_examples):
    return jnp.zeros(num_examples, jnp.int32)


def update_seen(state, rows, logits, labels):
    return state.at[rows].add(1)


def seen_scores():
    return lambda state, keep: state.astype(jnp.float32)


SEEN = dj.Score(
    name="seen",
    label="presentations",
    formula="how often an example was presented",
    reference="none",
    reads="dynamics",
    build=seen_scores,
    fold=dj.Fold("seen", init_seen, update_seen),
)


@pytest.fixture(scope="module")
def model():
    return dj.create_model("mlp", num_classes=3, widths=(4,))


def scores_of(model, data, *names, **options):
    options = {"config": CONFIG, "step": 20, **options}
    return dj.score_ensemble(KEYS, model, data, names=names, **options).scores


@pytest.mark.parametrize("how", ["map", "vmap", "loop"])
def test_a_score_of_ones_own_is_one_like_any_other(model, train_split, how):
    double = SCALED.with_options(ScaleOptions(2.0))
    scores = scores_of(model, train_split, "el2n", double, SEEN, "input_norm", "random", how=how)
    assert list(scores) == ["el2n", "scaled", "seen", "input_norm", "random"]
    np.testing.assert_allclose(scores["scaled"], 2 * scores["el2n"], rtol=1e-6)
    # Four epochs of all fifty examples, each once in each.
    np.testing.assert_array_equal(scores["seen"], np.full((2, 50), 4.0))
    images = dj.normalized_images(train_split, np.arange(50)).reshape(50, -1)
    np.testing.assert_allclose(scores["input_norm"][1], np.linalg.norm(images, axis=1), rtol=1e-5)
    assert len(np.unique(scores["random"])) == 100


def test_scores_of_dynamics_see_only_what_was_trained_on(model, train_split):
    keep = np.arange(50) < 30
    seen = scores_of(model, train_split, SEEN, keep=keep)["seen"]
    np.testing.assert_array_equal(seen[0] > 0, keep)


def test_options_are_checked_and_said():
    assert SCALED.definition == "scaled error: a multiple of EL2N (scale 1)"
    assert FORGETTING.definition.endswith("(never learned inf)")
    # What is left to the library is no part of what a score is: files of one kind of processor fit another.
    assert GRAND.definition == f"{GRAND.label}: {GRAND.formula}"
    assert GRAND.with_options(GrandOptions("highest")).definition.endswith("(precision highest)")
    with pytest.raises(dj.InputError, match="options of scaled must be ScaleOptions, got float"):
        SCALED.with_options(2.0)
    with pytest.raises(dj.InputError, match="never_learned must be a number or inf"):
        type(FORGETTING.options)(never_learned=float("nan"))


def test_the_function_is_the_same_object_again(model):
    """So that programs which were compiled for it are found again."""
    again = dj.create_model("mlp", num_classes=3, widths=(4,))
    assert SCALED.function(model) is dataclasses.replace(SCALED).function(again)
    assert SCALED.function(model) is not SCALED.with_options(ScaleOptions(2.0)).function(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "two words"}, "letters, digits and _"),
        ({"name": "ids"}, "cannot be called ids"),
        ({"options": {"scale": 1.0}}, "options must be a frozen dataclass"),
        ({"reads": "dynamics"}, "has a fold; it reads dynamics"),
        ({"fold": SEEN.fold}, "has a fold; it reads logits"),
        ({"reads": "logit"}, "reads must be one of logits, gradients"),
    ],
)
def test_what_cannot_be_a_score(changes, message, unchecked_types):
    with pytest.raises(dj.InputError, match=message):
        dataclasses.replace(SCALED, **changes)


def test_names_must_name_scores_each_once():
    assert [score.name for score in resolve_scores(["el2n", SCALED])] == ["el2n", "scaled"]
    for wrong in ((), ("el2n", "el2n"), (SCALED, SCALED)):
        with pytest.raises(dj.InputError, match="at least one score, each once"):
            resolve_scores(wrong)


def test_folds_are_what_scores_need_each_once():
    assert folds_of([SCALED, SEEN, FORGETTING, SEEN]) == (SEEN.fold, FORGETTING.fold)


@pytest.mark.parametrize("name", ["seen", "forgetting"])
def test_two_folds_of_one_name_are_refused(model, train_split, name):
    """Each would overwrite what the other remembers."""
    other = dj.Score(**{**vars(SEEN), "name": "other", "fold": SEEN.fold._replace(name=name, init=list)})
    with pytest.raises(dj.InputError, match=f"different folds are called {name}"):
        dj.score_ensemble(KEYS, model, train_split, config=CONFIG, step=1, names=(SEEN, other))


def test_options_that_are_no_numbers_are_said():
    @dataclass(frozen=True)
    class Options:
        kind: str = "soft"
        sizes: tuple[int, ...] = (1, 2)
        limit: float | None = None

    definition = dataclasses.replace(SCALED, options=Options()).definition
    assert definition.endswith("(kind soft, sizes (1, 2), limit None)")


def returning(make, **changes):
    """A score whose function returns what `make` makes of the labels."""

    def build(*_):
        return lambda variables, images, labels: make(labels)

    return dataclasses.replace(SCALED, **{"name": "mine", "build": build, "options": None, **changes})


@pytest.mark.parametrize("how", ["map", "loop"])
@pytest.mark.parametrize(
    "make",
    [
        lambda labels: labels[:, None].astype(jnp.float32),
        lambda labels: labels[1:].astype(jnp.float32),
        lambda labels: labels,
        lambda labels: jnp.zeros(2 * len(labels)),
        lambda labels: jnp.float32(1),
        lambda labels: 1.0,
        lambda labels: None,
        lambda labels: labels.astype(jnp.complex64),
    ],
)
def test_a_score_that_returns_something_else_is_refused(model, train_split, how, make):
    """A batch of twice the length was cut in a loop, without a word."""
    options = {"config": CONFIG, "step": 1, "how": how, "batch_size": 8}
    with pytest.raises(dj.InputError, match="the score mine must return float"):
        dj.score_ensemble(KEYS, model, train_split, names=[returning(make)], **options)


def test_short_floats_become_float32(model, train_split):
    """A file that holds bfloat16 cannot be read."""
    own = returning(lambda labels: labels.astype(jnp.bfloat16))
    found = dj.score_ensemble(KEYS, model, train_split, config=CONFIG, step=1, names=[own]).scores["mine"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], train_split.labels.astype(np.float32))


@pytest.mark.parametrize("how", ["map", "loop"])
def test_a_fold_may_hold_arrays_of_any_shape(model, train_split, how):
    """A score that reads nothing took the number of examples from the first of them."""
    fold = SEEN.fold._replace(
        name="a", init=lambda n: (jnp.int32(0), jnp.zeros((3, n))), update=lambda state, *_: state
    )
    own = dataclasses.replace(SEEN, name="own", fold=fold, build=lambda: lambda state, keep: state[1][0])
    result = dj.score_ensemble(
        KEYS, model, train_split, config=CONFIG, step=1, names=(own, "random"), how=how
    )
    assert result.scores["random"].shape == result.scores["own"].shape == (2, len(train_split))


def test_a_fold_is_part_of_the_training_state(model, train_split):
    program = dj.Program(model, CONFIG, 20, folds=(SEEN.fold,))
    shapes = jax.eval_shape(lambda: init_state(KEYS[0], train_split.spec, 50, program=program))
    assert list(shapes.dynamics) == ["seen"]
    assert shapes.dynamics["seen"].shape == (50,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda logits: logits[0], r"wrong must return float \[8\], one per example; got float32 \(3,\)"),
        (lambda logits: jnp.argmax(logits, axis=-1), r"got int32 \(8,\)"),
        (lambda logits: 0.5, "got float"),
    ],
)
def test_a_function_that_returns_something_else_is_named(model, train_split, values, message):
    def build_wrong(model):
        return lambda variables, images, labels: values(model.predict(variables, images))

    wrong = dj.Score(
        name="wrong", label="wrong", formula="wrong", reference="none", reads="logits", build=build_wrong
    )
    for how in ("map", "loop"):
        with pytest.raises(dj.InputError, match=message):
            scores_of(model, train_split, wrong, how=how, batch_size=8)
