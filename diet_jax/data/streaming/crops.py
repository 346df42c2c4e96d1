"""Images of any size to one size: the standard evaluation crop, and the random resized crop."""

import math
from typing import Any

import numpy as np

# The standard evaluation of ImageNet networks: the shorter side to 256, then the central 224.
MARGIN = 256 / 224
AREAS = (0.08, 1.0)
RATIOS = (3 / 4, 4 / 3)
TRIES = 10


def central_crop(image: Any, size: int) -> Any:
    """Returns the centre of a Pillow image: the shorter side becomes 256/224 of `size`, `size` is cut out.

    Example:
        >>> from PIL import Image
        >>> central_crop(Image.new("RGB", (500, 375)), 224).size
        (224, 224)
    """
    from PIL import Image

    width, height = image.size
    shorter = round(MARGIN * size)
    if width <= height:
        width, height = shorter, int(shorter * height / width)
    else:
        width, height = int(shorter * width / height), shorter
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def random_resized_crop(image: Any, shape: tuple[int, int], rng: np.random.Generator) -> Any:
    """Returns a random part of a Pillow image, mirrored half the time: how ImageNet networks train.

    The part's share of the area is uniform in 0.08..1, the logarithm of its width over height in
    log(3/4)..log(4/3). After ten parts that do not fit, it is the largest central one within these ratios.
    `shape` is the height and width that it gets.

    Example:
        >>> from PIL import Image
        >>> random_resized_crop(Image.new("L", (50, 40)), (8, 8), np.random.default_rng(0)).size
        (8, 8)
    """
    from PIL import Image

    box = random_box(image.size, rng)
    cut = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box)
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else cut


def random_box(size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draws left, top, right and bottom of a part of an image of `size` (width, height)."""
    width, height = size
    for _ in range(TRIES):
        area = width * height * rng.uniform(*AREAS)
        ratio = math.exp(rng.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * RATIOS[1])))
    h = min(height, max(1, round(width / RATIOS[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
