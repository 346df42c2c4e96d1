"""Data maps: the logits of every epoch as JSON lines, or the measures made of them."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
    return 2 * (paths or ("guid" in names and not names.isdisjoint(MEASURES)))


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
    if not names:
        raise InputError(f"{looked.path} has none of {', '.join(MEASURES)}; it has {', '.join(looked.names)}")
    try:
        ids = _guids([line["guid"] for line in lines])
        columns = {name: np.array([line[name] for line in lines], np.float64) for name in names}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{looked.path}: not every line has a guid and numbers {names}: {error}") from error
    for name, values in columns.items():
        high_means, formula = MEASURES[name]
        yield Found(name, values, high_means, f"data maps: {formula}", "by guid", ids=ids)


def _guids(given: list[Any]) -> np.ndarray:
    """Ids as they are: text, or integers."""
    if not all(isinstance(one, str) for one in given) and not all(type(one) is int for one in given):
        raise ValueError(
            f"guids must be all text or all integers, got such as {given[0]!r} and {given[-1]!r}"
        )
    return np.array(given)


def _paths(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ids `[n]` and labels of the first epoch; probability of the label and whether right, each `[e n]`."""
    files: dict[int, Path] = {}
    for file in path.glob(EPOCHS) if path.is_dir() else ():
        number = re.search(r"_(\d+)\.json\w*$", file.name)
        if number is None or int(number[1]) in files:
            raise InputError(f"{file} is of no epoch of its own; move it elsewhere")
        files[int(number[1])] = file
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
    ids, gold, probability, right, classes = [], [], [], [], 0
    for number, line in enumerate(json_lines(file), 1):
        try:
            (key,) = (name for name in line if name.startswith("logits_epoch_"))
            if epoch is not None and key != f"logits_epoch_{epoch}":
                raise ValueError(f"{key} in the file of epoch {epoch}")
            logits, label = np.asarray(line[key], np.float64), line["gold"]
            classes = classes or len(logits)
            if type(label) is not int or not 0 <= label < classes or logits.shape != (classes,):
                raise ValueError(f"gold {label!r} with logits {line[key]}, of {classes} classes")
            if not np.isfinite(logits).all():
                raise ValueError(f"logits {line[key]}")
            ids.append(line["guid"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"line {number} of {file} must have guid, gold and the finite logits of one epoch: {error!r}"
            ) from error
        shares = np.exp(logits - logits.max())
        gold.append(label)
        probability.append(shares[label] / shares.sum())
        right.append(int(logits.argmax()) == label)
    if not ids:
        raise InputError(f"{file} is empty")
    try:
        names = _guids(ids)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from error
    check_unique(names, file)
    return names, np.array(gold), np.array(probability), np.array(right)


CARTOGRAPHY = FORMATS.register(
    Format(
        name="cartography",
        about="a folder of dynamics_epoch_K.jsonl (guid, logits, gold), or a .jsonl of data map measures",
        reference="github.com/allenai/cartography, selection_utils.py and train_dy_filtering.py",
        kind="jsonl",
        recognises=recognises,
        read=read,
    )
)
