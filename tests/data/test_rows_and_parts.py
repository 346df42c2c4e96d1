"""Rows and masks where the other is asked for; labels by every way in; files of the whole, and a part."""

import dataclasses

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.data.dataset import first_examples
from diet_jax.errors import InputError
from diet_jax.experiments.config import DataConfig, RunConfig, ScoreConfig
from diet_jax.experiments.own import Own
from diet_jax.experiments.setup import load_splits
from diet_jax.training.loop import check_keep

COUNT = 10
IDS = np.array([f"train_{i}" for i in range(COUNT)])
LABELS = np.arange(COUNT) % 3
WHOLE = dj.Dataset.from_arrays(
    np.random.default_rng(0).normal(size=(COUNT, 4)),
    LABELS,
    IDS,
    class_names=("cat", "dog", "owl"),
    name="pets",
)
MASK = LABELS == 1
ROWS = np.flatnonzero(MASK)
CODE = {"np": np, "dataset": WHOLE, "dj": dj}

NO_MASKS = [
    (MASK.astype(int), "got int64 of shape.*of 0 and 1 make True and False: ", "keep.astype(bool)"),
    (MASK.astype(np.float32), "got float32", "keep.astype(bool)"),
    (MASK.astype(int).tolist(), "got int64", "np.asarray(keep).astype(bool)"),
    (ROWS, r"got int64 of shape \(3,\); of rows make a mask", "np.isin(np.arange(10), keep)"),
    (IDS[ROWS], "of ids make a mask", "np.isin(dataset.ids, keep)"),
    (np.linspace(0, 3, COUNT) * MASK, "of scores make a mask", None),
    (MASK[:-1], r"got bool of shape \(9,\); use the mask that belongs to this dataset", None),
    (np.stack([MASK] * 2), r"got bool of shape \(2, 10\); take one of its masks", "keep[0]"),
    (np.array([4711, 17]), "of ids make a mask", None),
    ([], r"got float64 of shape \(0,\); make a mask of True and False", None),
    (True, "make a mask of True and False|use the mask", None),
]


@pytest.mark.parametrize(("keep", "message", "code"), NO_MASKS)
def test_what_is_no_mask_is_refused_with_the_line_that_makes_one(keep, message, code, unchecked_types):
    config = dj.TrainConfig(steps=1, batch_size=2, augment="none")
    with pytest.raises(InputError, match=message) as raised:
        check_keep(WHOLE, keep, config)
    assert "one entry for each of the 10 examples of pets" in str(raised.value)
    if code:
        assert code in str(raised.value)
        np.testing.assert_array_equal(check_keep(WHOLE, eval(code, {**CODE, "keep": keep}), config), ROWS)


@pytest.mark.parametrize(
    "refuse",
    [
        lambda keep: dj.kept_indices(keep, 3),
        lambda keep: dj.tie_mass(np.arange(10.0), keep),
        lambda keep: check_keep(WHOLE, keep, dj.TrainConfig(steps=1, batch_size=2, augment="none")),
    ],
)
def test_all_that_take_a_mask_say_the_same(refuse, unchecked_types):
    with pytest.raises(InputError, match=r"got int64 of shape \(10,\).*keep\.astype\(bool\)"):
        refuse(MASK.astype(int))
    with pytest.raises(InputError, match=r"got int64 of shape \(3,\).*of rows make a mask: np\.isin"):
        refuse(np.array([1, 4, 7]))


NO_ROWS = [
    (MASK.astype(int), "2 distinct, from 0 to 1", "np.flatnonzero(rows)"),
    (MASK[:-1], r"or a mask of all 10 rows; got bool of shape \(9,\)", None),
    (ROWS.astype(float), "got float64", "rows.astype(int)"),
    (IDS[ROWS], "makes rows of ids", "np.flatnonzero(np.isin(dataset.ids, rows))"),
    ([1, 10], "from 0 to 9; got 2 rows, 2 distinct, from 1 to 10: ", None),
    (np.array([-9, 4, 7]), "from -9 to 7", "np.unique(rows % 10)"),
    (np.array([1, 4, 7, 4]), "got 4 rows, 3 distinct", "np.unique(rows % 10)"),
    (slice(1, 8, 3), "of a slice", "np.arange(10)[rows]"),
    (1, "makes a list of one row", None),
    ([], "at least one.*name one", None),
    ([[1, 4]], "must be integers, at least one", None),
]


@pytest.mark.parametrize(("rows", "message", "code"), NO_ROWS)
def test_what_are_no_rows_is_refused_with_the_line_that_makes_some(rows, message, code, unchecked_types):
    with pytest.raises(InputError, match=message) as raised:
        WHOLE.take(rows)
    if code:
        assert code in str(raised.value)
        assert WHOLE.take(eval(code, {**CODE, "rows": rows})).ids.tolist() == IDS[ROWS].tolist()


def test_rows_and_masks_take_the_same_examples_and_keep_their_order():
    by_rows, by_mask = WHOLE.take(ROWS), WHOLE.take(MASK)
    assert by_rows.fingerprint == by_mask.fingerprint
    turned = WHOLE.take(np.array([7, 1]))
    assert turned.ids.tolist() == ["train_7", "train_1"]
    np.testing.assert_array_equal(turned.inputs, WHOLE.inputs[[7, 1]])
    rebuilt = dj.Dataset.from_arrays(
        WHOLE.inputs[ROWS], LABELS[ROWS], IDS[ROWS], num_classes=3, normalization=WHOLE.normalization
    )
    assert rebuilt.fingerprint == by_rows.fingerprint
    with pytest.raises(ValueError, match="read-only"):
        by_rows.labels[0] = 2


@pytest.mark.parametrize(
    "take_in",
    [
        lambda labels: dj.Dataset.from_arrays(
            WHOLE.inputs, labels, class_names=WHOLE.class_names, name="pets"
        ),
        lambda labels: WHOLE.with_labels(labels),
        lambda labels: dj.replace_labels(WHOLE, labels).dataset,
    ],
    ids=["from_arrays", "with_labels", "replace_labels"],
)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:5], r"labels must have shape \(10,\), one for each of the 10 examples of pets; got \(5,\)"),
        (LABELS * 1.0, r"labels must be integers, got float64; all are whole numbers: labels\.astype\(int\)"),
        (np.eye(3)[LABELS], r"one-hot: labels\.argmax\(1\)"),
        (LABELS + 1, r"lie in 0\.\.2 .*3 of 10 do not.*they start from 1: labels - 1"),
        (MASK, "True and False but there are 3 classes; a mask is no label"),
        (np.array(["elk"] * 10), "none of the 3 class_names"),
        ([None] * 10, "10 missing of 10"),
        (["dog"] * 10, None),
        (LABELS.astype(np.uint8), None),
    ],
)
def test_labels_are_checked_alike_by_every_way_in(take_in, labels, message):
    if message is None:
        expected = [1] * 10 if labels[0] == "dog" else LABELS.tolist()
        assert take_in(labels).labels.tolist() == expected
        return
    with pytest.raises(InputError, match=message):
        take_in(labels)


def test_streamed_datasets_check_as_others_do(image_folder, unchecked_types):
    train = dj.load_streamed(f"folder:{image_folder}").train
    with pytest.raises(InputError, match=r"np\.flatnonzero\(rows\)"):
        train.take((train.labels == 1).astype(int))
    with pytest.raises(InputError, match="one for each of the 30 examples"):
        train.with_labels([0, 1])
    part = train.take(train.labels == 1)
    assert part.whole.fingerprint == train.fingerprint
    assert train.with_labels([train.class_names[2]] * 30).labels.tolist() == [2] * 30


def test_a_noise_matrix_may_be_a_table_and_must_be_numbers(unchecked_types):
    class Table:
        def to_numpy(self):
            return np.eye(3)

    key = jax.random.key(0)
    assert not dj.flip_labels(key, WHOLE, 1.0, mode="matrix", matrix=Table()).changed.any()
    with pytest.raises(InputError, match="matrix must hold probabilities, got <U3"):
        dj.flip_labels(key, WHOLE, 1.0, mode="matrix", matrix=np.eye(3).astype("U3"))


PART = first_examples(WHOLE, 4)
SCORES = dj.ScoreFile.from_seeds("mine", np.arange(20.0).reshape(2, 10), WHOLE, step=3)


def mask_file(dataset, keep):
    return dj.KeepFile(
        keep, dataset.ids, f"{dataset.name}/{dataset.split}", dataset.fingerprint, {"fraction": 0.3}
    )


def test_a_score_file_of_the_whole_goes_with_a_part(tmp_path, capsys):
    SCORES.save(tmp_path / "mine.npz")
    file = dj.ScoreFile.load(tmp_path / "mine.npz", dataset=PART)
    rows = [IDS.tolist().index(name) for name in PART.ids]
    np.testing.assert_array_equal(file.per_seed, SCORES.per_seed[:, rows])
    np.testing.assert_array_equal(file.scores, SCORES.scores[rows])
    np.testing.assert_array_equal(file.labels, PART.labels)
    assert (file.ids.tolist(), file.fingerprint) == (PART.ids.tolist(), PART.fingerprint)
    assert file.provenance["taken_from"] == WHOLE.fingerprint
    assert "mine.npz: 4 of its 10 examples are those of this part of the data" in capsys.readouterr().err
    # What is saved again belongs to the part alone, and a part of a part knows the whole.
    file.save(tmp_path / "part.npz")
    assert dj.ScoreFile.load(tmp_path / "part.npz", dataset=PART).name == "mine"
    smaller = PART.take(np.array([3, 0]))
    np.testing.assert_array_equal(SCORES.of(smaller).scores, SCORES.scores[[rows[3], rows[0]]])
    turned = WHOLE.take(np.arange(COUNT)[::-1])
    np.testing.assert_array_equal(SCORES.of(turned).scores, SCORES.scores[::-1])


def test_a_mask_file_of_the_whole_goes_with_a_part(tmp_path):
    mask_file(WHOLE, MASK).save(tmp_path / "mask.npz")
    file = dj.KeepFile.load(tmp_path / "mask.npz", dataset=PART)
    assert file.kept_ids.tolist() == [name for name in PART.ids if name in IDS[MASK]]
    assert file.fingerprint == PART.fingerprint
    mask_file(WHOLE, np.stack([MASK, ~MASK])).save(tmp_path / "masks.npz")
    assert dj.KeepFile.load(tmp_path / "masks.npz", dataset=PART).keep.shape == (2, 4)


OTHER = dj.Dataset.from_arrays(WHOLE.inputs + 1, LABELS, IDS, name="pets", num_classes=3)


@pytest.mark.parametrize(
    ("file_of", "dataset"),
    [
        (WHOLE, first_examples(OTHER, 4)),
        (PART, WHOLE),
        (PART, WHOLE.take(np.arange(4, 8))),
        (WHOLE, PART.with_labels(2 - PART.labels)),
        (OTHER, PART),
    ],
    ids=["part of other data", "whole for a part", "another part", "a part with other labels", "other data"],
)
def test_files_of_other_data_are_refused(file_of, dataset, tmp_path):
    dj.ScoreFile.from_seeds("mine", np.zeros(len(file_of)), file_of, step=0).save(tmp_path / "mine.npz")
    mask_file(file_of, np.ones(len(file_of), bool)).save(tmp_path / "mask.npz")
    for path, kind in (("mine.npz", dj.ScoreFile), ("mask.npz", dj.KeepFile)):
        with pytest.raises(
            InputError, match=f"{path} belongs to pets/train .fingerprint {file_of.fingerprint[:12]}"
        ):
            kind.load(tmp_path / path, dataset=dataset)


def test_a_file_whose_ids_are_not_those_of_its_dataset_is_damaged(tmp_path):
    dataclasses.replace(SCORES, ids=IDS[::-1]).save(tmp_path / "mine.npz")
    for dataset in (WHOLE, PART):
        with pytest.raises(InputError, match="damaged: the labels of"):
            dj.ScoreFile.load(tmp_path / "mine.npz", dataset=dataset)
    dataclasses.replace(SCORES, labels=LABELS * 1.0).save(tmp_path / "floats.npz")
    with pytest.raises(InputError, match="damaged: its labels are no class numbers"):
        dj.ScoreFile.load(tmp_path / "floats.npz")


def test_a_labels_file_of_the_whole_goes_with_a_part(tmp_path, capsys):
    lines = [f"{name},{(label + 1) % 3}" for name, label in zip(IDS, LABELS, strict=True)]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["id,label", *lines[::-1]]))
    np.testing.assert_array_equal(dj.read_labels(path, PART), (PART.labels + 1) % 3)
    assert "labels.csv: 4 of its 10 lines are of this part of the data" in capsys.readouterr().err
    with pytest.raises(InputError, match="line 2: no example of pets/train has the id 'train_9'"):
        dj.read_labels(path, dj.Dataset.from_arrays(PART.inputs, PART.labels, PART.ids, name="pets"))
    path.write_text("id,label\ntrain_99,0\n")
    with pytest.raises(InputError, match="no example of pets/train has the id 'train_99'"):
        dj.read_labels(path, PART)
    path.write_text("\n".join(["id,label", *[line for line in lines if not line.startswith("train_1,")]]))
    with pytest.raises(InputError, match="1 of 4 examples have no line, the first has the id 'train_1'"):
        dj.read_labels(path, PART)


def test_files_of_the_whole_digits_with_num_train(tmp_path, capsys):
    """Labels, scores and a mask of all examples, by the options of a run."""
    train = dj.load_dataset("digits").train
    labels, scores, mask = tmp_path / "labels.csv", tmp_path / "mine.npz", tmp_path / "mask.npz"
    turned = (train.labels + 1) % 10
    labels.write_text("\n".join(["id,label", *(f"{i},{c}" for i, c in zip(train.ids, turned, strict=True))]))
    dj.ScoreFile.from_seeds("mine", np.arange(float(len(train))), train, step=0).save(scores)
    mask_file(train, np.arange(len(train)) % 2 == 0).save(mask)
    config = RunConfig(data=DataConfig(num_train=100, labels=str(labels)))
    (part, _), clean = load_splits(config)
    np.testing.assert_array_equal(part.labels, (clean + 1) % 10)
    assert "labels.csv: 100 of its 1,078 lines are of this part of the data" in capsys.readouterr().err
    of_both = dj.ScoreFile.from_seeds(
        "other", np.arange(float(len(train))), train.with_labels(turned), step=0
    )
    assert train.ids[of_both.of(part).scores.astype(int)].tolist() == part.ids.tolist()
    with pytest.raises(InputError, match="belongs to"):
        dj.ScoreFile.load(scores, dataset=part)
    labels.write_text(
        "\n".join(["id,label", *(f"{i},{c}" for i, c in zip(part.ids, part.labels, strict=True))])
    )
    (again, _), _ = load_splits(config)
    assert again.fingerprint == part.fingerprint
    part = load_splits(RunConfig(data=DataConfig(num_train=100)))[0].train
    config = RunConfig(score=ScoreConfig(files=(str(scores),)))
    (file,) = Own().score_files(config, part)
    assert np.isin(file.scores, np.arange(len(train))).all()
    assert train.ids[file.scores.astype(int)].tolist() == part.ids.tolist()
    kept = dj.KeepFile.load(mask, dataset=part)
    assert kept.kept_ids.tolist() == [name for name in part.ids.tolist() if name in train.ids[::2]]
    assert "mask.npz: 100 of its 1,078 examples are those of this part" in capsys.readouterr().err
