"""Scores in shards: the scores in memory, resumed, split over processes, and memory that stays bounded."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import diet_jax as dj
from diet_jax.data.sources import load_dataset, load_streamed
from diet_jax.ensemble.retraining import predict_dataset
from diet_jax.ensemble.shards import KIND, merge_shards, score_streamed, shard_facts, shard_ranges
from diet_jax.files.arrays import load_arrays, save_arrays
from diet_jax.training import passes

pytest.importorskip("grain")

NAMES = ("el2n", "grand", "predicted", "loss")


@pytest.fixture(scope="module")
def streamed(image_folder):
    return load_streamed(f"folder:{image_folder}").train


@pytest.fixture(scope="module")
def model():
    return dj.create_model("mlp", num_classes=3, widths=(4,))


@pytest.fixture(scope="module")
def variables(model):
    return model.init(jax.random.key(0), (8, 8, 3))


@pytest.fixture
def score(model, variables, streamed, tmp_path):
    def run(dataset=streamed, variables=variables, names=NAMES, **options):
        options = {"batch_size": 4, "shard_size": 7, "folder": tmp_path / "shards", **options}
        return score_streamed(model, variables, dataset, names=names, **options)

    return run


@pytest.fixture
def calls(monkeypatch):
    """The number of rows of each compiled call."""
    sizes, call = [], passes.mapped_batches

    def counting(variables, images, *args, **options):
        sizes.append(len(images))
        return call(variables, images, *args, **options)

    monkeypatch.setattr(passes, "mapped_batches", counting)
    return sizes


def shards(tmp_path):
    return sorted((tmp_path / "shards").glob("*.npz"))


def test_scores_are_those_in_memory(score, model, variables, image_folder, tmp_path):
    held = load_dataset(f"folder:{image_folder}", quiet=True).train
    scores = score()
    for name in ("el2n", "grand"):
        expected = dj.score_dataset(dj.SCORES.find(name).function(model), variables, held)
        np.testing.assert_allclose(scores[name], expected, rtol=1e-5)
        assert scores[name].dtype == np.float32
    predicted, loss = predict_dataset(model, variables, held)
    np.testing.assert_array_equal(scores["predicted"], predicted)
    np.testing.assert_allclose(scores["loss"], loss, rtol=1e-5)
    assert len(shards(tmp_path)) == 5


def test_a_dataset_in_memory_is_scored_likewise(score, image_folder):
    held = load_dataset(f"folder:{image_folder}", quiet=True).train
    np.testing.assert_allclose(score(held, batch_size="auto")["grand"], score(held)["grand"], rtol=1e-6)


def test_each_shard_says_what_it_holds(score, streamed, tmp_path):
    scores = score()
    for path, (first, stop) in zip(shards(tmp_path), shard_ranges(30, 7), strict=True):
        arrays, facts = load_arrays(path, KIND, None)
        assert (facts["first"], facts["stop"], facts["fingerprint"]) == (first, stop, streamed.fingerprint)
        np.testing.assert_array_equal(arrays["ids"], streamed.ids[first:stop])
        np.testing.assert_array_equal(arrays["el2n"], scores["el2n"][first:stop])


def test_a_stopped_scoring_goes_on_where_it_was(score, calls, tmp_path):
    whole = score()
    assert calls == [4] * 9
    for path in shards(tmp_path)[2:]:
        path.unlink()
    calls.clear()
    again = score()
    assert calls == [4] * 5
    for name in NAMES:
        np.testing.assert_array_equal(again[name], whole[name])
    calls.clear()
    score()
    assert not calls


def test_a_scoring_that_is_killed_keeps_its_shards(score, tmp_path, image_folder):
    own = Path(shutil.copytree(image_folder, tmp_path / "own"))
    dataset = load_streamed(f"folder:{own}").train
    (own / str(dataset.ids[20])).unlink()
    with pytest.raises(dj.InputError, match=str(dataset.ids[20])):
        score(dataset)
    assert [path.name for path in shards(tmp_path)] == [
        "rows_000000000_000000007.npz",
        "rows_000000007_000000014.npz",
    ]
    shutil.copyfile(image_folder / str(dataset.ids[20]), own / str(dataset.ids[20]))
    np.testing.assert_array_equal(score(dataset)["el2n"], score(dataset, folder=tmp_path / "anew")["el2n"])


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_a_damaged_shard_is_computed_again(score, tmp_path, damage, capsys, calls):
    whole = score()
    path = shards(tmp_path)[1]
    content = bytearray(path.read_bytes())
    if damage == "flipped":  # a byte of the compressed scores
        content[content.index(b"el2n.npy") + 60] ^= 255
    path.write_bytes({"cut": content[:-50], "empty": b"", "flipped": content}[damage])
    calls.clear()
    again = score()
    assert len(calls) == 2
    assert f"{path} is damaged" in capsys.readouterr().err
    for name in NAMES:
        np.testing.assert_array_equal(again[name], whole[name])


def test_a_foreign_shard_is_refused(score, calls, variables, streamed, tmp_path, image_folder):
    score()
    shards(tmp_path)[-1].unlink()
    calls.clear()
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    with pytest.raises(dj.InputError, match=r"of something else .*other variables"):
        score(variables=other)
    with pytest.raises(dj.InputError, match="other fingerprint"):
        score(load_streamed(f"folder:{image_folder}").train.with_labels(streamed.labels[::-1]))
    with pytest.raises(dj.InputError, match="other names"):
        score(names=("el2n",))
    shutil.copyfile(shards(tmp_path)[0], shards(tmp_path)[1])
    with pytest.raises(dj.InputError, match="other first, stop"):
        score()
    assert not calls  # Refused before anything is computed.


def test_a_shard_with_other_ids_or_without_a_score_is_refused(score, tmp_path):
    score()
    path = shards(tmp_path)[0]
    arrays, facts = load_arrays(path, KIND, None)
    facts.pop("format")
    save_arrays(path, KIND, {**arrays, "ids": arrays["ids"][::-1]}, facts)
    with pytest.raises(dj.InputError, match="other ids"):
        score()
    save_arrays(path, KIND, {name: a for name, a in arrays.items() if name != "loss"}, facts)
    with pytest.raises(dj.InputError, match="other loss"):
        score()


def test_a_shard_of_another_definition_of_the_score_is_refused(score, variables):
    """Its name alone says too little: options may have changed."""

    @dataclass(frozen=True)
    class Options:
        value: float

    def build(model, value):
        return lambda variables, images, labels: jax.numpy.full(len(labels), value)

    own = dj.Score(
        name="own", label="own", formula="", reference="", reads="logits", build=build, options=Options(1.0)
    )
    assert score(names=(own,))["own"][0] == 1
    with pytest.raises(dj.InputError, match="other definitions"):
        score(names=(own.with_options(Options(1.00000001)),))


def test_merging_misses_nothing(score, variables, streamed, tmp_path):
    score()
    facts = shard_facts(variables, streamed, NAMES)
    options = {"names": NAMES, "facts": facts, "shard_size": 7}
    assert merge_shards(tmp_path / "shards", streamed, **options)["el2n"].shape == (30,)
    shards(tmp_path)[3].unlink()
    with pytest.raises(dj.InputError, match=r"no file .*rows_000000021_000000028"):
        merge_shards(tmp_path / "shards", streamed, **options)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_processes_share_the_shards(score, tmp_path, count):
    whole = score(folder=tmp_path / "alone")
    done = 0
    for index in range(count):
        parts = score(part=(index, count))
        done_before, done = done, len(shards(tmp_path))
        assert done - done_before <= -(-5 // count)
        assert (parts == {}) == (done < 5)
    for name in NAMES:
        np.testing.assert_array_equal(parts[name], whole[name])


def test_options_that_make_no_sense(score):
    with pytest.raises(dj.InputError, match="shard_size must be"):
        score(shard_size=0)
    with pytest.raises(dj.InputError, match="part"):
        score(part=(2, 2))
    with pytest.raises(dj.InputError, match="batch_size must be"):
        score(batch_size=0)


# Larger than memory

LIMIT = 800_000_000
COUNT, SIDE = 3_100, 512
LARGER = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]), int(sys.argv[3])))
import flax.linen as nn, jax, numpy as np
import diet_jax as dj
from pathlib import Path

class Few(nn.Module):
    @nn.compact
    def __call__(self, x, train):  # a few pixels: reading is what is tested
        return nn.Dense(2)(x[:, ::128, ::128].reshape(len(x), -1))

root = Path(sys.argv[1])
if sys.argv[2] == "streamed":
    from diet_jax.data.sources import load_streamed
    from diet_jax.ensemble.shards import score_streamed
    train = load_streamed(f"folder:{root}").train
    model = dj.from_linen(Few())
    variables = model.init(jax.random.key(0), train.image_shape)
    folder = root.parent / "shards"
    scores = score_streamed(model, variables, train, names=("el2n",), folder=folder, batch_size=16)
    assert len(set(scores["el2n"].tolist())) == 8, len(set(scores["el2n"].tolist()))
    print(len(scores["el2n"]), train.images.shape)
else:
    dj.load_dataset(f"folder:{root}", quiet=True)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """3,100 names of eight images of 512 by 512, which decode to 2.4 GB."""
    root = tmp_path_factory.mktemp("large") / "images"
    for split in ("train", "test"):
        for label in "ab":
            (root / split / label).mkdir(parents=True)
    originals = []
    for number in range(8):
        originals.append(root.parent / f"{number}.jpg")
        # Of one colour: most of the time would go into decoding, which is not what is tested.
        Image.new("RGB", (SIDE, SIDE), (number, 9, 30 * number)).save(originals[-1])
    for number in range(COUNT):
        (root / "train" / "ab"[number % 2] / f"{number:05d}.jpg").hardlink_to(originals[number % 8])
    for label in "ab":
        (root / "test" / label / "0.jpg").hardlink_to(originals[0])
    return root


def limited(root, how):
    command = [sys.executable, "-c", LARGER, str(root), how, str(LIMIT)]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds the heap on Linux only")
def test_a_dataset_three_times_the_memory_is_scored(large):
    assert COUNT * SIDE * SIDE * 3 >= 3 * LIMIT
    done = limited(large, "streamed")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[0] == str(COUNT)
    failed = limited(large, "held")
    assert failed.returncode != 0
    assert "MemoryError" in failed.stderr, failed.stderr[-3000:]
