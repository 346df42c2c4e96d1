"""How well EL2N stands for GraNd on a set of examples, and which assumption is to blame."""

import itertools
from typing import NamedTuple

import numpy as np

from diet_jax.checks.values import check_type
from diet_jax.errors import InputError
from diet_jax.scores.logit_gradients import EL2NDiagnosis


class Agreement(NamedTuple):
    """Rank correlations with GraNd and spreads of the three steps from GraNd to EL2N; `print` it.

    A spread is the standard deviation over examples of the logarithm of the ratio of two neighbours: 0 if
    the step changes nothing but a constant factor, 0.1 if ratios differ by about 10 %.
    """

    count: int
    """Examples."""
    cosine: float
    """Root mean square cosine between an example's logit gradients; 0 for orthogonal ones."""
    orthogonal: float
    """Spearman correlation of GraNd with what it would be if logit gradients were orthogonal."""
    equal: float
    """And if an example's logit gradients were equally long."""
    el2n: float
    """And if they were as long for every example: of GraNd with EL2N."""
    spread_orthogonal: float
    """Spread of GraNd over the orthogonal one."""
    spread_equal: float
    """Spread of the orthogonal one over the equal one."""
    spread_el2n: float
    """Spread of the equal one over EL2N."""

    def __str__(self) -> str:
        steps = [
            ("logit gradients are orthogonal", self.orthogonal, self.spread_orthogonal),
            ("... and equally long for all classes", self.equal, self.spread_equal),
            ("... and as long for all examples (EL2N)", self.el2n, self.spread_el2n),
        ]
        lines = [
            f"EL2N against GraNd on {self.count} examples: rank correlation {self.el2n:.3f}",
            f"cosine between an example's logit gradients, root mean square: {self.cosine:.3f}",
            f"{'assumption, one after the other':<40}{'rank correlation':>18}{'spread of ratio':>18}",
            *(f"{name:<40}{rank:18.3f}{spread:18.3f}" for name, rank, spread in steps),
        ]
        return "\n".join(lines)


def el2n_agreement(diagnosis: EL2NDiagnosis) -> Agreement:
    """Returns how well EL2N ranks examples as GraNd does, and where the difference comes from.

    Args:
        diagnosis: of at least three examples, from `diagnose_el2n`.

    Returns:
        Rank correlations and spreads, step by step. A low correlation or a wide spread at a step means that
        its assumption fails.

    Raises:
        InputError: fewer than three examples.

    Paper: equation 4 and the paragraph after it.

    Example:
        >>> import jax, diet_jax as dj
        >>> test = dj.load_dataset("digits").test
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> variables = model.init(jax.random.key(0), test.image_shape)
        >>> inputs = jax.numpy.asarray(test.images[:8], "float32") / 16
        >>> diagnose = jax.jit(dj.diagnose_el2n, static_argnums=0)
        >>> el2n_agreement(diagnose(model.predict, variables, inputs, test.labels[:8])).count
        8
    """
    from scipy.stats import spearmanr

    check_type(diagnosis, "diagnosis", EL2NDiagnosis, "what diagnose_el2n returns")
    columns = [np.asarray(column, np.float64) for column in diagnosis[:4]]
    count = len(columns[0])
    if count < 3:
        raise InputError(f"a rank correlation needs at least 3 examples, got {count}")
    grand = columns[0]
    ranks = [float(np.asarray(spearmanr(grand, column))[0]) for column in columns[1:]]
    tiny = np.finfo(np.float32).tiny
    logs = [np.log(np.maximum(column, tiny)) for column in columns]
    spreads = [float(np.std(a - b)) for a, b in itertools.pairwise(logs)]
    cosine = float(np.sqrt(np.mean(np.square(np.asarray(diagnosis.cosine, np.float64)))))
    return Agreement(count, cosine, *ranks, *spreads)
