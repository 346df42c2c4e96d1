"""Linear mode connectivity: children of a training, points between two networks, the height of a barrier.

Two networks are connected where no point of the straight line between their weights errs more than the
ends do. A child is spawned from a parent at some step and trained on with another order of the data; the
step from which on the two stay connected says when the training has settled for a basin.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Float, Shaped

from diet_jax.checks.values import (
    check_array,
    check_choice,
    check_key,
    check_number,
    check_pytree,
    check_type,
)
from diet_jax.devices.mesh import copied
from diet_jax.errors import InputError
from diet_jax.training.step import TrainState
from diet_jax.types import AnyArray, Array, PRNGKey, Variables

Ends = Literal["chord", "mean"]


def spawn(state: TrainState, key: PRNGKey) -> TrainState:
    """Returns a child of a training: its whole state under another key.

    The child starts with the parent's parameters, BatchNorm statistics, optimiser state, step (and so its
    place in the schedule) and forgetting events. The order of the data and the augmentation follow from the
    key, so with the parent's own key the child repeats the parent. The buffers are copies: training one of
    the two, which uses up its state, leaves the other alone.

    Args:
        state: of the parent, not yet used up.
        key: of the child's run.

    Returns:
        A state to give to `train_from`.

    Paper: section 5 and equation 6.

    Example:
        >>> import jax, diet_jax as dj
        >>> train = dj.load_dataset("digits").train
        >>> config = dj.TrainConfig(steps=2, batch_size=32, augment="none")
        >>> model = dj.create_model("mlp", num_classes=10)
        >>> parent, _ = dj.train(jax.random.key(0), model, train, config=config, num_updates=1)
        >>> int(spawn(parent, jax.random.key(1)).step)
        1
    """
    check_type(state, "state", TrainState, "a TrainState, of train")
    return copied(state._replace(key=check_key(key)))


def interpolate(variables: Variables, other: Variables, weight: Any) -> Variables:
    """Returns a point of the straight line between two networks: `(1 − a) w + a w'`.

    BatchNorm's running statistics are interpolated as the parameters are. Both ends are returned to the bit,
    and two equal networks at every weight.

    Args:
        variables: `w`, of one network.
        other: `w'`, of a network of the same shape.
        weight: `a`, one number, from 0 at `variables` to 1 at `other`; may be traced.

    Returns:
        Variables of the same shapes and dtypes.

    Raises:
        InputError: a leaf is in one of the two only, has another shape or dtype there, or is not of floats
            and differs (traced ones cannot be compared: there the first's is taken).

    Paper: equation 5, where `a` counts from the other end.

    Example:
        >>> import jax.numpy as jnp, diet_jax as dj
        >>> ends = dj.Variables({"w": jnp.zeros(2)}, {}), dj.Variables({"w": jnp.ones(2)}, {})
        >>> interpolate(*ends, 0.25).params["w"].tolist()
        [0.25, 0.25]
    """
    mine, theirs = leaves_of_one_network(variables, other)
    weight = check_number(weight, "weight", least=0, most=1)

    def between(first: Any, last: Any) -> Array:
        first, last = jnp.asarray(first), jnp.asarray(last)
        if not jnp.issubdtype(first.dtype, jnp.inexact):
            return first
        point = first + jnp.asarray(weight, first.dtype) * (last - first)
        # Rounding, zeros with a sign and infinities would change what is meant to stay.
        stays = (weight == 0) | (first == last)
        return jnp.where(weight == 1, last, jnp.where(stays, first, point))

    leaves = [between(leaf, theirs[name]) for name, leaf in mine.items()]
    return jax.tree.unflatten(jax.tree.structure(variables), leaves)


def barrier_height(
    errors: Shaped[AnyArray, "*leading p"], *, ends: Ends = "chord"
) -> Float[Array, "*leading"]:
    """Returns how far the error on a path rises above what its ends explain.

    | ends | height |
    |---|---|
    | chord | `max_a { E(a) − (1 − a) E(0) − a E(1) }` (Data Diet): at least 0, as the ends are points too |
    | mean | `max_a E(a) − (E(0) + E(1)) / 2` (Frankle et al.): at least half the difference of the ends |

    The two are the same where both ends err alike. The paper counts `a` from the other end, which makes no
    difference to the highest point.

    Args:
        errors: float `[... p]`, at `p` evenly spaced points from one end to the other, ends included; any
            unit. NaN gives NaN.
        ends: what is subtracted.

    Returns:
        float `[...]`, of the errors' dtype (float32 for integers) and unit.

    Raises:
        InputError: fewer than three points, or an unknown `ends`.

    Paper: equation 5; "mean" is the instability of Frankle et al. 2020 (arXiv 1912.05671).

    Example:
        >>> import jax.numpy as jnp
        >>> barrier_height(jnp.array([0.0, 1.0, 1.0])).item()
        0.5
    """
    check_choice(ends, "ends", get_args(Ends))
    errors = jnp.asarray(check_array(errors, "errors", "...", "numbers"))
    if not jnp.issubdtype(errors.dtype, jnp.floating):
        errors = errors.astype(jnp.float32)
    if errors.ndim < 1 or errors.shape[-1] < 3:
        raise InputError(
            f"errors must be at 3 points or more [... p], ends included; got shape {errors.shape}"
        )
    first, last = errors[..., :1], errors[..., -1:]
    if ends == "mean":
        return jnp.max(errors - (first + last) / 2, axis=-1)
    weights = jnp.linspace(0, 1, errors.shape[-1], dtype=errors.dtype)
    chord = first + weights.reshape((1,) * (errors.ndim - 1) + (-1,)) * (last - first)
    # At the ends the difference is 0, whatever rounding makes of it.
    return jnp.maximum(jnp.max((errors - chord)[..., 1:-1], axis=-1), 0)


def connectivity_onset(
    spawn_steps: Sequence[int], barriers: Sequence[float] | Float[AnyArray, "m"], *, threshold: float = 0.02
) -> int | None:
    """Returns the first spawn step from which on every barrier is below a threshold, or None.

    Args:
        spawn_steps: `m` ascending steps.
        barriers: float `[m]`, the mean barrier of the children of each step; NaN counts as a barrier.
        threshold: a share of examples; 2 % is what Frankle et al. call stable.

    Returns:
        One of the steps; None if the last barrier is not below the threshold.

    Raises:
        InputError: not one barrier for each step, or steps that do not ascend.

    Paper: section 5, the onset of linear mode connectivity.

    Example:
        >>> connectivity_onset([0, 100, 200, 300], [0.4, 0.01, 0.03, 0.0])
        300
    """
    check_number(threshold, "threshold")
    steps = np.asarray(check_array(spawn_steps, "spawn_steps", "...", "numbers"))
    heights = np.asarray(check_array(barriers, "barriers", "...", "numbers"))
    if steps.ndim != 1 or steps.shape != heights.shape or np.any(np.diff(steps) <= 0):
        raise InputError(
            f"spawn_steps must ascend and have one barrier each; got shapes {steps.shape} and "
            f"{heights.shape}, steps {steps.tolist()}"
        )
    above = np.flatnonzero(~(heights < threshold))
    first = above[-1] + 1 if len(above) else 0
    return int(steps[first]) if first < len(steps) else None


def leaves_of_one_network(variables: Variables, other: Variables) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the leaves of both by name, or raises InputError: they must be variables of one network."""
    check_pytree(variables, "variables")
    check_pytree(other, "other")
    mine, theirs = _named_leaves(variables), _named_leaves(other)
    for name in {**mine, **theirs}:
        if name not in mine or name not in theirs:
            raise InputError(f"{name} is in {'variables' if name in mine else 'other'} only: two networks")
        a, b = mine[name], theirs[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            raise InputError(
                f"{name} is {a.dtype} {a.shape} in variables but {b.dtype} {b.shape} in other; "
                f"take two trainings of one network"
            )
        known = not isinstance(a, Tracer) and not isinstance(b, Tracer)
        if known and not jnp.issubdtype(a.dtype, jnp.inexact) and not np.array_equal(a, b):
            raise InputError(f"{name} is {a.dtype} and differs: there is nothing between the two values")
    return mine, theirs


def _named_leaves(variables: Variables) -> dict[str, Any]:
    leaves, _ = jax.tree.flatten_with_path(variables)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        if hasattr(leaf, "dtype")
        else np.asarray(leaf)
        for path, leaf in leaves
    }
