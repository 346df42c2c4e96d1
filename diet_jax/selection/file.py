"""Mask files: what is kept, with the ids of the examples."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.data.dataset import Dataset, check_belongs
from diet_jax.devices.processes import from_writer
from diet_jax.errors import InputError
from diet_jax.files.arrays import load_arrays, save_arrays

FACTS = ("dataset", "fingerprint", "provenance")


@dataclass(frozen=True, eq=False)
class KeepFile:
    """A keep mask with the ids of its examples.

    Attributes:
        keep: bool `[n]`, or `[s n]` where every seed has its own; True = train on it.
        ids: `[n]`, in dataset order.
        dataset: name and split.
        fingerprint: of the dataset.
        provenance: method, keep fraction, score and ties, JSON values.
    """

    keep: np.ndarray
    ids: np.ndarray
    dataset: str
    fingerprint: str
    provenance: dict[str, Any]

    @classmethod
    def from_mask(
        cls, keep: Any, dataset: Dataset, *, provenance: dict[str, Any] | None = None
    ) -> "KeepFile":
        """Binds a mask to a dataset.

        Args:
            keep: bool `[n]`, or `[s n]`; rows in dataset order.
            dataset: what is selected from.
            provenance: JSON values to store along, such as how the mask was made.

        Raises:
            InputError: it is no mask of the dataset's rows.

        Example:
            >>> import numpy as np, diet_jax as dj
            >>> test = dj.load_dataset("digits").test
            >>> dj.KeepFile.from_mask(np.arange(len(test)) < 2, test).dataset
            'digits/test'
        """
        keep = np.asarray(keep)
        if keep.dtype != bool or keep.ndim not in (1, 2) or keep.shape[-1] != len(dataset):
            raise InputError(
                f"keep must be bool [{len(dataset)}] or [s, {len(dataset)}], got {keep.dtype} of shape "
                f"{keep.shape}; make a mask of rows by np.isin(np.arange({len(dataset)}), rows)"
            )
        name = f"{dataset.name}/{dataset.split}"
        return cls(keep, dataset.ids, name, dataset.fingerprint, provenance or {})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a compressed .npz, whole or not at all; of several processes the first one does."""
        facts = {name: getattr(self, name) for name in FACTS}
        arrays = {"keep": self.keep, "ids": self.ids}
        from_writer(lambda: save_arrays(path, "keep", arrays, facts))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, dataset: Dataset | None = None) -> "KeepFile":
        """Reads a mask file.

        Raises:
            InputError: the file is missing, damaged, no mask file, or of another dataset.
        """
        arrays, facts = from_writer(lambda: load_arrays(path, "keep", ("keep", "ids"), FACTS))
        keep, ids = arrays["keep"], arrays["ids"]
        if keep.dtype != bool or keep.ndim not in (1, 2) or keep.shape[-1:] != ids.shape:
            raise InputError(f"{path} is damaged: its mask does not fit its ids")
        check_belongs(path, facts, ids, dataset)
        return cls(**arrays, **facts)
