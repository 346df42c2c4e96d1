"""Score and mask files that are not what they were end in one InputError."""

import csv
import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.files.arrays import load_arrays, save_arrays
from diet_jax.files.writing import write_together
from diet_jax.selection.file import KeepFile


@pytest.fixture
def file(train_split):
    per_seed = np.arange(2 * len(train_split), dtype=np.float32).reshape(2, -1)
    return dj.ScoreFile.from_seeds("el2n", per_seed, train_split, step=3)


def members(file: dj.ScoreFile) -> dict:
    return {f: getattr(file, f) for f in ("scores", "per_seed", "ids", "labels", "rows")}


DAMAGED = {
    "scores of one seed too many axes": lambda f: {"scores": f.scores[None]},
    "no axes": lambda f: {name: np.zeros(()) for name in members(f)},
    "text": lambda f: {"scores": f.scores.astype(str)},
    "complex": lambda f: {"scores": f.scores.astype(complex)},
    "one label short": lambda f: {"labels": f.labels[1:]},
    "an id twice": lambda f: {"ids": np.r_[f.ids[1:2], f.ids[1:]]},
    "ids of floats": lambda f: {"ids": f.ids * 1.0},
    "a row twice": lambda f: {"rows": np.r_[f.rows[1:2], f.rows[1:]]},
    "no seed": lambda f: {"per_seed": f.per_seed[:0], "scores": f.scores * np.nan},
    "a mean that is none": lambda f: {"scores": f.scores + 1},
    "labels below 0": lambda f: {"labels": f.labels - 1},
    "other labels": lambda f: {"labels": (f.labels + 1) % 3},
    "no definition": lambda f: {"provenance": {k: v for k, v in f.provenance.items() if k != "definition"}},
    "parameters of text": lambda f: {"provenance": {**f.provenance, "parameters": "all"}},
    "missing seeds in a list": lambda f: {"provenance": {**f.provenance, "missing_seeds": [1]}},
    "a step below 0": lambda f: {"step": -1},
    "one row short everywhere": lambda f: {name: a[..., 1:] for name, a in members(f).items()},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_score_files_whose_arrays_do_not_fit_are_refused(case, file, train_split, tmp_path):
    dataclasses.replace(file, **DAMAGED[case](file)).save(tmp_path / "f.npz")
    with pytest.raises(dj.InputError, match="is damaged"):
        dj.ScoreFile.load(tmp_path / "f.npz", dataset=train_split)


def test_a_mask_of_other_ids_is_refused(train_split, tmp_path):
    keep = np.ones(len(train_split) - 1, bool)
    KeepFile(keep, train_split.ids[1:], "d", train_split.fingerprint, {}).save(tmp_path / "k.npz")
    with pytest.raises(dj.InputError, match="its ids are not those"):
        KeepFile.load(tmp_path / "k.npz", dataset=train_split)


@pytest.mark.parametrize("value", [5, None, ["x"]])
def test_a_fingerprint_of_the_wrong_type_is_refused(value, file, train_split, tmp_path, unchecked_types):
    dataclasses.replace(file, fingerprint=value).save(tmp_path / "f.npz")
    with pytest.raises(dj.InputError, match=r"is damaged: its fingerprint is .*, no text"):
        dj.ScoreFile.load(tmp_path / "f.npz", dataset=train_split)


@pytest.mark.parametrize(
    ("offset", "value"), [(6, 255), (8, 1), (10, 99)], ids=["version", "flags", "method"]
)
def test_damage_in_the_directory_of_the_archive_is_named(offset, value, tmp_path):
    path = tmp_path / "f.npz"
    save_arrays(path, "scores", {"a": np.zeros(3)}, {})
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    content[start + offset] = value
    path.write_bytes(content)
    with pytest.raises(dj.InputError, match="is damaged or no diet_jax file"):
        load_arrays(path, "scores", ("a",))


def test_a_header_nested_too_deeply_is_named(tmp_path):
    np.savez(tmp_path / "f.npz", header=np.array("[" * 200_000))
    with pytest.raises(dj.InputError, match="is damaged or no diet_jax file"):
        load_arrays(tmp_path / "f.npz", "scores", ("a",))


IDS = ["a,b", 'q"uote', "new\nline", "return\rhere", " space ", "007", "ü猫", "NA"]
VALUES = [0.1, 1 / 3, np.inf, -np.inf, np.nan, 1e-30, -0.0, 3e38]


@pytest.fixture
def strange():
    """A file of ids that CSV must quote and of scores that are hard to write."""
    names = ("cat, big", 'dog "x"')
    dataset = dj.Dataset.from_arrays(np.ones((8, 2)), [0, 1] * 4, IDS, class_names=names)
    with pytest.warns(UserWarning, match="mine is NaN for 1 of 8 examples, by 1 of 1 seed "):
        return dj.ScoreFile.from_seeds("mine", VALUES, dataset, step=3)


def test_infinite_scores_of_both_signs_have_no_mean(train_split):
    values = np.zeros((2, len(train_split)))
    values[:, 0] = np.inf, -np.inf
    with pytest.warns(UserWarning, match="1 means are NaN"), np.errstate(invalid="ignore"):
        dj.ScoreFile.from_seeds("mine", values, train_split, step=3)


def test_columns_are_plain_values_that_json_takes(strange):
    columns = strange.to_dict()
    assert list(columns) == ["row", "id", "class", "score"]
    assert columns["row"] == strange.rows.tolist() == list(range(8))
    assert columns["id"] == IDS
    assert columns["class"] == ["cat, big", 'dog "x"'] * 4
    np.testing.assert_array_equal(columns["score"], np.float32(VALUES).astype(np.float64))
    assert {type(each) for column in columns.values() for each in column} == {int, str, float}
    again = json.loads(json.dumps(columns))
    assert again["id"] == IDS
    np.testing.assert_array_equal(again["score"], columns["score"])


def test_csv_is_read_back_to_the_last_bit(strange, tmp_path):
    text = strange.to_csv()
    assert strange.to_csv(tmp_path / "s.csv") is None
    assert (tmp_path / "s.csv").read_bytes().decode() == text
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [line["id"] for line in lines] == IDS
    assert [line["class"] for line in lines] == ["cat, big", 'dog "x"'] * 4
    read = np.array([float(line["score"]) for line in lines])
    np.testing.assert_array_equal(read.view(np.int64)[:4], strange.scores.view(np.int64)[:4])
    np.testing.assert_array_equal(read, strange.scores)
    assert "\r\n" not in text
    assert {line["score"] for line in lines} >= {"inf", "-inf", "nan"}


def test_integer_ids_and_files_that_store_no_class_names(file, train_split, tmp_path):
    old = {name: value for name, value in file.provenance.items() if name != "class_names"}
    dataclasses.replace(file, provenance=old).save(tmp_path / "f.npz")
    columns = dj.ScoreFile.load(tmp_path / "f.npz", dataset=train_split).to_dict()
    assert columns["class"] == train_split.labels.tolist()
    file.save(tmp_path / "g.npz")
    columns = dj.ScoreFile.load(tmp_path / "g.npz").to_dict()
    assert columns["class"] == [train_split.class_names[c] for c in train_split.labels]
    assert columns["id"] == train_split.ids.tolist()
    assert columns["score"] == file.per_seed.astype(np.float64).mean(axis=0).tolist()


def test_one_vector_is_one_seed(train_split):
    vector = np.arange(len(train_split), dtype=np.float32)
    file = dj.ScoreFile.from_seeds("mine", vector, train_split, step=0)
    assert file.per_seed.shape == (1, len(train_split))
    np.testing.assert_array_equal(file.scores, vector)
    for wrong in (vector[1:], vector[None, None], np.zeros((0, len(train_split)))):
        with pytest.raises(dj.InputError, match=rf"or \[{len(train_split)}\] of one seed"):
            dj.ScoreFile.from_seeds("mine", wrong, train_split, step=0)


def test_a_mask_file_gives_rows_ids_and_columns(train_split, tmp_path):
    keep = np.arange(len(train_split)) % 3 == 1
    mask = KeepFile(keep, train_split.ids, "d", train_split.fingerprint, {})
    assert mask.rows.dtype == np.int64
    assert mask.rows.tolist() == [row for row in range(len(keep)) if row % 3 == 1]
    np.testing.assert_array_equal(train_split.ids[mask.rows], mask.kept_ids)
    assert mask.to_dict() == {
        "row": list(range(len(keep))),
        "id": train_split.ids.tolist(),
        "kept": [row % 3 == 1 for row in range(len(keep))],
    }
    mask.to_csv(tmp_path / "k.csv")
    lines = (tmp_path / "k.csv").read_text().splitlines()
    assert lines[:3] == ["row,id,kept", f"0,{train_split.ids[0]},False", f"1,{train_split.ids[1]},True"]
    assert mask.to_csv() == (tmp_path / "k.csv").read_text()


def test_of_masks_for_each_seed_one_must_be_chosen(train_split):
    keep = np.stack([np.arange(len(train_split)) % 2 == seed for seed in range(2)])
    masks = KeepFile(keep, train_split.ids, "d", train_split.fingerprint, {})
    asked = (lambda: masks.rows, lambda: masks.kept_ids, masks.to_dict, masks.to_csv)
    for ask in asked:
        with pytest.raises(dj.InputError, match=r"2 masks.*dataclasses.replace\(file, keep=file.keep\[0\]\)"):
            ask()
    assert dataclasses.replace(masks, keep=masks.keep[1]).rows[0] == 1


def test_files_that_belong_together_are_written_together_or_not_at_all(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(dj.InputError, match=r"cannot write .*file/b.txt"):
        write_together({tmp_path / "new" / "a.txt": "a", tmp_path / "file" / "b.txt": b"b"})
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]
    write_together({tmp_path / "new" / "a.txt": "ä", tmp_path / "b.txt": b"b"})
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "ä"
    assert (tmp_path / "b.txt").read_bytes() == b"b"


@pytest.mark.parametrize("kind", [dj.ScoreFile, dj.KeepFile])
def test_bare_arrays_are_told_how_they_become_a_file(kind, tmp_path):
    np.savez(tmp_path / "plain.npz", scores=np.zeros(3), keep=np.zeros(3, bool))
    np.save(tmp_path / "plain.npy", np.zeros(3))
    way = {dj.ScoreFile: r"dj\.ScoreFile\.from_seeds\(", dj.KeepFile: r"dj\.KeepFile\.from_mask\("}[kind]
    with pytest.raises(dj.InputError, match=rf"no diet_jax file: it has the arrays scores, keep .* by {way}"):
        kind.load(tmp_path / "plain.npz")
    with pytest.raises(dj.InputError, match=rf"no diet_jax file .* by {way}"):
        kind.load(tmp_path / "plain.npy")


def test_files_print_as_one_line():
    dataset = dj.Dataset.from_arrays(np.zeros((1500, 2)), [0, 1] * 750, name="mine")
    file = dj.ScoreFile.from_seeds("el2n", np.zeros((3, 1500)), dataset, step=2000)
    assert repr(file) == "<el2n of mine/train: 1,500 examples, 3 seeds, step 2,000>"
    keep = np.arange(1500) < np.array([[600], [700]])
    masks = [dj.KeepFile.from_mask(mask, dataset) for mask in (keep[0], keep, keep[[0, 0]])]
    assert [repr(mask) for mask in masks] == [
        "<keep mask of mine/train: 600 of 1,500 examples kept>",
        "<keep mask of mine/train: 600 to 700 of 1,500 examples kept by each of 2 seeds>",
        "<keep mask of mine/train: 600 of 1,500 examples kept by each of 2 seeds>",
    ]


def permuted(file: dj.ScoreFile, seed: int = 0) -> dj.ScoreFile:
    rows = np.random.default_rng(seed).permutation(len(file.ids))
    return dataclasses.replace(file, **{name: array[..., rows] for name, array in members(file).items()})


@pytest.fixture
def tied(train_split):
    """Scores of few values: what is kept at the edge is decided by the tie-break."""
    per_seed = np.random.default_rng(1).integers(0, 3, (2, len(train_split))).astype(np.float32)
    return dj.ScoreFile.from_seeds("mine", per_seed, train_split, step=3)


def test_permuting_the_rows_of_a_file_changes_nothing(tied, train_split, tmp_path):
    from diet_jax.cli.main import main

    tied.save(tmp_path / "a.npz")
    permuted(tied).save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() != (tmp_path / "b.npz").read_bytes()
    files = [
        dj.ScoreFile.load(tmp_path / f"{name}.npz", dataset=d) for name in "ab" for d in (None, train_split)
    ]
    for file in [*files, permuted(tied).of(train_split), dj.ScoreFile.join([tied, permuted(tied)])[1]]:
        for name, array in members(tied).items():
            np.testing.assert_array_equal(getattr(file, name), array)
    part = train_split.take(np.array([7, 3]))
    assert permuted(tied).of(part).ids.tolist() == part.ids.tolist()
    for name in "ab":
        main(
            [
                "select",
                str(tmp_path / f"{name}.npz"),
                "--fraction",
                "0.5",
                "--out",
                str(tmp_path / f"k{name}.npz"),
            ]
        )
    kept = [dj.KeepFile.load(tmp_path / f"k{name}.npz") for name in "ab"]
    assert kept[0].kept_ids.tolist() == kept[1].kept_ids.tolist()
    mask = kept[0]
    order = np.random.default_rng(2).permutation(len(mask.ids))
    moved = dataclasses.replace(mask, keep=mask.keep[order], ids=mask.ids[order])
    moved.save(tmp_path / "moved.npz")
    np.testing.assert_array_equal(
        dj.KeepFile.load(tmp_path / "moved.npz", dataset=train_split).keep, mask.keep
    )


CHANGES = {
    "dropped": (lambda a: a[..., 1:], r"1 of 50 ids are missing \(0\)"),
    "doubled": (lambda a: np.concatenate([a, a[..., :1]], axis=-1), r"1 ids occur more than once \(0\)"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_ids_that_are_dropped_or_doubled_are_counted(case, file, train_split, tmp_path):
    change, message = CHANGES[case]
    parts = {name: change(array) for name, array in members(file).items()}
    other = dataclasses.replace(file, **parts)
    for join in (lambda: other.of(train_split), lambda: dj.ScoreFile.join([file, other])):
        with pytest.raises(dj.InputError, match=f"ids are not those of .*{message}"):
            join()
    other.save(tmp_path / "f.npz")
    with pytest.raises(dj.InputError, match=r"damaged"):
        dj.ScoreFile.load(tmp_path / "f.npz", dataset=train_split)


def test_ids_and_labels_that_are_altered_are_counted(file, train_split):
    ids = np.r_[file.ids[:-4], [101, 102, 103, 104]]
    other = dataclasses.replace(file, ids=ids)
    message = r"4 of 50 ids are missing \(46, 47, 48, \.\.\.\); 4 ids are others \(101, 102, 103, \.\.\.\)"
    for join in (lambda: other.of(train_split), lambda: dj.ScoreFile.join([file, other])):
        with pytest.raises(dj.InputError, match=message):
            join()
    text = dataclasses.replace(file, ids=file.ids.astype(str))
    with pytest.raises(dj.InputError, match="they are text here and numbers there"):
        dj.ScoreFile.join([file, text])
    other = dataclasses.replace(file, labels=np.r_[(file.labels[:1] + 1) % 3, file.labels[1:]])
    with pytest.raises(dj.InputError, match="labels of 1 examples"):
        dj.ScoreFile.join([file, other])
    with pytest.raises(dj.InputError, match="different data"):
        dj.ScoreFile.join([file, dataclasses.replace(file, fingerprint="")])


@pytest.mark.parametrize("name", ["scores", "per_seed", "ids", "labels", "rows", "header"])
def test_the_checksum_holds_arrays_and_facts_together(name, file, tmp_path):
    """Each part by itself is sound: it is that of another file."""
    file.save(tmp_path / "a.npz")
    changed = {n: array + 1 for n, array in members(file).items()}
    dataclasses.replace(file, step=4, **changed).save(tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as one, np.load(tmp_path / "b.npz") as other:
        np.savez(tmp_path / "c.npz", **{**one, name: other[name]})
    with pytest.raises(dj.InputError, match="is damaged"):
        dj.ScoreFile.load(tmp_path / "c.npz")


def test_the_bytes_of_a_file_do_not_depend_on_the_time(file, tmp_path, monkeypatch):
    file.save(tmp_path / "a.npz")
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2040, 1, 1, 0, 0, 0, 0, 1, 0))
    assert file.packed() == (tmp_path / "a.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_files_of_before_are_told_apart_from_damaged_ones(file, tmp_path):
    np.savez(tmp_path / "a.npz", header=np.array(json.dumps({"format": "diet_jax scores 1", "arrays": []})))
    with pytest.raises(
        dj.InputError, match=r"'diet_jax scores 1' file, expected 'diet_jax scores 2'; make it again"
    ):
        dj.ScoreFile.load(tmp_path / "a.npz")


def test_what_notebooks_show_is_small_and_escaped(train_split):
    names = ("<b>", "&", "dog")
    dataset = dj.Dataset.from_arrays(
        np.ones((9, 2)), [0, 1, 2] * 3, [f"<script>{i}" for i in range(9)], class_names=names
    )
    file = dj.ScoreFile.from_seeds("mine", np.arange(9.0), dataset, step=3, missing=None)
    mask = dj.KeepFile.from_mask(np.arange(9) > 6, dataset, provenance={"score": "<i>"})
    for shown in (file._repr_html_(), mask._repr_html_()):
        assert "&lt;script&gt;8" in shown
        assert "<script" not in shown
        assert not {"<b>", "<i>"} & set(shown.split())
    assert file._repr_html_().count("<tr>") == 6
    assert file._repr_html_().index("script&gt;8") < file._repr_html_().index("script&gt;7")
    assert mask._repr_html_().count("<tr>") == 3
