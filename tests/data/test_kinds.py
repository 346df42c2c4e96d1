"""What is no image: tables, signals, tokens. Each is normalised as it should be, said, or refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine

import diet_jax as dj
from diet_jax.errors import InputError
from diet_jax.plotting import draw_examples

RNG = np.random.default_rng(0)
LABELS = np.arange(12) % 3
TABLE = RNG.normal(size=(12, 5)) * [1, 10, 100, 1, 1] + 3
SIGNALS = RNG.normal(size=(12, 20, 2)) * [1, 50]
TOKENS = RNG.integers(0, 40, (12, 7))


@pytest.mark.parametrize(
    ("inputs", "said", "kind", "axes"),
    [
        (TABLE, None, "table", (0,)),
        (TABLE.astype(np.float16), None, "table", (0,)),
        (TABLE.round().astype(np.int64), "table", "table", (0,)),
        (TABLE.astype(np.uint8), "table", "table", (0,)),
        (SIGNALS, "signals", "signals", (0, 1)),
        (RNG.normal(size=(12, 3, 4, 5, 2)), "signals", "signals", (0, 1, 2, 3)),
        (RNG.normal(size=(12, 6, 6)), None, "images", (0, 1, 2)),
        (RNG.normal(size=(12, 6, 6, 3)), None, "images", (0, 1, 2)),
        (RNG.normal(size=(12, 6, 2)), "images", "images", (0, 1, 2)),
    ],
)
def test_each_kind_is_normalised_along_its_last_axis(inputs, said, kind, axes):
    dataset = dj.Dataset.from_arrays(inputs, LABELS, kind=said)
    assert (dataset.kind, dataset.inputs.dtype, dataset.spec.dtype) == (kind, np.float32, np.float32)
    stored = np.asarray(inputs, np.float64)
    stored = stored[..., None] if kind == "images" and stored.ndim == 3 else stored
    deviation = stored.std(axis=axes)
    expected = (stored - stored.mean(axis=axes)) / np.where(deviation > 0, deviation, 1)
    np.testing.assert_allclose(dj.normalized_inputs(dataset), expected, rtol=1e-2, atol=1e-2)
    assert kind in repr(dataset)
    assert "normalised for each" in repr(dataset)
    again = dataset.take(np.arange(6))
    assert (again.kind, again.normalization) == (kind, dataset.normalization)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint16])
def test_tokens_are_left_alone(dtype):
    dataset = dj.Dataset.from_arrays(TOKENS.astype(dtype), LABELS)
    assert (dataset.kind, dataset.spec) == ("tokens", jax.ShapeDtypeStruct((7,), "int32"))
    np.testing.assert_array_equal(dj.normalized_inputs(dataset), TOKENS)
    assert dj.normalized_inputs(dataset).dtype == jnp.int32
    assert "tokens, not normalised" in repr(dataset)


class Frame:
    """As a table of pandas, with the names of its rows."""

    def __init__(self, values, index):
        self.values, self.columns, self.index = values, [f"c{i}" for i in range(values.shape[1])], index

    def to_numpy(self):
        return self.values


class Index(list):
    """As its row names."""

    def equals(self, other):
        return self == other

    def to_numpy(self):
        return np.asarray(self)


def test_a_table_of_integers_is_one_and_an_array_is_said(capsys):
    numbers = np.arange(12 * 29).reshape(12, 29) % 7
    dataset = dj.Dataset.from_arrays(Frame(numbers, Index(range(12))), LABELS)
    assert (dataset.kind, dataset.inputs.dtype) == ("table", np.float32)
    assert "a table of integers, taken for features" in repr(dataset)
    assert capsys.readouterr().err == ""
    names = Index(f"p{i}" for i in range(12))
    for _ in range(2):
        assert dj.Dataset.from_arrays(Frame(numbers, names), LABELS).ids[0] == 0
        assert dj.Dataset.from_arrays(numbers, LABELS).kind == "tokens"
    said = capsys.readouterr().err
    assert said.count("inputs name their rows (index), such as") == said.count("taken for tokens; say") == 1
    assert dj.Dataset.from_arrays(Frame(numbers, names), LABELS, names).ids[3] == "p3"
    assert dj.Dataset.from_arrays(numbers, LABELS, kind="tokens").kind == "tokens"
    assert capsys.readouterr().err == ""


def test_what_is_said_of_columns_of_text():
    rows = Index(range(12))
    text = Frame(np.array([["cat"], ["dog"]] * 6, object), rows)
    with pytest.raises(dj.InputError, match=r"labels is a table of one column; give .*: labels\['c0'\]"):
        dj.Dataset.from_arrays(TABLE, text)
    with pytest.raises(dj.InputError, match=r"give the column: labels\['c0'\]"):
        dj.Dataset.from_arrays(TABLE, Frame(LABELS[:, None], rows))
    mixed = np.concatenate([np.ones((12, 1), object), text.values], axis=1)
    with pytest.raises(dj.InputError, match=r"column 'c1' holds str.*pandas.get_dummies\(inputs\)"):
        dj.Dataset.from_arrays(Frame(mixed, rows), LABELS)


def test_no_normalisation_can_be_asked_for():
    dataset = dj.Dataset.from_arrays(TABLE, LABELS, normalization=dj.Normalization((), ()))
    np.testing.assert_array_equal(dj.normalized_inputs(dataset), TABLE.astype(np.float32))
    assert "not normalised" in repr(dataset)
    pixels = RNG.integers(0, 256, (12, 4, 4, 3)).astype(np.uint8)
    raw = dj.Dataset.from_arrays(pixels, LABELS, normalization=dj.Normalization((), ()))
    np.testing.assert_array_equal(dj.normalized_inputs(raw), pixels)
    assert dj.normalized_inputs(raw).dtype == jnp.float32


@pytest.mark.parametrize(
    ("inputs", "kind", "message"),
    [
        (TABLE[..., None], None, r"no images \[n h w\]: give a table as \[n f\]"),
        (SIGNALS, None, r"kind='signals' for \[n t ch\]"),
        (TABLE[:, 0], None, r"inputs must have shape \[n \.\.\.\]"),
        (TABLE.astype(np.uint8), None, "kind='table' or kind='tokens'"),
        (TOKENS[..., None], None, 'kind="tokens" if these are numbers of tokens'),
        (RNG.normal(size=(12, 2, 2, 2, 2)), None, "kind='signals' if the last axis holds channels"),
        (TABLE, "images", r"images must have shape \[n h w ch\]"),
        (SIGNALS, "table", r"a table must have shape \[n f\]"),
        (TABLE, "signals", "add an axis of one channel"),
        (TABLE, "tokens", "tokens must be integers, got float64"),
        (TOKENS + 2**40, None, "tokens must fit 32 bits"),
        (TABLE, "tables", "kind must be one of images, table, signals, tokens"),
        (TABLE > 0, None, "table must be floating or integers, got bool"),
        (np.array([["a", "b"]] * 12), None, "table must be floating or integers"),
        (np.where(np.arange(5) == 2, np.nan, TABLE), None, "12 of 12 have NaN or infinite entries"),
    ],
)
def test_what_could_be_several_kinds_or_none_is_refused(inputs, kind, message, unchecked_types):
    with pytest.raises(InputError, match=message):
        dj.Dataset.from_arrays(inputs, LABELS, kind=kind)


def test_tokens_refuse_a_normalisation():
    with pytest.raises(InputError, match="tokens are not normalised"):
        dj.Dataset.from_arrays(TOKENS, LABELS, normalization=dj.Normalization((0.0,) * 7, (1.0,) * 7))


def test_what_is_for_images_says_so(unchecked_types):
    table = dj.Dataset.from_arrays(TABLE, LABELS, name="measured")
    with pytest.raises(InputError, match="measured holds table of shape \\(5,\\), no images"):
        _ = table.images
    with pytest.raises(InputError, match="no images"):
        _ = table.image_shape
    mlp = dj.create_model("mlp", num_classes=3, widths=(4,))
    with pytest.raises(InputError, match=r"augment crop_flip crops and flips images, .* are table"):
        dj.train(jax.random.key(0), mlp, table, config=dj.TrainConfig(steps=1, batch_size=4))
    config = dj.TrainConfig(steps=1, batch_size=4, augment="none")
    for name in ("cnn", "small_cnn", "resnet18", "vgg16"):
        with pytest.raises(InputError, match=r"takes images \[b h w ch\], got an array of shape \(1, 5\)"):
            dj.train(jax.random.key(0), dj.create_model(name, num_classes=3), table, config=config)


@pytest.mark.parametrize(
    ("load", "epochs"), [pytest.param(load_wine, 40, marks=pytest.mark.slow), (load_breast_cancer, 10)]
)
def test_a_table_equals_images_of_one_pixel_and_is_learned(load, epochs):
    """As [n f 1] with one mean for all features, which is refused now, wine trained to 0.69."""
    inputs, labels = load(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(labels))
    train, test = rows[: 2 * len(rows) // 3], rows[2 * len(rows) // 3 :]
    model = dj.create_model("mlp", num_classes=len(set(labels)))
    config = dj.TrainConfig(
        epochs=epochs, batch_size=16, learning_rate=0.05, schedule="cosine", augment="none"
    )
    keys, results = dj.seed_keys(0, "score", 2), []
    for shaped in (inputs, inputs[:, None, None, :]):
        splits = [dj.Dataset.from_arrays(shaped[train], labels[train])]
        splits.append(
            dj.Dataset.from_arrays(shaped[test], labels[test], normalization=splits[0].normalization)
        )
        scored = dj.score_ensemble(keys, model, splits[0], config=config, epoch=4)
        trained = dj.train_ensemble(keys, model, *splits, config=config)
        assert (trained.predicted == splits[1].labels).mean() >= 0.92
        results.append((scored.scores, trained.loss))
    assert set(results[0][0]) == {"el2n", "grand"}
    for ours, theirs in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


class Transformer(nn.Module):
    """Embedding, attention, mean: as small as can be."""

    @nn.compact
    def __call__(self, tokens, train: bool):
        x = nn.Embed(40, 8)(tokens)
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        x = nn.Dropout(0.1, deterministic=not train)(x)
        return nn.Dense(3)(x.mean(axis=1))


@pytest.mark.slow
def test_an_ensemble_on_tokens():
    """The class is the most frequent of three tokens: learned, and scored as one seed at a time."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(3, 40, (96, 7))
    labels = rng.integers(0, 3, 96)
    tokens[:, :4] = labels[:, None]
    dataset = dj.Dataset.from_arrays(rng.permuted(tokens, axis=1), labels)
    model, keys = dj.from_linen(Transformer()), dj.seed_keys(0, "score", 2)
    config = dj.TrainConfig(epochs=20, batch_size=16, learning_rate=0.1, augment="none")
    options = {"config": config, "step": 60, "names": ("el2n", "grand", "grand_last_layer", "forgetting")}
    together = dj.score_ensemble(keys, model, dataset, how="map", **options)
    alone = dj.score_ensemble(keys, model, dataset, how="loop", **options)
    for name, values in together.scores.items():
        np.testing.assert_allclose(values, alone.scores[name], rtol=1e-3, atol=1e-5)
    variables = dj.take_seed(alone.variables, 0)
    exact = dj.grand_vmap(model.predict, variables, dataset.inputs, dataset.labels)
    np.testing.assert_allclose(alone.scores["grand"][0], exact, rtol=1e-4)
    assert float(alone.history.accuracy[:, -6:].mean()) > 0.9
    with pytest.raises(InputError, match="input_norm"):
        dj.score_ensemble(keys, model, dataset, config=config, step=0, names=("input_norm",))


def test_examples_that_are_no_images_are_drawn_as_rows(tmp_path):
    dataset = dj.Dataset.from_arrays(TABLE, LABELS, ids=[f"sample-{i}" for i in range(12)])
    scores = np.linspace(0, 1, 12)[None]
    figure = draw_examples(dataset, dj.ScoreFile.from_seeds("el2n", scores, dataset, step=3))
    cells = figure.axes[0].tables[0].get_celld()
    texts = [[cells[row, column].get_text().get_text() for column in range(10)] for row in range(1, 13)]
    assert texts[0][:5] == ["hardest", "1", "sample-11", "11", "2"]
    assert texts[6][:3] == ["easiest", "0", "sample-0"]
    assert [line[3] for line in texts] == [*map(str, range(11, 5, -1)), *map(str, range(6))]
    assert texts[0][5] == f"{dataset.inputs[11, 0]:.4g}"
    note = "All 5 values, as stored. Hardest first, then the easiest, easiest first."
    assert note in [text.get_text() for text in figure.texts]
