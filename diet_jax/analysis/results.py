"""The result of a run as rows: final test accuracies against training on everything and on random."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from diet_jax.analysis.statistics import SIGNIFICANT, Comparison, Summary, holm
from diet_jax.files.tables import csv_text

# What every selection is compared with, and what may stand beside it.
FULL = "everything"
RANDOM = "random"
BALANCED = "balanced_random"
RS2 = "rs2"


class Costs(NamedTuple):
    """What one network of a selection costs, each as a share of one training on everything.

    Steps of training, and passes over the examples by their floating-point operations: no clock is in it.
    """

    training: float
    """Of all networks that score."""
    passes: float
    """Of these networks over the examples, to score them."""
    retraining: float
    """Of one network on what is kept."""

    @property
    def total(self) -> float:
        """Scoring and one retraining."""
        return self.training + self.passes + self.retraining


@dataclass(frozen=True, eq=False)
class Result:
    """What the retrained networks of one selection got.

    Attributes:
        kept_by: score name with its rule if there are several, "everything", "random" or another baseline.
        fraction: keep fraction; 1 for everything.
        num_kept: examples trained on.
        steps: optimiser updates of each network.
        accuracy: float64 `[s]`, final test accuracy of each seed.
        class_accuracy: float64 `[s c]`, the same for each class; NaN for one without test examples.
        seeds: int `[s]`, which seeds they are.
        least_kept: examples trained on of the class with the fewest, if that is known.
        score: what was selected by, joined by "+" where a rule reads several; "" for baselines.
        rule: how; "" for baselines.
        costs: of one network, scoring included, if they are known.
    """

    kept_by: str
    fraction: float
    num_kept: int
    steps: int
    accuracy: np.ndarray
    class_accuracy: np.ndarray
    seeds: np.ndarray
    least_kept: int | None = None
    score: str = ""
    rule: str = ""
    costs: Costs | None = None

    @classmethod
    def from_predictions(
        cls,
        kept_by: str,
        fraction: float,
        num_kept: int,
        steps: int,
        predicted: Any,
        labels: Any,
        *,
        seeds: Sequence[int] | None = None,
        **more: Any,
    ) -> "Result":
        """Judges predicted classes int `[s m]` by labels int `[m]`; by default of the first `s` seeds.

        `more` are further attributes.
        """
        labels = np.asarray(labels)
        correct = np.asarray(predicted) == labels[None]
        classes = np.full((len(correct), int(labels.max()) + 1), np.nan)
        for label in np.unique(labels):
            classes[:, label] = correct[:, labels == label].mean(axis=1)
        numbers = np.arange(len(correct)) if seeds is None else np.asarray(seeds)
        accuracy = correct.mean(axis=1)
        return cls(kept_by, fraction, num_kept, steps, accuracy, classes, numbers, **more)

    def minus(self, other: "Result") -> Comparison | None:
        """Compares with another result by the seeds that both have; None without any."""
        _, mine, theirs = np.intersect1d(self.seeds, other.seeds, return_indices=True)
        return Comparison.of(self.accuracy[mine], other.accuracy[theirs]) if len(mine) else None


def to_rows(
    results: list[Result], *, of_seeds: int | None = None, budget: str = "equal_steps"
) -> list[dict[str, Any]]:
    """Turns results into table rows: numbers, not text; None where there is nothing to compare with.

    The p values are those of paired t-tests over seeds; `_holm` are adjusted for all comparisons of the table
    with the same baseline.

    Args:
        results: one of them kept everything; those kept at random are matched by fraction.
        of_seeds: how many seeds each should have, where some are not finished.
        budget: what trainings on a part share with that on everything, see `TrainConfig.budget`.

    Returns:
        A dict per result, in the same order.
    """
    full = next((r for r in results if r.kept_by == FULL), None)
    random = {r.fraction: r for r in results if r.kept_by == RANDOM}
    rows, compared = [], {}
    for result in results:
        accuracy = Summary.of(result.accuracy)
        row = {
            "kept_by": result.kept_by,
            "keep_fraction": result.fraction,
            "examples": result.num_kept,
            "steps": result.steps,
            "seeds": len(result.accuracy),
            **({} if of_seeds is None else {"of_seeds": of_seeds}),
            "accuracy": accuracy.mean,
            "accuracy_p16": accuracy.low,
            "accuracy_p84": accuracy.high,
        }
        for name, other in (("everything", full), ("random", random.get(result.fraction))):
            gain = None if other is None or other is result else result.minus(other)
            row |= {f"minus_{name}": gain and gain.mean, f"minus_{name}_error": gain and gain.error}
            compared.setdefault(name, []).append(gain and gain.p)
        worst = float(np.nanmin(result.class_accuracy.mean(axis=0)))
        row |= {"worst_class_accuracy": worst, "least_kept_of_a_class": result.least_kept}
        row |= {"score": result.score, "rule": result.rule, "budget": budget}
        rows.append({**row, "cost": result.costs and result.costs.total})
    for name, p_values in compared.items():
        for row, p, adjusted in zip(rows, p_values, holm(p_values), strict=True):
            row |= {f"minus_{name}_p": p, f"minus_{name}_p_holm": adjusted}
    return rows


def to_class_rows(results: list[Result], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Turns results into a row for each class: mean and band of its accuracy; None without test examples."""
    rows = []
    for result in results:
        for label, name in enumerate(class_names):
            row = {"kept_by": result.kept_by, "keep_fraction": result.fraction, "class": name}
            # Of the last classes there may be no test example.
            accuracy = result.class_accuracy[:, label : label + 1].ravel()
            values = Summary.of(accuracy) if np.isfinite(accuracy).all() and len(accuracy) else [None] * 3
            rows.append(row | dict(zip(("accuracy", "accuracy_p16", "accuracy_p84"), values, strict=True)))
    return rows


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Writes rows as CSV, full precision, empty where there is nothing."""
    return csv_text({name: [row[name] for row in rows] for name in rows[0]})


HEADINGS = (
    *("kept by", "keep", "examples", "accuracy", "16–84 %", "vs everything", "vs random", "worst class"),
    *("least kept", "cost"),
)
# What a table does without where there is too little room, first things first.
SPARE = ("16–84 %", "least kept", "worst class", "examples", "cost")


LEGEND = (
    "vs: difference in points. ±: standard error of the paired difference over seeds. *: significant at 0.05 "
    "by a paired t-test with Holm's correction for all comparisons with that baseline. Cost: scoring by all "
    "its networks and one retraining, in trainings on everything."
)


def headings(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Returns `HEADINGS`, and one for the finished seeds where some are not finished."""
    return HEADINGS + ("seeds",) * ("of_seeds" in rows[0])


def to_cells(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Writes rows as text for reading, in the order of `headings`; accuracies in per cent."""
    return [
        (
            row["kept_by"],
            f"{row['keep_fraction']:g}",
            f"{row['examples']:,}",
            f"{100 * row['accuracy']:.2f}",
            f"{100 * row['accuracy_p16']:.2f} – {100 * row['accuracy_p84']:.2f}",
            _difference(row, "everything"),
            _difference(row, "random"),
            f"{100 * row['worst_class_accuracy']:.2f}",
            "" if row["least_kept_of_a_class"] is None else f"{row['least_kept_of_a_class']:,}",
            "" if row["cost"] is None else f"{row['cost']:.2f}",
            *((f"{row['seeds']} of {row['of_seeds']}",) if "of_seeds" in row else ()),
        )
        for row in rows
    ]


def to_columns(rows: list[dict[str, Any]], room: float, between: int) -> dict[str, list[str]]:
    """Writes rows as columns of text by heading, without those of `SPARE` for which there is no room.

    Args:
        rows: what `to_rows` returns.
        room: how many characters wide the columns may be.
        between: how many of them each column needs beside its text.
    """
    cells = zip(*to_cells(rows), strict=True)
    columns = {name: list(texts) for name, texts in zip(headings(rows), cells, strict=True)}
    for spare in SPARE:
        if sum(max(map(len, (name, *texts))) + between for name, texts in columns.items()) > room:
            del columns[spare]
    return columns


def to_markdown(top: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Writes headings and lines of text as a Markdown table; all but the first column are numbers."""
    every = [top, ("---", *["---:"] * (len(top) - 1)), *lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in every)


def significant(row: dict[str, Any], name: str) -> bool:
    """Whether the difference to a baseline, "random" or "everything", is beyond chance after correction."""
    adjusted = row[f"minus_{name}_p_holm"]
    return adjusted is not None and adjusted < SIGNIFICANT


def _difference(row: dict[str, Any], name: str) -> str:
    value = row[f"minus_{name}"]
    if value is None:
        return ""
    return Comparison(value, row[f"minus_{name}_error"]).text() + "*" * significant(row, name)
