"""What a run's table and figures were made from, their digests, and what else was there: provenance.json."""

import json
import secrets
from typing import Any

import jax
import numpy as np

from diet_jax.errors import InputError
from diet_jax.experiments.environment import environment, versions_of_code
from diet_jax.experiments.run_folder import RunFolder
from diet_jax.experiments.run_log import PROVENANCE, STARTS
from diet_jax.experiments.setup import Setup
from diet_jax.files.digests import file_digest
from diet_jax.files.records import from_record, read_lines, with_checksum
from diet_jax.files.writing import write_atomically
from diet_jax.training.seeds import seed_keys

FORMAT = "diet_jax provenance 2"
# What a finished run has, beside table, figures and checkpoints; the latter follow from its config.
TABLES = ("table.csv", "table.md", "classes.csv", "costs.csv")
RESULTS = ("noise.npz", "scores/*.npz", "scores/per_seed/*.npz", "masks/*.npz", "retrain/*/*.npz")


def save_provenance(setup: Setup, folder: RunFolder) -> None:
    """Writes what the table and the figures that stand in a run folder were made from, with their digests."""
    path, config = folder.path, setup.config
    made = [*(path / name for name in TABLES), *sorted((path / "figures").glob("*.png"))]
    keys = {
        "score": seed_keys(config.seed, "score", config.score.num_seeds),
        "retrain": seed_keys(config.seed, "retrain", config.retrain.num_seeds),
    }
    now, token = environment(), secrets.token_hex(8)
    values = {
        "format": FORMAT,
        "files": {file.relative_to(path).as_posix(): file_digest(file) for file in made},
        "results": sorted(p.relative_to(path).as_posix() for name in RESULTS for p in path.glob(name)),
        "finished": token,
        "starts": read_lines(path / STARTS, folder.identity()).numbers[-1],
        "config": config.facts(),
        "budget": config.train.budget,
        "fingerprint": [split.fingerprint for split in setup.splits],
        "keys": {of: np.asarray(jax.random.key_data(each)).tolist() for of, each in keys.items()},
        "code": versions_of_code(),
        **{name: now[name] for name in ("python", "versions", "machine", "processes", "devices")},
    }
    # First the log: a run that is stopped between them has a line too many, and none too few.
    folder.log_finished(token)
    write_atomically(path / PROVENANCE, json.dumps(with_checksum(values), indent=1) + "\n")


def read_provenance(folder: RunFolder) -> dict[str, Any]:
    """Returns the values of provenance.json.

    Raises:
        InputError: it is damaged, or of another version.
        OSError: it cannot be read.
    """
    text = (folder.path / PROVENANCE).read_bytes()
    try:
        values = from_record(text)
        known = values["format"] == FORMAT and isinstance(values["files"], dict)
        if not (known and isinstance(values["results"], list)):
            raise ValueError("it is of another version")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"it is damaged or of another version ({type(error).__name__})") from error
    return values
