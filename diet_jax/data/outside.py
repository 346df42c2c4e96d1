"""Examples of other programs, joined to ours by id: Hugging Face datasets and FiftyOne samples."""

from typing import Any

import numpy as np

from diet_jax.errors import InputError
from diet_jax.files.ids import rows_by_id
from diet_jax.files.tables import Tabular


class Joinable(Tabular):
    """A table of examples that other programs' examples are joined to by id."""

    ids: np.ndarray

    def rows_of(self, ids: Any, what: str = "the ids given") -> np.ndarray:
        """Returns the rows int64 `[k]` of this table that have some ids, in the order of the ids.

        Args:
            ids: `[k]`, the ids of the same examples, in any order.
            what: what they are of, for messages.

        Raises:
            InputError: they are not the same ids: it counts those that are missing, doubled or others.

        Example:
            >>> import numpy as np, diet_jax as dj
            >>> file = dj.KeepFile(np.array([True, False]), np.array(["a", "b"]), "mine/train", "", {})
            >>> file.rows_of(["b", "a"]).tolist()
            [1, 0]
        """
        theirs = np.asarray(ids)
        there = rows_by_id(theirs, self.ids, what, f"{self!r}")
        rows = np.empty(len(there), np.int64)
        rows[there] = np.arange(len(there))
        return rows

    def to_fiftyone(self, samples: Any, field: str, *, ids: str) -> None:
        """Writes the last column of `to_dict` as a field of FiftyOne samples, joined by id.

        Args:
            samples: a FiftyOne dataset or view of the same examples.
            field: name of the field that is written.
            ids: name of the field that has our ids, such as one that was filled when samples were added.

        Raises:
            InputError: the field's values are not our ids.
        """
        rows = self.rows_of(samples.values(ids), f"the field {ids} of the samples")
        column = list(self.to_dict().values())[-1]
        samples.set_values(field, [column[row] for row in rows])

    def rows_in(self, dataset: Any, ids: str | None) -> np.ndarray:
        """Returns which of our rows each row of a Hugging Face dataset is, int64 `[n]`.

        Args:
            dataset: of Hugging Face `datasets`, with the same examples.
            ids: its column that has our ids; None where our ids are its row numbers, 0 to n - 1.

        Raises:
            InputError: its ids are not ours, or ours are no row numbers.
        """
        if ids is not None:
            return self.rows_of(dataset[ids], f"the column {ids} of the dataset")
        if self.ids.dtype.kind not in "iu":
            raise InputError(
                f"ids must name the column that has our ids, such as {self.ids[0]!r}: they are no row "
                f"numbers; dataset.add_column('id', ...) makes one"
            )
        return self.rows_of(np.arange(len(dataset)), "the dataset's row numbers")
