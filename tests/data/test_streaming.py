"""Streamed datasets: the rows, labels and pixels of the dataset in memory, decoded when asked for."""

import dataclasses
import os
import shutil
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import diet_jax as dj
from diet_jax.data.dataset import first_examples
from diet_jax.data.kinds import channel_statistics
from diet_jax.data.noise import flip_labels
from diet_jax.data.published import IMAGENET
from diet_jax.data.reader import chunks
from diet_jax.data.sources import load_dataset, load_streamed
from diet_jax.data.sources.tfds import RecordReader
from diet_jax.data.streaming import streamed as streamed_file
from diet_jax.data.streaming.crops import central_crop, random_box, random_resized_crop
from diet_jax.data.streaming.encoded import EncodedImages
from diet_jax.data.streaming.streamed import StreamedDataset

pytest.importorskip("grain")


def _source(kind, root):
    return (f"folder:{root}", {}) if kind == "image_folder" else ("mnist", {"data_dir": root})


@pytest.fixture(params=["image_folder", "image_records"])
def both(request):
    """The splits of one source, streamed and in memory."""
    root = request.getfixturevalue(request.param)
    name, options = (
        (f"folder:{root}", {}) if request.param == "image_folder" else ("mnist", {"data_dir": root})
    )
    return load_streamed(name, **options), load_dataset(name, **options, quiet=True)


def test_a_streamed_dataset_is_the_one_in_memory(both):
    for lazy, held in zip(*both, strict=True):
        assert isinstance(lazy, StreamedDataset)
        assert isinstance(lazy.images, EncodedImages)
        for field in ("num_classes", "class_names", "name", "split", "id_source", "encoding", "image_shape"):
            assert getattr(lazy, field) == getattr(held, field), field
        assert lazy.normalization == held.normalization
        for field in ("labels", "ids"):
            one, other = getattr(lazy, field), getattr(held, field)
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        assert len(lazy) == len(held) == len(lazy.images)
        assert (lazy.images.shape, lazy.images.dtype) == (held.images.shape, held.images.dtype)
        rng = np.random.default_rng(0)
        mask = rng.random(len(held)) < 0.5
        for rows in (
            3,
            -1,
            np.int32(2),
            slice(None),
            slice(7, 2, -2),
            [4, 1, 1],
            rng.permutation(len(held)),
            np.array([[0, 1], [2, 3]], np.int32),
            mask,
            np.array([], np.int64),
        ):
            np.testing.assert_array_equal(lazy.images[rows], held.images[rows])
        with pytest.raises(IndexError):
            lazy.images[[len(held)]]
    with pytest.raises(dj.InputError, match="rows only"):
        both[0].train.images[0, 1]


def test_what_works_row_by_row_works_on_disk(both):
    lazy, held = (splits.train for splits in both)
    np.testing.assert_array_equal(dj.normalized_images(lazy, [3, 1]), dj.normalized_images(held, [3, 1]))
    model = dj.create_model("mlp", num_classes=held.num_classes, widths=(4,))
    variables = model.init(jax.random.key(0), held.image_shape)

    def score(variables, images, labels):
        return dj.el2n(model.predict, variables, images, labels)

    np.testing.assert_array_equal(
        dj.score_dataset(score, variables, lazy, batch_size=7),
        dj.score_dataset(score, variables, held, batch_size=7),
    )


def test_all_images_at_once_are_refused(both):
    lazy = both[0].train
    model = dj.create_model("mlp", num_classes=lazy.num_classes, widths=(4,))
    config = dj.TrainConfig(epochs=1, batch_size=10, augment="none")
    with pytest.raises(dj.InputError, match="not read as a whole"):
        lazy.examples()
    for how in ("vmap", "loop"):
        with pytest.raises(dj.InputError, match="not read as a whole"):
            dj.train_ensemble(dj.seed_keys(0, "retrain", 2), model, lazy, lazy, config=config, how=how)


def test_rows_and_labels_are_replaced_as_in_memory(both):
    lazy, held = (splits.train for splits in both)
    noisy = [flip_labels(jax.random.key(0), dataset, 0.5, mode="uniform") for dataset in (lazy, held)]
    np.testing.assert_array_equal(noisy[0].dataset.labels, noisy[1].dataset.labels)
    assert isinstance(noisy[0].dataset, StreamedDataset)
    part, same = (first_examples(dataset, 11) for dataset in (lazy, held))
    np.testing.assert_array_equal(part.ids, same.ids)
    np.testing.assert_array_equal(part.images[:], same.images)
    assert part.normalization == held.normalization
    assert len({lazy.fingerprint, noisy[0].dataset.fingerprint, part.fingerprint}) == 3
    assert noisy[0].dataset.with_labels(lazy.labels).fingerprint == lazy.fingerprint
    assert lazy.take(np.arange(len(lazy))).fingerprint == lazy.fingerprint


def test_a_fingerprint_covers_the_encoded_images(image_folder, tmp_path):
    first = load_streamed(f"folder:{image_folder}").train.fingerprint
    copy = Path(
        shutil.copytree(image_folder, tmp_path / "copy" / image_folder.name, copy_function=shutil.copyfile)
    )
    assert load_streamed(f"folder:{copy}").train.fingerprint == first
    image = np.array(Image.open(copy / "train/b/0001.png"))
    image[0, 0, 0] ^= 1
    Image.fromarray(image).save(copy / "train/b/0001.png")
    assert load_streamed(f"folder:{copy}").train.fingerprint != first


@pytest.mark.parametrize("kind", ["image_folder", "image_records"])
def test_the_index_is_read_again_and_a_damaged_one_is_made_again(kind, request, tmp_path, monkeypatch):
    root = request.getfixturevalue(kind)
    name, options = _source(kind, root)
    first = load_streamed(name, **options, cache_dir=tmp_path)
    (index,) = tmp_path.glob("*.index.npz")
    made = []
    monkeypatch.setattr("diet_jax.data.streaming.index.examine", lambda *a: made.append(a) or examine(*a))
    assert load_streamed(name, **options, cache_dir=tmp_path).train.fingerprint == first.train.fingerprint
    assert not made
    index.write_bytes(index.read_bytes()[:-100])
    again = load_streamed(name, **options, cache_dir=tmp_path)
    assert len(made) == 2
    for one, other in zip(first, again, strict=True):
        assert (one.fingerprint, one.id_source) == (other.fingerprint, other.id_source)


from diet_jax.data.streaming.index import examine  # noqa: E402


def test_normalisation_is_measured_on_evenly_spaced_rows(image_folder, monkeypatch):
    held = load_dataset(f"folder:{image_folder}", quiet=True).train
    monkeypatch.setattr(streamed_file, "MEASURED_PIXELS", 64 * 4)
    lazy = load_streamed(f"folder:{image_folder}")
    rows = [0, 10, 19, 29]
    assert lazy.train.normalization == channel_statistics(held.images[rows])
    assert lazy.test.normalization == lazy.train.normalization


def test_imagenets_constants():
    # torchvision's, in units of 8-bit pixels
    np.testing.assert_allclose(np.array(IMAGENET.mean) / 255, [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_allclose(np.array(IMAGENET.std) / 255, [0.229, 0.224, 0.225], rtol=1e-6)


def test_chunks():
    assert [c.tolist() for c in chunks(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]


# Errors


@pytest.fixture
def own(image_folder, tmp_path):
    return Path(shutil.copytree(image_folder, tmp_path / "own"))


def test_a_file_that_is_gone_changed_or_damaged_is_named(own):
    train = load_streamed(f"folder:{own}").train
    victim = own / str(train.ids[4])
    assert train.images[[4]].shape == (1, 8, 8, 3)
    shutil.copyfile(own / str(train.ids[5]), victim)
    with pytest.raises(dj.InputError, match=f"{victim} is not the one"):
        train.images[[3, 4]]
    victim.unlink()
    with pytest.raises(dj.InputError, match=f"cannot read image {victim}"):
        list(train.read_batches([np.array([3, 4])]))
    # The header is whole, the pixels are not: found when it is decoded.
    content = (own / str(train.ids[5])).read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    with pytest.raises(dj.InputError, match=f"image {victim} is damaged"):
        load_streamed(f"folder:{own}")


def test_a_change_that_its_index_cannot_see_is_named_with_a_remedy_that_works(own):
    victim, times = own / "train/b/0001.png", (1_600_000_000, 1_600_000_000)
    os.utime(victim, times)
    content = victim.read_bytes()
    load_streamed(f"folder:{own}")
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(victim, times)
    with pytest.raises(dj.InputError, match=f"{victim} is not the one that was indexed.*touch its file"):
        load_streamed(f"folder:{own}")
    victim.touch()
    load_streamed(f"folder:{own}")


def test_labels_out_of_range_are_refused(image_records, monkeypatch):
    records = RecordReader.records

    def unlabelled(self, numbers):
        label = -1 if self.split == "test" else 0
        return [record._replace(label=label) for record in records(self, numbers)]

    monkeypatch.setattr(RecordReader, "records", unlabelled)
    with pytest.raises(dj.InputError, match=r"12 of 12 do not, the first is -1 in 0 of .* test"):
        load_streamed("mnist", data_dir=image_records)


def test_an_empty_record_is_refused(image_records, monkeypatch):
    images = load_streamed("mnist", data_dir=image_records).train.images

    def empty(_, numbers):
        return [{"image": None, "label": None} for _ in numbers]

    monkeypatch.setattr(type(images.reader._opened), "__getitems__", empty)
    with pytest.raises(dj.InputError, match=r"train.*00000-of-00001 is damaged: record 0: a record is empty"):
        images[:2]


def test_what_is_no_image_is_named(own):
    victim = own / "train/b/0001.png"
    victim.write_bytes(b"no image")
    with pytest.raises(dj.InputError, match=f"image {victim} is damaged"):
        load_streamed(f"folder:{own}")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.slow
def test_an_error_while_reading_ahead_is_one_message(own, workers):
    train = load_streamed(f"folder:{own}", workers=workers).train
    (own / str(train.ids[5])).unlink()
    reader = train.read_batches([np.array([0, 1]), np.array([4, 5])])
    np.testing.assert_array_equal(next(reader), train.images[:2])
    with pytest.raises(dj.InputError, match=str(train.ids[5])):
        next(reader)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {}, "cannot be streamed"),
        ("folder:nowhere", {}, "nowhere does not exist"),
        ("cifar10", {"data_dir": "nowhere"}, "not prepared"),
        ("digits", {"image_size": 0}, "image_size must be at least 1"),
        ("digits", {"workers": -1}, "workers must be at least 0"),
    ],
)
def test_what_cannot_be_streamed(name, options, message):
    with pytest.raises(dj.InputError, match=message):
        load_streamed(name, **options)


def test_without_grain_it_says_what_to_install(monkeypatch, image_folder):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(dj.InputError, match=r"pip install grain"):
        load_streamed(f"folder:{image_folder}")


# Images of any size


def test_images_of_other_sizes_need_an_image_size(own):
    Image.new("RGB", (12, 9)).save(own / "train/b/0001.png")
    with pytest.raises(dj.InputError, match=r"0001.png is 9x12.*--data.image-size SIZE"):
        load_streamed(f"folder:{own}")
    train = load_streamed(f"folder:{own}", image_size=7).train
    assert train.images.shape == (30, 7, 7, 3)
    assert train.images[:].shape == train.images.shape
    assert train.fingerprint != load_streamed(f"folder:{own}", image_size=6).train.fingerprint


def gradient(height, width):
    """Red grows with the column, green with the row: what a crop keeps can be read off."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns * 255 / width, rows * 255 / height, 0 * rows], -1)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (100, 640), (224, 224)])
def test_central_crop_is_the_standard_evaluation(height, width):
    """The second route: the box that the crop keeps, cut out of the original and resized at once."""
    image = gradient(height, width)
    crop = central_crop(image, 112)
    side = min(height, width) * 112 / 128
    left, top = (width - side) / 2, (height - side) / 2
    expected = image.resize((112, 112), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    difference = np.abs(np.asarray(crop, int) - np.asarray(expected, int))[2:-2, 2:-2]
    assert crop.size == (112, 112)
    assert difference.max() <= 4


def test_random_boxes_have_the_stated_areas_and_ratios():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box((300, 200), rng) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 300).all()
    assert (boxes[:, 3] <= 200).all()
    share, ratio = width * height / 60_000, width / height
    assert 0.075 < share.min() < 0.1
    assert 0.85 < share.max() <= 8 / 9 + 0.01
    assert ratio.min() > 0.73
    assert ratio.max() < 1.37
    # Uniform area, of those that fit; symmetric in the logarithm for small ones, which always fit.
    small = share < 0.5
    assert abs(np.log(ratio[small]).mean()) < 4 * np.log(4 / 3) / np.sqrt(3 * small.sum())
    assert len(set(boxes[:, 0])) > 50
    assert len(set(boxes[:, 1])) > 50


def test_an_image_too_narrow_for_any_part_gives_its_centre():
    assert random_box((900, 3), np.random.default_rng(0)) == (448, 0, 452, 3)
    assert random_box((3, 900), np.random.default_rng(0)) == (0, 448, 3, 452)


def test_random_resized_crop_is_the_part_at_that_size_and_mirrored_half_the_time():
    image, mirrored = gradient(64, 96), 0
    for seed in range(60):
        box = random_box(image.size, np.random.default_rng(seed))
        plain = np.asarray(image.crop(box).resize((10, 8), Image.Resampling.BILINEAR), int)
        cut = np.asarray(random_resized_crop(image, (8, 10), np.random.default_rng(seed)), int)
        flipped = cut[0, 0, 0] > cut[0, -1, 0]
        mirrored += flipped
        # resize(box=) looks beyond the box at its edges, crop does not.
        assert np.abs((cut[:, ::-1] if flipped else cut) - plain).max() <= 8
    assert 15 <= mirrored <= 45


def test_random_crops_depend_on_seed_batch_and_row_alone(image_folder):
    images = load_streamed(f"folder:{image_folder}").train.images
    one = images.load(np.array([3, 4, 5]), (1, 2, 7))
    np.testing.assert_array_equal(images.load(np.array([5, 3]), (1, 2, 7)), one[[2, 0]])
    for other in ((1, 3, 7), (1, 2, 8)):
        assert (images.load(np.array([3, 4, 5]), other) != one).any()


@pytest.mark.parametrize("piece", [1, 2, 5])
@pytest.mark.slow
def test_threads_and_workers_read_the_same(image_folder, piece, monkeypatch):
    monkeypatch.setattr("diet_jax.data.streaming.reading.PIECE_BYTES", piece * 8 * 8 * 3)
    train = load_streamed(f"folder:{image_folder}").train
    batches = [np.array(rows, np.int64) for rows in ([0, 5, 3], [7, 8, 9], [29, 1, 2], [4, 4, 4], [6], [])]
    expected = [train.images[rows] for rows in batches]
    for workers in (0, 2) if piece == 2 else (0,):
        dataset = dataclasses.replace(train, workers=workers)
        for one, other in zip(dataset.read_batches(batches), expected, strict=True):
            np.testing.assert_array_equal(one, other)


GUARD = "if __name__ == '__main__':\n    "
START = "load_streamed('nothing', workers=1)\n"
SCRIPTS = {
    "without a guard": (START, 1),
    "under another if": (f"if 1:\n    {START}", 2),
    "guarded": (f"{GUARD}{START}", 0),
    "guarded and more": (f"import sys\nif '__main__' == __name__ and sys:\n    {START}", 0),
    "guarded inside try": (f"try:\n    {GUARD.replace('    ', '        ')}{START}finally:\n    pass\n", 0),
    "above the guard": (f"{START}{GUARD}pass\n", 1),
    "below the guard": (f"{GUARD}pass\n{START}", 3),
    "a function called under the guard": (f"def main():\n    {START}{GUARD}main()\n", 0),
    "a function called above the guard": (f"def main():\n    {START}main()\n{GUARD}pass\n", 3),
    "over several lines": (f"{GUARD}[\n        0,\n        {START}    ]\n", 0),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_work_of_a_script_that_no_main_guard_is_over_is_refused(name, tmp_path, monkeypatch):
    text, line = SCRIPTS[name]
    script = types.ModuleType("__main__")
    script.__file__ = str(tmp_path / "script.py")
    (tmp_path / "script.py").write_text(text)
    vars(script)["load_streamed"] = load_streamed
    monkeypatch.setitem(sys.modules, "__main__", script)
    # With another name than that of a data set: the guard is looked at first.
    with pytest.raises(
        dj.InputError, match=f"put what it does in line {line} under" if line else "not a known"
    ):
        exec(compile(text, script.__file__, "exec"), vars(script))


@pytest.mark.parametrize(("text", "refused"), [("pass\n", True), (f"{GUARD}pass\n", False)])
def test_of_a_thread_any_guard_of_the_script_will_do(text, refused, tmp_path, monkeypatch):
    script = types.ModuleType("__main__")
    script.__file__ = str(tmp_path / "script.py")
    (tmp_path / "script.py").write_text(text)
    monkeypatch.setitem(sys.modules, "__main__", script)
    with pytest.raises(dj.InputError, match="put what it does under" if refused else "not a known"):
        load_streamed("nothing", workers=1)


def test_a_script_that_workers_cannot_find_is_refused(monkeypatch):
    script = types.ModuleType("__main__")
    vars(script).update(__file__="<stdin>")
    monkeypatch.setitem(sys.modules, "__main__", script)
    with pytest.raises(dj.InputError, match=r"through a pipe or is gone \(<stdin>\): save it as a file"):
        load_streamed("nothing", workers=1)


@pytest.mark.parametrize(("name", "refused"), [("script", True), ("package.__main__", False)])
def test_a_module_started_by_name_needs_a_guard_and_that_of_a_package_none(
    name, refused, tmp_path, monkeypatch
):
    script = types.ModuleType("__main__")
    script.__file__, script.__spec__ = str(tmp_path / "script.py"), ModuleSpec(name, None)
    (tmp_path / "script.py").write_text("")
    monkeypatch.setitem(sys.modules, "__main__", script)
    with pytest.raises(dj.InputError, match="put what it does under" if refused else "not a known"):
        load_streamed("nothing", workers=1)


def test_what_has_no_file_needs_no_guard(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    with pytest.raises(dj.InputError, match="not a known"):
        load_streamed("nothing", workers=1)
