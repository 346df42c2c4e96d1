"""How much selections have in common: of what one keeps, the share that another keeps too."""

from typing import Any

import numpy as np

from diet_jax.analysis.statistics import spearman
from diet_jax.report.joined import Joined
from diet_jax.report.sections.section import Section

# More than these beside each other are not read.
MOST = 40


def build_overlap(joined: Joined) -> dict[str, Any] | None:
    """Returns a matrix for each keep fraction; a selection that differs by seed is that of the first one."""
    fractions = sorted({kept.fraction for run in joined.runs for kept in run.kept})
    groups = []
    for fraction in fractions:
        there = [(run, kept) for run in joined.runs for kept in run.kept if kept.fraction == fraction]
        if len(there) < 2:
            continue
        masks = np.stack([np.atleast_2d(kept.file.keep)[0] for _, kept in there[:MOST]])
        # Bits, for a float for each of a million examples and forty selections would fill the memory.
        bits = np.packbits(masks, axis=1)
        both = np.stack([np.bitwise_count(bits & one).sum(axis=1, dtype=np.int64) for one in bits])
        shares = both / np.maximum(masks.sum(axis=1, keepdims=True), 1)
        groups.append(
            {
                "fraction": fraction,
                "names": [joined.called(run, kept.kept_by) for run, kept in there[:MOST]],
                "shares": np.round(shares, 4).tolist(),
                "left_out": max(0, len(there) - MOST),
            }
        )
    correlations = _between_runs(joined)
    return {"groups": groups, "correlations": correlations} if groups or correlations else None


def _between_runs(joined: Joined) -> list[dict[str, Any]]:
    """The rank correlation of each score of the first run with the same one of every other run."""
    return [
        {"run": run.name, "score": name, "correlation": spearman(file.scores, run.files[name].scores)}
        for run in joined.runs[1:]
        for name, file in joined.first.files.items()
        if name in run.files
    ]


OVERLAP = Section("overlap", "Overlap", build_overlap)
