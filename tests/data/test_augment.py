"""Normalisation, crop and flip against NumPy: every image must be one of the possible windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diet_jax as dj
from diet_jax.data.augment import normalized_images, random_crop, random_flip
from diet_jax.training.recipe import TrainConfig, prepare_batch

# All pixels differ, so that each window is recognised; a narrower image has windows that mirror each other.
IMAGE = np.random.default_rng(0).permutation(np.arange(10 * 12 * 2)).astype(np.uint8).reshape(10, 12, 2)
BATCH = jnp.asarray(np.repeat(IMAGE[None], 2000, axis=0))


def windows(image):
    """The 81 windows of the reflection-padded image by their offset."""
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    height, width = image.shape[:2]
    return {(i, j): padded[i : i + height, j : j + width] for i in range(9) for j in range(9)}


def found_offsets(images):
    by_content = {window.tobytes(): offset for offset, window in windows(IMAGE).items()}
    assert len(by_content) == 81
    return [by_content[np.asarray(image).tobytes()] for image in images]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalize_equals_numpy(dtype):
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3)).astype(dtype)
    mean, std = [120.0, 3.0, 77.0], [60.0, 2.0, 9.0]
    expected = (images.astype(np.float64) - mean) / std
    result = dj.normalize(jnp.asarray(images), jnp.array(mean), jnp.array(std))
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


def test_every_crop_is_a_window_and_all_81_occur_equally_often():
    crops = random_crop(jax.random.key(0), BATCH)
    assert crops.dtype == jnp.uint8
    offsets = found_offsets(crops)  # KeyError if an image is no window.
    counts = np.array([offsets.count(offset) for offset in windows(IMAGE)])
    assert counts.min() > 0
    # Five standard deviations of a binomial count.
    assert np.abs(counts - 2000 / 81).max() < 5 * np.sqrt(2000 / 81 * 80 / 81)


def test_one_offset_for_the_batch_and_another_for_another_key():
    crop = jax.jit(lambda key: random_crop(key, BATCH[:5], offsets="batch"))
    per_key = [set(found_offsets(crop(jax.random.key(k)))) for k in range(40)]
    assert all(len(offsets) == 1 for offsets in per_key)
    tops, lefts = zip(*(offsets.pop() for offsets in per_key), strict=True)
    assert len(set(tops)) > 4
    assert len(set(lefts)) > 4
    assert tops != lefts


def test_flip_mirrors_about_half_of_the_images_each_by_itself():
    flipped = np.asarray(random_flip(jax.random.key(0), BATCH))
    assert flipped.dtype == np.uint8
    mirrored = (flipped == IMAGE[:, ::-1]).all(axis=(1, 2, 3))
    untouched = (flipped == IMAGE).all(axis=(1, 2, 3))
    assert (mirrored ^ untouched).all()
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(2000)
    changes = (mirrored[1:] != mirrored[:-1]).mean()
    assert abs(changes - 0.5) < 5 * 0.5 / np.sqrt(2000)


@pytest.mark.parametrize(
    ("augment", "cropped", "mirrored"), [("none", 0, 0), ("crop", 1, 0), ("crop_flip", 1, 1)]
)
def test_the_recipe_augments_what_its_config_says(augment, cropped, mirrored):
    mean, std = jnp.array([1.0, 2.0]), jnp.array([2.0, 3.0])
    config = TrainConfig(augment=augment)
    images = np.asarray(prepare_batch(config, jax.random.key(1), BATCH, mean, std))
    assert images.dtype == np.float32
    stored = np.rint(images * np.asarray(std) + np.asarray(mean)).astype(np.uint8)
    plain = {window.tobytes(): offset for offset, window in windows(IMAGE).items()}
    flipped = {window[:, ::-1].tobytes(): offset for offset, window in windows(IMAGE).items()}
    seen = [(i.tobytes() in flipped, plain.get(i.tobytes(), flipped.get(i.tobytes()))) for i in stored]
    assert None not in [offset for _, offset in seen]
    assert (len({offset for _, offset in seen}) > 1) == bool(cropped)
    assert any(flip for flip, _ in seen) == bool(mirrored)


def test_images_of_a_dataset_as_networks_see_them(train_split):
    mean, std = (np.asarray(v) for v in train_split.normalization)
    expected = (train_split.images.astype(np.float64) - mean) / std
    np.testing.assert_allclose(normalized_images(train_split), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(
        normalized_images(train_split, [7, 2]), normalized_images(train_split)[np.array([7, 2])]
    )
