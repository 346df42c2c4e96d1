"""Data maps: the logits of every epoch as JSON lines, or the measures made of them."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from diet_jax.data.dataset import Dataset
from diet_jax.errors import InputError
from diet_jax.files.ids import check_unique, rows_by_id
from diet_jax.scores.formats.format import EPOCHS, FORMATS, Asked, Format, Found, Peek, json_lines

MEASURES = {
    "confidence": ("easy", "mean over epochs of the label's probability"),
    "variability": ("ambiguous", "standard deviation over epochs of the label's probability"),
    "correctness": ("easy", "number of epochs in which the prediction was right"),
    "forgetfulness": ("hard", "times forgotten, and 1000 where never learned"),
    "threshold_closeness": ("ambiguous", "confidence times one minus confidence"),
}


def recognises(looked: Peek) -> int:
    """By the keys of its lines."""
    names = set(looked.names)
    paths = {"guid", "gold"} < names and any(name.startswith("logits_epoch_") for name in names)
    return 2 * (looked.kind == "jsonl" and (paths or {"guid", "confidence"} < names))


def read(looked: Peek, dataset: Dataset, asked: Asked) -> Iterable[Found]:
    """Confidence, variability and correctness of recorded paths; or all measures that a file has."""
    if "gold" not in looked.names:
        yield from _measures(looked)
        return
    ids, labels, confidence, right = _paths(looked.path)
    means = {
        "confidence": confidence.mean(axis=0),
        "variability": confidence.std(axis=0),
        "correctness": right.sum(axis=0).astype(np.float64),
    }
    for name, values in means.items():
        high_means, formula = MEASURES[name]
        formula = f"data maps: {formula}, {len(confidence)} epochs, as recorded in training"
        yield Found(name, values, high_means, formula, "by guid", ids=ids, labels=labels)


def _measures(looked: Peek) -> Iterable[Found]:
    names = [name for name in MEASURES if name in looked.names]
    lines = list(json_lines(looked.path))
    try:
        ids = np.array([line["guid"] for line in lines])
        columns = {name: np.array([line[name] for line in lines], np.float64) for name in names}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{looked.path}: not every line has a guid and numbers {names}: {error}") from error
    for name, values in columns.items():
        high_means, formula = MEASURES[name]
        yield Found(name, values, high_means, f"data maps: {formula}", "by guid", ids=ids)


def _paths(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ids `[n]` and labels of the first epoch; probability of the label and whether right, each `[e n]`."""
    files = (
        {int(re.findall(r"(\d+)\.", file.name)[-1]): file for file in path.glob(EPOCHS)}
        if path.is_dir()
        else {}
    )
    if files and sorted(files) != list(range(len(files))):
        raise InputError(f"{path} must have the epochs 0 to {max(files)}, each once; it has {sorted(files)}")
    ids, labels, confidence, right = np.zeros(0, int), np.zeros(0, int), [], []
    for epoch in sorted(files) if files else [None]:
        file = path if epoch is None else files[epoch]
        names, gold, probability, correct = _epoch(file, epoch)
        if not confidence:
            ids, labels = names, gold
        rows = rows_by_id(names, ids, file, "the first epoch")
        if not np.array_equal(gold[rows], labels):
            raise InputError(f"{file}: its gold labels are not those of the first epoch")
        confidence.append(probability[rows])
        right.append(correct[rows])
    return ids, labels, np.stack(confidence), np.stack(right)


def _epoch(file: Path, epoch: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    ids, gold, probability, right = [], [], [], []
    for number, line in enumerate(json_lines(file), 1):
        try:
            key = f"logits_epoch_{epoch}"
            if epoch is None:
                key = next(name for name in line if name.startswith("logits_epoch_"))
            logits, label = np.asarray(line[key], np.float64), int(line["gold"])
            if logits.ndim != 1 or not 0 <= label < len(logits) or not np.isfinite(logits).all():
                raise ValueError(f"gold {label} with logits {line[key]}")
            ids.append(line["guid"])
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise InputError(
                f"line {number} of {file} lacks guid, gold or finite logits: {error!r}"
            ) from error
        shares = np.exp(logits - logits.max())
        gold.append(label)
        probability.append(shares[label] / shares.sum())
        right.append(int(logits.argmax()) == label)
    names = np.array(ids)
    check_unique(names, file)
    return names, np.array(gold), np.array(probability), np.array(right)


CARTOGRAPHY = FORMATS.register(
    Format(
        name="cartography",
        about="a folder of dynamics_epoch_K.jsonl (guid, logits, gold), or a .jsonl of data map measures",
        reference="github.com/allenai/cartography, selection_utils.py and train_dy_filtering.py",
        recognises=recognises,
        read=read,
    )
)
