"""Writes an image folder of ImageNet's shape: JPEGs of many sizes around 500x375, a pattern for each class.

Command: python benchmarks/image_folder.py PATH [--classes 10] [--train 200] [--test 50]

A class is the direction and the colours of a grating, which a network can learn; noise and a fresh phase tell
the images apart. Then `diet-jax run configs/imagenet.py --data.name folder:PATH --train.steps 4 ...` does the
recipe's few first steps.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image


@dataclass(frozen=True)
class Folder:
    """PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg."""

    path: Annotated[Path, tyro.conf.Positional]
    """Where to write; must be empty or missing."""
    classes: int = 10
    """Number of classes."""
    train: int = 200
    """Images of the train split, evenly by class."""
    test: int = 50
    """Images of the test split."""
    scale: float = 1.0
    """1 gives sides of about 500 and 375 pixels."""
    seed: int = 0
    """Decides every pixel."""


def draw(rng: np.random.Generator, label: int, num_classes: int, scale: float) -> np.ndarray:
    """Returns one image of a class, uint8 `[h w 3]`, of a random size."""
    long, short = rng.normal(500, 60), rng.normal(375, 50)
    width, height = (long, short) if rng.random() < 0.75 else (short, long)
    height, width = (max(16, round(scale * float(np.clip(side, 150, 900)))) for side in (height, width))
    angle = np.pi * label / num_classes
    y, x = np.mgrid[:height, :width] / (scale * 375)
    wave = np.sin(2 * np.pi * 6 * (np.cos(angle) * x + np.sin(angle) * y) + rng.uniform(0, 2 * np.pi))
    colours = np.random.default_rng(label).uniform(40, 215, (2, 3))
    mix = (wave[..., None] + 1) / 2
    image = mix * colours[0] + (1 - mix) * colours[1] + rng.normal(0, 25, (height, width, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def write(folder: Folder) -> None:
    """Writes both splits.

    Raises:
        SystemExit: there is something at the path, or too few images for the classes.
    """
    if folder.path.exists() and any(folder.path.iterdir()):
        raise SystemExit(f"{folder.path} is not empty; name another folder")
    if min(folder.train, folder.test) < folder.classes or folder.classes < 2:
        raise SystemExit(f"{folder.classes} classes need 2 or more, and as many images in each split")
    for split, (name, count) in enumerate({"train": folder.train, "test": folder.test}.items()):
        for i in range(count):
            label = i % folder.classes
            rng = np.random.default_rng([folder.seed, split, i])
            parent = folder.path / name / f"class_{label:04d}"
            parent.mkdir(parents=True, exist_ok=True)
            image = draw(rng, label, folder.classes, folder.scale)
            Image.fromarray(image).save(parent / f"{i:07d}.jpg", quality=90)


if __name__ == "__main__":
    write(tyro.cli(Folder))
