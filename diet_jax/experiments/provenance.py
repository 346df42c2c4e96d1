"""What a run's table and figures were made from, and their digests: provenance.json."""

import json
from typing import Any

import jax
import numpy as np

from diet_jax.experiments.environment import environment, versions_of_code
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.setup import Setup
from diet_jax.files.digests import file_digest
from diet_jax.files.records import from_record, with_checksum
from diet_jax.files.writing import write_atomically
from diet_jax.training.seeds import seed_keys

PROVENANCE = "provenance.json"
FORMAT = "diet_jax provenance 1"


def save_provenance(setup: Setup, folder: RunFolder) -> None:
    """Writes what the table and the figures that stand in a run folder were made from, with their digests."""
    path, config = folder.path, setup.config
    tables = ("table.csv", "table.md", "classes.csv", "costs.csv")
    made = [*(path / name for name in tables), *sorted((path / "figures").glob("*.png"))]
    keys = {
        "score": seed_keys(config.seed, "score", config.score.num_seeds),
        "retrain": seed_keys(config.seed, "retrain", config.retrain.num_seeds),
    }
    now = environment()
    values = {
        "format": FORMAT,
        "files": {file.relative_to(path).as_posix(): file_digest(file) for file in made},
        "config": config.facts(),
        "budget": config.train.budget,
        "fingerprint": [split.fingerprint for split in setup.splits],
        "keys": {of: np.asarray(jax.random.key_data(each)).tolist() for of, each in keys.items()},
        "code": versions_of_code(),
        **{name: now[name] for name in ("python", "versions", "machine", "processes", "devices")},
    }
    write_atomically(path / PROVENANCE, json.dumps(with_checksum(values), indent=1) + "\n")


def read_provenance(folder: RunFolder) -> dict[str, Any]:
    """Returns the values of provenance.json.

    Raises:
        ValueError, KeyError, TypeError: it is damaged.
        OSError: it cannot be read.
    """
    values = from_record((folder.path / PROVENANCE).read_bytes())
    if values["format"] != FORMAT or not isinstance(values["files"], dict):
        raise ValueError("it is of another version")
    return values
