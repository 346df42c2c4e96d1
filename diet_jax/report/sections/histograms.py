"""How each score is distributed, over all examples and in each class. The bins are made in the page."""

from typing import Any

import numpy as np

from diet_jax.analysis.statistics import seed_agreement
from diet_jax.report.joined import Joined
from diet_jax.report.sections.section import Section
from diet_jax.scores.score import SCORES
from diet_jax.selection.detection import detection_quality


def build_histograms(joined: Joined) -> dict[str, Any] | None:
    """Returns the facts of each score: definition, seeds, how well it finds changed labels."""
    infinite = {score.name: score.infinite_means for score in SCORES}
    facts = []
    for run in joined.runs:
        for file in run.files.values():
            found = None
            changed = run.changed
            if changed is not None and 0 < changed.sum() < len(changed) and not np.isnan(file.scores).any():
                found = detection_quality(file.scores, changed)._asdict()
            facts.append(
                {
                    "run": run.name,
                    "name": file.name,
                    "seeds": file.num_seeds,
                    "infinite": infinite.get(file.name, "not finite"),
                    "num_infinite": file.num_infinite,
                    "agreement": seed_agreement(file.per_seed),
                    "missing": file.describe_missing(),
                    "detection": found,
                }
            )
    return {"facts": facts} if facts else None


HISTOGRAMS = Section("histograms", "Scores", build_histograms)
