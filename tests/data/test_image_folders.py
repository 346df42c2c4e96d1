"""Image folders as people have them: every file is loaded as it should look, or counted and named."""

import csv
import hashlib
import io
import os
import re
import shutil
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import diet_jax as dj
from diet_jax.data.dataset import fingerprint
from diet_jax.data.image_files import as_line
from diet_jax.data.sources import load_dataset, load_streamed
from diet_jax.experiments.config import DataConfig, RunConfig
from diet_jax.experiments.setup import load_splits

SIZE = 24


@pytest.fixture(scope="module")
def photographs():
    """Square pieces of scikit-learn's two photographs, china and flower: uint8 `[2 20 h w 3]`."""
    from sklearn.datasets import load_sample_images

    rng, pieces = np.random.default_rng(0), []
    for image in load_sample_images().images:
        tops, lefts = rng.integers(0, 400 - 4 * SIZE, (2, 20)) + 13
        pieces.append(
            [image[t : t + 4 * SIZE : 4, x : x + 4 * SIZE : 4] for t, x in zip(tops, lefts, strict=True)]
        )
    return np.array(pieces)


@pytest.fixture
def pets(tmp_path, photographs):
    """A folder with two classes, of three and two photographs each."""
    root = tmp_path / "pets"
    for label, name in enumerate(("cat", "dog")):
        for number in range(5):
            split = "train" if number < 3 else "test"
            save(root / split / name / f"{number}.png", photographs[label, number])
    return root


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(path, **options)


def load_both(name, capsys, **options):
    """Loads a folder both ways, checks that they agree, and returns it with what was said in each."""
    capsys.readouterr()
    held = load_dataset(name, quiet=True)
    said = capsys.readouterr().err.splitlines()
    streamed = load_streamed(name, **options)
    also = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("indexing")]
    assert said == also
    assert load_dataset(name, quiet=True).train.fingerprint == held.train.fingerprint
    assert capsys.readouterr().err.splitlines() == said  # again, from the decoded copy
    for one, other in zip(held, streamed, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.labels.tolist() == other.labels.tolist()
        assert (one.class_names, one.split, one.normalization) == (
            other.class_names,
            other.split,
            other.normalization,
        )
        np.testing.assert_array_equal(one.images, other.images[:])
    return held, [line.split(": ", 1)[1] for line in said]


# Photographs in everything a folder may hold


def by_hand(path, background=(255, 255, 255)):
    """The pixels that a file should give, by Pillow's own functions: RGB, uint8 `[h w 3]`."""
    with Image.open(path) as opened:
        image = opened.copy() if opened.mode == "I;16" else ImageOps.exif_transpose(opened)
    if image.mode == "I;16":
        return np.repeat((np.asarray(image) // 256).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(int)
        alpha = rgba[..., 3:] / 255
        return np.round(alpha * rgba[..., :3] + (1 - alpha) * background).astype(np.uint8)
    return np.asarray(image.convert("RGB"))


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif}


def test_a_folder_of_real_photographs(tmp_path, photographs, capsys):
    """Formats, orientations, kinds of pixel: loaded as they look or named, and the counts add up."""
    root, china, flower = tmp_path / "photos", *photographs
    pictures = [Image.fromarray(piece) for piece in china]
    alpha = Image.fromarray(np.add.outer(np.arange(SIZE), np.arange(SIZE)).astype(np.uint8) * 5)
    folder = root / "train/china"
    save(folder / "a.png", pictures[0])
    save(folder / "b.JPG", pictures[1], quality=95)
    save(folder / "c.jpeg", pictures[2], **turned(6))
    save(folder / "d.webp", pictures[3], lossless=True)
    save(folder / "e.BMP", pictures[4])
    save(folder / "f.tif", pictures[5], compression="tiff_lzw")
    save(folder / "g.TIFF", pictures[6], **turned(8))
    save(folder / "h.gif", pictures[7])
    for orientation in range(1, 9):
        save(root / f"train/flower/phone/{orientation}.jpg", flower[orientation], **turned(orientation))
    save(root / "train/flower/phone/exif.png", flower[9], **turned(5))
    save(folder / "grey.png", pictures[8].convert("L"))
    save(folder / "palette.png", pictures[9].convert("P"))
    save(folder / "cmyk.jpg", pictures[10].convert("CMYK"))
    save(folder / "cmyk.tif", pictures[10].convert("CMYK"))
    save(folder / "deep.png", np.asarray(pictures[11].convert("L")).astype(np.uint16) * 257)
    save(folder / "deep.tif", np.asarray(pictures[12].convert("L")).astype(np.uint16) * 200 + 77)
    pictures[13].putalpha(alpha)
    save(folder / "alpha.png", pictures[13])
    save(folder / "alpha.webp", pictures[13], lossless=True)
    save(folder / "alpha_grey.png", pictures[13].convert("LA"))
    transparent = pictures[14].convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    save(folder / "palette_alpha.png", transparent, transparency=bytes(range(0, 256, 16)))
    save(folder / "one_colour.gif", transparent, transparency=3)
    save(folder / "bilevel.png", pictures[15].convert("1"))
    animated = [pictures[16], pictures[17]]
    save(folder / "animated.gif", animated[0], save_all=True, append_images=animated[1:])
    save(folder / "animated.webp", animated[0], save_all=True, append_images=animated[1:], lossless=True)
    save(folder / "pages.tif", animated[1], save_all=True, append_images=animated[:1])
    save(root / "test/china/a.png", china[18])
    save(root / "test/flower/a.png", flower[18])
    (folder / "notes.txt").write_text("")
    (folder / "LICENSE").write_text("")
    (root / "labels.csv").write_text("")
    (folder / ".DS_Store").write_text("")
    (folder / "Thumbs.db").write_text("")
    (folder / "._a.png").write_text("")

    (train, test), said = load_both(f"folder:{root}", capsys)
    for dataset in (train, test):
        assert dataset.image_shape == (SIZE, SIZE, 3)
        for row, name in enumerate(dataset.ids):
            np.testing.assert_allclose(
                dataset.images[row].astype(int), by_hand(root / str(name)), atol=1, err_msg=str(name)
            )
    by_id = {str(name): image for name, image in zip(train.ids, train.images, strict=True)}
    for name, number in {"a.png": 0, "d.webp": 3, "e.BMP": 4, "f.tif": 5, "animated.webp": 16}.items():
        np.testing.assert_array_equal(by_id[f"train/china/{name}"], china[number])
    np.testing.assert_array_equal(by_id["train/china/g.TIFF"], np.rot90(china[6]))
    assert (
        "3 files of 3 kinds were left out: 1 .csv, 1 .txt, 1 without a suffix (such as train/china/LICENSE)"
        in said
    )
    assert "5 images with transparency: composed on white (or folder:PATH,background=COLOUR)" in said
    assert "3 images with several frames or pages: the first one is read" in said
    assert "2 images with 16 bits per channel: the upper 8 are read" in said
    assert "3 names were passed over, hidden or left by a system (such as train/china/.DS_Store)" in said
    assert len(said) == 5
    on_disk = [p for p in root.rglob("*") if p.is_file() and p.name[0] != "." and p.name != "Thumbs.db"]
    assert len(train) + len(test) + 3 == len(on_disk)

    # Broken and empty ones: all of them in one message, whatever is wrong, in both ways.
    (folder / "empty.png").write_bytes(b"")
    (folder / "nonsense.jpg").write_bytes(b"<html>not found</html>")
    whole = (root / "test/flower/a.png").read_bytes()
    (root / "test/flower/half.png").write_bytes(whole[: len(whole) // 2])
    for load in (lambda name: load_dataset(name, quiet=True), load_streamed):
        with pytest.raises(
            dj.InputError, match=r"3 images are damaged or no images: .*half.png .*empty.png"
        ) as caught:
            load(f"folder:{root}")
        assert "empty.png (the file is empty)" in str(caught.value)
        assert "nonsense.jpg (in no format that Pillow knows)" in str(caught.value)
    for number in range(6):
        (folder / f"empty{number}.png").write_bytes(b"")
    with pytest.raises(dj.InputError, match=r"9 images .* and 4 more; repair or remove them"):
        load_dataset(f"folder:{root}", quiet=True)


@pytest.mark.parametrize("colour", ["black", "#ff8000"])
def test_transparent_drawings_are_composed_on_the_background_of_ones_choice(colour, tmp_path, capsys):
    """Black lines whose drawing is in their transparency alone: grey, unless the background has a colour."""
    rng, drawn = np.random.default_rng(0), {}
    for folder in ("train/a", "train/b", "test/a", "test/b"):
        drawn[folder] = rng.integers(0, 2, (6, 6)).astype(np.uint8) * 255
        image = Image.new("L", (6, 6), 40)
        image.putalpha(Image.fromarray(drawn[folder]))
        save(tmp_path / "ink" / folder / "0.png", image)
    on_white, said = load_both(f"folder:{tmp_path / 'ink'}", capsys)
    assert said == ["4 images with transparency: composed on white (or folder:PATH,background=COLOUR)"]
    np.testing.assert_array_equal(on_white.train.images[0, ..., 0], np.where(drawn["train/a"], 40, 255))
    assert on_white.train.image_shape == (6, 6, 1)
    name = f"folder:{tmp_path / 'ink'},background={colour}"
    other, _ = load_both(name, capsys)
    ground = {"black": [0], "#ff8000": [255, 128, 0]}[colour]
    np.testing.assert_array_equal(other.train.images[0], np.where(drawn["train/a"][..., None], 40, ground))
    assert other.train.name == f"folder:ink,background={colour}"
    assert load_splits(RunConfig(data=DataConfig(name)))[0].train.fingerprint == other.train.fingerprint
    streamed = [load_streamed(n).train.fingerprint for n in (f"folder:{tmp_path / 'ink'}", name)]
    assert len(set(streamed)) == 2


def test_an_unknown_background_is_told(pets):
    with pytest.raises(dj.InputError, match=r"background 'blackish' is no colour; give a name such as black"):
        load_dataset(f"folder:{pets},background=blackish")


# Identity


def test_what_was_read_before_keeps_its_rows_ids_and_fingerprint(tmp_path, capsys):
    """Against arrays, ids and hashes put together by hand, and the fingerprints of an earlier version."""
    root, rows = tmp_path / "old", {}
    values = np.random.default_rng(0)
    for path in (
        "train/b/10.png",
        "train/b/9.png",
        "train/A/x.png",
        "valid/b/0.png",
        "test/A/0.png",
        "test/b/0.PNG",
    ):
        rows[path] = values.integers(0, 256, (4, 3, 3)).astype(np.uint8)
        save(root / path, rows[path])
    train, test = load_both(f"folder:{root}", capsys)[0]
    order = ["train/A/x.png", "train/b/10.png", "train/b/9.png", "valid/b/0.png"]
    images, labels = np.stack([rows[p] for p in order]), np.array([0, 1, 1, 1], np.int32)
    assert train.fingerprint == fingerprint(images, labels, np.array(order))
    assert train.fingerprint == EARLIER[0]
    assert test.fingerprint == EARLIER[1]
    digests = [hashlib.blake2b((root / p).read_bytes(), digest_size=16).digest() for p in order]
    content = hashlib.sha256(repr(((4, 4, 3, 3), False)).encode() + b"".join(digests)).digest()
    expected = fingerprint(np.frombuffer(content, np.uint8), labels, np.array(order))
    assert load_streamed(f"folder:{root}").train.fingerprint == expected


EARLIER = (
    "47d2061d3e5c4bfdc4a59cb192b5db572d66ff8dddd490537a21cb08142857bb",
    "0bc19eeaf1bd0171d3bff4aa25fd1b9f8637029e1c6216c35c9d0a3adb125427",
)


# What a folder may hold beside


def text_files(root, _):
    (root / "train/cat/notes.txt").write_text("")
    (root / "train/cat/more.TXT").write_text("")
    (root / "train/dog/scan.heic").write_text("")


def outside(root, photographs):
    save(root / "train/stray.png", photographs[0, 9])
    (root / "README.md").write_text("")


def deeper(root, photographs):
    save(root / "train/cat/images/1/2/3/x.png", photographs[0, 9])
    (root / "train/cat/boxes.txt").write_text("")


def another_folder(root, photographs):
    save(root / "extra/cat/x.png", photographs[0, 9])


def link_to_a_file(root, photographs):
    save(root.parent / "x.png", photographs[0, 9])
    (root / "train/cat/x.png").symlink_to(root.parent / "x.png")


def link_to_a_folder(root, photographs):
    save(root.parent / "elsewhere/deep/x.png", photographs[0, 9])
    (root / "train/cat/more").symlink_to(root.parent / "elsewhere", target_is_directory=True)


def link_to_a_class(root, photographs):
    save(root.parent / "cow/x.png", photographs[0, 9])
    for split in ("train", "test"):
        (root / split / "cow").symlink_to(root.parent / "cow", target_is_directory=True)


def loops(root, _):
    (root / "train/cat/up").symlink_to("..", target_is_directory=True)
    (root / "train/cat/out").symlink_to(root.parent.parent, target_is_directory=True)
    (root / "train/up").symlink_to("..", target_is_directory=True)


def dangling_text(root, _):
    (root / "train/cat/notes").symlink_to("nowhere")


def pipe(root, _):
    os.mkfifo(root / "train/cat/pipe.png")


def pipe_by_a_link(root, _):
    os.mkfifo(root.parent / "pipe")
    (root / "train/cat/pipe.png").symlink_to(root.parent / "pipe")


def device(root, _):
    (root / "train/cat/null.png").symlink_to("/dev/null")


def socket_file(root, _):
    with socket.socket(socket.AF_UNIX) as opened:
        here = os.getcwd()
        os.chdir(root / "train/cat")  # the path of a socket must be short
        try:
            opened.bind("s.png")
        finally:
            os.chdir(here)


def newline(root, photographs):
    save(root / "train/cat/two\nlines.png", photographs[0, 9])


def newline_left_out(root, _):
    (root / "train/cat/two\nlines").write_text("")


def not_utf8(root, photographs):
    with open(os.fsencode(root / "train/cat") + b"/caf\xe9.png", "wb") as file:
        Image.fromarray(photographs[0, 9]).save(file, "PNG")


def not_utf8_class(root, photographs):
    for split, number in (("train", 9), ("test", 10)):
        folder = os.fsencode(root / split) + b"/caf\xe9"
        os.mkdir(folder)
        with open(folder + b"/0.png", "wb") as file:
            Image.fromarray(photographs[0, number]).save(file, "PNG")


def many_kinds(root, _):
    for number in range(15):
        (root / f"train/cat/log.{number:02d}").write_text("")


def hidden(root, _):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", ".gitkeep"):
        (root / "train/cat" / name).write_text("")
    (root / "train/.ipynb_checkpoints").mkdir()
    (root / "__MACOSX/train").mkdir(parents=True)


NO_TEXT = r"1 file name has bytes or controls that are no text: ids have \xNN or \uNNNN for them"


@pytest.mark.parametrize(
    ("change", "count", "said"),
    [
        (text_files, 6, ["3 files of 2 kinds were left out: 2 .txt, 1 .heic"]),
        (
            outside,
            6,
            ["2 files of 2 kinds were left out: 1 .md, 1 outside any class folder (such as train/stray.png)"],
        ),
        (deeper, 7, ["1 file was left out: 1 .txt"]),
        (another_folder, 6, ["no split and left out: extra/"]),
        (link_to_a_file, 7, []),
        (link_to_a_folder, 7, []),
        (
            link_to_a_class,
            7,
            ["warning: 1 of 5 test images is in the train split too, byte for byte: test/cow/"],
        ),
        (
            loops,
            6,
            ["3 files of 1 kind were left out: 3 linked back to a folder above (such as train/"],
        ),
        (dangling_text, 6, ["1 file was left out: 1 linked to nothing (such as train/cat/notes)"]),
        (pipe, 6, ["1 file was left out: 1 not a regular file (such as train/cat/pipe.png)"]),
        (
            pipe_by_a_link,
            6,
            ["1 file was left out: 1 not a regular file (such as train/cat/pipe.png)"],
        ),
        (device, 6, ["1 file was left out: 1 not a regular file (such as train/cat/null.png)"]),
        (socket_file, 6, ["1 file was left out: 1 not a regular file (such as train/cat/s.png)"]),
        (newline, 7, [NO_TEXT]),
        (newline_left_out, 6, [r"1 file was left out: 1 without a suffix (such as train/cat/two\nlines)"]),
        (not_utf8, 7, [NO_TEXT]),
        (not_utf8_class, 7, [NO_TEXT.replace("1 file name has", "2 file names have")]),
        (many_kinds, 6, ["15 files of 15 kinds were left out: 1 .00, 1 .01, "]),
        (
            hidden,
            6,
            [
                "7 names were passed over, hidden or left by a system (such as __MACOSX)",
            ],
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_what_is_not_read_is_counted_and_named(change, count, said, pets, photographs, capsys):
    change(pets, photographs)
    (train, _), found = load_both(f"folder:{pets}", capsys)
    assert len(train) == count
    assert len(found) == len(said)
    for line, expected in zip(found, said, strict=True):
        assert line.startswith(expected)
    path = pets / "scores.csv"
    path.write_text("\n".join(train.ids.tolist()), encoding="utf-8")  # ids can be written anywhere
    if change is not_utf8_class:
        assert train.class_names == (r"caf\xe9", "cat", "dog")


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("train/cat/x.png", r"a link leads nowhere: train/cat/x.png; restore what is meant, or remove it"),
        ("train/cow", "a link leads nowhere: train/cow;"),
    ],
)
@pytest.mark.parametrize("target", ["nowhere", "circle"])
def test_a_link_that_leaves_nothing_of_an_image_or_a_class_is_told(link, message, target, pets):
    (pets / link).symlink_to("nowhere" if target == "nowhere" else Path(link).name)
    with pytest.raises(dj.InputError, match=message):
        load_dataset(f"folder:{pets}")


def test_all_links_that_lead_nowhere_are_counted(pets):
    for number in range(7):
        (pets / f"train/cat/link{number}.jpg").symlink_to("nowhere")
    with pytest.raises(dj.InputError, match=r"7 links lead nowhere: train/cat/link0.jpg, .* and 2 more;"):
        load_streamed(f"folder:{pets}")


def test_a_folder_that_cannot_be_read_is_told(pets, monkeypatch):
    scandir = os.scandir

    def locked(folder):
        if Path(folder).name == "dog":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(dj.InputError, match=r"cannot read folder .*dog: Permission denied"):
        load_dataset(f"folder:{pets}")


# Splits and classes


@pytest.mark.parametrize(
    ("names", "train", "test", "said"),
    [
        (("train", "test"), 6, "test", None),
        (("train", "val"), 6, "val", "the test split is val, as there is no folder test"),
        (("train", "valid"), 6, "valid", "the test split is valid, as there is no folder test"),
        (
            ("train", "validation"),
            6,
            "validation",
            "the test split is validation, as there is no folder test",
        ),
        (("train", "test", "val"), 10, "test", "val joined the train split; the test split is test"),
        (
            ("train", "test", "val", "valid"),
            14,
            "test",
            "valid and val joined the train split; the test split is test",
        ),
    ],
)
def test_names_of_splits(names, train, test, said, pets, photographs, capsys):
    (pets / "test").rename(pets.parent / "kept")
    for copy, name in enumerate(names[1:]):
        for label, kind in enumerate(("cat", "dog")):
            for number in range(2):
                save(pets / name / kind / f"{number}.png", photographs[label, 10 + 2 * copy + number])
    splits, found = load_both(f"folder:{pets}", capsys)
    assert (len(splits.train), splits.test.split, len(splits.test)) == (train, test, 4)
    assert {str(name).split("/")[0] for name in splits.test.ids} == {test}
    assert found == ([said] if said else [])


@pytest.mark.parametrize(
    ("names", "more"),
    [
        (("images",), "; if cat/, dog/ in it are the classes, move them up, to train/cat"),
        (("data", "all"), ""),
    ],
)
def test_classes_one_folder_too_deep_are_called_out(names, more, pets, capsys):
    for split in ("train", "test"):
        (pets / split).rename(pets.parent / "moved")
        (pets / split / "/".join(names[:-1])).mkdir(parents=True)
        (pets.parent / "moved").rename(pets / split / "/".join(names))
    splits, found = load_both(f"folder:{pets}", capsys)
    assert splits.train.class_names == (names[0],)
    warning = f"warning: all images are of one class, {names[0]!r}: there is nothing to tell apart{more}"
    assert warning in found


@pytest.mark.parametrize("what", ["is a file", "does not exist"])
def test_what_is_no_folder_is_told(what, tmp_path):
    path = tmp_path / "own.zip"
    if what == "is a file":
        path.write_bytes(b"")
    with pytest.raises(dj.InputError, match=rf"own\.zip {what}; give a folder with train/CLASS and test"):
        load_dataset(f"folder:{path}")


def test_folders_of_other_names_are_told(pets):
    (pets / "train").rename(pets / "Training")
    with pytest.raises(dj.InputError, match="it holds Training/, test/: rename them, or give the folder"):
        load_dataset(f"folder:{pets}")


def test_two_folders_of_validation_and_no_test_are_told(pets):
    (pets / "test").rename(pets / "val")
    shutil.copytree(pets / "val", pets / "valid")
    with pytest.raises(
        dj.InputError, match="holds valid and val and no folder test; rename the one to judge on"
    ):
        load_dataset(f"folder:{pets}")


@pytest.mark.parametrize(
    ("folder", "with_image", "labels", "said"),
    [
        (
            "train/cow",
            True,
            [0, 0, 0, 1, 2, 2, 2],
            "1 class has no test example (the test accuracy of a class",
        ),
        ("test/cow", True, [0, 0, 0, 2, 2, 2], "1 class has no train example: cow"),
        ("train/cow", False, [0, 0, 0, 2, 2, 2], "1 class has no example at all: cow"),
        ("test/cow", False, [0, 0, 0, 2, 2, 2], "1 class has no example at all: cow"),
    ],
)
def test_a_class_may_be_without_images_in_a_split(
    folder, with_image, labels, said, pets, photographs, capsys
):
    (pets / folder).mkdir()
    if with_image:
        save(pets / folder / "0.png", photographs[0, 9])
    splits, found = load_both(f"folder:{pets}", capsys)
    assert splits.train.class_names == splits.test.class_names == ("cat", "cow", "dog")
    assert splits.train.labels.tolist() == labels
    assert len(found) == 1
    assert found[0].startswith(said)


# The decoded copy follows the folder


def swap_link(root, photographs):
    link, other = root / "train/cat/x.bmp", root.parent / "b.bmp"
    os.utime(other, ns=(1, os.stat(root.parent / "a.bmp").st_mtime_ns))
    link.unlink()
    link.symlink_to(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda root, p: save(root / "train/cat/new.webp", p[0, 12]),
        lambda root, p: save(root / "train/cat/images/new.png", p[0, 12]),
        lambda root, p: save(root.parent / "a.bmp", p[0, 13]),
        lambda root, p: (root / "train/cat/0.png").unlink(),
        lambda root, p: (root / "train/cat/0.png").rename(root / "train/cat/00.png"),
        lambda root, p: (root / "test/cow").mkdir(),
        swap_link,
    ],
    ids=["another format", "deeper", "behind a link", "gone", "renamed", "a class", "another link"],
)
def test_the_decoded_copy_is_made_again_when_files_change(change, pets, photographs, capsys):
    for name, number in (("a", 10), ("b", 11)):
        save(pets.parent / f"{name}.bmp", photographs[0, number])
    (pets / "train/cat/x.bmp").symlink_to(pets.parent / "a.bmp")
    before, _ = load_both(f"folder:{pets}", capsys)
    change(pets, photographs)
    after, _ = load_both(f"folder:{pets}", capsys)
    shutil.rmtree(os.environ["DIET_JAX_CACHE"])
    afresh, _ = load_both(f"folder:{pets}", capsys)
    facts = [(d.train.fingerprint, d.train.num_classes) for d in (before, after, afresh)]
    assert facts[0] != facts[1] == facts[2]


# Data that no one should train on unknowingly


def equal(_, number):
    return np.full((6, 6, 3), (0, 9, 1), np.uint8)


def copies(label, number):
    return np.random.default_rng(min(number, 2) * 10 + label).integers(0, 256, (6, 6, 3)).astype(np.uint8)


def some_copies(label, number):
    return np.random.default_rng(min(number, 3) * 10 + label).integers(0, 256, (6, 6, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (equal, "warning: all pixels of the train split are equal (0, 9, 1); nothing can be learned"),
        (
            copies,
            "warning: of 16 train images 6 are different, the rest are copies of them; 4 of 4 test images",
        ),
        (
            some_copies,
            "warning: 4 of 4 test images are in the train split too, byte for byte: test/a/8.png, ",
        ),
    ],
)
def test_bad_pixels_are_called_out(pixels, said, tmp_path, capsys):
    for label, kind in enumerate("ab"):
        for number in range(10):
            save(
                tmp_path / "d" / ("train" if number < 8 else "test") / kind / f"{number}.png",
                pixels(label, number),
            )
    found = load_both(f"folder:{tmp_path / 'd'}", capsys)[1]
    assert [line[: len(said)] for line in found] == [said] if said else found == []


@pytest.mark.parametrize(
    ("sizes", "warned"),
    [
        ([[(9, 12)], [(10, 10)]], True),
        ([[(9, 12), (8, 12)], [(10, 10)]], True),
        ([[(9, 12), (10, 10)], [(10, 10)]], False),
        ([[(n, 12) for n in range(8, 18)], [(n, 9) for n in range(8, 18)]], False),
        ([[(10, 10)], [(10, 10)]], False),
    ],
    ids=["one each", "two and one", "shared", "all different", "one size"],
)
def test_sizes_that_tell_the_class_are_called_out(sizes, warned, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for label, kind in enumerate("ab"):
        for number in range(10):
            pixels = rng.integers(0, 256, (*sizes[label][number % len(sizes[label])], 3)).astype(np.uint8)
            save(tmp_path / "d" / ("train" if number < 8 else "test") / kind / f"{number}.png", pixels)
    load_streamed(f"folder:{tmp_path / 'd'}", image_size=8)
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == warned
    assert all("the size of an image tells its class: no size occurs in two classes" in line for line in said)


def test_the_size_of_a_turned_photograph_is_that_after_turning(tmp_path, photographs):
    """Portraits by EXIF and portraits as stored have one size; a PNG may have its EXIF at the end."""
    upright = photographs[0, 0][:, :20]
    stored = np.rot90(upright)  # orientation 6 turns it back by 90 degrees clockwise
    for split in ("train", "test"):
        for kind in "ab":
            save(tmp_path / "d" / split / kind / "0.png", upright)
            save(tmp_path / "d" / split / kind / "1.webp", stored.copy(), lossless=True, **turned(6))
    plain, exif = io.BytesIO(), io.BytesIO()
    Image.fromarray(stored.copy()).save(plain, "PNG")
    Image.fromarray(stored.copy()).save(exif, "PNG", **turned(6))
    content, end = exif.getvalue(), plain.getvalue()[-12:]
    start = content.index(b"eXIf") - 4
    chunk = content[start : start + 12 + int.from_bytes(content[start : start + 4])]
    (tmp_path / "d/train/a/2.png").write_bytes(plain.getvalue()[:-12] + chunk + end)
    name = f"folder:{tmp_path / 'd'}"
    for train in (load_dataset(name, quiet=True).train, load_streamed(name).train):
        assert train.image_shape == (SIZE, 20, 3)
        for image in train.images[:]:
            np.testing.assert_array_equal(image, upright)


# docs/own-data.md: what each row says, in its order


def some_formats(root, p):
    for number, suffix in enumerate(("JPG", "webp", "bmp", "TIF", "gif", "ppm")):
        save(root / f"train/cat/more.{suffix}", p[0, 10 + number])


def rare_class(root, p):
    save(root / "train/rare/0.png", p[0, 10])
    (root / "test/nothing").mkdir()


def phone(root, p):
    save(root / "train/cat/portrait.jpg", p[0, 10], **turned(6))


def drawing(root, p):
    image = Image.fromarray(p[0, 10])
    image.putalpha(100)
    save(root / "train/cat/drawing.png", image)


def animation(root, p):
    frames = [Image.fromarray(p[0, n]) for n in (10, 11)]
    save(root / "train/cat/dance.gif", frames[0], save_all=True, append_images=frames[1:])


def scan(root, p):
    save(root / "train/cat/scan.tif", p[0, 10, ..., 0].astype(np.uint16) * 256)


def too_deep(root, _):
    for split in ("train", "test"):
        shutil.move(root / split, root / "moved")
        (root / split).mkdir()
        shutil.move(root / "moved", root / split / "images")


def no_splits(root, _):
    for kind in ("cat", "dog"):
        shutil.move(root / "train" / kind, root / kind)
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "test")


ROWS = [
    (some_formats, 12, None),
    (lambda root, p: (root / "test").rename(root / "val"), 6, "the test split is val"),
    (deeper, 7, "1 .txt"),
    (link_to_a_folder, 7, None),
    (text_files, 6, "3 files of 2 kinds were left out"),
    (rare_class, 7, "1 class has no example at all: nothing"),
    (phone, 7, None),
    (drawing, 7, "1 image with transparency: composed on white"),
    (animation, 7, "1 image with several frames or pages"),
    (scan, 7, "1 image with 16 bits per channel"),
    (
        lambda root, p: save(root / "train/cat/wide.png", p[0, 10, :9]),
        7,
        "--data.streaming --data.image-size",
    ),
    (
        lambda root, _: (root / "train/cat/0.png").write_bytes(b""),
        6,
        "0.png is damaged or no image: the file",
    ),
    (not_utf8, 7, "1 file name has bytes or controls"),
    (lambda root, p: save(root / "train/Cat/0.png", p[0, 10]), 7, "'Cat' and 'cat'"),
    (
        lambda root, _: shutil.copy(root / "train/cat/0.png", root / "test/cat/9.png"),
        6,
        "1 of 5 test images is",
    ),
    (hidden, 6, "7 names were passed over"),
    (too_deep, 6, "all images are of one class, 'images'"),
    (no_splits, 6, "no folder train and no folder test in it; it holds cat/, dog/"),
]


def test_the_rows_of_the_page_on_own_data(tmp_path, pets, photographs, capsys):
    page = (Path(__file__).parents[2] / "docs/own-data.md").read_text(encoding="utf-8")
    table = page.split("## Image folders")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    for number, (row, (change, count, said)) in enumerate(zip(rows, ROWS, strict=True)):
        root = tmp_path / f"row{number}" / "own"
        shutil.copytree(pets, root)
        change(root, photographs)
        if " nothing" in row:
            (train, _), found = load_both(f"folder:{root}", capsys)
            assert len(train) == count, row
            assert said is None or any(said in line for line in found), row
        else:
            with pytest.raises(dj.InputError, match=re.escape(said)):
                load_dataset(f"folder:{root}", quiet=True)
        if "image-size" in row:
            assert len(load_streamed(f"folder:{root}", image_size=8).train) == count


@pytest.mark.parametrize(("link", "to"), [("val", "test"), ("valid", "train")])
def test_two_splits_that_are_one_folder_are_refused(link, to, pets):
    (pets / link).symlink_to(pets / to)
    with pytest.raises(dj.InputError, match="are one and the same by a link"):
        load_dataset(f"folder:{pets}")


# Copies, byte for byte


def copy_in_another_class(root):
    shutil.copy(root / "train/cat/1.png", root / "train/dog/again.png")


def copy_in_test(root):
    shutil.copy(root / "train/cat/1.png", root / "test/cat/again.png")


def copy_in_another_class_of_test(root):
    shutil.copy(root / "train/cat/1.png", root / "test/dog/again.png")


def same_in_both_classes(root):
    """Every image in both classes and both splits: noise that a program is tried out with."""
    shutil.rmtree(root / "train/dog")
    shutil.rmtree(root / "test")
    shutil.copytree(root / "train/cat", root / "train/dog")
    shutil.copytree(root / "train", root / "test")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            copy_in_another_class,
            "warning: 2 images of the train split are also under another class, byte for byte: "
            "train/cat/1.png (cat), train/dog/again.png (dog)",
        ),
        (
            copy_in_test,
            "warning: 1 of 5 test images is in the train split too, byte for byte: test/cat/again.png",
        ),
        (
            copy_in_another_class_of_test,
            "warning: 1 of 5 test images is in the train split too, byte for byte, 1 under another class: "
            "test/dog/again.png",
        ),
        (same_in_both_classes, None),
    ],
)
def test_copies_that_cannot_be_meant_are_called_out(change, said, pets, capsys):
    change(pets)
    assert load_both(f"folder:{pets}", capsys)[1] == ([said] if said else [])


# Names


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["Cat"],
            "warning: classes that differ in upper case, spaces or the form of their letters only: 'Cat' and",
        ),
        (
            ["cat "],
            "warning: classes that differ in upper case, spaces or the form of their letters only: 'cat' and",
        ),
        (["cafe\u0301", "café"], "warning: classes that differ in upper case, spaces or the form of"),
        (["cats"], None),
    ],
)
def test_classes_that_look_alike_are_called_out(names, said, pets, photographs, capsys):
    for number, name in enumerate(names):
        save(pets / "train" / name / "0.png", photographs[0, 9 + number])
        save(pets / "test" / name / "0.png", photographs[0, 12 + number])
    splits, found = load_both(f"folder:{pets}", capsys)
    assert splits.train.num_classes == 2 + len(names)
    assert [line[: len(said)] for line in found] == [said] if said else found == []


STRANGE = [
    b"a\xff.png",
    rb"a\xff.png",
    rb"a\\xff.png",
    b"a\n.png",
    rb"a\u000a.png",
    b"a\r.png",
    b"a\xc2\x85.png",
]
STRANGE += [
    b"a,b.png",
    b'a"b.png',
    b" .png",
    b"a\x01.png",
    b"a\xe2\x80\xa8.png",
    b"caf\xc3\xa9.png",
    b"=1+1.png",
]


def test_every_name_has_an_id_of_its_own_that_all_files_hold(pets, photographs, capsys, tmp_path):
    """Strange names in a strange class: in memory, streamed, as CSV, as scores, as a mask and its list."""
    folder = os.fsencode(pets / "train") + b"/b\xfe\n"
    os.makedirs(folder)
    os.makedirs(os.fsencode(pets / "train") + rb"/b\xfe\u000a")
    for number, name in enumerate(STRANGE):
        with open(folder + b"/" + name, "wb") as file:
            Image.fromarray(photographs[1, 5 + number]).save(file, "PNG")
    train = load_both(f"folder:{pets}", capsys)[0].train
    ids = [str(i) for i in train.ids]
    assert len(set(ids)) == len(ids) == 6 + len(STRANGE)
    assert train.num_classes == 4
    assert all(len(i.splitlines()) == 1 and i.encode() for i in [*ids, *train.class_names])
    assert {r"train/b\xfe\u000a/a\xff.png", r"train/b\xfe\u000a/café.png"} <= set(ids)
    keep = np.arange(len(ids)) % 2 == 0
    scores = dj.ScoreFile.from_seeds("mine", np.ones((1, len(ids)), np.float32), train, step=1)
    for file, kind in ((scores, dj.ScoreFile), (dj.KeepFile.from_mask(keep, train), dj.KeepFile)):
        file.save(tmp_path / "file.npz")
        assert kind.load(tmp_path / "file.npz", dataset=train).ids.tolist() == ids
        rows = list(csv.DictReader(io.StringIO(file.to_csv(), newline="")))
        assert [row["id"] for row in rows] == ids
    assert [as_line(i) for i in ids] == ids
    assert as_line("two\nlines") == r"two\u000alines"


# What an image file may hold


def deep_png(values, clear):
    """A PNG of 16 bits with one transparent colour, which Pillow does not write."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 0 if values.ndim == 2 else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = chunk(b"IHDR", header) + chunk(b"tRNS", np.asarray(clear, ">u2").tobytes())
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_of_16_bits_is_that_of_all_16(channels, tmp_path, capsys):
    """Colours that differ in their lower 8 bits only, one of which is transparent."""
    values = np.random.default_rng(0).integers(0, 2, (6, 5, channels)) * 3 + 256 * 40
    clear = values[2, 3]
    values = values if channels == 3 else values[..., 0]
    for split in ("train", "test"):
        for number, kind in enumerate("ab"):
            path = tmp_path / "d" / split / kind / "0.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(deep_png(values + (split == "test") * 512 + number * 1024, clear))
    (train, _), said = load_both(f"folder:{tmp_path / 'd'}", capsys)
    hidden = (values == clear).reshape(6, 5, channels).all(axis=-1, keepdims=True)
    assert 0 < hidden.sum() < 30
    np.testing.assert_array_equal(train.images[0], np.where(hidden, 255, 40).repeat(channels, axis=-1))
    assert "4 images with transparency: composed on white (or folder:PATH,background=COLOUR)" in said


def bomb(path, _):
    huge = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    content = bytearray(path.read_bytes())
    content[16:29], content[29:33] = huge, struct.pack(">I", zlib.crc32(b"IHDR" + huge))
    path.write_bytes(content)


def cut(path, place):
    path.write_bytes(path.read_bytes()[:place])


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "place", "reason"),
    [
        (bomb, None, "exceeds limit"),
        (cut, 0, "the file is empty"),
        (cut, 20, ""),
        (cut, 400, ""),
        (cut, -20, ""),
        (flip, 300, "the checksum of its part IDAT is wrong"),
        (flip, -18, "the checksum of its part IDAT is wrong"),
        (flip, 30, ""),
    ],
)
def test_a_damaged_image_is_named_whatever_lacks(damage, place, reason, pets):
    damage(pets / "train/cat/1.png", place)
    for load in (lambda name: load_dataset(name, quiet=True), load_streamed):
        with pytest.raises(dj.InputError, match=rf"cat/1.png is damaged or no image: .*{reason}") as caught:
            load(f"folder:{pets}")
        assert "\n" not in str(caught.value)


def test_images_too_large_for_memory_are_told(pets, monkeypatch):
    empty = np.empty

    def full(shape, *arguments, **options):
        if np.size(shape) == 4:
            raise MemoryError
        return empty(shape, *arguments, **options)

    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(dj.InputError, match=r"6 images as large as .*0.png, 24x24 .* do not fit in memory"):
        load_dataset(f"folder:{pets}", quiet=True)
