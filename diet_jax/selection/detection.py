"""How well a score finds the examples whose labels were changed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from diet_jax.checks.values import check_array
from diet_jax.errors import InputError
from diet_jax.selection.masks import check_defined
from diet_jax.types import Mask


class DetectionQuality(NamedTuple):
    """What `detection_quality` returns: each number is from 0 to 1, high means found well."""

    roc_auc: float
    """Chance that a changed example scores above an unchanged one, ties counting half; 0.5 is guessing."""
    average_precision: float
    """Mean precision over the changed examples, from the highest score down; `share` is guessing."""
    precision_at_share: float
    """Share of changed ones among the m examples with the highest scores, m the number of changed ones. Of
    examples with equal scores at the edge each is among the m equally likely: the expected share."""
    share: float
    """Share of changed examples: what guessing gives as precision."""


def detection_table(found: Mapping[str, DetectionQuality]) -> str:
    """Writes the quality of several scores, by name, as a Markdown table.

    Example:
        >>> quality = DetectionQuality(roc_auc=0.9, average_precision=0.8, precision_at_share=0.75, share=0.1)
        >>> print(detection_table({"el2n": quality}).splitlines()[-1])
        | el2n | 0.900 | 0.800 | 0.750 | 0.100 |
    """
    top = ("changed labels found by", "ROC AUC", "average precision", "precision among as many", "guessing")
    lines = [top, ("---", *["---:"] * 4)]
    lines += [(name, *(f"{value:.3f}" for value in quality)) for name, quality in found.items()]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def detection_quality(scores: Any, changed: Mask) -> DetectionQuality:
    """Returns how well high scores point at changed labels, at every cut and at one.

    Only the order of the scores counts. Equal scores are never split: the area under the ROC curve counts
    such pairs half, the average precision lets them all in at once, with the precision after the last.

    Args:
        scores: float `[n]`, high = suspected; infinite ones rank highest (or lowest), NaN is refused.
        changed: bool `[n]`, as in `NoisyLabels`.

    Returns:
        ROC AUC, average precision, the precision among as many examples as are changed (which is also the
        recall there), and the share of changed ones to compare it with.

    Raises:
        InputError: the scores are not one NaN-free vector, the mask does not fit it, or marks all or none.

    Paper: appendix E.2 shows that the scores of changed examples are high.

    Example:
        >>> import numpy as np
        >>> quality = detection_quality([0.1, 0.9, 0.5, 0.7], np.array([False, True, True, False]))
        >>> quality.roc_auc, quality.precision_at_share
        (0.75, 0.5)
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    values = np.asarray(check_array(scores, "scores", "...", "numbers"), np.float64)
    found = np.asarray(check_array(changed, "changed", "...", "anything"))
    if values.ndim != 1 or found.shape != values.shape or found.dtype != bool:
        raise InputError(
            f"scores and changed must be vectors of one length, changed boolean; got scores of shape "
            f"{values.shape} and changed {found.dtype} of shape {found.shape}"
        )
    check_defined(values, "score them or leave them out of both arrays")
    count = int(found.sum())
    if count in (0, len(found)):
        raise InputError(
            f"changed marks {count} of {len(found)} examples; a score can only be judged where there are "
            f"both changed and unchanged ones"
        )
    # Ranks stand for the scores: equal for equal ones, and finite.
    ranks = np.unique(values, return_inverse=True)[1]
    return DetectionQuality(
        roc_auc=float(roc_auc_score(found, ranks)),
        average_precision=float(average_precision_score(found, ranks)),
        precision_at_share=_expected_precision(ranks, found, count),
        share=count / len(found),
    )


def _expected_precision(ranks: np.ndarray, found: np.ndarray, count: int) -> float:
    """Share of found ones among the `count` highest, averaged over the orders of those tied at the edge."""
    edge = np.partition(ranks, -count)[-count]
    above, tied = ranks > edge, ranks == edge
    hits = found[above].sum() + (count - above.sum()) * found[tied].mean()
    return float(hits / count)
