"""Score and mask files that are not what they were end in one InputError."""

import dataclasses
import zipfile

import numpy as np
import pytest

import diet_jax as dj
from diet_jax.files.arrays import load_arrays, save_arrays
from diet_jax.selection.file import KeepFile


@pytest.fixture
def file(train_split):
    per_seed = np.arange(2 * len(train_split), dtype=np.float32).reshape(2, -1)
    return dj.ScoreFile.from_seeds("el2n", per_seed, train_split, step=3)


def members(file: dj.ScoreFile) -> dict:
    return {f: getattr(file, f) for f in ("scores", "per_seed", "ids", "labels")}


DAMAGED = {
    "scores of one seed too many axes": lambda f: {"scores": f.scores[None]},
    "no axes": lambda f: {name: np.zeros(()) for name in members(f)},
    "text": lambda f: {"scores": f.scores.astype(str)},
    "complex": lambda f: {"scores": f.scores.astype(complex)},
    "one label short": lambda f: {"labels": f.labels[1:]},
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
    with pytest.raises(dj.InputError, match="belongs to arrays/train"):
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
