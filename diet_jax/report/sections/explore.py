"""The examples themselves: a scatter of two scores, and the pictures of what is chosen in it."""

from typing import Any

from diet_jax.report.joined import Joined
from diet_jax.report.sections.section import Section

# Mean confidence against variability, coloured by correctness: the data map of Swayamdipta et al., 2020.
DATA_MAP = ("variability", "mean_confidence", "correctness")


def build_explore(joined: Joined) -> dict[str, Any] | None:
    """Returns which scores the scatter shows first: the ranks of two runs, or the data map."""
    files = joined.first.files
    if not files:
        return None
    names = list(files)
    if len(joined.runs) > 1:
        others = joined.runs[1].files
        x = next((name for name in names if name in others), names[0])
        y = x if x in others else next(iter(others))
        return {"x": x, "y": y, "y_run": 1, "color": "", "ranks": True, "data_map": False}
    if set(DATA_MAP[:2]) <= set(files):
        color = DATA_MAP[2] if DATA_MAP[2] in files else ""
        return {"x": DATA_MAP[0], "y": DATA_MAP[1], "color": color, "ranks": False, "data_map": True}
    return {
        "x": names[0],
        "y": names[1] if len(names) > 1 else "",
        "color": "",
        "ranks": False,
        "data_map": False,
    }


EXPLORE = Section("explore", "Examples", build_explore)
