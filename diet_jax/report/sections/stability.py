"""How much scores depend on their seeds."""

from typing import Any

import numpy as np

from diet_jax.analysis.stability import LEAST_SEEDS, stability
from diet_jax.plotting.style import styles_of
from diet_jax.report.joined import Joined
from diet_jax.report.sections.section import Section

FRACTIONS = (0.1, 0.3, 0.5)
# Rank correlations of more examples take longer than they tell.
MOST = 20_000


def build_stability(joined: Joined) -> dict[str, Any] | None:
    """Returns rank correlation and share kept in common of disjoint groups of seeds, by seeds in a group."""
    found, names = [], []
    for run in joined.runs:
        for file in run.files.values():
            if len(file.per_seed) < LEAST_SEEDS or np.isnan(file.per_seed).any():
                continue
            count = file.per_seed.shape[1]
            some = file.per_seed[:, :: -(-count // MOST)] if count > MOST else file.per_seed
            rows = stability(some, FRACTIONS)
            names.append(file.name)
            found.append(
                {
                    "run": run.name,
                    "score": file.name,
                    "of": some.shape[1],
                    "rows": [
                        {
                            "seeds": row.seeds,
                            "correlation": _pair(row.correlation),
                            "kept": [_pair(row.kept[fraction]) for fraction in FRACTIONS],
                        }
                        for row in rows
                    ],
                }
            )
    if not found:
        return None
    looks = {
        name: {"label": look.label, "color": look.color, "marker": look.marker}
        for name, look in styles_of(names).items()
    }
    return {"fractions": list(FRACTIONS), "scores": found, "looks": looks, "examples": len(joined.first.ids)}


def _pair(estimate: Any) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in estimate]


STABILITY = Section("stability", "Seeds", build_stability)
