"""What is kept of each class, and the accuracy in each."""

from typing import Any

import numpy as np

from diet_jax.report.joined import Joined
from diet_jax.report.sections.section import Section
from diet_jax.selection.per_class import kept_per_class


def build_classes(joined: Joined) -> dict[str, Any] | None:
    """Returns the shares kept and the accuracies, class by class, of each selection."""
    first = joined.first
    if not first.class_names or not any(run.kept or run.class_rows for run in joined.runs):
        return None
    count = len(first.class_names)
    sizes = np.bincount(first.labels, minlength=count)
    selections = []
    for run in joined.runs:
        accuracies: dict[tuple[str, float], list[float | None]] = {}
        for row in run.class_rows:
            accuracies.setdefault((row["kept_by"], row["keep_fraction"]), []).append(row["accuracy"])
        kept = {(each.kept_by, each.fraction): each for each in run.kept}
        for key in dict.fromkeys([*accuracies, *kept]):
            counts = None
            if key in kept:
                per_mask = np.atleast_2d(kept_per_class(kept[key].file.keep, run.labels, count))
                counts = per_mask.mean(axis=0).tolist()
            selections.append(
                {
                    "run": run.name,
                    "kept_by": key[0],
                    "fraction": key[1],
                    "kept": counts,
                    "accuracy": accuracies.get(key),
                }
            )
    return {"sizes": sizes.tolist(), "selections": selections}


CLASSES = Section("classes", "Classes", build_classes)
