"""Streamed training: the batches, order and numbers of training in memory; stopped, resumed, split."""

import dataclasses
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.data.sources import load_dataset, load_streamed
from diet_jax.training.checkpoints import Checkpoints
from diet_jax.training.loop import start, train_between
from diet_jax.training.recipe import TrainConfig, total_steps
from diet_jax.training.step import batch_rows, run_keys
from diet_jax.training.streaming import read_batches, reading_position, stream_between

pytest.importorskip("grain")

KEY = jax.random.key(5)
CONFIG = TrainConfig(epochs=3, batch_size=8, learning_rate=0.05, augment="crop_flip")
KEPT = np.array([0, 1, 2, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 19, 20, 23, 25, 26, 28, 29], np.int32)


@pytest.fixture(scope="module")
def streamed(image_folder):
    return load_streamed(f"folder:{image_folder}").train


@pytest.fixture(scope="module")
def held(image_folder):
    return load_dataset(f"folder:{image_folder}", quiet=True).train


@pytest.fixture(scope="module")
def model():
    return dj.create_model("mlp", num_classes=3, widths=(4,))


def run(dataset, model, kept=KEPT, stops=None, config=CONFIG, state=None, **options):
    """All states (as NumPy copies) at the stops, and the joined losses."""
    num_steps = total_steps(config, len(dataset), len(kept))
    program = dj.Program(model, config, num_steps)
    state = start(KEY, dataset, program=program) if state is None else state
    stops = [num_steps] if stops is None else stops
    if dataset.streamed:
        steps = stream_between(state, dataset, kept, stops, program=program, **options)
    else:
        steps = train_between(state, dataset.examples(), kept, stops, program=program)
    states, losses = [], []
    for reached, history in steps:
        states.append(jax.tree.map(np.array, reached._replace(key=jax.random.key_data(reached.key))))
        losses.append(history.loss)
    return states, np.concatenate(losses)


def assert_identical(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def batches(dataset, first, stop, config=CONFIG, **options):
    return list(read_batches(dataset, KEY, KEPT, first, stop, config=config, **options))


def test_the_batches_are_those_in_memory(streamed, held, monkeypatch):
    monkeypatch.setattr("diet_jax.training.streaming.ROWS_AT_ONCE", 1)  # an epoch at a time
    order = np.asarray(batch_rows(run_keys(KEY).order, KEPT, 0, num_steps=7, batch_size=8))
    for (rows, images), expected in zip(batches(streamed, 0, 7), order, strict=True):
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(images, held.images[expected])
    # From the middle of an epoch on: exactly what is left.
    for (rows, _), expected in zip(batches(streamed, 3, 6), order[3:6], strict=True):
        np.testing.assert_array_equal(rows, expected)


def test_the_order_is_drawn_for_many_epochs_alike(streamed, monkeypatch):
    expected = [rows.tolist() for rows, _ in batches(streamed, 1, 9)]
    for at_once in (1, 33):
        monkeypatch.setattr("diet_jax.training.streaming.ROWS_AT_ONCE", at_once)
        assert [rows.tolist() for rows, _ in batches(streamed, 1, 9)] == expected


@pytest.mark.parametrize("augment", [pytest.param("none", marks=pytest.mark.slow), "crop_flip"])
def test_streamed_training_is_training_in_memory(streamed, held, model, augment):
    config = dataclasses.replace(CONFIG, augment=augment)
    stops = [2, 5, 9]
    one, losses = run(streamed, model, stops=stops, config=config)
    other, expected = run(held, model, stops=stops, config=config)
    assert losses.shape == (9,)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for a, b in zip(one, other, strict=True):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_tfds_records_train_as_in_memory(image_records):
    root = image_records
    splits = load_streamed("mnist", data_dir=root), load_dataset("mnist", data_dir=root, quiet=True)
    model = dj.create_model("mlp", num_classes=10, widths=(4,))
    config = TrainConfig(epochs=2, batch_size=10, learning_rate=0.05, augment="none")
    kept = np.arange(30)
    (one,), _ = run(splits[0].train, model, kept, config=config)
    (other,), _ = run(splits[1].train, model, kept, config=config)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_pruned_rows_are_never_read(image_folder, model, tmp_path):
    own = Path(shutil.copytree(image_folder, tmp_path / "own"))
    dataset = load_streamed(f"folder:{own}").train
    (whole,), losses = run(dataset, model)
    for row in np.setdiff1d(np.arange(30), KEPT):
        (own / str(dataset.ids[row])).unlink()
    (again,), same = run(dataset, model)
    assert_identical(whole, again)
    np.testing.assert_array_equal(losses, same)
    with pytest.raises(dj.InputError, match="cannot read image"):
        run(dataset, model, np.arange(30))


def test_only_the_steps_to_do_are_read(streamed, model, monkeypatch):
    read = []
    load = type(streamed.images).load

    def counting(self, rows, crop_seed=None):
        read.extend(np.asarray(rows).tolist())
        return load(self, rows, crop_seed)

    (before,), _ = run(streamed, model, stops=[5])
    monkeypatch.setattr(type(streamed.images), "load", counting)
    run(streamed, model, stops=[7], state=as_state(before))
    expected = np.asarray(batch_rows(run_keys(KEY).order, KEPT, 5, num_steps=2, batch_size=8))
    assert sorted(read) == sorted(expected.ravel().tolist())


def as_state(copy):
    return jax.tree.map(jax.numpy.asarray, copy)._replace(key=jax.random.wrap_key_data(copy.key))


RESIZED = dataclasses.replace(CONFIG, augment="resized_crop")


@pytest.mark.parametrize("config", [CONFIG, RESIZED], ids=lambda c: c.augment)
def test_a_resumed_training_is_bit_identical(streamed, model, tmp_path, config):
    (middle, whole), losses = run(streamed, model, stops=[4, 9], config=config)
    state = as_state(middle)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state, reading_position(4, KEY, streamed, KEPT, config))
    like = start(KEY, streamed, program=dj.Program(model, config, 9))
    restored, position = checkpoints.restore_with_position(4, like)
    assert_identical(checkpoints.restore(4, like).variables, restored.variables)
    (again,), later = run(streamed, model, stops=[9], config=config, state=restored, position=position)
    assert_identical(again, whole)
    np.testing.assert_array_equal(later, losses[4:])


def test_a_checkpoint_without_a_position_has_none(streamed, model, tmp_path):
    like = start(KEY, streamed, program=dj.Program(model, CONFIG, 9))
    Checkpoints(tmp_path).save(like)
    assert Checkpoints(tmp_path).restore_with_position(0, like)[1] is None


@pytest.mark.parametrize(
    "change", ["next_step", "order_key", "batch_size", "augment", "kept", "fingerprint", None]
)
def test_a_position_of_another_training_is_refused(streamed, model, change):
    position = reading_position(0, KEY, streamed, KEPT, CONFIG)
    given = {**position, change: "another"} if change else {}
    with pytest.raises(dj.InputError, match="does not belong to this training.*" + (change or "next_step")):
        run(streamed, model, position=given)
    run(streamed, model, stops=[1], position=position)


def test_a_position_names_step_mask_key_and_data(streamed, image_folder):
    def position(step=3, key=KEY, dataset=streamed, kept=KEPT, config=CONFIG):
        return reading_position(step, key, dataset, kept, config)

    others = [
        position(step=4),
        position(key=jax.random.key(6)),
        position(dataset=load_streamed(f"folder:{image_folder}", image_size=7).train),
        position(kept=KEPT[:-1]),
        position(config=RESIZED),
        position(config=dataclasses.replace(CONFIG, batch_size=4)),
    ]
    everything = [position(), *others]
    assert all(one != other for one, other in itertools.combinations(everything, 2))
    assert position() == position(dataset=dataclasses.replace(streamed, workers=2))


@pytest.mark.slow
def test_workers_change_no_number(streamed, model):
    stops = [4, 9]
    one, losses = run(streamed, model, stops=stops, config=RESIZED)
    other, same = run(dataclasses.replace(streamed, workers=2), model, stops=stops, config=RESIZED)
    assert_identical(one, other)
    np.testing.assert_array_equal(losses, same)


def test_resized_crops_differ_by_step_and_key(streamed):
    first = batches(streamed, 0, 4, RESIZED)
    again = batches(streamed, 2, 4, RESIZED)
    for (rows, images), (same, others) in zip(first[2:], again, strict=True):
        np.testing.assert_array_equal(rows, same)
        np.testing.assert_array_equal(images, others)
    # The same row at different steps is cut in another way.
    cuts = {}
    for rows, images in first:
        for row, image in zip(rows.tolist(), np.asarray(images), strict=True):
            cuts.setdefault(row, []).append(image)
    twice = [images for images in cuts.values() if len(images) > 1]
    assert len(twice) > 5
    assert all((images[0] != images[1]).any() for images in twice)
    other = list(read_batches(streamed, jax.random.key(6), KEPT, 0, 1, config=RESIZED))
    assert (np.asarray(other[0][1]) != np.asarray(first[0][1])).any()


def test_resized_crop_needs_images_on_disk(held, model):
    with pytest.raises(dj.InputError, match="load_streamed"):
        dj.train(KEY, model, held, config=RESIZED)


@pytest.mark.parametrize("count", [2, 4])
def test_each_process_reads_its_part_of_every_batch(streamed, count, monkeypatch):
    whole = batches(streamed, 1, 5, RESIZED)
    read = []
    load = type(streamed.images).load
    monkeypatch.setattr(
        type(streamed.images), "load", lambda self, rows, *a: read.append(len(rows)) or load(self, rows, *a)
    )
    parts = [batches(streamed, 1, 5, RESIZED, part=(index, count)) for index in range(count)]
    assert read == [8 // count] * 4 * count
    for (rows, images), *pieces in zip(whole, *parts, strict=True):
        for each, _ in pieces:
            np.testing.assert_array_equal(each, rows)
        np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), images)


@pytest.mark.parametrize("part", [(0, 3), (2, 2), (-1, 2)])
def test_parts_that_do_not_fit(streamed, part):
    with pytest.raises(dj.InputError, match="part must be"):
        batches(streamed, 0, 1, part=part)


@pytest.mark.parametrize("stops", [[3, 2], [10]])
def test_stops_ascend_to_the_end(streamed, model, stops):
    with pytest.raises(dj.InputError, match="stops must ascend"):
        run(streamed, model, stops=stops)


def test_a_damaged_image_stops_the_training_with_its_name(image_folder, model, tmp_path):
    own = Path(shutil.copytree(image_folder, tmp_path / "own"))
    dataset = load_streamed(f"folder:{own}").train
    victim = own / str(dataset.ids[7])
    victim.write_bytes(b"no image")
    with pytest.raises(dj.InputError, match=str(victim)):
        run(dataset, model)


MESH = """
import sys
sys.path[:0] = ["tests", "tests/training"]
import jax, numpy as np
import test_streaming_training as t
import diet_jax as dj
from diet_jax.data.sources import load_streamed

train = load_streamed(f"folder:{sys.argv[1]}").train
model = dj.create_model("mlp", num_classes=3, widths=(4,))
(alone,), losses = t.run(train, model)
for shard_params in (False, True):
    with jax.set_mesh(dj.make_mesh(seed=1, data=8, shard_params=shard_params)):
        first = next(t.read_batches(train, t.KEY, t.KEPT, 0, 2, config=t.CONFIG))[1]
        assert len(first.sharding.device_set) == 8
        assert {s.data.shape[0] for s in first.addressable_shards} == {1}
        (split,), same = t.run(train, model)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(split), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(losses, same, rtol=1e-4)
print("same")
"""


@pytest.mark.slow
def test_a_mesh_splits_every_batch(image_folder):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MESH, str(image_folder)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().endswith("same"), done.stderr[-3000:]


def test_batch_hardest_streams_its_candidates_and_infobatch_is_refused(streamed, held, model):
    config = dataclasses.replace(CONFIG, dynamic="hardest")
    found, losses = run(streamed, model, config=config)
    expected, wanted = run(held, model, config=config)
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    own, other = (states[0].dynamics["pruning"] for states in (found, expected))
    np.testing.assert_array_equal(own.updates, other.updates)
    assert own.left_out == 8 * len(losses)
    with pytest.raises(dj.InputError, match="load the dataset without streaming"):
        run(streamed, model, config=dataclasses.replace(CONFIG, dynamic="infobatch"))
