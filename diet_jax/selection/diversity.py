"""Rules that spread what is kept over feature space: message passing on a graph (D2), and greedy k-centre."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from diet_jax.checks.values import check_count, check_number
from diet_jax.errors import InputError
from diet_jax.selection.masks import checked_scores, num_kept
from diet_jax.selection.ranks import random_rows
from diet_jax.selection.rule import RULES, Rule
from diet_jax.types import PRNGKey


def keep_d2(
    scores: Any,
    fraction: float,
    *,
    features: Any,
    neighbours: int = 10,
    forward: float = 1.0,
    reverse: float = 1.0,
    key: PRNGKey | None = None,
) -> np.ndarray:
    """Keeps examples that are hard, in a hard neighbourhood, and not next to others that are kept: D2.

    Each example is joined with its nearest neighbours, in both directions. With `d` the distance of two,
    divided by the median over all such pairs, and the scores less their minimum `x`, each example is worth
    `x_i + Σ_j exp(−γ_f d_ij²) x_j` over its neighbours. Then the one of the highest worth is kept, and the
    worth `w` that it had lowers that of its neighbours by `exp(−γ_r d²) w`; and so on.

    Args:
        scores: float `[n]`, finite, high = hard.
        fraction: share to keep, above 0 and at most 1.
        features: float `[n d]`, of a network; logits will do.
        neighbours: k, of each; at most n − 1 there are.
        forward: γ_f, at least 0; the larger, the less neighbours count.
        reverse: γ_r, at least 0; the smaller, the more what is kept is spread out.
        key: decides between equal worths.

    Returns:
        bool `[n]`, True = train on it; exactly `num_kept(n, fraction)` are True.

    Raises:
        InputError: an infinite score, or an option out of range.

    Paper: Maharana et al. 2024 (D2 pruning). The authors' code takes distances as they are, without the unit:
    with features far from each other all messages vanish then, and the rule is `keep_highest`. They drop the
    very hardest first, as CCS does, and deal with some datasets by strata; this is the graph alone.

    Example:
        >>> import numpy as np
        >>> features = np.array([[0.0], [0.1], [9.0], [9.1]])
        >>> keep_d2([5.0, 4.9, 2.0, 1.0], 0.5, features=features, neighbours=1, reverse=0).tolist()
        [True, False, True, False]
    """
    scores = checked_scores(scores)
    count = num_kept(len(scores), fraction)
    if not np.isfinite(scores).all():
        raise InputError(
            f"D2 adds scores up, they must be finite: {int((~np.isfinite(scores)).sum())} of {len(scores)} "
            f"are not; choose another score, or a rule of ranks"
        )
    graph = _neighbour_graph(_centred(features), neighbours)
    starts, others, squares = graph.indptr, graph.indices, graph.data
    worth = scores - scores.min()
    owner = np.repeat(np.arange(len(scores)), np.diff(starts))
    worth = worth + np.bincount(owner, np.exp(-forward * squares) * worth[others], minlength=len(worth))
    messages = np.exp(-reverse * squares)
    # In random order the first of equal worths is any of them.
    rows = random_rows(key, len(scores))
    place = np.argsort(rows)
    worth, keep = worth[rows], np.zeros(len(scores), bool)
    for _ in range(count):
        best = int(np.argmax(worth))
        row, value = rows[best], worth[best]
        keep[row] = True
        mine = slice(starts[row], starts[row + 1])
        worth[place[others[mine]]] -= messages[mine] * value
        worth[best] = -np.inf
    return keep


def _centred(features: Any) -> np.ndarray:
    """Features float32 `[n d]` less their mean, at most 1, so that squares of distances keep their digits.

    Both rules only compare distances with each other.
    """
    points = np.asarray(features)
    points = points if points.dtype in (np.float32, np.float64) else points.astype(np.float32)
    for centre in (False, True):
        if centre:
            points = points - points.mean(axis=0, dtype=np.float64).astype(points.dtype)
        # By a power of two no digit is lost.
        points = np.ldexp(points, -np.frexp(np.abs(points).max())[1])
    return np.ascontiguousarray(points, np.float32)


def _neighbour_graph(features: np.ndarray, neighbours: int) -> Any:
    """Squared distances to the nearest neighbours, both ways, over the median square: sparse `[n n]`."""
    import scipy.sparse
    from sklearn.neighbors import NearestNeighbors

    count = len(features)
    most = min(neighbours, count - 1)
    if not most:
        return scipy.sparse.csr_array((count, count))
    # Brute force in chunks: in so many dimensions trees are slower, and no [n n] matrix is made.
    found = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(features)
    distances, rows = found.kneighbors()
    squares = distances.astype(np.float64).ravel() ** 2
    unit = np.median(squares) or squares.mean() or 1.0
    pairs = (np.repeat(np.arange(count), most), rows.ravel())
    # Stored are squares and one: distances of 0 would be no entries.
    one_way = scipy.sparse.csr_array((squares / unit + 1, pairs), shape=(count, count))
    graph = one_way.maximum(one_way.T).tocsr()
    graph.data -= 1
    return graph


def keep_k_centre(fraction: float, *, features: Any, key: PRNGKey | None = None) -> np.ndarray:
    """Keeps examples such that none is far from all that are kept: greedy k-centre, without any score.

    The first is drawn; then the one that is farthest from all kept, again and again. The largest distance of
    any example to the nearest kept one is at most twice the smallest that there can be.

    Args:
        fraction: share to keep, above 0 and at most 1.
        features: float `[n d]`; distances are Euclidean, in float32.
        key: draws the first, and decides between equal distances.

    Returns:
        bool `[n]`, True = train on it; exactly `num_kept(n, fraction)` are True.

    Raises:
        InputError: the fraction is out of range.

    Paper: Sener and Savarese 2018 (core-set), algorithm 1; the bound is Gonzalez 1985.

    Example:
        >>> import numpy as np
        >>> features = np.array([[0.0], [0.1], [9.0], [9.1], [20.0]])
        >>> np.add.reduceat(keep_k_centre(0.6, features=features), [0, 2, 4]).tolist()
        [1, 1, 1]
    """
    features = np.asarray(features)
    count = num_kept(len(features), fraction)
    # In random order the first one, and the first of equal distances, is any of them.
    rows = random_rows(key, len(features))
    points = _centred(features)[rows]
    squares = np.einsum("nd,nd->n", points, points)
    nearest, keep = np.full(len(points), np.inf, np.float32), np.zeros(len(points), bool)
    for _ in range(count):
        best = int(np.argmax(nearest))
        keep[rows[best]] = True
        nearest = np.minimum(nearest, squares - 2 * (points @ points[best]) + squares[best])
        nearest[best] = -np.inf
    return keep


@dataclass(frozen=True)
class D2Options:
    """Options of the rule "d2"."""

    neighbours: int = 10
    """Nearest neighbours that each example is joined with."""
    forward: float = 1.0
    """γ of the messages that raise the worth of hard neighbourhoods; the larger, the fewer."""
    reverse: float = 1.0
    """γ of the messages that lower the worth of neighbours of what is kept; the larger, the fewer."""

    def __post_init__(self) -> None:
        check_count(self.neighbours, "neighbours", most=2**31)
        check_number(self.forward, "forward", least=0)
        check_number(self.reverse, "reverse", least=0)


D2 = RULES.register(
    Rule(
        name="d2",
        words="hard examples of hard neighbourhoods, spread out by a graph of the features",
        reference="Maharana et al. 2024 (D2 pruning)",
        select=keep_d2,
        reads=("features",),
        options=D2Options(),
        about=lambda neighbours, forward, reverse: (
            f"kept by messages between {neighbours} neighbours (forward {forward:g}, reverse {reverse:g})"
        ),
    )
)

K_CENTRE = RULES.register(
    Rule(
        name="k_centre",
        words="examples that no other is far from in feature space",
        reference="Sener and Savarese 2018 (core-set), algorithm 1",
        select=keep_k_centre,
        num_scores=0,
        reads=("features",),
        about=lambda: "centres of the features kept (greedy k-centre)",
    )
)
