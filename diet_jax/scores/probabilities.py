"""Probabilities of all classes with the ids of the examples: what cleanlab calls `pred_probs`."""

import io
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.checks.arrays import plain_array
from diet_jax.checks.values import check_type
from diet_jax.data.dataset import Dataset, check_dataset
from diet_jax.data.outside import Joinable
from diet_jax.devices.processes import from_writer
from diet_jax.errors import InputError
from diet_jax.files.arrays import load_arrays, packed
from diet_jax.files.ids import check_unique
from diet_jax.files.writing import write_atomically

KIND = "probabilities"
ARRAYS, FACTS = ("pred_probs", "ids", "labels"), ("class_names", "dataset", "fingerprint", "provenance")
MADE_BY = "dj.ProbabilityFile.from_logits(logits, dataset, out_of_sample=...).save(path)"


@dataclass(frozen=True, eq=False, repr=False)
class ProbabilityFile(Joinable):
    """The probability of every class for every example: the mean of the softmax over networks.

    cleanlab judges labels by probabilities of networks that were **not trained on the example**
    (out-of-sample, such as by cross-validation). Networks that score are trained on everything: theirs are
    near 1 for the label that was given, wrong or not, the more the longer they trained, and cleanlab then
    finds fewer errors than there are. Whether they are out of sample is said when a file is made, and stays
    in it.

    Attributes:
        pred_probs: float64 `[n c]`; rows sum to 1 to the last digits, as cleanlab asks.
        ids: `[n]`, the examples' ids.
        labels: int32 `[n]`, those given: cleanlab's `labels`.
        class_names: `c` of them, in the order of the columns.
        dataset: name and split.
        fingerprint: of the dataset.
        provenance: JSON values; "out_of_sample" and the number of "networks" among them.

    Example:
        >>> import numpy as np, diet_jax as dj
        >>> dataset = dj.Dataset.from_arrays([[0.1], [0.2]], [1, 0], ["a", "b"], class_names=("cat", "dog"))
        >>> file = dj.ProbabilityFile.from_logits(np.zeros((3, 2, 2)), dataset, out_of_sample=True)
        >>> file
        <probabilities of arrays/train: 2 examples, 2 classes, 3 networks, out of sample>
        >>> print(file.to_csv(), end="")
        row,id,label,cat,dog
        0,a,1,0.5,0.5
        1,b,0,0.5,0.5
    """

    pred_probs: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    dataset: str
    fingerprint: str
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        count, classes = self.pred_probs.shape
        networks = self.provenance["networks"]
        how = "out of sample" if self.provenance["out_of_sample"] else "of what was trained on"
        said = f"{count:,} examples, {classes} classes, {networks} network{'s' * (networks != 1)}, {how}"
        return f"<probabilities of {self.dataset}: {said}>"

    @classmethod
    def from_logits(
        cls,
        logits: Any,
        dataset: Dataset,
        *,
        out_of_sample: bool,
        provenance: dict[str, Any] | None = None,
    ) -> "ProbabilityFile":
        """Returns the mean over networks of `softmax(logits)`, bound to the examples of a dataset.

        Args:
            logits: float `[s n c]` of several networks, or `[n c]`, rows in dataset order. Out of sample, a
                row is of networks that were not trained on its example.
            dataset: what they are of.
            out_of_sample: whether that holds; it cannot be told from the numbers.
            provenance: JSON values to store along.

        Raises:
            InputError: logits of other examples or classes, or that are not finite.
        """
        check_dataset(dataset)
        check_type(out_of_sample, "out_of_sample", bool, "True or False")
        check_type(provenance, "provenance", (dict, type(None)), "a dict of JSON values")
        given = plain_array(logits, "logits")
        values = given[None] if given.ndim == 2 else given
        if values.dtype.kind not in "iuf" or values.shape[1:] != (len(dataset), dataset.num_classes):
            raise InputError(
                f"logits must be floats [s, {len(dataset)}, {dataset.num_classes}], or without s, of the "
                f"examples and classes of {dataset.name}; got {given.dtype} of shape {given.shape}"
            )
        if not len(values) or not np.isfinite(values).all():
            raise InputError("logits must be finite, of one network at least: leave out what diverged")
        total = np.zeros(values.shape[1:])
        for each in values:
            shares = np.exp(each - each.max(axis=1, keepdims=True).astype(np.float64))
            total += shares / shares.sum(axis=1, keepdims=True)
        facts = {"networks": len(values), "out_of_sample": out_of_sample, **(provenance or {})}
        name = f"{dataset.name}/{dataset.split}"
        probabilities = total / total.sum(axis=1, keepdims=True)
        return cls(
            probabilities, dataset.ids, dataset.labels, dataset.class_names, name, dataset.fingerprint, facts
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a compressed .npz, whole or not at all; of several processes the first one does."""
        facts = {name: getattr(self, name) for name in FACTS} | {"class_names": list(self.class_names)}
        contents = packed(KIND, {name: getattr(self, name) for name in ARRAYS}, facts)
        from_writer(lambda: write_atomically(path, contents))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ProbabilityFile":
        """Reads what `save` wrote, and verifies it.

        Raises:
            InputError: the file is missing, damaged or no such file.
        """
        arrays, facts = from_writer(lambda: load_arrays(path, KIND, ARRAYS, FACTS, MADE_BY))
        shape = (len(arrays["ids"]), len(facts["class_names"]))
        if arrays["pred_probs"].shape != shape or arrays["labels"].shape != shape[:1]:
            raise InputError(f"{path} is damaged: its arrays do not fit each other")
        check_unique(arrays["ids"], f"{path} is damaged")
        facts["class_names"] = tuple(facts["class_names"])
        return cls(**arrays, **facts)

    def to_npy(self, path: str | os.PathLike[str]) -> None:
        """Writes `pred_probs` as cleanlab reads them: .npy, float64 `[n c]`, rows in dataset order."""
        from_writer(lambda: write_atomically(path, self.npy()))

    def npy(self) -> bytes:
        """Returns the contents of that file."""
        buffer = io.BytesIO()
        np.save(buffer, self.pred_probs)
        return buffer.getvalue()

    def to_dict(self) -> dict[str, list[Any]]:
        """Returns columns for a data frame: "row", "id", "label", and one for each class by its name.

        A class whose name is taken is called by its number too.
        """
        columns: dict[str, list[Any]] = {
            "row": list(range(len(self.ids))),
            "id": self.ids.tolist(),
            "label": self.labels.tolist(),
        }
        for number, name in enumerate(self.class_names):
            columns[name if name not in columns else f"{name}_{number}"] = self.pred_probs[:, number].tolist()
        return columns
