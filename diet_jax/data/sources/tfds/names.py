"""Names of TensorFlow Datasets, and what to say when one leads nowhere."""

import re
from pathlib import Path

from diet_jax.data.sources.source import unknown_name
from diet_jax.errors import InputError, NotHereError

PREPARABLE = ("cifar10", "cifar100", "mnist", "fashion_mnist")
"""The data sets that are downloaded and written without TensorFlow."""


def parse_name(name: str) -> tuple[str, str | None, str | None]:
    """Takes `name/config:version` apart, the last two of them optional; InputError for another form.

    Example:
        >>> parse_name("emnist/balanced:3.1.0")
        ('emnist', 'balanced', '3.1.0')
    """
    match = re.fullmatch(r"(\w+)(?:/([^/:]+))?(?::([\w.]+))?", name)
    if match is None:
        raise unknown(name)
    dataset, config, version = match.groups()
    return dataset, config, version


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


def not_prepared(name: str, folder: Path) -> InputError:
    """The error for a data set that is not on this disk: with the two ways out, if it is known at all."""
    dataset, config, version = parse_name(name)
    if dataset not in tfds_names():
        return unknown(name)
    if name in PREPARABLE:
        first = f"diet-jax prepare {name} --data-dir {folder}"
    else:
        first = f"{tensorflow_route(name, folder)}   (TensorFlow is needed this once)"
    wanted = folder / dataset / (config or "") / (version or "")
    return NotHereError(
        f"dataset {name!r} is not prepared: found no data in {wanted}\n"
        f"  either prepare it:   {first}\n"
        f"  or point to a copy:  --data.data-dir DIR (reproduce: --data-dir, Python: data_dir=), "
        f"where TFDS wrote DIR/{dataset}/VERSION in array_record format"
    )
