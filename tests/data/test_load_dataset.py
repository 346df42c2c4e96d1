"""load_dataset: the embedded digits, prepared TFDS directories and image folders."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diet_jax.data.dataset import Dataset
from diet_jax.data.kinds import channel_statistics
from diet_jax.data.sources import load_dataset, load_streamed
from diet_jax.data.sources.tfds.archives import Contents
from diet_jax.data.sources.tfds.write import write_prepared
from diet_jax.devices.progress import Progress
from diet_jax.errors import InputError

REPOSITORY = Path(__file__).parents[2]


def write(name, data_dir, *, train=30, test=12, has_ids=True, classes=10, shape=(32, 32, 3), seed=0):
    """Writes a small prepared data set and returns its folder and contents."""
    rng = np.random.default_rng(seed)
    sizes = {"train": train, "test": test}
    images = {s: rng.integers(0, 256, (n, *shape), dtype=np.uint8) for s, n in sizes.items()}
    labels = {s: {"label": rng.integers(0, classes, n)} for s, n in sizes.items()}
    contents = Contents(images, labels, {})
    return write_prepared(name, contents, has_ids, data_dir, Progress("", quiet=True)), contents


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def load(name, data_dir):
    return load_dataset(name, data_dir=data_dir, quiet=True)


# The embedded digits


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    train, test = load_dataset("digits")
    assert (len(train), len(test)) == (1078, 719)
    assert sorted([*train.ids, *test.ids]) == list(range(1797))
    for dataset in (train, test):
        assert (np.diff(dataset.ids) > 0).all()
        np.testing.assert_array_equal(dataset.images.reshape(-1, 64), images[dataset.ids])
        np.testing.assert_array_equal(dataset.labels, labels[dataset.ids])
        assert (dataset.images.dtype, dataset.images.max(), dataset.num_classes) == (np.uint8, 16, 10)
    share = np.bincount(test.labels) / np.bincount(labels)
    assert np.abs(share - 0.4).max() < 0.01
    assert test.normalization == train.normalization
    np.testing.assert_allclose(train.normalization.mean[0], images[train.ids].mean(), rtol=1e-12)
    assert load_dataset("digits").train.fingerprint == train.fingerprint


def test_nothing_heavy_is_imported_before_it_is_needed():
    heavy = ["tensorflow_datasets", "array_record", "sklearn", "PIL", "pooch", "rich", "requests"]
    program = f"import sys, diet_jax.data.sources; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=REPOSITORY) == "[]\n"


# Prepared TFDS directories


def test_a_prepared_dataset(tmp_path):
    _, contents = write("cifar10", tmp_path)
    for dataset, split in zip(load("cifar10", tmp_path), ("train", "test"), strict=True):
        np.testing.assert_array_equal(dataset.images, contents.images[split])
        np.testing.assert_array_equal(dataset.labels, contents.labels[split]["label"])
        assert dataset.labels.dtype == np.int32
        assert dataset.ids.tolist() == [f"{split}_{i:05d}" for i in range(len(dataset))]
        assert dataset.id_source == "the id feature of TFDS cifar10 3.0.2"
        assert (dataset.name, dataset.split, dataset.num_classes) == ("cifar10", split, 10)
        np.testing.assert_allclose(dataset.normalization.mean, np.multiply(255, [0.4914, 0.4822, 0.4465]))
        np.testing.assert_allclose(dataset.normalization.std, np.multiply(255, [0.2470, 0.2435, 0.2616]))


def test_ids_are_derived_where_tfds_has_none(tmp_path):
    _, contents = write("mnist", tmp_path, has_ids=False, shape=(28, 28, 1))
    train, test = load("mnist", tmp_path)
    assert train.ids[[0, 29]].tolist() == ["train_00000", "train_00029"]
    assert test.ids[0] == "test_00000"
    assert "position in the prepared files of TFDS mnist" in train.id_source
    pixels = contents.images["train"].astype(np.float64)
    np.testing.assert_allclose(train.normalization, [[pixels.mean()], [pixels.std()]], rtol=1e-12)
    assert test.normalization == train.normalization


def test_cifar100_takes_its_fine_labels_and_the_constants_of_cifar10(tmp_path):
    rng = np.random.default_rng(0)
    images = {s: rng.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8) for s in ("train", "test")}
    labels = {s: {"label": rng.integers(20, 100, 9), "coarse_label": np.zeros(9, int)} for s in images}
    names = {"label": [f"fine{i}" for i in range(100)]}
    write_prepared("cifar100", Contents(images, labels, names), True, tmp_path, Progress("", quiet=True))
    train = load("cifar100", tmp_path).train
    np.testing.assert_array_equal(train.labels, labels["train"]["label"])
    assert train.class_names[99] == "fine99"
    np.testing.assert_allclose(train.normalization.mean, np.multiply(255, [0.4914, 0.4822, 0.4465]))


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
def test_real_data_is_decoded_as_pillow_and_tfds_decode_it(name, tmp_path):
    import io

    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    count = 300
    source = real_data(name)
    version = next(v for v in source.iterdir() if (v / "dataset_info.json").is_file())
    copy = tmp_path / name / version.name
    copy.mkdir(parents=True)
    silence = NoGroupSize()
    logging.getLogger("absl").addFilter(silence)
    try:
        for file in version.iterdir():
            if "array_record" in file.name:  # the first records, as they are
                reader = ArrayRecordReader(str(file))
                writer = ArrayRecordWriter(str(copy / file.name), "group_size:1")
                for record in reader.read(range(count)):
                    writer.write(record)
                writer.close()
                reader.close()
            else:
                shutil.copy(file, copy)
        edit(copy / "dataset_info.json", lambda i: [s.update(shardLengths=[str(count)]) for s in i["splits"]])
        splits = load(name, tmp_path)
        skip = {"image": tfds.decode.SkipDecoding()}
        for dataset in splits:
            decoded = tfds.data_source(name, split=dataset.split, data_dir=tmp_path, download=False)
            encoded = tfds.data_source(
                name, split=dataset.split, data_dir=tmp_path, download=False, decoders=skip
            )
            assert len(dataset) == len(decoded) == count
            for i in range(count):
                np.testing.assert_array_equal(dataset.images[i], decoded[i]["image"])
                pillow = np.asarray(Image.open(io.BytesIO(encoded[i]["image"])))
                np.testing.assert_array_equal(dataset.images[i].squeeze(), pillow)
                assert dataset.labels[i] == decoded[i]["label"]
                assert dataset.ids[i] == decoded[i].get("id", f"{dataset.split}_{i:05d}".encode()).decode()
        assert splits.train.class_names == tuple(
            tfds.builder(name, data_dir=tmp_path).info.features["label"].names
        )
    finally:
        logging.getLogger("absl").removeFilter(silence)


class NoGroupSize(logging.Filter):
    """Drops array_record's complaint about record groups, which the stored files share; nothing else."""

    def filter(self, record):
        return "was created with group size" not in record.getMessage()


def real_data(name):
    folder = os.environ.get("DIET_JAX_TEST_DATA") or REPOSITORY.parent / "shared" / "data" / "tfds"
    if not Path(folder, name).is_dir():
        pytest.skip(reason=f"no real {name}: set DIET_JAX_TEST_DATA to a folder of prepared TFDS data sets")
    return Path(folder, name)


def test_the_newest_version_is_read_unless_another_is_named(tmp_path):
    directory, _ = write("cifar10", tmp_path)
    older = directory.parent / "3.0.0"
    shutil.copytree(directory, older)
    edit(older / "dataset_info.json", lambda info: info.update(version="3.0.0"))
    assert load("cifar10", tmp_path).train.id_source.endswith("3.0.2")
    assert load("cifar10:3.0.0", tmp_path).train.id_source.endswith("3.0.0")
    with pytest.raises(InputError, match=r"'cifar10:3\.0\.9' is not prepared"):
        load("cifar10:3.0.9", tmp_path)


def test_configs_are_found(tmp_path):
    directory, contents = write("cifar10", tmp_path)
    for config in ("one", "two"):
        shutil.copytree(directory, tmp_path / "corrupted" / config / "1.0.0")
    with pytest.raises(InputError, match=r"several prepared configs.*corrupted/one, corrupted/two"):
        load("corrupted", tmp_path)
    train = load("corrupted/two", tmp_path).train
    assert train.name == "corrupted/two"
    np.testing.assert_array_equal(train.images, contents.images["train"])
    shutil.rmtree(tmp_path / "corrupted" / "one")
    assert load("corrupted", tmp_path).train.name == "corrupted/two"


def test_validation_takes_the_place_of_a_missing_test_split(tmp_path):
    directory, contents = write("cifar10", tmp_path)
    edit(directory / "dataset_info.json", lambda info: info["splits"][1].update(name="validation"))
    (directory / "cifar10-test.array_record-00000-of-00001").rename(
        directory / "cifar10-validation.array_record-00000-of-00001"
    )
    test = load("cifar10", tmp_path).test
    assert test.split == "validation"
    np.testing.assert_array_equal(test.images, contents.images["test"])


def test_a_missing_split_is_told(tmp_path):
    directory, _ = write("cifar10", tmp_path)
    edit(directory / "dataset_info.json", lambda info: info["splits"].pop(1))
    with pytest.raises(InputError, match=r"needs a split 'train'.*it has \['train'\]"):
        load("cifar10", tmp_path)


def test_another_file_format_is_told(tmp_path):
    directory, _ = write("cifar10", tmp_path)
    edit(directory / "dataset_info.json", lambda info: info.update(fileFormat="tfrecord"))
    with pytest.raises(InputError, match=r"tfrecord format.*expected array_record.*diet-jax prepare cifar10"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize(("key", "kind"), [("image", "Image"), ("label", "ClassLabel")])
def test_what_is_no_image_classifier_is_told(key, kind, tmp_path):
    directory, _ = write("cifar10", tmp_path)
    edit(directory / "features.json", lambda features: features["featuresDict"]["features"].pop(key))
    with pytest.raises(InputError, match=f"no image classifier: expected one {kind} feature, found 0"):
        load("cifar10", tmp_path)


def test_prepared_images_of_different_sizes_are_told(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, w, 3), dtype=np.uint8) for w in (32, 32, 31)]
    labels = {"label": np.zeros(3, int)}
    contents = Contents({"train": images, "test": images}, {"train": labels, "test": labels}, {})
    write_prepared("cifar10", contents, True, tmp_path, Progress("", quiet=True))
    with pytest.raises(InputError, match=r"0 of cifar10 train is 32x32.*2 of cifar10 train is 32x31"):
        load("cifar10", tmp_path)


def test_what_is_not_prepared_is_told_with_the_ways_out(tmp_path, monkeypatch):
    with pytest.raises(InputError) as caught:
        load("cifar10", tmp_path)
    for part in (
        "'cifar10'",
        str(tmp_path / "cifar10"),
        f"diet-jax prepare cifar10 --data-dir {tmp_path}",
        "DIR",
    ):
        assert part in str(caught.value)
    with pytest.raises(InputError) as caught:
        load("svhn_cropped", tmp_path)
    for part in (
        "pip install 'diet_jax[tensorflow]'",
        f"tfds.data_source('svhn_cropped', data_dir='{tmp_path}'",
    ):
        assert part in str(caught.value)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="elsewhere/mnist"):
        load_dataset("mnist")


@pytest.mark.parametrize(
    ("name", "near"), [("cifr10", "'cifar10'"), ("Digits", "'digits'"), ("fashion-mnist", "'fashion_mnist'")]
)
def test_an_unknown_name_is_told_with_near_ones(name, near, tmp_path):
    with pytest.raises(
        InputError, match=f"(?s)not a known dataset. Did you mean.*{near}.*Supported:.*folder:PATH"
    ):
        load(name, tmp_path)


def test_a_name_unlike_any_is_told(tmp_path):
    with pytest.raises(InputError, match=r"'qqqqqqq' is not a known dataset\. Supported:\n"):
        load("qqqqqqq", tmp_path)


# Image folders


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)


@pytest.fixture
def images(tmp_path, pixels):
    """Two classes with three training and two test images each, in colour."""
    rows = iter(pixels)
    for split, count in (("train", 3), ("test", 2)):
        for class_name in ("dog", "cat"):
            for i in range(count):
                save(tmp_path / "pets" / split / class_name / f"{i}.png", next(rows))
    return tmp_path / "pets"


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_a_folder(images, pixels):
    train, test = load(f"folder:{images}", None)
    assert train.ids.tolist() == [f"train/{c}/{i}.png" for c in ("cat", "dog") for i in range(3)]
    assert test.ids.tolist() == [f"test/{c}/{i}.png" for c in ("cat", "dog") for i in range(2)]
    assert train.class_names == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(train.images, pixels[[3, 4, 5, 0, 1, 2]])
    np.testing.assert_array_equal(test.images, pixels[[8, 9, 6, 7]])
    assert (train.name, train.split, test.split) == ("folder:pets", "train", "test")
    assert train.normalization == test.normalization == channel_statistics(pixels[:6])
    assert train.encoding == train.take(np.arange(2)).encoding == test.encoding == "PNG"


def test_jpeg_is_told_from_what_is_lossless(tmp_path, pixels):
    """In memory, from its decoded copy, streamed, of some rows, with other labels; not known of arrays."""
    for split, rows in (("train", pixels[:6]), ("test", pixels[6:])):
        for i, image in enumerate(rows):
            save(tmp_path / "photos" / split / "ab"[i % 2] / f"{i}.jpg", image)
    name = f"folder:{tmp_path / 'photos'}"
    for train, test in (load(name, None), load(name, None), load_streamed(name)):
        assert (train.encoding, test.encoding) == ("JPEG", "JPEG")
        assert train.take(np.arange(2)).encoding == train.with_labels(1 - train.labels).encoding == "JPEG"
    assert Dataset.from_arrays(pixels, np.arange(12) % 2).encoding == ""


@pytest.mark.parametrize("validation", ["valid", "validation", "val"])
def test_a_validation_folder_joins_train(validation, images, pixels):
    save(images / validation / "cat" / "0.png", pixels[10])
    save(images / validation / "dog" / "0.png", pixels[11])
    train, test = load(f"folder:{images}", None)
    assert (len(train), len(test)) == (8, 4)
    row = train.ids.tolist().index(f"{validation}/dog/0.png")
    np.testing.assert_array_equal(train.images[row], pixels[11])
    assert train.labels[row] == 1


def test_other_files_are_ignored_and_jpeg_is_read(images, pixels):
    (images / "train" / "cat" / "notes.txt").write_text("")
    (images / "train" / "README").write_text("")
    (images / "train" / ".cache").mkdir()
    jpeg = images / "train" / "cat" / "3.JPG"
    Image.fromarray(pixels[0]).save(jpeg, "JPEG")
    train = load(f"folder:{images}", None).train
    assert train.ids[3] == "train/cat/3.JPG"
    np.testing.assert_array_equal(train.images[3], np.asarray(Image.open(jpeg)))


def test_grey_images_keep_one_channel_unless_any_is_in_colour(images):
    for file in images.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    train = load(f"folder:{images}", None).train
    assert train.image_shape == (6, 5, 1)
    np.testing.assert_array_equal(train.images[0, ..., 0], np.asarray(Image.open(images / train.ids[0])))
    last = images / "test" / "dog" / "1.png"
    Image.open(last).convert("RGB").save(last)
    colour = load(f"folder:{images}", None).train
    np.testing.assert_array_equal(colour.images, np.repeat(train.images, 3, axis=-1))


def test_cinic10_has_its_own_name_and_constants(images):
    data_dir = images.parent
    with pytest.raises(InputError, match=f"found neither {data_dir}/cinic10 nor {data_dir}/CINIC-10"):
        load("cinic10", data_dir)
    images.rename(data_dir / "CINIC-10")
    train, test = load("cinic10", data_dir)
    assert (train.name, test.name, len(train)) == ("cinic10", "cinic10", 6)
    np.testing.assert_allclose(
        train.normalization.mean, np.multiply(255, [0.47889522, 0.47227842, 0.43047404])
    )
    np.testing.assert_allclose(test.normalization.std, np.multiply(255, [0.24205776, 0.23828046, 0.25874835]))


def floating(folder, _):
    Image.fromarray(np.zeros((6, 5), np.float32)).save(folder / "test/cat/0.tif")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, _: shutil.rmtree(f / "test"), "no folder test"),
        (lambda f, _: shutil.rmtree(f), "does not exist; give a folder with train/CLASS and test/CLASS"),
        (
            lambda f, _: (shutil.rmtree(f / "test/dog"), shutil.rmtree(f / "train/cat")),
            "share no class: train has dog, test has cat",
        ),
        (
            lambda f, _: [p.rename(p.with_suffix(".heic")) for p in f.glob("test/*/*.png")],
            r"(?s)test holds no image in its class folders \(.png, .*4 files of 1 kind .*: 4 .heic",
        ),
        (lambda f, _: (f / "test").rename(f / "Testing"), "no folder test in it; it holds Testing/, train/"),
        (lambda f, _: [shutil.rmtree(f / "test" / c) for c in ("cat", "dog")], "no class folders"),
        (lambda f, _: (f / "train/cat/1.png").write_bytes(b"nonsense"), "image .*train/cat/1.png is damaged"),
        (lambda f, _: (f / "train/cat/1.png").write_bytes(b""), "image .*train/cat/1.png is damaged"),
        (
            lambda f, _: (f / "test/dog/0.png").write_bytes((f / "test/dog/0.png").read_bytes()[:-40]),
            "image .*test/dog/0.png is damaged",
        ),
        (
            lambda f, p: save(f / "test/dog/0.png", p[0, :, :4]),
            "train/cat/0.png is 6x5.*test/dog/0.png is 6x4",
        ),
        (floating, r"those of 1 images have another range: .*test/cat/0.tif \(Pillow mode 'F'\)"),
    ],
)
def test_bad_folders_are_told(change, message, images, pixels):
    change(images, pixels)
    with pytest.raises(InputError, match=message):
        load(f"folder:{images}", None)


def test_progress_is_shown_only_if_wanted(images, capsys, monkeypatch):
    load_dataset(f"folder:{images}")
    assert capsys.readouterr() == ("", "")
    shutil.rmtree(os.environ["DIET_JAX_CACHE"])
    # Longer than a moment.
    monkeypatch.setattr(Progress, "SECONDS_OF_BRIEF", -1.0)
    load_dataset(f"folder:{images}")
    captured = capsys.readouterr()
    assert captured.err == "decoding folder:pets train (once) ...\ndecoding folder:pets test (once) ...\n"
    assert captured.out == ""
    shutil.rmtree(os.environ["DIET_JAX_CACHE"])
    load_dataset(f"folder:{images}", quiet=True)
    assert capsys.readouterr() == ("", "")
