"""Dataset names: what is supported, where prepared data lies, and what to say when a name leads nowhere."""

import difflib
import os
import re
from pathlib import Path
from typing import NamedTuple

from diet_jax.data.dataset import Normalization
from diet_jax.errors import InputError, NotOnDiskError

PREPARABLE = ("cifar10", "cifar100", "mnist", "fashion_mnist")
"""The data sets that `prepare_dataset` downloads and writes without TensorFlow."""

SUPPORTED = (
    "'digits' (ships with scikit-learn), 'folder:PATH' (train/CLASS/*.png and test/CLASS/*.png), 'cinic10', "
    f"and any image classifier of TensorFlow Datasets: {', '.join(PREPARABLE)}, 'name/config', 'name:version'"
)


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


class Name(NamedTuple):
    """A TFDS name taken apart: `name/config:version`, the last two of them optional."""

    dataset: str
    config: str | None
    version: str | None

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        version = f":{self.version}" if self.version else ""
        return f"{self.dataset}{config}{version}"


def parse_name(name: str) -> Name:
    """Takes a TFDS name apart.

    Args:
        name: `name`, `name/config`, `name:version` or `name/config:version`.

    Returns:
        Its parts.

    Raises:
        InputError: the name has another form.

    Example:
        >>> parse_name("emnist/balanced:3.1.0")
        Name(dataset='emnist', config='balanced', version='3.1.0')
    """
    match = re.fullmatch(r"(\w+)(?:/([^/:]+))?(?::([\w.]+))?", name)
    if match is None:
        raise unknown_name(name)
    return Name(*match.groups())


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of prepared data sets: `data_dir`, or TFDS's own default."""
    if data_dir is None:
        data_dir = os.environ.get("TFDS_DATA_DIR") or Path("~", "tensorflow_datasets")
    return Path(data_dir).expanduser().absolute()


def tfds_names() -> list[str]:
    """The names of the data sets that TFDS defines, without asking the network."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def unknown_name(name: str) -> InputError:
    """The error for a name that nothing answers to, with the nearest known names."""
    known = sorted({*tfds_names(), "digits", "cinic10"})
    near = difflib.get_close_matches(name.lower(), known, n=3)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return InputError(f"name {name!r} is not a known dataset.{hint} Supported: {SUPPORTED}")


def tensorflow_route(name: str, folder: Path) -> str:
    """The commands that prepare any TFDS data set once, with TensorFlow; reading it then needs none."""
    line = (
        f"import tensorflow_datasets as tfds; tfds.data_source({name!r}, data_dir={str(folder)!r}, "
        "builder_kwargs={'file_format': 'array_record'})"
    )
    return f"pip install 'diet_jax[tensorflow]' && python -c \"{line}\""


def not_prepared(name: Name, folder: Path) -> NotOnDiskError:
    """The error for a data set that is known but not on this disk, with the two ways out."""
    if str(name) in PREPARABLE:
        first = f"diet-jax prepare {name} --data-dir {folder}"
    else:
        first = f"{tensorflow_route(str(name), folder)}   (TensorFlow is needed this once)"
    wanted = folder / name.dataset / (name.config or "") / (name.version or "")
    return NotOnDiskError(
        f"dataset {str(name)!r} is not prepared: found no data in {wanted}\n"
        f"  either prepare it:   {first}\n"
        f"  or point to a copy:  --data.data-dir DIR (reproduce: --data-dir, Python: data_dir=), "
        f"where TFDS wrote DIR/{name.dataset}/VERSION in array_record format"
    )
