"""Examples as pictures: pixels from 0 to 1, of one channel or of three colours."""

from collections.abc import Callable

import numpy as np

from diet_jax.data.dataset import Dataset


def pictures_of(dataset: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that makes pictures of rows int `[k]`: float32 `[k h w]`, or `[k h w 3]` in colour.

    All have one scale, so that bright and dark ones stay so.

    Example:
        >>> import numpy as np, diet_jax as dj
        >>> images = np.array([[[0, 5], [5, 10]]], np.float32)
        >>> pictures_of(dj.Dataset.from_arrays(images, [0], kind="images"))(np.array([0])).tolist()
        [[[0.0, 0.5], [0.5, 1.0]]]
    """
    images = dataset.images
    # Digits are stored as 0..16.
    low = 0.0 if images.dtype == np.uint8 else float(images.min())
    # Images on disk are photographs of 8 bits, and too many to look for the largest value.
    scale = 255.0 if dataset.streamed else (float(images.max()) - low) or 1.0

    def pictures(rows: np.ndarray) -> np.ndarray:
        pixels = np.asarray(next(iter(dataset.read_batches([rows]))), np.float32)
        pixels = np.clip((pixels - np.float32(low)) / np.float32(scale), 0, 1)
        # Of more or fewer channels than colours, the first three or the first.
        return pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0]

    return pictures
