"""What was published about data sets: the constants they are normalised with, and their sizes."""

from typing import NamedTuple

from diet_jax.data.kinds import Normalization


def _scaled(mean: tuple[float, ...], std: tuple[float, ...]) -> Normalization:
    return Normalization(tuple(255 * m for m in mean), tuple(255 * s for s in std))


_CIFAR10 = _scaled((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))

PAPER_NORMALIZATIONS = {
    "cifar10": _CIFAR10,
    # The paper's code normalises CIFAR-100 with the constants of CIFAR-10.
    "cifar100": _CIFAR10,
    "cinic10": _scaled((0.47889522, 0.47227842, 0.43047404), (0.24205776, 0.23828046, 0.25874835)),
}
"""The constants of the Data Diet paper, in units of 8-bit pixels. Other data sets are measured."""

IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""The usual constants of ImageNet, in units of 8-bit pixels."""


class Sizes(NamedTuple):
    """How large a data set is, as its authors published it."""

    train: int
    test: int
    num_classes: int
    image_shape: tuple[int, int, int]
    test_split: str = "test"


PUBLISHED = {
    "mnist": Sizes(60_000, 10_000, 10, (28, 28, 1)),
    "fashion_mnist": Sizes(60_000, 10_000, 10, (28, 28, 1)),
    "cifar10": Sizes(50_000, 10_000, 10, (32, 32, 3)),
    "cifar100": Sizes(50_000, 10_000, 100, (32, 32, 3)),
    "svhn_cropped": Sizes(73_257, 26_032, 10, (32, 32, 3)),
    # Train and validation images are trained on together.
    "cinic10": Sizes(180_000, 90_000, 10, (32, 32, 3)),
    # Images of many sizes, at the usual size of networks for them; the test labels are not public.
    "imagenet2012": Sizes(1_281_167, 50_000, 1_000, (224, 224, 3), "validation"),
}
"""Sizes to plan with where the data itself is not on disk."""
