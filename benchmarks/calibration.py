"""What the times of forms make of the costs by which the library chooses between them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls

from diet_jax.per_example.method import Costs

COUNTS = ("multiply_adds", "elements", "shifted", "products")


def calibrated(table: Sequence[dict[str, Any]]) -> tuple[dict[str, float], float]:
    """Fits the times of all forms by their counts.

    Args:
        table: rows of `tables`.

    Returns:
        Seconds of a multiply-add, of an element that is written, of one that is shifted, and of a product
        of the whole batch; none is below 0. And how far from its fit the median time is, as a factor.
    """
    rows = [row for row in table if "counts" in row]
    times = np.array([row["median_s"] for row in rows])
    counts = np.array([[row["counts"][name] for name in COUNTS] for row in rows], float)
    # In units of each time: short ones count as much as long ones; and of each column, for the numbers' sake.
    scaled = counts / times[:, None]
    units = scaled.max(0)
    fitted, _ = nnls(scaled / units, np.ones(len(times)))
    errors = np.abs(np.log(np.maximum(scaled / units @ fitted, 1e-9)))
    return dict(zip(COUNTS, fitted / units, strict=True)), float(np.exp(np.median(errors)))


def calibration(table: Sequence[dict[str, Any]]) -> str:
    """Says what the times make of the costs, in the units of the library's table."""
    seconds, off = calibrated(table)
    examples = next(row["examples"] for row in table if "examples" in row)
    per_second = 1 / max(seconds["multiply_adds"], 1e-18)
    found = [seconds["elements"], seconds["shifted"], seconds["products"] / examples]
    costs = Costs(*(float(f"{per_second * each:.3g}") for each in found))
    return (
        f"Fitted to these times: {costs}; a multiply-add takes {1e12 * seconds['multiply_adds']:.3g} ps; "
        f"the median time is off by a factor of {off:.2f}."
    )
