"""What other programs get of score and mask files, joined by id; the programs themselves are pretended."""

import csv
import io
import json
import sys
import types

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.cli.main import main

IDS = ["a", "b", "c", "d"]
SCORES = [0.1, 0.4, 0.2, 0.3]


@pytest.fixture
def dataset():
    return dj.Dataset.from_arrays(np.arange(8.0).reshape(4, 2), [0, 1, 1, 0], IDS, class_names=("cat", "dog"))


@pytest.fixture
def file(dataset):
    return dj.ScoreFile.from_seeds("mine", SCORES, dataset, step=3)


@pytest.fixture
def mask(dataset):
    return dj.KeepFile.from_mask(np.array([False, True, False, True]), dataset)


class HuggingFace(dict):
    """The part of a Hugging Face dataset that is used."""

    def __len__(self):
        return len(self["id"])

    def add_column(self, name, column):
        return HuggingFace(self, **{name: column})

    def select(self, rows):
        return HuggingFace({name: [values[row] for row in rows] for name, values in self.items()})


class FiftyOne:
    """The part of a FiftyOne dataset that is used."""

    def __init__(self, **fields):
        self.fields = fields

    def values(self, name):
        return self.fields[name]

    def set_values(self, name, values):
        self.fields[name] = values


def test_a_hugging_face_dataset_is_joined_by_its_ids(file, mask):
    theirs = HuggingFace(id=["c", "a", "d", "b"])
    assert theirs.add_column("x", [1])["x"] == [1]
    assert file.to_hugging_face(theirs, ids="id")["mine"] == pytest.approx([0.2, 0.1, 0.3, 0.4])
    assert mask.to_hugging_face(theirs, ids="id")["id"] == ["d", "b"]
    for ids, message in (
        (["c", "a", "d", "x"], r"column id of the dataset: .*1 of 4 ids are missing \('b'\)"),
        (["c", "a", "d"], "1 of 4 ids are missing"),
        (["c", "a", "d", "d"], "1 ids occur more than once"),
    ):
        for export in (file.to_hugging_face, mask.to_hugging_face):
            with pytest.raises(dj.InputError, match=message):
                export(HuggingFace(id=ids), ids="id")
    with pytest.raises(dj.InputError, match="ids must name the column"):
        file.to_hugging_face(theirs)


def test_row_numbers_that_are_ids_need_no_column():
    rows = dj.Dataset.from_arrays(np.ones((3, 2)), [0, 1, 1], [2, 0, 1])
    file = dj.ScoreFile.from_seeds("mine", [0.2, 0.0, 0.1], rows, step=0)
    assert file.to_hugging_face(HuggingFace(id="xyz"))["mine"] == pytest.approx([0, 0.1, 0.2])


def test_fiftyone_samples_get_a_field_by_id(file, mask):
    samples = FiftyOne(name=["d", "c", "b", "a"])
    file.to_fiftyone(samples, "hard", ids="name")
    mask.to_fiftyone(samples, "kept", ids="name")
    assert samples.fields["hard"] == pytest.approx([0.3, 0.2, 0.4, 0.1])
    assert samples.fields["kept"] == [True, False, True, False]
    with pytest.raises(dj.InputError, match="the field name of the samples"):
        file.to_fiftyone(FiftyOne(name=["d", "c"]), "hard", ids="name")


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_are_made_of_the_columns(kind, file, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, types.SimpleNamespace(DataFrame=lambda columns: (kind, columns)))
    assert file.to_frame(kind) == (kind, file.to_dict())


def test_libraries_that_are_not_installed_are_named(file, mask, tmp_path, monkeypatch):
    for name in ("pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    for export, library in (
        (file.to_frame, "pandas"),
        (mask.to_frame, "pandas"),
        (lambda: file.to_parquet(tmp_path / "a.parquet"), "pyarrow"),
    ):
        with pytest.raises(
            dj.InputError, match=f"need {library}, which is not installed: pip install {library}"
        ):
            export()
    assert not list(tmp_path.iterdir())


def test_parquet_has_the_columns(file, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    file.to_parquet(tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").to_pydict() == file.to_dict()


def converted(tmp_path, source, name, *options):
    main(["convert", str(source), str(tmp_path / name), *options])
    return tmp_path / name


def test_convert_writes_what_the_ending_says(file, mask, tmp_path, capsys):
    file.save(tmp_path / "scores.npz")
    mask.save(tmp_path / "keep.npz")
    table = converted(tmp_path, tmp_path / "scores.npz", "s.csv").read_text()
    lines = list(csv.DictReader(io.StringIO(table)))
    assert [line["id"] for line in lines] == IDS
    assert [float(line["score"]) for line in lines] == file.scores.tolist()
    assert converted(tmp_path, tmp_path / "keep.npz", "k.txt").read_text() == "b\nd\n"
    assert json.loads(converted(tmp_path, tmp_path / "keep.npz", "k.json").read_text()) == ["b", "d"]
    assert np.load(converted(tmp_path, tmp_path / "keep.npz", "k.npy")).tolist() == [1, 3]
    assert len(converted(tmp_path, tmp_path / "keep.npz", "k.csv").read_text().splitlines()) == 5
    renamed = converted(tmp_path, tmp_path / "scores.npz", "again.npz", "--name", "yours")
    assert dj.ScoreFile.load(renamed).name == "yours"
    assert "<yours of arrays/train: 4 examples, 1 seed, step 3>" in capsys.readouterr().out


def test_convert_reads_what_other_programs_wrote(tmp_path, capsys):
    train = dj.load_dataset("digits").train
    lines = "".join(f"{name},{row / 10}\n" for row, name in enumerate(train.ids))
    (tmp_path / "aum_values.csv").write_text(f"sample_id,aum\n{lines}")
    path = converted(tmp_path, tmp_path / "aum_values.csv", "aum.npz")
    np.testing.assert_allclose(
        dj.ScoreFile.load(path, dataset=train).scores, -np.arange(len(train)) / 10, rtol=1e-6
    )
    measures = [{"guid": int(name), "confidence": 0.5, "variability": 0.1} for name in train.ids]
    (tmp_path / "map.jsonl").write_text("".join(json.dumps(line) + "\n" for line in measures))
    folder = converted(tmp_path, tmp_path / "map.jsonl", "scores")
    assert sorted(path.name for path in folder.iterdir()) == ["confidence.npz", "variability.npz"]
    one = converted(tmp_path, tmp_path / "map.jsonl", "v.csv", "--score", "variability")
    assert one.read_text().splitlines()[1].endswith(",0.10000000149011612")
    for name, options, message in (
        ("v.npz", (), "choose one by --score, or give a folder"),
        ("v.npz", ("--score", "el2n"), "no score el2n; it has confidence, variability"),
        ("v.txt", ("--score", "confidence"), "a score file becomes .npz, .csv, .parquet"),
        ("aum.npz", (), "exists already"),
        ("w.npz", ("--split", "test"), "of 719 ids are missing"),
    ):
        with pytest.raises(SystemExit) as ended:
            converted(tmp_path, tmp_path / "map.jsonl", name, *options)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "v.npz").exists()
