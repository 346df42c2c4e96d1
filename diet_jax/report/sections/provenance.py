"""Where the numbers come from: notes of the run, config, data, versions, devices."""

from typing import Any

from diet_jax.report.joined import Joined
from diet_jax.report.sections.section import Section


def build_provenance(joined: Joined) -> dict[str, Any]:
    """Returns for each run its notes and origin."""
    return {
        "runs": [
            {
                "run": run.name,
                "notes": run.notes,
                "unfinished": run.unfinished,
                "without": run.without,
                "config": run.config,
                "resolved": run.resolved,
                "starts": run.starts,
                "scores": {
                    file.name: {"definition": file.provenance.get("definition"), "when": file.when}
                    for file in run.files.values()
                },
            }
            for run in joined.runs
        ]
    }


PROVENANCE = Section("provenance", "Notes and origin", build_provenance)
