"""What scoring and retraining cost: counted in trainings on everything, and by the clock."""

from typing import Any

from diet_jax.report.joined import Joined
from diet_jax.report.sections.section import Section


def build_costs(joined: Joined) -> dict[str, Any] | None:
    """Returns the rows of costs.csv and the seconds of the stages."""
    runs = [
        {"run": run.name, "rows": run.cost_rows, "stages": run.stages}
        for run in joined.runs
        if run.cost_rows or run.stages
    ]
    return {"runs": runs} if runs else None


COSTS = Section("costs", "Cost", build_costs)
