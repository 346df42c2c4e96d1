"""CINIC-10 as its archive unpacks: 180,000 images of train and valid, 90,000 of test."""

import os
from typing import Any

from diet_jax.data.dataset import Splits
from diet_jax.data.published import PAPER_NORMALIZATIONS
from diet_jax.data.sources.folder import stored_folder
from diet_jax.data.sources.source import SOURCES, Source
from diet_jax.data.stored import StoredDataset, data_folder
from diet_jax.errors import NotHereError


def load_cinic10(*, data_dir: str | os.PathLike[str] | None = None, **options: Any) -> Splits:
    """Loads CINIC-10, normalised with the paper's constants, from `data_dir/cinic10` or `data_dir/CINIC-10`.

    Raises:
        InputError: neither folder exists, or as for `load_folder`.
    """
    return _stored(data_dir).load(**options)


def stream_cinic10(*, data_dir: str | os.PathLike[str] | None, **options: Any) -> Splits:
    """Loads the same with its images on disk."""
    return _stored(data_dir).stream(**options)


SOURCES.register(
    Source(
        name="cinic10",
        about="CINIC-10's image folders, as its archive unpacks, in DATA_DIR/cinic10 or DATA_DIR/CINIC-10",
        load=load_cinic10,
        stream=stream_cinic10,
    )
)


def _stored(data_dir: str | os.PathLike[str] | None) -> StoredDataset:
    candidates = [data_folder(data_dir) / folder for folder in ("cinic10", "CINIC-10")]
    root = next((folder for folder in candidates if folder.is_dir()), None)
    if root is None:
        raise NotHereError(
            f"dataset 'cinic10' is not here: found neither {candidates[0]} nor {candidates[1]}\n"
            f"  either unpack CINIC-10 (https://github.com/BayesWatch/cinic-10) to {candidates[0]}\n"
            "  or point to a copy: --data.data-dir DIR (reproduce: --data-dir; Python: data_dir=); "
            "DIR/cinic10 holds train, valid and test"
        )
    return stored_folder(root, "cinic10", PAPER_NORMALIZATIONS["cinic10"])
