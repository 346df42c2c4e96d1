"""What people have, and what becomes of it: taken and said, or refused with the line that converts it."""

import datetime
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import diet_jax as dj
from diet_jax.checks.arrays import WHITE
from diet_jax.errors import InputError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 6, 5, 3)).astype(np.uint8)
TABLE = RNG.normal(size=(12, 4))
LABELS = np.arange(12) % 3
NAMES = np.array(["cat", "dog", "owl"])
HOT = np.eye(3)[LABELS]
INPUTS = {"inputs": TABLE, "labels": LABELS}


class Column:
    """As a column or table of pandas or polars: values by `to_numpy`, and what else is given."""

    def __init__(self, values, **more):
        self.values = np.asarray(values)
        self.__dict__.update(more)

    def to_numpy(self):
        return self.values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, row):
        return self.values[row]


class CategoricalDtype:
    """As that of pandas."""

    def __init__(self, categories):
        self.categories = categories


class Categorical(CategoricalDtype):
    """As that of polars."""


class Index:
    """As the row names of a table of pandas."""

    def __init__(self, names):
        self.names = list(names)

    def __len__(self):
        return len(self.names)

    def equals(self, other):
        return self.names == other.names


class Lazy:
    """As a column of Hugging Face datasets: a length and items."""

    def __init__(self, items):
        self.items = list(items)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


class Tensor:
    """As a tensor of PyTorch that has a gradient: an array only once it is detached."""

    def __init__(self, values, dtype="torch.float32"):
        self.values, self.dtype, self.detached = np.asarray(values), dtype, False

    def detach(self):
        self.detached = True
        return self

    def cpu(self):
        return self

    def float(self):
        self.dtype = "torch.float32"
        return self

    def __array__(self, *_, **__):
        if not self.detached or self.dtype == "torch.bfloat16":
            raise TypeError("call detach(), and float() of bfloat16")
        return self.values


def pictures(mode="RGB", size=(5, 6)):
    return [Image.fromarray(pixels).convert(mode).resize(size) for pixels in PIXELS]


def objects(values):
    made = np.empty(len(values), object)
    made[:] = values
    return made


CAT = Column(NAMES[LABELS].astype(object), dtype=CategoricalDtype(["owl", "dog", "cat", "elk"]))
NUMBER_CAT = Column(LABELS, dtype=CategoricalDtype([2, 1, 0]))
MIXED = np.array([[0.5, 1, True]] * 12, object)

# What there is, the plain arrays that it means, what is said of it.
TAKEN = {
    "memory map": (lambda tmp: {"inputs": mapped(tmp)}, {"inputs": PIXELS}, None),
    "jax arrays": ({"inputs": jnp.asarray(PIXELS), "labels": jnp.asarray(LABELS)}, {"inputs": PIXELS}, None),
    "lists": ({"inputs": TABLE.tolist(), "labels": LABELS.tolist()}, {}, None),
    "tuples": ({"inputs": tuple(TABLE), "labels": tuple(LABELS)}, {}, None),
    "float16": ({"inputs": TABLE.astype(np.float16)}, {"inputs": TABLE.astype(np.float16)}, "were float16"),
    "bfloat16": (
        {"inputs": jnp.asarray(TABLE, jnp.bfloat16)},
        {"inputs": np.asarray(jnp.asarray(TABLE, jnp.bfloat16), np.float32)},
        "were bfloat16, stored as float32",
    ),
    "nothing masked": ({"inputs": np.ma.masked_array(TABLE)}, {}, None),
    "a table of one dtype": ({"inputs": Column(TABLE), "labels": Column(LABELS)}, {}, None),
    "a table of several": ({"inputs": MIXED}, {"inputs": MIXED.astype(float)}, None),
    "tables whose rows are named alike": (
        {"inputs": Column(TABLE, index=Index("abc")), "labels": Column(LABELS, index=Index("abc"))},
        {},
        None,
    ),
    "objects that are integers": ({"labels": LABELS.astype(object)}, {}, None),
    "objects that are arrays": ({"inputs": objects(list(PIXELS))}, {"inputs": PIXELS}, None),
    "tensors": ({"inputs": Tensor(TABLE), "labels": Tensor(LABELS, "torch.int64")}, {}, None),
    "a list of tensors": ({"inputs": [Tensor(row) for row in TABLE]}, {}, None),
    "a tensor of bfloat16": (
        {"inputs": Tensor(TABLE.astype(np.float32), "torch.bfloat16")},
        {"inputs": TABLE.astype(np.float32)},
        "inputs were torch.bfloat16, stored as float32",
    ),
    "Pillow images": ({"inputs": pictures()}, {"inputs": PIXELS}, None),
    "grey Pillow images in a lazy column": (
        {"inputs": Lazy(pictures("L"))},
        {"inputs": np.stack([np.asarray(image) for image in pictures("L")])},
        None,
    ),
    "text": (
        {"labels": NAMES[LABELS]},
        {"class_names": NAMES},
        "labels were text: its sorted values are the classes",
    ),
    "a list of text": ({"labels": NAMES[LABELS].tolist()}, {"class_names": NAMES}, "labels were text"),
    "a column of text": ({"labels": Column(NAMES[LABELS].astype(object))}, {"class_names": NAMES}, "text"),
    "text by given names": (
        {"labels": NAMES[LABELS], "class_names": NAMES[::-1].tolist()},
        {"labels": 2 - LABELS, "class_names": NAMES[::-1]},
        "labels were text, looked up in class_names",
    ),
    "digits as text": ({"labels": LABELS.astype(str)}, {}, "labels were text"),
    "a categorical keeps its order and what does not occur": (
        {"labels": CAT},
        {"labels": 2 - LABELS, "class_names": ["owl", "dog", "cat", "elk"]},
        "labels were a categorical",
    ),
    "a categorical of numbers is numbers": ({"labels": NUMBER_CAT}, {}, None),
    "a categorical that also has the categories of others is text": (
        {"labels": Column(NAMES[LABELS].astype(object), dtype=Categorical(["x", "cat", "dog", "owl"]))},
        {"class_names": NAMES},
        "labels were text",
    ),
    "booleans": (
        {"labels": LABELS > 0},
        {"labels": LABELS > 0, "class_names": ["False", "True"]},
        "labels were booleans: False is class 0",
    ),
    "booleans with names": (
        {"labels": LABELS > 0, "class_names": ["ham", "spam"]},
        {"labels": LABELS > 0, "class_names": ["ham", "spam"]},
        "labels were booleans",
    ),
    "a list of all classes, not all of which occur": (
        {"labels": LABELS + 1, "num_classes": 9},
        {"labels": LABELS + 1, "class_names": [str(c) for c in range(9)]},
        None,
    ),
    "one example": ({"inputs": TABLE[:1], "labels": [0]}, {"inputs": TABLE[:1], "labels": [0]}, None),
    "ids of a column": (
        {"ids": Column([f"a{i}" for i in range(12)])},
        {"ids": [f"a{i}" for i in range(12)]},
        None,
    ),
    "pixels in 0..1": ({"inputs": PIXELS / np.float32(255)}, {"inputs": PIXELS / np.float32(255)}, None),
    "what is named signals has its channels last": (
        {"inputs": np.zeros((12, 3, 8, 8)), "kind": "signals"},
        {"inputs": np.zeros((12, 3, 8, 8))},
        None,
    ),
}


def mapped(folder):
    np.save(folder / "pixels.npy", PIXELS)
    return np.load(folder / "pixels.npy", mmap_mode="r")


@pytest.mark.parametrize("case", TAKEN)
def test_what_can_be_meant_in_one_way_is_taken_and_said(case, tmp_path):
    given, meant, said = TAKEN[case]
    dataset = dj.Dataset.from_arrays(**INPUTS | (given(tmp_path) if callable(given) else given))
    meant = INPUTS | meant
    inputs = np.asarray(meant["inputs"])
    inputs = inputs[..., None] if inputs.ndim == 3 else inputs
    np.testing.assert_array_equal(dataset.inputs, inputs.astype(dataset.inputs.dtype))
    assert dataset.inputs.dtype == (np.uint8 if inputs.dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(dataset.labels, np.asarray(meant["labels"], np.int32))
    assert dataset.labels.dtype == np.int32
    names = meant.get("class_names", [str(c) for c in range(int(max(meant["labels"])) + 1)])
    assert dataset.class_names == tuple(names)
    assert dataset.ids.tolist() == list(meant.get("ids", range(len(inputs))))
    assert (said in repr(dataset)) if said else not dataset.conversions
    plain = dj.Dataset.from_arrays(
        dataset.inputs, dataset.labels, dataset.ids, kind=dataset.kind, num_classes=99
    )
    assert plain.fingerprint == dataset.fingerprint


# What there is, what the message says, the code that it gives, and what that code makes of it.
REFUSED = {
    "channels first": (
        {"inputs": PIXELS.transpose(0, 3, 1, 2)},
        "look like 3 channels first",
        "np.moveaxis(inputs, 1, -1)",
        {"inputs": PIXELS},
    ),
    "grey, channels first": (
        {"inputs": np.zeros((12, 1, 28, 28), np.uint8)},
        r"images of shape \(12, 1, 28, 28\) look like 1 channel first",
        "np.moveaxis(inputs, 1, -1)",
        {"inputs": np.zeros((12, 28, 28, 1), np.uint8)},
    ),
    "channels first, said to be images": (
        {"inputs": np.zeros((12, 3, 4, 4), np.float32), "kind": "images"},
        "channels first",
        "np.moveaxis(inputs, 1, -1)",
        {"inputs": np.zeros((12, 4, 4, 3))},
    ),
    "signals, channels first": (
        {"inputs": np.zeros((12, 2, 50))},
        "2 channels first",
        "np.moveaxis(inputs, 1, -1)",
        {"inputs": np.zeros((12, 50, 2)), "kind": "signals"},
    ),
    "pixels as int64": (
        {"inputs": PIXELS.astype(int)},
        "fit 8 bits",
        "np.asarray(inputs, np.uint8)",
        {"inputs": PIXELS},
    ),
    "deep pixels": (
        {"inputs": PIXELS.astype(np.uint16) * 200},
        "images must be uint8 or floating, got uint16.*they go from 0 to 51000",
        "np.asarray(inputs, np.float32)",
        {"inputs": PIXELS * np.float32(200)},
    ),
    "flat pixels": (
        {"inputs": PIXELS.reshape(12, -1)[:, :81]},
        "reshape pixels",
        "np.reshape(inputs, (-1, 9, 9))",
        {"inputs": PIXELS.reshape(12, -1)[:, :81].reshape(12, 9, 9)},
    ),
    "black and white": (
        {"inputs": PIXELS > 99},
        "images must be uint8 or floating, got bool",
        "np.asarray(inputs, np.float32)",
        {"inputs": (PIXELS > 99) * np.float32(1)},
    ),
    "complex": (
        {"inputs": TABLE * 1j},
        "real numbers, got complex128",
        "np.abs(inputs)",
        {"inputs": abs(TABLE)},
    ),
    "times": (
        {"inputs": np.zeros((12, 3), "datetime64[D]")},
        "got datetime64",
        "np.asarray(inputs, 'datetime64[s]').astype(np.int64)",
        {"inputs": np.zeros((12, 3), np.int64)},
    ),
    "NaN": (
        {"inputs": np.where(TABLE[3, 1] == TABLE, np.nan, TABLE)},
        "1 of 12 have NaN.*row 3",
        "np.nan_to_num(inputs)",
        {"inputs": np.where(TABLE[3, 1] == TABLE, 0, TABLE)},
    ),
    "beyond float32": (
        {"inputs": TABLE * 1e300},
        "12 of 12 have entries beyond 3.4e38, the first",
        None,
        None,
    ),
    "pixels beyond float32": (
        {"inputs": np.where(PIXELS[4, 0, 0, 0] == PIXELS, 1e39, PIXELS)},
        "images are stored as float32, and 3 of 12 have pixels beyond 3.4e38, the first is row 3",
        None,
        None,
    ),
    "a table as columns of pixels": (
        {"inputs": TABLE[:, :, None, None]},
        "features would share a mean",
        "np.reshape(inputs, (len(inputs), -1))",
        {"inputs": TABLE},
    ),
    "a table as rows of pixels": (
        {"inputs": TABLE[:, None, :, None]},
        "features would share a mean",
        "np.reshape(inputs, (len(inputs), -1))",
        {"inputs": TABLE},
    ),
    "numbers written as text": (
        {"inputs": np.round(TABLE, 2).astype(str)},
        "table must be floating or integers, got <U",
        "np.asarray(inputs, np.float32)",
        {"inputs": np.round(TABLE, 2).astype(str).astype(np.float32)},
    ),
    "a table with examples last": (
        {"inputs": TABLE.T},
        "with 12 labels look like examples last",
        "inputs.T",
        {"inputs": TABLE},
    ),
    "images with examples last": (
        {"inputs": np.moveaxis(PIXELS, 0, -1)},
        "with 12 labels look like examples last",
        "np.moveaxis(inputs, -1, 0)",
        {"inputs": PIXELS},
    ),
    "one text for all names": (
        {"inputs": PIXELS, "class_names": "abc"},
        "class_names must be a list of one name per class, got 'abc'",
        None,
        None,
    ),
    "masked": (
        {"inputs": np.ma.masked_array(TABLE, TABLE[2, 2] == TABLE)},
        "inputs has 1 masked of 48 entries",
        "inputs.filled(0)",
        {"inputs": np.where(TABLE[2, 2] == TABLE, 0, TABLE)},
    ),
    "None in a table": (
        {"inputs": np.where(TABLE[5, 1] == TABLE, None, TABLE)},
        "column 1, has 1 missing.*row 5",
        None,
        None,
    ),
    "text in a table": (
        {
            "inputs": Column(
                np.where([True, False, False, False], "x", MIXED[:, [0, 1, 2, 0]]), columns=list("wxyz")
            )
        },
        r"inputs: column 'w' holds str, such as 'x'; make a column of 0 and 1 .*get_dummies",
        None,
        None,
    ),
    "ragged": (
        {"inputs": [np.zeros(4)] * 11 + [np.zeros(3)]},
        r"the first is \(4,\), row 11 is \(3,\)",
        "np.stack([one[:3] for one in inputs])",
        {"inputs": np.zeros((12, 3))},
    ),
    "ragged lists": ({"inputs": [[1.0, [2.0]]] * 12}, "pad them", None, None),
    "rows that are None": ({"inputs": [None, *TABLE[1:]]}, "1 missing of 12 entries.*row 0", None, None),
    "pairs": ({"inputs": [(row, 1) for row in TABLE]}, "pairs; take them apart", None, None),
    "records": (
        {"inputs": [{"x": row, "y": 1} for row in TABLE]},
        "list of dicts with 'x', 'y'",
        "[row['x'] for row in inputs]",
        {},
    ),
    "a dict of columns": ({"inputs": {"x": TABLE}}, "dict of 1 columns", "inputs['x']", {}),
    "a generator": (
        {"labels": iter([0, 1])},
        r"labels is a list_iterator, read once; give list\(labels\)",
        None,
        None,
    ),
    "a set": ({"labels": {0, 1}}, "labels is a set, without an order", None, None),
    "named fields": (
        {"inputs": np.zeros(12, [("a", float), ("b", float)])},
        "the named fields a, b",
        "np.stack([inputs[field] for field in inputs.dtype.names], axis=-1)",
        {"inputs": np.zeros((12, 2))},
    ),
    "palette images": (
        {"inputs": pictures("P")},
        "Pillow images of the mode P",
        f"[{WHITE} for image in inputs]",
        {"inputs": np.stack([np.asarray(image.convert("RGB")) for image in pictures("P")])},
    ),
    "grey and colour images": (
        {"inputs": [*pictures("L")[:4], *pictures()[4:]]},
        "modes L, RGB",
        '[image.convert("RGB") for image in inputs]',
        {"inputs": np.stack([np.asarray(i.convert("RGB")) for i in [*pictures("L")[:4], *pictures()[4:]]])},
    ),
    "images of several sizes": (
        {"inputs": [*pictures()[:4], *pictures(size=(7, 7))[4:]]},
        "images of 2 sizes",
        "[image.resize((5, 6)) for image in inputs]",
        None,
    ),
    "one-hot": ({"labels": HOT}, "they are one-hot", "labels.argmax(1)", {}),
    "a list of one-hot": ({"labels": HOT.tolist()}, "they are one-hot", "np.asarray(labels).argmax(1)", {}),
    "a table of one-hot": ({"labels": Column(HOT)}, "they are one-hot", "np.asarray(labels)", None),
    "probabilities": ({"labels": HOT * 0.7 + 0.1}, "they are probabilities", "labels.argmax(1)", {}),
    "several labels": ({"labels": HOT + np.eye(3)[0] * (LABELS == 1)[:, None]}, "row 1 has 2", None, None),
    "a column of labels": ({"labels": LABELS[:, None]}, r"got \(12, 1\)", "labels[:, 0]", {}),
    "one-hot, turned": ({"labels": HOT.T}, "a column for each example", "labels.T", None),
    "whole floats": ({"labels": LABELS * 1.0}, "got float64; all are whole", "labels.astype(int)", {}),
    "a quantity": ({"labels": TABLE[:, 0]}, "such as .*no classes; np.digitize", None, None),
    "floats with NaN": (
        {"labels": np.where(LABELS > 1, np.nan, 1.0)},
        "4 of 12 NaN.*first in row 2",
        None,
        None,
    ),
    "from 1": ({"labels": LABELS + 1}, "labels go from 1 to 3 and class 0 never occurs", "labels - 1", {}),
    "from 1 with the number of classes": (
        {"labels": LABELS + 1, "num_classes": 3},
        r"0\.\.2 \(num_classes is 3\): 4 of 12 do not.*they start from 1",
        "labels - 1",
        {},
    ),
    "-1 and 1": (
        {"labels": np.where(LABELS > 0, 1, -1), "num_classes": 2},
        "4 of 12 do not, the first is -1 in row 0",
        "np.unique(labels, return_inverse=True)[1]",
        {"labels": np.where(LABELS > 0, 1, 0)},
    ),
    "numbers with gaps": (
        {"labels": LABELS * 100 + 7},
        "up to 207 with only 12 examples",
        "np.unique(labels, return_inverse=True)[1]",
        {},
    ),
    "numbers as text": (
        {"labels": (LABELS * 5).astype(str)},
        "numbers written as text",
        "labels.astype(int)",
        {"labels": LABELS * 5},
    ),
    "other names": (
        {"labels": NAMES[LABELS], "class_names": ["cat", "dog", "elk"]},
        "1 texts that are none of the 3 class_names.*'owl' in row 2",
        None,
        None,
    ),
    "names in two cases": (
        {"labels": np.where(np.arange(12) == 3, "Cat ", NAMES[LABELS])},
        "4 names, 3 without upper case",
        "[c.strip().lower() for c in labels]",
        {},
    ),
    "empty names": (
        {"labels": np.where(LABELS > 1, "", NAMES[LABELS])},
        "empty text, the first in row 2",
        None,
        None,
    ),
    "names and NaN": ({"labels": [*NAMES[LABELS][:11], float("nan")]}, "1 missing of 12.*row 11", None, None),
    "names and numbers": (
        {"labels": [*NAMES[LABELS][:11].tolist(), 2]},
        "labels mixes int and str",
        None,
        None,
    ),
    "a name for each example": ({"labels": [f"x{i}" for i in range(12)]}, "are they ids", None, None),
    "bytes": (
        {"labels": NAMES[LABELS].astype("S")},
        "got bytes",
        "np.char.decode(labels)",
        {"class_names": NAMES},
    ),
    "True and False of ten classes": (
        {"labels": LABELS > 0, "num_classes": 10},
        "True and False but there are 10 classes",
        "labels.astype(int)",
        {"labels": LABELS > 0},
    ),
    "dates as labels": (
        {"labels": [datetime.date(2020, 1, 1)] * 12},
        r"labels .*\(date\), no numbers or text|labels must be integers, got",
        None,
        None,
    ),
    "missing labels": ({"labels": [None, *LABELS[1:]]}, r"1 missing of 12 entries \(None\)", None, None),
    "one label": (
        {"labels": 1},
        r"shape \(12,\), one for each of the 12 examples of arrays; got \(\)",
        None,
        None,
    ),
    "no examples": (
        {"inputs": [], "labels": []},
        r"inputs must have shape \[n \.\.\.\].*got \(0,\)",
        None,
        None,
    ),
    "tables in other orders": (
        {"inputs": Column(TABLE, index=Index("abc")), "labels": Column(LABELS, index=Index("acb"))},
        r"labels\.loc\[inputs\.index\]",
        "labels.to_numpy()",
        {},
    ),
    "ids of bytes": (
        {"ids": np.arange(12).astype("S")},
        "got",
        "np.char.decode(ids)",
        {"ids": [*"0123456789", "10", "11"]},
    ),
    "ids of floats": ({"ids": np.arange(12.0)}, "got float64", "ids.astype(str)", None),
    "a mean of pixels in 0..1": (
        {"inputs": PIXELS, "normalization": dj.Normalization((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))},
        "means up to 0.49.*images go up to 255",
        "dj.Normalization(*np.multiply(255, normalization))",
        None,
    ),
    "pixels in 0..1 with a mean in 0..255": (
        {"inputs": PIXELS / 255, "normalization": dj.Normalization((125.0,) * 3, (60.0,) * 3)},
        "means from 125.*images go up to 1",
        "255 * np.asarray(inputs)",
        None,
    ),
}
# Which argument the code of a message stands for, where not for the first one that was given.
STANDS_FOR = {"a mean of pixels in 0..1": "normalization", "tables in other orders": "labels"}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_guessed_is_refused_with_the_line_that_converts(case, unchecked_types):
    given, message, code, meant = REFUSED[case]
    with pytest.raises(InputError, match=message) as raised:
        dj.Dataset.from_arrays(**INPUTS | given)
    if code is None:
        return
    assert code in str(raised.value)
    converted = eval(code, {"np": np, "dj": dj, "Image": Image, **given})
    name = STANDS_FOR.get(case, next(iter(given)))
    options = {key: value for key, value in given.items() if key not in ("kind", "num_classes")}
    options[name] = converted
    if "signals" in case:
        options["kind"] = "signals"
    if meant is None:
        return
    dataset = dj.Dataset.from_arrays(**INPUTS | options)
    expected = dj.Dataset.from_arrays(**INPUTS | {"num_classes": dataset.num_classes} | meant)
    assert dataset.fingerprint == expected.fingerprint


PAGE = (Path(__file__).parents[2] / "docs/own-data.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Arrays, tables, labels, masks and files")[1].split("\n##")[0]
PAGE_ROWS = [line.split(" | ") for line in SECTION.splitlines() if line.startswith("| ")][2:]


@pytest.mark.parametrize("row", PAGE_ROWS, ids=lambda row: row[0])
def test_the_rows_of_the_page_on_own_data(row, unchecked_types):
    """What a row has is refused as it is, unless the row says to give it so; what the row says runs."""
    names: dict = {}
    (setup,) = re.findall(r"```python\n(.*?)print", SECTION, re.DOTALL)
    _, example, remedy = (re.findall(r"`(.*?)`", cell) for cell in row)
    exec(f"{setup}\n{example[0]}", names)
    made = eval(remedy[0], names)
    assert len(made) in (2, 6)
    plain = "dj.Dataset.from_arrays(inputs, labels)"
    if remedy[0] != plain and not re.search("keep|test|class_names|frame", "".join(row)):
        with pytest.raises(InputError):
            eval(plain, names)


@pytest.mark.parametrize(
    ("options", "labels", "message"),
    [
        (
            {"class_names": {"cat", "dog"}},
            [0, 1, 0],
            r"got a set, which has none: give sorted\(class_names\)",
        ),
        (
            {"class_names": {"dog": 1, "cat": 0}},
            [0, 1, 0],
            r"give sorted\(class_names, key=class_names.get\)",
        ),
        ({"num_classes": 3.0}, [0, 1, 2], r"num_classes must be an integer, got 3.0 \(float\)"),
        ({"num_classes": "3"}, [0, 1, 2], "num_classes must be an integer, got '3'"),
        ({}, np.array(["cat", np.nan, "dog"]), "'nan' among their texts"),
        ({}, np.array(["cat", None, "dog"], object).astype(str), "'None' among their texts"),
    ],
)
def test_what_has_no_order_or_is_missing_is_no_class(options, labels, message, unchecked_types):
    inputs = np.zeros((3, 4), np.float32)
    with pytest.raises(InputError, match=message):
        dj.Dataset.from_arrays(inputs, labels, **options)


THREE = TABLE[:, :3]
OTHER = dj.Normalization((5.0, 0.0, 0.0), (1.0, 1.0, 1.0))
FAR_OFF = {
    "its own": (THREE, dj.Dataset.from_arrays(THREE, LABELS).normalization, None),
    "a column three deviations away": (THREE, OTHER, "mean of 1 feature lies far .* feature 0 .* from 5:"),
    "too few rows": (THREE[:9], OTHER, None),
    "left as they are": (THREE + 100, dj.Normalization((0.0,) * 3, (1.0,) * 3), None),
    "not normalised": (THREE + 100, dj.Normalization((), ()), None),
    "columns in another order": (
        THREE[:, [1, 0, 2]] + np.array([50, 0, 0]),
        dj.Normalization((0.0, 50.0, 0.0), (1.0, 1.0, 1.0)),
        "mean of 2 features lies far .* are the columns in another order, or in another unit",
    ),
    "another unit": (
        THREE + np.array([0, 1700, 0]),
        dj.Normalization((0.0, 1.7, 0.0), (1.0, 0.1, 1.0)),
        r"mean of 1 feature lies far .* feature 1 \(1[67]\d\d\)",
    ),
}


@pytest.mark.parametrize("case", FAR_OFF)
def test_columns_far_from_where_their_normalisation_was_measured_are_called_out(case, capsys):
    inputs, normalization, said = FAR_OFF[case]
    dj.Dataset.from_arrays(inputs, LABELS[: len(inputs)], split="test", normalization=normalization)
    err = capsys.readouterr().err
    if said is None:
        assert err == ""
    else:
        assert re.search(f"^warning: arrays/test: the {said}", err)


class Frame(Column):
    """As a table of polars."""

    columns = ("a", "b")

    def to_dummies(self):
        raise AssertionError("not ours to call")


class LazyFrame:
    """As one of polars that is not computed: it warns who asks for its columns."""

    @property
    def columns(self):
        raise AssertionError("a computation")

    def collect(self):
        raise AssertionError("not ours to call")


def test_frames_of_polars_are_told_in_its_words(unchecked_types):
    text = np.array([[0.5, "x"]] * 12, object)
    with pytest.raises(InputError, match=r"column 'b' holds str.*\(inputs\.to_dummies\('b'\) does\)"):
        dj.Dataset.from_arrays(Frame(text), LABELS)
    with pytest.raises(InputError, match=r"give inputs\.collect\(\)"):
        dj.Dataset.from_arrays(LazyFrame(), LABELS)
