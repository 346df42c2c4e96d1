"""Decoded copies: read when they are whole and of this source, rebuilt when not, done without if need be."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diet_jax.data.cache import SourceFiles, cache_folder, cached
from diet_jax.data.dataset import Dataset, Splits
from diet_jax.data.kinds import Normalization
from diet_jax.data.sources import load_dataset

REPOSITORY = Path(__file__).parents[2]
FILES = [f"{s}_{a}.npy" for s in ("train", "test") for a in ("images", "labels", "ids")] + ["meta.json"]


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "data.bin").write_bytes(b"one")
    return SourceFiles("some/name", tmp_path / "source", [tmp_path / "source" / "data.bin"])


class Builder:
    """Builds the same two splits each time, and counts how often."""

    def __init__(self, seed=0):
        self.calls, self.seed = 0, seed

    def __call__(self):
        self.calls += 1
        rng = np.random.default_rng(self.seed)
        normalization = Normalization((1 / 3, 0.1), (2 / 7, 1e-9))

        def split(name, n):
            return Dataset.from_arrays(
                rng.integers(0, 256, (n, 4, 3, 2), dtype=np.uint8),
                rng.integers(0, 3, n),
                [f"{name}-{i}é" for i in range(n)],
                class_names=("a", "b", "ç"),
                name="some/name",
                split=name,
                normalization=normalization,
                id_source="made up",
            )

        return Splits(split("train", 9), split("validation", 5))


def entry(folder):
    (found,) = [p for p in folder.iterdir() if p.is_dir()]
    return found


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        for field in Dataset.__dataclass_fields__:
            x, y = getattr(a, field), getattr(b, field)
            assert type(x) is type(y), field
            assert np.array_equal(x, y), field
            if isinstance(x, np.ndarray):
                assert x.dtype == y.dtype, field


def test_the_second_start_reads_what_the_first_wrote(source, tmp_path, capsys):
    build = Builder()
    first = cached(source, build, tmp_path / "cache")
    second = cached(source, build, tmp_path / "cache")
    assert build.calls == 1
    assert_equal(first, second)
    assert capsys.readouterr() == ("", "")
    assert sorted(p.name for p in entry(tmp_path / "cache").iterdir()) == sorted(FILES)


def flip(file, where):
    content = bytearray(file.read_bytes())
    content[int(where * (len(content) - 1))] ^= 4
    file.write_bytes(content)


DAMAGES = {
    "flip in the middle": lambda f: flip(f, 0.5),
    "flip at the start": lambda f: flip(f, 0.0),
    "flip at the end": lambda f: flip(f, 1.0 if f.suffix == ".npy" else 0.98),
    "cut": lambda f: f.write_bytes(f.read_bytes()[:-3]),
    "empty": lambda f: f.write_bytes(b""),
    "deleted": lambda f: f.unlink(),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_is_rebuilt(file, damage, source, tmp_path, capsys):
    build = Builder()
    first = cached(source, build, tmp_path / "cache")
    DAMAGES[damage](entry(tmp_path / "cache") / file)
    assert_equal(cached(source, build, tmp_path / "cache"), first)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("warning: the decoded copy")
    assert "is damaged" in error
    assert_equal(cached(source, build, tmp_path / "cache"), first)
    assert build.calls == 2
    assert capsys.readouterr().err == ""


def test_a_wrong_but_consistent_metadata_file_is_noticed(source, tmp_path, capsys):
    build = Builder()
    first = cached(source, build, tmp_path / "cache")
    meta = entry(tmp_path / "cache") / "meta.json"
    content = json.loads(meta.read_text())
    content["train"]["class_names"][0] = "z"
    meta.write_text(json.dumps(content))
    assert_equal(cached(source, build, tmp_path / "cache"), first)
    assert "meta.json does not match its checksum" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["contents", "time", "file"])
def test_a_changed_source_is_decoded_again(change, source, tmp_path, capsys):
    cached(source, Builder(), tmp_path / "cache")
    (file,) = source.files
    if change == "contents":
        file.write_bytes(b"three")
    elif change == "time":
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    else:
        source = source._replace(files=[*source.files, file.with_name("more.bin")])
        source.files[1].write_bytes(b"")
    build = Builder(seed=1)
    assert_equal(cached(source, build, tmp_path / "cache"), Builder(seed=1)())
    assert_equal(cached(source, build, tmp_path / "cache"), Builder(seed=1)())
    assert build.calls == 1
    assert entry(tmp_path / "cache")  # the old copy made room for the new one
    assert capsys.readouterr().err == ""


def test_two_sources_have_two_entries(source, tmp_path):
    shutil.copytree(source.directory, tmp_path / "other")
    other = SourceFiles(source.name, tmp_path / "other", [tmp_path / "other" / "data.bin"])
    named = source._replace(name="some-name")
    for i, s in enumerate((source, other, named)):
        cached(s, Builder(seed=i), tmp_path / "cache")
    for i, s in enumerate((source, other, named)):
        assert_equal(cached(s, Builder(seed=9), tmp_path / "cache"), Builder(seed=i)())


def test_a_folder_that_cannot_be_written_does_not_stop_loading(source, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert_equal(cached(source, Builder(), tmp_path / "file" / "cache"), Builder()())
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("warning: no decoded copy of some/name kept in")
    assert "DIET_JAX_CACHE" in error


def test_a_full_disk_does_not_stop_loading(source, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        assert_equal(cached(source, Builder(), tmp_path / "cache"), Builder()())
    assert "No space left" in capsys.readouterr().err
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] in ([".lock"], [])


def test_a_copy_is_read_where_nothing_can_be_written(source, tmp_path, capsys, monkeypatch):
    cached(source, Builder(), tmp_path / "cache")

    def refused(*_, **__):
        raise PermissionError("read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    build = Builder()
    assert_equal(cached(source, build, tmp_path / "cache"), Builder()())
    assert build.calls == 0
    assert capsys.readouterr().err == ""


def test_an_interrupted_build_leaves_nothing(source, tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(source, interrupted, tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    assert_equal(cached(source, Builder(), tmp_path / "cache"), Builder()())


def test_what_a_killed_process_left_is_removed(source, tmp_path):
    cached(source, Builder(), tmp_path / "cache")
    copy = entry(tmp_path / "cache")
    shutil.copytree(copy, copy.with_name(f"{copy.name}.abandoned"))
    source.files[0].write_bytes(b"three")
    cached(source, Builder(), tmp_path / "cache")
    assert entry(tmp_path / "cache") == copy


def test_two_at_once_build_once(source, tmp_path):
    build, inside = Builder(), threading.Event()

    def slow():
        assert inside.wait(10)
        return build()

    results = []
    threads = [
        threading.Thread(target=lambda: results.append(cached(source, slow, tmp_path / "cache")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    inside.set()
    for thread in threads:
        thread.join()
    assert build.calls == 1
    assert len(results) == 3
    for result in results:
        assert_equal(result, results[0])


def test_the_folder_is_the_argument_the_variable_or_the_users(tmp_path, monkeypatch):
    assert cache_folder(tmp_path / "a") == tmp_path / "a"
    monkeypatch.setenv("DIET_JAX_CACHE", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b"
    monkeypatch.delenv("DIET_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder().name == "diet_jax"


def test_a_cached_dataset_needs_no_decoder(tmp_path):
    """The second start imports neither TFDS nor Pillow."""
    images = tmp_path / "data" / "cinic10"
    for number, folder in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (images / folder).mkdir(parents=True)
        Image.new("RGB", (3, 3), (1, 2, number)).save(images / folder / "0.png")
    load_dataset("cinic10", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", quiet=True)
    folders = {"data_dir": str(tmp_path / "data"), "cache_dir": str(tmp_path / "cache")}
    program = (
        "import sys; from diet_jax.data.sources import load_dataset; "
        f"load_dataset('cinic10', **{folders!r}); "
        "print([m for m in ('tensorflow_datasets', 'array_record', 'PIL', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, cwd=REPOSITORY, capture_output=True, check=True
    )
    assert done.stdout == "[]\n"
    assert done.stderr == ""
