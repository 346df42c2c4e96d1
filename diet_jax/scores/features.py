"""Scores of features: how far an example is from the centre of its class, or from the nearest prototype.

Features are what the scored network's own last layer is given. Whoever has others, such as those of a network
trained without labels, gives them to the functions here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from diet_jax.checks.values import check_array, check_choice, check_count, check_key, check_same_length
from diet_jax.devices.batching import map_examples
from diet_jax.errors import InputError
from diet_jax.per_example.products import contract, in_one_dtype
from diet_jax.scores.gradients import features_of
from diet_jax.scores.score import SCORES, Score
from diet_jax.types import AnyArray, Array, Labels, PRNGKey, ScoreArray

Center = Literal["mean", "median"]
Distance = Literal["euclidean", "cosine"]

# Lloyd's iterations, of which a few dozen nearly always suffice; examples compared with centres at a time.
MOST_ITERATIONS, CHUNK = 100, 4096


def class_center_distance(
    features: Float[AnyArray, "n d"], labels: Labels, *, num_classes: int, center: Center = "mean"
) -> ScoreArray:
    """Returns the distance of each example from the centre of its class: `‖h(x) − center_y‖₂`.

    Moderate coresets are the examples next to the median of this, see the selection rules: its highest are
    the ones that it leaves out.

    Args:
        features: float `[n d]` of all examples.
        labels: int `[n]`, in `0 .. num_classes - 1`; any other gives NaN.
        num_classes: how many classes there are; those without examples are no matter.
        center: "mean" of the features of the class, as published, or their "median", each feature by itself,
            as the authors' code has it.

    Returns:
        float32 `[n]` (float64 for float64 features), at least 0; high means unlike the others of its class.

    Raises:
        InputError: as many labels as features are needed; no such centre.

    Paper: not in it; Xia et al. 2023, Moderate Coreset (ICLR), section 3.

    Example:
        >>> import jax.numpy as jnp, diet_jax as dj
        >>> features = jnp.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0], [5.0, 5.0]])
        >>> dj.class_center_distance(features, jnp.array([0, 0, 0, 1]), num_classes=2).tolist()
        [2.0, 0.0, 2.0, 0.0]
    """
    features, labels = _checked(features, labels)
    check_count(num_classes, "num_classes")
    check_choice(center, "center", get_args(Center))
    if labels.dtype.itemsize < 4:
        labels = labels.astype(jnp.int32)
    # A label that is no class gives NaN, not the distance from another class.
    is_class = (labels >= 0) & (labels < num_classes)
    groups = jnp.where(is_class, labels, num_classes).astype(jnp.int32)
    centers_of = _means if center == "mean" else _medians
    centers = centers_of(features, groups, num_classes)
    own = centers[jnp.minimum(groups, num_classes - 1)]
    return jnp.where(is_class, _length(features - own), jnp.nan)


def prototype_distance(
    key: PRNGKey,
    features: Float[AnyArray, "n d"],
    *,
    num_prototypes: int,
    distance: Distance = "euclidean",
) -> ScoreArray:
    """Returns the distance of each example from the nearest centre of k-means: `min_j ‖h(x) − prototype_j‖₂`.

    Lloyd's iterations from k-means++ centres, until no example changes its centre, at most 100. Sorscher et
    al. take features of a network that was trained without labels (SwAV): with those of a classifier it is
    another score; and of the same centres the cosine distance `1 − cos(h(x), prototype_j)`.

    Args:
        key: of the first centres; equal keys and features give equal scores.
        features: float `[n d]` of all examples.
        num_prototypes: centres, at most `n`; the paper has as many as classes.
        distance: "euclidean", or "cosine", from 0 to 2, of the centre that is nearest by the other.

    Returns:
        float32 `[n]` (float64 for float64 features), at least 0; high means unlike any prototype. No label is
        used. The cosine of features that are all 0 is NaN.

    Raises:
        InputError: fewer examples than prototypes.

    Paper: not in it; Sorscher et al. 2022, Beyond neural scaling laws (NeurIPS), self-supervised prototypes.

    Example:
        >>> import jax, jax.numpy as jnp, diet_jax as dj
        >>> features = jnp.array([[0.0], [2.0], [10.0], [14.0]])
        >>> dj.prototype_distance(jax.random.key(0), features, num_prototypes=2).tolist()
        [1.0, 1.0, 2.0, 2.0]
    """
    features = jnp.asarray(check_array(features, "features", "n d"))
    (features,) = in_one_dtype(features)
    check_count(num_prototypes, "num_prototypes")
    check_choice(distance, "distance", get_args(Distance))
    if num_prototypes > len(features):
        raise InputError(
            f"num_prototypes must be at most {len(features):,}, as many as examples; got {num_prototypes:,}"
        )
    # Squares of distances keep their digits however far from 0 all of the features are.
    mean = jnp.mean(features, axis=0, keepdims=True)
    centers, nearest = _k_means(check_key(key), features - mean, num_prototypes)
    if distance == "euclidean":
        return _length(features - mean - centers[nearest])
    units = [each / _length(each)[:, None] for each in (features, (centers + mean)[nearest])]
    # Half the square of the chord: 1 - cos would lose the digits of small distances.
    return jnp.sum(jnp.square(units[0] - units[1]), axis=1) / 2


class _Lloyd(NamedTuple):
    centers: Float[Array, "k d"]
    nearest: Int[Array, "n"]
    changed: Array
    count: Array


def _k_means(key: PRNGKey, features: Float[Array, "n d"], num: int) -> tuple[Array, Array]:
    """Centres and the nearest one of each example."""

    def improve(state: _Lloyd) -> _Lloyd:
        means = _means(features, state.nearest, num)
        empty = jax.ops.segment_sum(jnp.ones(len(features), jnp.int32), state.nearest, num) == 0
        centers = jnp.where(
            empty[:, None], state.centers, means
        )  # One that has lost all of its examples stays.
        nearest = _nearest(features, centers)
        return _Lloyd(centers, nearest, jnp.any(nearest != state.nearest), state.count + 1)

    first = _first_centers(key, features, num)
    start = _Lloyd(first, _nearest(features, first), jnp.array(True), jnp.int32(0))
    end = jax.lax.while_loop(lambda s: s.changed & (s.count < MOST_ITERATIONS), improve, start)
    return end.centers, end.nearest


def _first_centers(key: PRNGKey, features: Float[Array, "n d"], num: int) -> Float[Array, "k d"]:
    """k-means++: each next centre is an example, drawn by its squared distance from the nearest so far."""
    keys = jax.random.split(key, num)
    chosen = features[jax.random.randint(keys[0], (), 0, len(features), jnp.int32)]
    centers = jnp.zeros((num, features.shape[1]), features.dtype).at[0].set(chosen)

    def add(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        centers, squares = carry
        bounds = jnp.cumsum(squares)
        # Where all examples are centres already, the last one once more.
        drawn = jax.random.uniform(keys[index], dtype=jnp.float32).astype(squares.dtype) * bounds[-1]
        row = jnp.minimum(jnp.searchsorted(bounds, drawn, side="right"), len(features) - 1)
        center = features[row]
        closer = jnp.minimum(squares, jnp.sum(jnp.square(features - center[None]), axis=1))
        return centers.at[index].set(center), closer

    squares = jnp.sum(jnp.square(features - chosen[None]), axis=1)
    return jax.lax.fori_loop(1, num, add, (centers, squares))[0]


def _nearest(features: Float[Array, "n d"], centers: Float[Array, "k d"]) -> Int[Array, "n"]:
    lengths = jnp.sum(jnp.square(centers), axis=1)

    def of_some(rows: Array) -> Array:
        # ‖x‖² is the same for all centres.
        return jax.lax.argmin(lengths[None] - 2 * contract(rows, centers, ((1,), (1,))), 1, jnp.int32)

    return map_examples(of_some, features, batch_size=CHUNK)


def _means(features: Float[Array, "n d"], groups: Int[Array, "n"], num: int) -> Float[Array, "k d"]:
    sums = jax.ops.segment_sum(features, groups, num)
    counts = jax.ops.segment_sum(jnp.ones(len(features), features.dtype), groups, num)
    return sums / jnp.maximum(counts, 1)[:, None]


def _medians(features: Float[Array, "n d"], groups: Int[Array, "n"], num: int) -> Float[Array, "k d"]:
    """Of each feature by itself: by group, and in a group by size, the middle one or the mean of the two."""
    columns = jnp.broadcast_to(groups[:, None], features.shape)
    _, ordered = jax.lax.sort((columns, features), dimension=0, num_keys=2)
    counts = jax.ops.segment_sum(jnp.ones(len(features), jnp.int32), groups, num)
    first = jnp.cumsum(counts) - counts
    low, high = first + (counts - 1) // 2, first + counts // 2
    most = len(features) - 1
    return (ordered[jnp.clip(low, 0, most)] + ordered[jnp.clip(high, 0, most)]) / 2


def _length(vectors: Float[Array, "n d"]) -> ScoreArray:
    return jnp.linalg.norm(vectors, axis=1)


def _checked(features: Any, labels: Any) -> tuple[Array, Array]:
    features = jnp.asarray(check_array(features, "features", "n d"))
    labels = jnp.asarray(check_array(labels, "labels", "n", "integers"))
    check_same_length("labels", labels, "features", features)
    return in_one_dtype(features)[0], labels


def _features(name: str) -> Callable[[Any], Callable[..., Array]]:
    def measure(model: Any) -> Callable[..., Array]:
        features = features_of(model, name)
        return lambda variables, inputs, labels: features(variables, inputs)[1]

    return measure


@dataclass(frozen=True)
class ClassCenterOptions:
    """Options of the distance from the centre of the class."""

    center: Center = "mean"
    """Mean of the features of the class, as published, or median of each, as the authors' code has it."""


@dataclass(frozen=True)
class PrototypeOptions:
    """Options of the distance from the nearest prototype."""

    num_prototypes: int | Literal["classes"] = "classes"
    """Centres of k-means; as many as classes by default, as in the paper."""
    seed: int = 0
    """Of the first centres: the same for all networks, whose features differ anyway."""
    distance: Distance = "euclidean"
    """From the centre; cosine as Sorscher et al. have it."""

    def __post_init__(self) -> None:
        if self.num_prototypes != "classes":
            check_count(self.num_prototypes, "num_prototypes")
        check_count(self.seed, "seed", least=0)


def _class_center_distance(center: Center) -> Callable[..., ScoreArray]:
    def distances(features: Array, labels: Array, num_classes: int) -> ScoreArray:
        return class_center_distance(features, labels, num_classes=num_classes, center=center)

    return distances


def _prototype_distance(
    num_prototypes: int | Literal["classes"], seed: int, distance: Distance
) -> Callable[..., ScoreArray]:
    def distances(features: Array, labels: Array, num_classes: int) -> ScoreArray:
        count = num_classes if num_prototypes == "classes" else num_prototypes
        key, most = jax.random.key(seed, impl="threefry2x32"), min(count, len(features))
        return prototype_distance(key, features, num_prototypes=most, distance=distance)

    return distances


CLASS_CENTER_DISTANCE = SCORES.register(
    Score(
        name="class_center_distance",
        label="distance to class centre",
        formula="Euclidean distance of the features, which the scored network's last layer is given, from "
        "their centre over the examples of the same label, eval mode, un-augmented",
        reference="Xia et al. 2023 (Moderate Coreset), section 3",
        reads="dataset",
        measure=_features("class_center_distance"),
        build=_class_center_distance,
        options=ClassCenterOptions(),
        high_means="unlike its class",
        elsewhere=(
            "Moderate-DS: distance, in its code from the median of each feature over the class (center "
            "median), by a network trained to the end; the coreset is next to the median of all distances",
        ),
    )
)

PROTOTYPE_DISTANCE = SCORES.register(
    Score(
        name="prototype_distance",
        label="distance to prototype (own features)",
        formula="distance of the features, which the scored network's last layer is given, from the nearest "
        "centre of k-means over all examples, eval mode, un-augmented; no label",
        reference="after Sorscher et al. 2022, whose features are of a network trained without labels (SwAV)",
        reads="dataset",
        measure=_features("prototype_distance"),
        build=_prototype_distance,
        options=PrototypeOptions(),
        high_means="unlike any prototype",
        elsewhere=(
            "Sorscher et al.: self-supervised prototypes, by SwAV's features, cosine distance: another score",
        ),
    )
)
