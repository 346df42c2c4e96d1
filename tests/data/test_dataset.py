"""Dataset.from_arrays: what it accepts, what it refuses, and what the fingerprint covers."""

import dataclasses

import numpy as np
import pytest

from diet_jax.data.dataset import Dataset
from diet_jax.data.kinds import Normalization, channel_statistics
from diet_jax.errors import InputError


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8), np.array([0, 1, 2, 0, 1, 2])


def test_later_writes_to_the_arrays_do_not_reach_the_dataset():
    images, labels = np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 1, 0, 1], np.int32)
    dataset = Dataset.from_arrays(images, labels)
    images[:], labels[:] = 7, 0
    assert dataset.images.max() == 0
    assert dataset.labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="read-only"):
        dataset.images[0] = 1


def test_labels_far_beyond_the_examples_need_num_classes():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    with pytest.raises(InputError, match="labels go up to 2000000 with only 4 examples"):
        Dataset.from_arrays(images, [0, 1, 2, 2_000_000])


def test_defaults(arrays):
    images, labels = arrays
    dataset = Dataset.from_arrays(images, labels)
    np.testing.assert_array_equal(dataset.images, images)
    np.testing.assert_array_equal(dataset.labels, labels)
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == np.int32
    np.testing.assert_array_equal(dataset.ids, range(6))
    assert (len(dataset), dataset.image_shape, dataset.num_classes) == (6, (5, 4, 3), 3)
    assert dataset.class_names == ("0", "1", "2")
    assert "row number" in dataset.id_source


def test_grey_images_get_a_channel_axis(arrays):
    images, labels = arrays
    assert Dataset.from_arrays(images[..., 0], labels).image_shape == (5, 4, 1)


def test_floats_become_float32(arrays):
    images, labels = arrays
    assert Dataset.from_arrays(images / 255.0, labels).images.dtype == np.float32


def test_lists_are_accepted():
    dataset = Dataset.from_arrays([[[0.0, 1.0]], [[2.0, 3.0]]], [0, 1], ["a", "b"], kind="images")
    assert dataset.ids.tolist() == ["a", "b"]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_statistics_equal_numpy_in_float64(arrays, dtype):
    images, labels = arrays
    normalization = Dataset.from_arrays(images.astype(dtype), labels).normalization
    pixels = images.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(normalization.mean, pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(normalization.std, pixels.std(0), rtol=1e-6)


def test_a_constant_channel_has_standard_deviation_one():
    assert channel_statistics(np.full((2, 3, 3, 1), 7, np.uint8)) == Normalization((7.0,), (1.0,))


def test_examples_are_the_arrays(arrays):
    images, labels = arrays
    examples = Dataset.from_arrays(
        images, labels, normalization=Normalization((1.0,) * 3, (2.0,) * 3)
    ).examples()
    np.testing.assert_array_equal(examples.images, images)
    np.testing.assert_array_equal(examples.labels, labels)
    assert (examples.images.dtype, examples.mean.dtype, examples.std.tolist()) == (
        "uint8",
        "float32",
        [2.0] * 3,
    )


def with_nan(images):
    images = images.astype(np.float32)
    images[4, 1, 1, 0] = np.nan
    return images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, x: {"inputs": i[0, 0], "kind": "images"}, r"images must have shape.*got \(4, 3\)"),
        (lambda i, x: {"inputs": i[:0], "labels": x[:0]}, "inputs must have shape.*got \\(0, 5, 4, 3\\)"),
        (lambda i, x: {"inputs": i.astype(np.int64)}, "images must be uint8 or floating, got int64"),
        (lambda i, x: {"inputs": with_nan(i)}, "finite: 1 of 6.*row 4"),
        (lambda i, x: {"inputs": np.full(i.shape, np.inf)}, "finite: 6 of 6"),
        (lambda i, x: {"labels": x[:4]}, r"labels must have shape \(6,\).*got \(4,\)"),
        (lambda i, x: {"labels": x[:, None]}, r"labels must have shape \(6,\).*got \(6, 1\)"),
        (lambda i, x: {"labels": x.astype(float)}, "labels must be integers, got float64"),
        (lambda i, x: {"labels": x - 1}, "2 of 6 do not, the first is -1 in row 0"),
        (
            lambda i, x: {"num_classes": 2},
            r"0\.\.1 \(num_classes is 2\): 2 of 6 do not, the first is 2 in row",
        ),
        (
            lambda i, x: {"num_classes": 4, "class_names": [*"abc"]},
            "num_classes is 4 but class_names has 3",
        ),
        (lambda i, x: {"ids": range(5)}, r"ids must have shape \(6,\).*got \(5,\)"),
        (lambda i, x: {"ids": np.arange(6.0)}, "ids must be strings or integers, got float64"),
        (lambda i, x: {"ids": [b"a", b"b", b"c", b"d", b"e", b"f"]}, "ids must be strings or integers"),
        (
            lambda i, x: {"ids": ["a", "b", "c", "a", "e", "c"]},
            "ids must be unique: 2 occur more than once.*'a'",
        ),
        (lambda i, x: {"normalization": Normalization((0.0,), (1.0,))}, "3 means and stds.*got 1 and 1"),
        (lambda i, x: {"normalization": Normalization((0.0,) * 3, (1.0, 0.0, 1.0))}, "positive stds"),
        (lambda i, x: {"normalization": Normalization((np.nan,) * 3, (1.0,) * 3)}, "finite means"),
    ],
)
def test_bad_input_is_refused(arrays, change, message):
    images, labels = arrays
    with pytest.raises(InputError, match=message):
        Dataset.from_arrays(**{"inputs": images, "labels": labels, **change(images, labels)})


def test_equal_contents_have_equal_fingerprints(arrays):
    images, labels = arrays
    first = Dataset.from_arrays(images, labels, name="a")
    # Neither the memory layout nor the integer type of the labels is content.
    second = Dataset.from_arrays(np.asfortranarray(images), labels.astype(np.int8), name="b")
    assert first.fingerprint == second.fingerprint


def test_any_change_of_contents_changes_the_fingerprint(arrays):
    images, labels = arrays
    ids = np.array([f"id{i}" for i in range(6)])
    one_pixel, one_label, one_id = images.copy(), labels.copy(), ids.copy()
    one_pixel[5, 4, 3, 2] ^= 1
    one_label[3] = 1
    one_id[0] = "id9"
    order = [1, 0, 2, 3, 4, 5]
    variants = [
        (images, labels, ids),
        (one_pixel, labels, ids),
        (images, one_label, ids),
        (images, labels, one_id),
        (images[order], labels[order], ids[order]),
        (images.reshape(6, 4, 5, 3), labels, ids),
        (images[:5], labels[:5], ids[:5]),
        (images.astype(np.float32), labels, ids),
    ]
    assert len({Dataset.from_arrays(*v, num_classes=3).fingerprint for v in variants}) == len(variants)


def test_a_dataset_cannot_be_changed_by_accident(arrays):
    with pytest.raises(dataclasses.FrozenInstanceError):
        Dataset.from_arrays(*arrays).labels = np.zeros(6)


@pytest.mark.parametrize("label", [2**32, np.uint64(2**63)])
def test_labels_beyond_32_bits_are_refused_and_never_wrapped(label):
    labels = np.array([0, 1, label], np.uint64)
    with pytest.raises(InputError, match=r"labels must lie in 0\.\.1"):
        Dataset.from_arrays(np.zeros((3, 4, 4), np.uint8), labels, num_classes=2)
