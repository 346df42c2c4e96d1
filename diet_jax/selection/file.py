"""Mask files: what is kept, with the ids of the examples."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.checks.arrays import plain_array
from diet_jax.checks.rows import checked_mask
from diet_jax.checks.values import check_type
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.data.outside import Joinable
from diet_jax.data.parts import rows_in_file
from diet_jax.devices.processes import from_writer
from diet_jax.errors import InputError, counted
from diet_jax.files.arrays import load_arrays, packed
from diet_jax.files.ids import check_unique
from diet_jax.files.tables import html_table
from diet_jax.files.writing import write_atomically

FACTS = ("dataset", "fingerprint", "provenance")
# Rows of the table that a notebook shows.
SHOWN = 5
MADE_BY = "dj.KeepFile.from_mask(keep, dataset).save(path)"


@dataclass(frozen=True, eq=False, repr=False)
class KeepFile(Joinable):
    """A keep mask with the ids of its examples.

    Attributes:
        keep: bool `[n]`, or `[s n]` where every seed has its own; True = train on it.
        ids: `[n]`, in dataset order.
        dataset: name and split.
        fingerprint: of the dataset.
        provenance: method, keep fraction, score and ties, JSON values.

    Example:
        >>> import numpy as np, diet_jax as dj
        >>> file = dj.KeepFile(np.array([True, False, True]), np.array(["a", "b", "c"]), "mine/train", "", {})
        >>> file
        <keep mask of mine/train: 2 of 3 examples kept>
        >>> file.rows.tolist(), file.kept_ids.tolist()
        ([0, 2], ['a', 'c'])
        >>> file.to_dict()
        {'row': [0, 1, 2], 'id': ['a', 'b', 'c'], 'kept': [True, False, True]}
    """

    keep: np.ndarray
    ids: np.ndarray
    dataset: str
    fingerprint: str
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        counts = np.unique(self.keep.sum(axis=-1))
        kept = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
        seeds = "" if self.keep.ndim == 1 else f" by each of {counted(len(self.keep), 'seed')}"
        return f"<keep mask of {self.dataset}: {kept} of {len(self.ids):,} examples kept{seeds}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: how it was chosen, and the first that are kept."""
        first = self.kept_ids[:SHOWN].tolist() if self.keep.ndim == 1 else []
        chosen = ", ".join(f"{name} {value}" for name, value in self.provenance.items())
        return html_table({"kept": first}, f"{self!r} {chosen}")

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
        check_dataset(dataset)
        count, of = len(dataset), dataset.name
        check_type(provenance, "provenance", (dict, type(None)), "a dict of JSON values")
        keep = plain_array(keep, "keep")
        if keep.ndim == 2 and len(keep):
            keep = np.stack([checked_mask(each, count, "keep[0]", of) for each in keep])
        else:
            keep = checked_mask(keep, count, of=of)
        name = f"{dataset.name}/{dataset.split}"
        return cls(keep, dataset.ids, name, dataset.fingerprint, provenance or {})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a compressed .npz, whole or not at all; of several processes the first one does."""
        from_writer(lambda: write_atomically(path, self.packed()))

    def packed(self) -> bytes:
        """Returns the contents of the .npz."""
        facts = {name: getattr(self, name) for name in FACTS}
        return packed("keep", {"keep": self.keep, "ids": self.ids}, facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, dataset: Dataset | None = None) -> "KeepFile":
        """Reads a mask file, of a dataset or of the one that it was taken from, whose part is returned.

        Raises:
            InputError: the file is missing, damaged, no mask file, or of another dataset.
        """
        arrays, facts = from_writer(lambda: load_arrays(path, "keep", ("keep", "ids"), FACTS, MADE_BY))
        keep, ids = arrays["keep"], arrays["ids"]
        if keep.dtype != bool or keep.ndim not in (1, 2) or keep.shape[-1:] != ids.shape:
            raise InputError(f"{path} is damaged: its mask does not fit its ids")
        check_unique(ids, f"{path} is damaged")
        file = cls(**arrays, **facts)
        if dataset is None:
            return file
        rows = rows_in_file(path, facts, ids, dataset)
        whole = file.fingerprint == dataset.fingerprint
        if whole and np.array_equal(rows, np.arange(len(ids))):
            return file
        provenance = {**file.provenance, **({} if whole else {"taken_from": file.fingerprint})}
        return cls(keep[..., rows], ids[rows], file.dataset, dataset.fingerprint, provenance)

    @property
    def rows(self) -> np.ndarray:
        """int64 `[k]`, the row numbers of the kept examples, rising: what indexes arrays.

        Raises:
            InputError: the file holds a mask for each of several seeds.
        """
        return np.flatnonzero(self._one_mask())

    @property
    def kept_ids(self) -> np.ndarray:
        """`[k]`, the ids of the kept examples in dataset order: what names them outside. Raises as `rows`."""
        return self.ids[self._one_mask()]

    def to_dict(self) -> dict[str, list[Any]]:
        """Returns columns for a data frame or for JSON, of all examples: "row", "id" and "kept", plain lists.

        Raises:
            InputError: the file holds a mask for each of several seeds.
        """
        keep = self._one_mask()
        return {"row": list(range(len(keep))), "id": self.ids.tolist(), "kept": keep.tolist()}

    def to_hugging_face(self, dataset: Any, *, ids: str | None = None) -> Any:
        """Returns what a Hugging Face dataset keeps of the same examples: `dataset.select`, joined by id.

        Args:
            dataset: of Hugging Face `datasets`, in any order.
            ids: its column that has our ids; None where our ids are its row numbers, 0 to n - 1.

        Raises:
            InputError: its ids are not ours, or the file holds a mask for each of several seeds.
        """
        return dataset.select(np.flatnonzero(self._one_mask()[self.rows_in(dataset, ids)]))

    def _one_mask(self) -> np.ndarray:
        if self.keep.ndim == 1:
            return self.keep
        raise InputError(
            f"this file of {self.dataset} holds {counted(len(self.keep), 'mask')}, one for each seed; "
            f"dataclasses.replace(file, keep=file.keep[0]) is that of the first"
        )
