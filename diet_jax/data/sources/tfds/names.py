"""Names of TensorFlow Datasets, and what to say when one leads nowhere."""

import re
from pathlib import Path
from typing import NamedTuple

from diet_jax.data.sources.source import unknown_name
from diet_jax.errors import InputError, NotOnDiskError

PREPARABLE = ("cifar10", "cifar100", "mnist", "fashion_mnist")
"""The data sets that are downloaded and written without TensorFlow."""


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
        raise unknown(name)
    return Name(*match.groups())


def tfds_names() -> list[str]:
    """The names of the data sets that TFDS defines, without asking the network."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def unknown(name: str) -> InputError:
    """The error for a name that neither TFDS nor another source answers to."""
    return unknown_name(name, tfds_names())


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
