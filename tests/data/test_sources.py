"""Sources of data sets: what is there, which one a name belongs to, and one of the user's own in one file."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.cli.config_file import run_file
from diet_jax.cli.main import main
from diet_jax.data.sources.source import find_source

OWN = ("cinic10", "digits", "folder", "tfds")
ROOT = Path(__file__).parents[2]

ONE_FILE = """
import numpy as np
import diet_jax as dj

def load_blobs(*, data_dir, cache_dir, quiet):
    labels = np.arange(60) % 2
    images = np.random.default_rng(0).normal(labels[:, None, None], 1, (60, 4, 4))
    train = dj.Dataset.from_arrays(images[:40], labels[:40], name="blobs")
    about = {"name": "blobs", "split": "test", "normalization": train.normalization}
    return dj.Splits(train, dj.Dataset.from_arrays(images[40:], labels[40:], **about))

dj.SOURCES.register(dj.Source(name="blobs", about="two classes of noise", load=load_blobs))
"""


@pytest.fixture(autouse=True)
def own_sources(monkeypatch):
    """Only the library's sources, before and after each test."""
    monkeypatch.setattr(dj.SOURCES, "_items", {name: dj.SOURCES.find(name) for name in OWN})
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def one_file(tmp_path):
    path = tmp_path / "blobs_of_mine.py"
    path.write_text(ONE_FILE)
    return path


def source(name="blobs", **fields):
    return dj.SOURCES.register(dj.Source(**{"name": name, "about": "a test", "load": load_digits, **fields}))


def load_digits(**_):
    return dj.load_dataset("digits")


def test_the_librarys_sources_are_found_and_nothing_heavy_is_imported():
    heavy = ("sklearn", "tensorflow_datasets", "array_record", "grain", "PIL", "pooch", "requests")
    code = (
        "import json, sys, diet_jax as dj\n"
        "found = [[s.name, s.usage, bool(s.stream), bool(s.prepare)] for s in dj.SOURCES]\n"
        f"print(json.dumps([found, [m for m in {heavy} if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found, imported = json.loads(done.stdout)
    assert found == [
        ["cinic10", "cinic10", True, False],
        ["digits", "digits", False, False],
        ["folder", "folder:PATH", True, False],
        ["tfds", "tfds:NAME", True, True],
    ]
    assert imported == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits", ("digits",)),
        ("cinic10", ("cinic10",)),
        ("folder:/a:b", ("folder", "/a:b")),
        ("tfds:mnist:3.0.1", ("tfds", "mnist:3.0.1")),
        ("mnist:3.0.1", ("tfds", "mnist:3.0.1")),
        ("emnist/balanced", ("tfds", "emnist/balanced")),
        ("digits:2", ("tfds", "digits:2")),
        ("blobz", ("tfds", "blobz")),
    ],
)
def test_every_name_belongs_to_one_source(name, expected):
    found, arguments = find_source(name)
    assert (found.name, *arguments) == expected


@pytest.mark.parametrize("name", ["folder", "folder:"])
def test_a_name_without_its_argument_is_told(name):
    with pytest.raises(dj.InputError, match=f"'{name}' lacks its PATH: give folder:PATH"):
        dj.load_dataset(name)


def test_tfds_may_be_said_or_left_out(image_records):
    splits = [dj.load_dataset(name, data_dir=image_records, quiet=True) for name in ("mnist", "tfds:mnist")]
    assert splits[0].train.fingerprint == splits[1].train.fingerprint
    assert splits[1].train.name == "mnist"


def test_a_source_in_one_file_is_found_by_its_name(one_file):
    with pytest.raises(dj.InputError, match=r"'blobs' is not a known dataset(?s:.*)registered first"):
        dj.load_dataset("blobs")
    module = run_file(str(one_file))
    train, test = dj.load_dataset("blobs")
    expected = module.load_blobs(data_dir=None, cache_dir=None, quiet=True)
    assert (train.fingerprint, test.fingerprint) == tuple(split.fingerprint for split in expected)
    assert (train.name, len(train), len(test)) == ("blobs", 40, 20)
    assert dj.SOURCES.names() == ("blobs", *OWN)
    with pytest.raises(dj.InputError, match=r"Did you mean 'blobs'(?s:.*)blobs: two classes of noise"):
        dj.load_dataset("blobbs")
    run_file(str(one_file))  # the same file again is no second source


@pytest.mark.slow
def test_the_command_line_runs_on_it(one_file, tmp_path, capsys):
    text = "\nfrom diet_jax.experiments.config import RunConfig\nCONFIG = RunConfig()\n"
    one_file.write_text(ONE_FILE + text)
    main(
        [
            *("run", str(one_file), "--data.name", "blobs", "--run-dir", str(tmp_path / "run")),
            *("--model.widths", "4", "--train.epochs", "2", "--train.batch-size", "10", "--score.epoch", "1"),
            *("--score.names", "el2n", "--score.num-seeds", "2", "--retrain.num-seeds", "1"),
            *("--select.fractions", "0.5"),
        ]
    )
    scores = dj.ScoreFile.load(
        tmp_path / "run" / "scores" / "el2n.npz", dataset=dj.load_dataset("blobs").train
    )
    assert scores.dataset == "blobs/train"
    with pytest.raises(SystemExit):
        main(["run", str(one_file), "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for one in dj.SOURCES:
        assert f"{one.usage}: {one.about}" in shown


def test_a_source_is_given_its_argument_and_options(tmp_path):
    calls = []

    def record(kind, result):
        return lambda *arguments, **options: calls.append((kind, arguments, options)) or result

    splits = dj.load_dataset("digits")
    functions = {kind: record(kind, splits) for kind in ("load", "stream")}
    source("shelf", argument="BOOK", prepare=record("prepare", tmp_path), **functions)
    assert dj.load_dataset("shelf:a:b", data_dir="here", quiet=True) is splits
    assert dj.prepare_dataset("shelf:a", quiet=True, deep=3) == tmp_path
    assert calls == [
        ("load", ("a:b",), {"data_dir": "here", "cache_dir": None, "quiet": True}),
        ("prepare", ("a",), {"data_dir": None, "quiet": True, "deep": 3}),
    ]
    pytest.importorskip("grain")
    assert dj.load_streamed("shelf:a", image_size=7, workers=2) is splits
    options = {"data_dir": None, "cache_dir": None, "image_size": 7, "workers": 2}
    assert calls[2:] == [("stream", ("a",), options)]


def test_what_a_source_cannot_do_is_told_with_a_way_out():
    pytest.importorskip("grain")
    source(about="a small test")
    with pytest.raises(dj.InputError, match=r"'blobs' cannot be streamed \(it is a small test\); load it wi"):
        dj.load_streamed("blobs")
    with pytest.raises(dj.InputError, match=r"'blobs' needs no preparing \(it is a small test\); load it as"):
        dj.prepare_dataset("blobs")


def test_two_sources_of_one_name_are_refused():
    with pytest.raises(dj.InputError, match="want to be the source of data sets 'digits'"):
        source("digits")
    np.testing.assert_array_equal(dj.load_dataset("digits").train.image_shape, (8, 8, 1))


@pytest.mark.parametrize("name", ["", "a:b", "a b", "3d"])
def test_a_name_must_be_one_word(name):
    with pytest.raises(dj.InputError, match="letters, digits and _"):
        source(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ("0", "1", "2")}, "class_names is .* in the train and .* in the test split"),
        ({"normalization": None}, "normalization is"),
        ({"inputs": np.zeros((20, 5, 5))}, "shape is"),
    ],
)
def test_splits_that_do_not_fit_each_other_are_refused_before_anything_runs(
    change, message, tmp_path, capsys
):
    train, test = load_digits()

    def load(**_):
        about = {"class_names": train.class_names, "name": "odd", "normalization": train.normalization}
        about |= {"inputs": test.images[:20], "labels": test.labels[:20] % 3, **change}
        return dj.Splits(train, dj.Dataset.from_arrays(**about))

    source("odd", load=load)
    with pytest.raises(SystemExit):
        main(["run", "--data.name", "odd", "--run-dir", str(tmp_path / "run")])
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_folder_given_as_a_name_is_told_from_an_unknown_name(tmp_path):
    with pytest.raises(dj.InputError, match=f"is no dataset but a folder: give folder:{tmp_path} if"):
        dj.load_dataset(str(tmp_path))
