"""`diet-jax prepare`."""

from dataclasses import dataclass

import tyro

from diet_jax.cli.command import Answer, Command
from diet_jax.cli.options import Printing
from diet_jax.data.sources import prepare_dataset


@dataclass(frozen=True)
class Prepare(Printing):
    """Do what a dataset needs once before it can be loaded: download it, write it as TFDS would."""

    name: tyro.conf.Positional[str]
    """Of the dataset, as above."""
    data_dir: str | None = None
    """Where; by default TFDS's own folder."""


def prepare(command: Prepare) -> Answer:
    """Downloads a dataset and writes it as a TFDS directory."""
    path = prepare_dataset(command.name, data_dir=command.data_dir)
    print(path)
    return Answer({"prepared": command.name, "path": str(path)}, (path,))


COMMAND = Command(
    Prepare,
    prepare,
    {
        "prepare fashion_mnist": "download Fashion-MNIST into TFDS's own folder",
        "prepare cifar10 --data-dir data": "CIFAR-10, into a folder of one's own",
    },
    goes_on=True,
    sources=lambda source: source.prepare is not None,
)
