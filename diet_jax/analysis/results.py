"""The result of a run as rows: final test accuracies against training on everything and on random."""

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.analysis.statistics import Comparison, Summary

FULL = "everything"
RANDOM = "random"


@dataclass(frozen=True, eq=False)
class Result:
    """What the retrained networks of one selection got.

    Attributes:
        kept_by: score name, "random" or "everything".
        fraction: keep fraction; 1 for everything.
        num_kept: examples trained on.
        steps: optimiser updates of each network.
        accuracy: float64 `[s]`, final test accuracy of each seed.
        class_accuracy: float64 `[s c]`, the same for each class.
    """

    kept_by: str
    fraction: float
    num_kept: int
    steps: int
    accuracy: np.ndarray
    class_accuracy: np.ndarray

    @classmethod
    def from_predictions(
        cls, kept_by: str, fraction: float, num_kept: int, steps: int, predicted: Any, labels: Any
    ) -> "Result":
        """Judges predicted classes int `[s m]` by labels int `[m]`."""
        correct = np.asarray(predicted) == np.asarray(labels)[None]
        classes = [correct[:, labels == c].mean(axis=1) for c in range(int(np.max(labels)) + 1)]
        return cls(kept_by, fraction, num_kept, steps, correct.mean(axis=1), np.stack(classes, axis=1))


def to_rows(results: list[Result]) -> list[dict[str, Any]]:
    """Turns results into table rows: numbers, not text; None where there is nothing to compare with.

    Args:
        results: one of them kept everything; those kept at random are matched by fraction.

    Returns:
        A dict per result, in the same order.
    """
    full = next((r for r in results if r.kept_by == FULL), None)
    random = {r.fraction: r for r in results if r.kept_by == RANDOM}
    rows = []
    for result in results:
        accuracy = Summary.of(result.accuracy)
        row = {
            "kept_by": result.kept_by,
            "keep_fraction": result.fraction,
            "examples": result.num_kept,
            "steps": result.steps,
            "seeds": len(result.accuracy),
            "accuracy": accuracy.mean,
            "accuracy_p16": accuracy.low,
            "accuracy_p84": accuracy.high,
        }
        for name, other in (("everything", full), ("random", random.get(result.fraction))):
            gain = None
            if other is not None and other is not result:
                gain = Comparison.of(result.accuracy, other.accuracy)
            row |= {f"minus_{name}": gain and gain.mean, f"minus_{name}_error": gain and gain.error}
        rows.append({**row, "worst_class_accuracy": float(result.class_accuracy.mean(axis=0).min())})
    return rows


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Writes rows as CSV, full precision, empty where there is nothing."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


HEADINGS = ("kept by", "keep", "examples", "accuracy", "16–84 %", "− everything", "− random", "worst class")


def to_cells(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Writes rows as text for reading, in the order of `HEADINGS`; accuracies in per cent."""
    return [
        (
            row["kept_by"],
            f"{row['keep_fraction']:g}",
            f"{row['examples']:,}",
            f"{100 * row['accuracy']:.2f}",
            f"{100 * row['accuracy_p16']:.2f} – {100 * row['accuracy_p84']:.2f}",
            _difference(row, "minus_everything"),
            _difference(row, "minus_random"),
            f"{100 * row['worst_class_accuracy']:.2f}",
        )
        for row in rows
    ]


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """Writes rows as a Markdown table."""
    lines = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1)), *to_cells(rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _difference(row: dict[str, Any], name: str) -> str:
    return "" if row[name] is None else Comparison(row[name], row[f"{name}_error"]).text()
