"""Prepared folders are data: damage ends in one message that names the file, and no code of theirs runs."""

import json
import os
import random
import shutil
import sys

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from diet_jax.data.sources import load_dataset, load_streamed, prepare_dataset
from diet_jax.data.sources.tfds.archives import Contents
from diet_jax.data.sources.tfds.write import write_prepared
from diet_jax.devices.progress import Progress
from diet_jax.errors import InputError

CLASSES = [f"class {label}" for label in range(10)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data folder with a small cifar10 that has names of classes, and a small mnist that has none."""
    root, rng = tmp_path_factory.mktemp("prepared"), np.random.default_rng(0)
    for name, shape, names in (("cifar10", (32, 32, 3), {"label": CLASSES}), ("mnist", (28, 28, 1), {})):
        images = {s: rng.integers(0, 256, (n, *shape), np.uint8) for s, n in (("train", 30), ("test", 12))}
        labels = {s: {"label": np.arange(len(images[s])) % 10} for s in images}
        contents = Contents(images, labels, names)
        write_prepared(name, contents, name == "cifar10", root, Progress("", quiet=True))
    return root


@pytest.fixture
def folder(prepared, tmp_path):
    """A copy of cifar10's folder; its data folder is two above."""
    return shutil.copytree(prepared / "cifar10", tmp_path / "data/cifar10") / "3.0.2"


def loaders(name, data_dir):
    return (
        lambda: load_dataset(name, data_dir=data_dir, quiet=True),
        lambda: load_streamed(name, data_dir=data_dir),
        lambda: prepare_dataset(name, data_dir=data_dir, quiet=True),
    )


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def feature(content, name):
    return content["featuresDict"]["features"][name]


def pipe(file):
    file.unlink()
    os.mkfifo(file)


def rewritten(file, count):
    """Some records more or fewer, in a file that is whole."""
    file.unlink()
    writer = ArrayRecordWriter(str(file), "group_size:1")
    for _ in range(count):
        writer.write(b"")
    writer.close()


def flipped(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)


INFO, FEATURES, NAMES = "dataset_info.json", "features.json", "label.labels.txt"
TRAIN = "cifar10-train.array_record-00000-of-00001"


def info(change):
    return INFO, lambda file: edit(file, change), INFO


def features(change):
    return FEATURES, lambda file: edit(file, change), FEATURES


DAMAGES = {
    "cut": (INFO, lambda f: f.write_bytes(f.read_bytes()[:700]), "no JSON"),
    "empty": (FEATURES, lambda f: f.write_bytes(b""), FEATURES),
    "another kind": (FEATURES, lambda f: f.write_text("[]"), "expected a JSON object, got list"),
    "nested too deeply": (FEATURES, lambda f: f.write_text("[" * 100_000), "no JSON"),
    "not UTF-8": (FEATURES, lambda f: f.write_bytes(b"\xff" + f.read_bytes()), "not UTF-8"),
    "a pipe": (FEATURES, pipe, "no regular file"),
    "no features": (FEATURES, os.remove, "it is missing"),
    "no name": info(lambda i: i.pop("name")),
    "no version": info(lambda i: i.pop("version")),
    "another version": info(lambda i: i.update(version="3.x")),
    "no splits": info(lambda i: i.pop("splits")),
    "splits of another kind": info(lambda i: i.update(splits=[3])),
    "no format": info(lambda i: i.pop("fileFormat")),
    "another format": info(lambda i: i.update(fileFormat="arraz_record")),
    "an unknown key": info(lambda i: i.update(nane="x")),
    "a number for text": info(lambda i: i.update(description=3)),
    "supervised keys": info(lambda i: i["supervisedKeys"]["tuple"]["items"].append({})),
    "fewer examples": info(lambda i: i["splits"][0].update(shardLengths=["29"])),
    "more examples": info(lambda i: i["splits"][0].update(shardLengths=["31"])),
    "no examples": info(lambda i: i["splits"][1].update(shardLengths=["0"])),
    "huge": info(lambda i: i["splits"][0].update(shardLengths=["9" * 30])),
    "negative": info(lambda i: i["splits"][0].update(shardLengths=[-1])),
    "true": info(lambda i: i["splits"][0].update(shardLengths=[True])),
    "one split twice": info(lambda i: i["splits"].append(i["splits"][0])),
    "files elsewhere": info(lambda i: i["splits"][0].update(filepathTemplate="../x/{SPLIT}")),
    "an unknown part of a name": info(lambda i: i["splits"][0].update(filepathTemplate="{SPLIV}")),
    "a split that nothing lists": (INFO, lambda f: unlisted(f), "no split has the files cifar10-test"),
    "no shape": features(lambda f: feature(f, "image")["image"].pop("shape")),
    "no dtype": features(lambda f: feature(f, "image")["image"].pop("dtype")),
    "another dtype": features(lambda f: feature(f, "image")["image"].update(dtype="uint9")),
    "fewer channels": features(
        lambda f: feature(f, "image")["image"]["shape"]["dimensions"].__setitem__(2, "1")
    ),
    "more channels": features(
        lambda f: feature(f, "image")["image"]["shape"]["dimensions"].__setitem__(2, "4")
    ),
    "two dimensions": features(lambda f: feature(f, "image")["image"]["shape"]["dimensions"].pop()),
    "no ids": features(lambda f: f["featuresDict"]["features"].pop("id")),
    "ids by another name": features(
        lambda f: f["featuresDict"]["features"].update(ib=f["featuresDict"]["features"].pop("id"))
    ),
    "no class name": features(lambda f: f.pop("pythonClassName")),
    "fewer classes": features(lambda f: feature(f, "label")["classLabel"].update(numClasses="3")),
    "names cut": (NAMES, lambda f: f.write_text("\n".join(CLASSES[:4])), NAMES),
    "a name that is not UTF-8": (NAMES, lambda f: flipped_name(f), NAMES),
    "names and NUL": (NAMES, lambda f: f.write_text(f.read_text().replace("class 9", "clas\0\0\0")), NAMES),
    "a name twice": (NAMES, lambda f: f.write_text(f.read_text().replace("9", "8")), NAMES),
    "records cut": (TRAIN, lambda f: f.write_bytes(f.read_bytes()[:-7]), TRAIN),
    "no records": (TRAIN, lambda f: f.write_bytes(b""), TRAIN),
    "records gone": (TRAIN, os.remove, TRAIN),
    "records a pipe": (TRAIN, pipe, TRAIN),
    "records of another number": (TRAIN, lambda f: rewritten(f, 29), "has 29 records, .* says 30"),
    "empty records": (TRAIN, lambda f: rewritten(f, 30), TRAIN),
    "a flipped bit": (TRAIN, lambda f: flipped(f, 70_000), "record [0-9]+: .*hash mismatch"),
}


def unlisted(file):
    """Without the test split another one would take its place."""
    test = file.with_name(TRAIN.replace("train", "test"))
    shutil.copy(test, file.with_name(TRAIN.replace("train", "validation")))
    edit(file, lambda i: i["splits"][1].update(name="validation"))


def flipped_name(file):
    file.write_bytes(file.read_bytes().replace(b"class 3", b"class \xb3"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_message_that_names_the_file(damage, folder):
    file, change, expected = DAMAGES[damage]
    change(folder / file)
    for load in loaders("cifar10", folder.parents[1])[:2]:
        with pytest.raises(InputError, match=expected) as caught:
            load()
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)
    if damage not in ("fewer channels", "more channels", "two dimensions", "a flipped bit", "empty records"):
        with pytest.raises(InputError, match=f"(?s){expected}"):
            loaders("cifar10", folder.parents[1])[2]()


def facts(splits):
    fields = ("labels", "ids", "class_names", "split", "normalization", "image_shape")
    return [(d.images[:].tobytes(), *(str(getattr(d, field)) for field in fields)) for d in splits]


def outcome(load):
    try:
        return facts(load()), ""
    except InputError as error:
        return None, str(error)


def test_random_damage_is_detected_or_changes_nothing(prepared, tmp_path):
    """Bits and ends of every file but that of the names of classes, which have no checksum."""
    undamaged = {n: facts(load_dataset(n, data_dir=prepared, quiet=True)) for n in ("cifar10", "mnist")}
    detected = 0
    for seed in range(30):
        rng, data_dir = random.Random(seed), tmp_path / str(seed)
        name = rng.choice(["cifar10", "mnist"])
        (folder,) = shutil.copytree(prepared / name, data_dir / name).iterdir()
        file = rng.choice(sorted(f for f in folder.iterdir() if f.name != NAMES))
        content = bytearray(file.read_bytes())
        place = rng.randrange(len(content))
        content[place:] = rng.choice(
            [b"", bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]]
        )
        file.write_bytes(content)
        found, error = outcome(loaders(name, data_dir)[seed % 2])
        assert str(folder) in error if error else found == undamaged[name], (seed, file.name, place, error)
        detected += bool(error)
    assert detected >= 10


# Code that a folder names


def legacy(content):
    kept = content["featuresDict"]["features"]
    content.clear()
    content.update(type="evil_features.Feature", content={"features": json.dumps(kept)})


def within_json(content):
    inner = {"feature": {"type": "evil_features.Feature", "content": {}}}
    sequence = "tensorflow_datasets.core.features.sequence_feature.Sequence"
    content["featuresDict"]["features"]["more"] = {
        "pythonClassName": sequence,
        "jsonFeature": {"json": json.dumps(inner)},
    }


FOREIGN = {
    "at the top": (FEATURES, lambda f: f.update(pythonClassName="evil_features.Feature")),
    "of a feature": (FEATURES, lambda f: feature(f, "image").update(pythonClassName="evil_features.Feature")),
    "the other spelling": (
        FEATURES,
        lambda f: f.update(python_class_name=f.pop("pythonClassName") and "evil_features.Feature"),
    ),
    "the older form": (FEATURES, legacy),
    "json within json": (FEATURES, within_json),
    "in the other file": (INFO, lambda i: i.update(features={"pythonClassName": "evil_features.Feature"})),
    "a test of TFDS": (
        FEATURES,
        lambda f: f.update(pythonClassName="tensorflow_datasets.core.features.evil_features.Feature"),
    ),
}


@pytest.mark.parametrize("place", FOREIGN)
def test_no_code_that_a_folder_names_is_run(place, folder, tmp_path, monkeypatch):
    """A module of that name lies in the current folder."""
    (tmp_path / "evil_features.py").write_text("open('ran', 'w').close()\nraise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    file, change = FOREIGN[place]
    edit(folder / file, change)
    for load in loaders("cifar10", folder.parents[1]):
        with pytest.raises(InputError, match=f"{file} names .*evil_features.Feature, no feature class of"):
            load()
    assert not (tmp_path / "ran").exists()
    assert "evil_features" not in sys.modules


def test_features_as_earlier_versions_named_them_are_read(folder):
    name = "tensorflow_datasets.core.features.feature.Tensor"
    more = {"pythonClassName": name, "tensor": {"shape": {}, "dtype": "int64", "encoding": "none"}}
    edit(folder / FEATURES, lambda f: f["featuresDict"]["features"].update(more=more))
    assert len(loaders("cifar10", folder.parents[1])[0]().train) == 30
