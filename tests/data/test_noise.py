"""Label noise: how many labels change, where, and to what; files of labels."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diet_jax.data.dataset import Dataset, fingerprint
from diet_jax.data.labels import new_labels_remark, read_labels, read_matrix
from diet_jax.data.noise import NOISE_MODES, _classes_at, flip_labels, replace_labels
from diet_jax.errors import InputError

PAGE = (Path(__file__).parents[2] / "docs/own-data.md").read_text(encoding="utf-8")
PAGE_ROWS = [
    line.strip("| ").split(" | ")
    for line in PAGE.split("### Labels from a CSV file")[1].split("\n## ")[0].splitlines()
    if line.startswith("| ")
][2:]
COUNT, CLASSES = 6000, 5
KEY = jax.random.key(7)
CYCLE = np.roll(np.eye(CLASSES), 1, axis=1)
MATRIX = np.array(
    [
        [0.7, 0.3, 0.0, 0.0, 0.0],
        [0.1, 0.2, 0.3, 0.4, 0.0],
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [0.2, 0.2, 0.2, 0.2, 0.2],
        [0.0, 0.5, 0.0, 0.5, 0.0],
    ]
)


def many(labels=None) -> Dataset:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(COUNT) % CLASSES) if labels is None else labels
    images = rng.integers(0, 256, (len(labels), 2, 2), dtype=np.uint8)
    ids = [f"example {row}" for row in range(len(labels))]
    return Dataset.from_arrays(images, labels, ids, num_classes=CLASSES, name="many")


@pytest.fixture(scope="module")
def clean():
    return many()


def flip(dataset, fraction, mode, key=KEY, matrix=None):
    matrix = MATRIX if mode == "matrix" and matrix is None else matrix
    return flip_labels(key, dataset, fraction, mode=mode, matrix=matrix)


def chosen_rows(dataset, fraction, key=KEY):
    """Every chosen example moves to the next class: what changes is what was chosen."""
    return flip(dataset, fraction, "matrix", key, CYCLE).changed


def is_near(count, trials, probability):
    """Within five standard deviations of a binomial distribution."""
    return abs(count - trials * probability) < 5 * np.sqrt(trials * probability * (1 - probability))


@pytest.mark.parametrize("mode", NOISE_MODES)
@pytest.mark.parametrize("fraction", [0.0, 0.1, 1 / 3, 1.0])
def test_only_labels_change_and_changed_says_which(clean, mode, fraction):
    before = clean.labels.copy()
    noisy, changed = flip(clean, fraction, mode)
    np.testing.assert_array_equal(clean.labels, before)
    assert noisy.images is clean.images
    assert noisy.ids is clean.ids
    assert (noisy.name, noisy.split, noisy.num_classes) == (clean.name, clean.split, clean.num_classes)
    assert noisy.normalization == clean.normalization
    assert noisy.labels.dtype == np.int32
    assert not noisy.labels.flags.writeable
    assert noisy.labels.min() >= 0
    assert noisy.labels.max() < CLASSES
    assert changed.dtype == bool
    assert changed.tolist() == [a != b for a, b in zip(noisy.labels, clean.labels, strict=True)]
    assert noisy.fingerprint == fingerprint(clean.images, noisy.labels, clean.ids)
    assert (noisy.fingerprint == clean.fingerprint) == (fraction == 0)
    rebuilt = Dataset.from_arrays(noisy.images, noisy.labels, noisy.ids, num_classes=CLASSES)
    assert rebuilt.fingerprint == noisy.fingerprint


@pytest.mark.parametrize("mode", NOISE_MODES)
def test_the_key_decides(clean, mode):
    first, again = flip(clean, 0.2, mode), flip(clean, 0.2, mode)
    np.testing.assert_array_equal(first.dataset.labels, again.dataset.labels)
    other = flip(clean, 0.2, mode, jax.random.key(8))
    assert (first.dataset.labels != other.dataset.labels).mean() > 0.05


@pytest.mark.parametrize("mode", NOISE_MODES)
def test_every_mode_chooses_the_same_examples(clean, mode):
    chosen = chosen_rows(clean, 0.2)
    changed = flip(clean, 0.2, mode).changed
    assert not (changed & ~chosen).any()
    assert changed.sum() > 0.3 * chosen.sum()


def test_a_smaller_fraction_is_a_part_of_a_larger_one(clean):
    small, large = chosen_rows(clean, 0.1), chosen_rows(clean, 0.3)
    assert not (small & ~large).any()
    for mode in ("uniform", "different", "matrix"):
        few, more = flip(clean, 0.1, mode).dataset.labels, flip(clean, 0.3, mode).dataset.labels
        np.testing.assert_array_equal(few[small], more[small])


@pytest.mark.parametrize(
    ("count", "fraction", "chosen"),
    [(6000, 0.1, 600), (5, 0.5, 3), (5, 0.3, 2), (7, 0.5, 4), (9, 0.05, 0), (10, 0.05, 1), (10, 1, 10)],
)
def test_exactly_so_many_are_chosen(count, fraction, chosen):
    dataset = many(np.arange(count) % CLASSES)
    assert flip(dataset, fraction, "different").changed.sum() == chosen
    assert chosen_rows(dataset, fraction).sum() == chosen


def test_the_chosen_are_spread_over_the_rows(clean):
    for part in np.split(chosen_rows(clean, 0.25), 4):
        assert is_near(part.sum(), len(part), 0.25)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_permuting_keeps_the_class_counts(clean, fraction):
    noisy, changed = flip(clean, fraction, "permute")
    np.testing.assert_array_equal(np.bincount(noisy.labels), np.bincount(clean.labels))
    chosen = chosen_rows(clean, fraction)
    np.testing.assert_array_equal(np.bincount(noisy.labels[chosen]), np.bincount(clean.labels[chosen]))
    assert is_near(changed.sum(), chosen.sum(), 1 - 1 / CLASSES)


def test_permuting_unbalanced_classes():
    """Two draws without replacement have the same class more often: the closed form counts pairs."""
    labels = np.repeat(np.arange(CLASSES), [3000, 1500, 900, 500, 100])
    noisy, changed = flip(many(labels), 1.0, "permute")
    counts = np.bincount(labels)
    np.testing.assert_array_equal(np.bincount(noisy.labels), counts)
    assert is_near(changed.sum(), COUNT, 1 - np.square(counts / COUNT).sum())


def test_a_permutation_is_a_random_one(clean):
    """Each noisy class is spread over the clean classes as they are: no pair of classes is preferred."""
    noisy, _ = flip(clean, 1.0, "permute")
    for old in range(CLASSES):
        for new in range(CLASSES):
            both = (clean.labels == old) & (noisy.labels == new)
            assert is_near(both.sum(), COUNT / CLASSES, 1 / CLASSES)


@pytest.mark.parametrize(
    ("mode", "transitions"),
    [
        ("uniform", np.full((CLASSES, CLASSES), 1 / CLASSES)),
        ("different", (1 - np.eye(CLASSES)) / (CLASSES - 1)),
        ("matrix", MATRIX),
    ],
)
def test_how_often_a_class_becomes_another(clean, mode, transitions):
    chosen = chosen_rows(clean, 0.9)
    noisy, _ = flip(clean, 0.9, mode)
    np.testing.assert_array_equal(noisy.labels[~chosen], clean.labels[~chosen])
    for old in range(CLASSES):
        of_old = chosen & (clean.labels == old)
        for new in range(CLASSES):
            seen = (of_old & (noisy.labels == new)).sum()
            if transitions[old, new] in (0, 1):
                assert seen == of_old.sum() * transitions[old, new]
            else:
                assert is_near(seen, of_old.sum(), transitions[old, new])


def test_matrices_that_leave_nothing_to_chance(clean):
    assert not flip(clean, 1.0, "matrix", matrix=np.eye(CLASSES)).changed.any()
    noisy, changed = flip(clean, 0.4, "matrix", matrix=CYCLE)
    assert changed.sum() == 2400
    np.testing.assert_array_equal(noisy.labels, (clean.labels + changed) % CLASSES)


def test_a_matrix_may_be_rounded_and_of_any_kind(clean):
    third = np.full((CLASSES, CLASSES), [0.3333333, 0.3333333, 0.3333333, 0, 0])
    noisy, _ = flip(clean, 1.0, "matrix", matrix=third)
    assert set(noisy.labels.tolist()) == {0, 1, 2}
    as_jax = flip(clean, 0.5, "matrix", matrix=jnp.asarray(CYCLE, jnp.float32))
    np.testing.assert_array_equal(
        as_jax.dataset.labels, flip(clean, 0.5, "matrix", matrix=CYCLE.tolist()).dataset.labels
    )


def test_the_lowest_and_highest_draws_are_possible_classes():
    """Too rare to be met by chance: 0, a limit itself, and the last number below 1."""
    rows = np.array([[0.0, 0.5, 0.0, 0.5, 0.0], [0.3333333, 0.3333333, 0.3333333, 0.0, 0.0]])
    level = np.array([0.0, 0.5, 1 - 2.0**-32])
    assert _classes_at(level, rows, np.zeros(3, np.int32)).tolist() == [1, 3, 3]
    assert _classes_at(level, rows, np.ones(3, np.int32)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("fraction", [-0.1, 1.0001, float("nan"), float("inf")])
def test_a_fraction_is_a_share(clean, fraction):
    with pytest.raises(InputError, match="fraction must be at least 0 and at most 1"):
        flip(clean, fraction, "uniform")


def test_an_unknown_mode_names_the_others(clean, unchecked_types):
    with pytest.raises(InputError, match="permute, uniform, different, matrix, got 'symmetric'"):
        flip_labels(KEY, clean, 0.1, mode="symmetric")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "matrix", "message"),
    [("matrix", None, "needs a matrix"), ("uniform", MATRIX, "belongs to the mode 'matrix'")],
)
def test_a_matrix_goes_with_its_mode(clean, mode, matrix, message):
    with pytest.raises(InputError, match=message):
        flip_labels(KEY, clean, 0.1, mode=mode, matrix=matrix)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(4), r"shape \(5, 5\).*got \(4, 4\)"),
        (np.ones(CLASSES), r"got \(5,\)"),
        (np.eye(CLASSES) * 0.99, "row 0 sums to 0.99"),
        (np.eye(CLASSES) + np.diag([0, 0, 2e-6, 0, 0]), "row 2 sums to 1.000002"),
        (np.eye(CLASSES) + np.array([-0.5, 0.5, 0, 0, 0]), "got -0.5 in row 1, column 0"),
        (np.where(np.eye(CLASSES) > 0, np.nan, 0), "got nan in row 0, column 0"),
    ],
)
def test_a_matrix_holds_probabilities(clean, matrix, message):
    with pytest.raises(InputError, match=message):
        flip_labels(KEY, clean, 0.1, mode="matrix", matrix=matrix)


def test_one_class_has_no_other():
    dataset = Dataset.from_arrays(np.zeros((4, 2, 2), np.uint8), [0, 0, 0, 0])
    assert not flip_labels(KEY, dataset, 1.0, mode="uniform").changed.any()
    with pytest.raises(InputError, match="only 1 class"):
        flip_labels(KEY, dataset, 1.0, mode="different")


def test_labels_from_elsewhere(clean):
    labels = clean.labels.astype(np.int64)
    labels[[3, 10]] = (labels[[3, 10]] + 2) % CLASSES
    noisy, changed = replace_labels(clean, labels)
    assert np.flatnonzero(changed).tolist() == [3, 10]
    np.testing.assert_array_equal(noisy.labels, labels)
    assert noisy.fingerprint == fingerprint(clean.images, labels.astype(np.int32), clean.ids)
    same = replace_labels(clean, clean.labels)
    assert same.dataset.fingerprint == clean.fingerprint
    # The array stays the caller's.
    labels[0] = -1
    given = clean.labels.copy()
    noisy, _ = replace_labels(clean, given)
    given[0] = 4 - given[0] if given[0] != 2 else 0
    assert noisy.labels[0] == clean.labels[0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3, np.int32), r"6000 examples of many; got \(3,\)"),
        (np.zeros(COUNT), "got float64"),
        (np.full(COUNT, 5), "6000 of 6000 do not, the first is 5 in row 0"),
        (
            np.arange(COUNT) % CLASSES - (np.arange(COUNT) == 10),
            "1 of 6000 do not, the first is -1 in row 10",
        ),
    ],
)
def test_labels_from_elsewhere_must_fit(clean, labels, message):
    with pytest.raises(InputError, match=message):
        replace_labels(clean, labels)


@pytest.fixture
def pets():
    images = np.zeros((4, 2, 2), np.uint8)
    return Dataset.from_arrays(images, [0, 1, 2, 0], [10, 5, 7, 1], class_names=["cat", "dog", "owl"])


def write(folder, text, encoding="utf-8"):
    path = folder / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "id,label\n10,2\n5,0\n7,1\n1,1\n",
        "id,label\n1,dog\n7,dog\n5,cat\n10,owl",
        "id, label\r\n1, dog \r\n\r\n7, 1\r\n5,cat\r\n10,owl\r\n",
        '\ufeffid,label\n"1","dog"\n7,dog\n5,cat\n10,owl\n',
    ],
)
def test_labels_are_joined_by_id(tmp_path, pets, text):
    labels = read_labels(write(tmp_path, text), pets)
    assert labels.dtype == np.int32
    assert labels.tolist() == [2, 0, 1, 1]
    assert replace_labels(pets, labels).changed.tolist() == [True, True, True, True]


def test_ids_that_are_text(tmp_path):
    dataset = Dataset.from_arrays(np.zeros((2, 2, 2), np.uint8), [0, 1], ["a,b", "07"])
    assert read_labels(write(tmp_path, 'id,label\n07,0\n"a,b",1\n'), dataset).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the first line must be 'id,label', got ''"),
        ("10,2\n5,0\n", "line 1: the first line must be 'id,label', got '10,2'"),
        ("id,label\n10,2\n5\n", "line 3: a line holds an id and a label, got 1 cell;"),
        ("id,label\n10,2,1\n", "line 2: a line holds an id and a label, got 3 cells"),
        ("id,label\n10,2\n\n11,0\n", "line 4: no example of arrays/train has the id '11'; its ids.*'10'"),
        ("id,label\n10,2\n010,2\n", "line 3: no example.*'010'"),
        ("id,label\n10,2\n5,0\n10,2\n", "line 4: the id '10' was in line 2 already; keep one"),
        ("id,label\n10,3\n", "line 2: '3' is no class; give a number from 0 to 2 or a name such as 'cat'"),
        ("id,label\n10,-1\n", "line 2: '-1' is no class"),
        ("id,label\n10,1.0\n", "line 2: '1.0' is no class but a decimal number.*: 1; give"),
        ("id,label\n10,Cat\n", "'Cat' is no class; give a number from 0 to 2 or a name such as 'cat', 'dog'"),
        ("id,label\n10,Cat\n5,0\n7,x\n", "line 2: 'Cat' .*; it is the first of 2 such lines, of 3"),
        ("id,label\n10,\n", "line 2: the cell of the label is empty"),
        ("id,label\n10,0\n1,0\n", "2 of 4 examples have no line, the first has the id '5'; add a line"),
        ('id,label\n10,"0\n', "not a CSV file in UTF-8"),
    ],
)
def test_label_files_that_do_not_fit(tmp_path, pets, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as raised:
        read_labels(path, pets)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ([1, 2, 3, 1, 2], "every label is one higher than the data's own: class numbers start from 0"),
        ([2, 3, 0, 3, 2], "0.00% of the labels are the data's own, and would be about 25% by chance"),
        ([0, 2, 3, 1, 2], ""),
        ([0, 1, 2, 0, 1], ""),
    ],
)
def test_labels_that_mean_something_else_are_said(after, said):
    remark = new_labels_remark(np.array([0, 1, 2, 0, 1], np.int32), np.array(after, np.int32), 4)
    assert remark[: len(said)] == said
    assert bool(remark) == bool(said)


@pytest.mark.parametrize("row", PAGE_ROWS, ids=lambda row: row[0])
def test_the_rows_of_the_page_on_label_files(tmp_path, pets, row):
    """What a row has is taken, or is refused in the words that the row names."""
    _, lines, remedy = row
    (text,) = re.findall(r"`(.*?)`", lines)
    path = write(tmp_path, text.replace("/", "\n"))
    if remedy.startswith("nothing"):
        assert len(read_labels(path, pets)) == len(pets)
    else:
        (said,) = re.findall(r'"(.*?)"', remedy)
        with pytest.raises(InputError, match=re.escape(said)):
            read_labels(path, pets)


def test_label_files_that_are_none(tmp_path, pets):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_labels(tmp_path / "none.csv", pets)
    with pytest.raises(InputError, match="not a CSV file in UTF-8"):
        read_labels(write(tmp_path, "id,label\n10,cät\n", "latin-1"), pets)


def test_class_names_that_are_other_numbers(tmp_path):
    """Folders 1, 10, 2 are the classes 0, 1, 2: nobody knows what "1" or "2" means."""
    images = np.zeros((2, 2, 2), np.uint8)
    dataset = Dataset.from_arrays(images, [0, 1], ["a", "b"], class_names=["1", "10", "2"])
    assert read_labels(write(tmp_path, "id,label\na,10\nb,0\n"), dataset).tolist() == [1, 0]
    with pytest.raises(InputError, match="line 3: '1' could mean the classes number 1 and 0; put the labels"):
        read_labels(write(tmp_path, "id,label\na,10\nb,1\n"), dataset)


def test_a_matrix_from_a_file(tmp_path, clean):
    text = "\n".join(", ".join(f"{value:g}" for value in row) for row in MATRIX)
    matrix = read_matrix(write(tmp_path, text + "\n"))
    assert matrix.dtype == np.float64
    np.testing.assert_array_equal(matrix, MATRIX)
    np.testing.assert_array_equal(
        flip(clean, 0.5, "matrix", matrix=matrix).dataset.labels, flip(clean, 0.5, "matrix").dataset.labels
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,0\n", "line 1: every cell must be a number, got 'a,b'; leave out headings"),
        ("1,0\n1,\n", "line 2: every cell must be a number"),
        ("1,0\n1\n", "line 2: 1 number, but 2 in the first line"),
        ("1,0\n", "got 1 row of 2"),
        ("", "got 0 rows of 0"),
    ],
)
def test_matrix_files_that_do_not_fit(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as raised:
        read_matrix(path)
    assert str(path) in str(raised.value)
