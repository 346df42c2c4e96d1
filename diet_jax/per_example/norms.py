"""Norms of per-example gradients without the gradients: the public functions."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp

from diet_jax.checks.calls import calling
from diet_jax.checks.values import check_choice, check_function, check_type
from diet_jax.errors import InputError
from diet_jax.per_example.method import Method, Precision, choose_method
from diet_jax.per_example.plan import ProgramPlan, plan_program
from diet_jax.per_example.run import run_program
from diet_jax.types import Array

LossFn = Callable[..., Any]
Select = Callable[[str], bool]


def per_example_grad_norms(
    loss_fn: LossFn,
    *,
    select: Select | None = None,
    per_leaf: bool = False,
    has_aux: bool = False,
    precision: Precision = "auto",
) -> Callable[..., Any]:
    """Transforms the loss of one example into the norms of a batch's per-example gradients.

    `‖∇_params loss_fn(params, *example)‖₂` for every example, exact, equal to
    `jax.vmap(jax.grad(loss_fn))` and a norm, but the gradients are never formed: the backward pass of one
    example is traced, each weight gradient is found as a product of two factors, and the norm of the
    product is computed from the factors. It costs about as much time and memory as one ordinary gradient
    of the batch. What is not recognised is computed as it is; `explain` tells.

    Each example is a program of its own, so a loss cannot mix examples: BatchNorm in training mode sees a
    batch of one.

    Args:
        loss_fn: `(params, *example) -> scalar`, of any model, where `example` are the entries of `batch` at
            one index, without the batch axis. It may be checkpointed, contain scans, and close over arrays.
        select: takes the path of a parameter, such as "Dense_0/kernel", and tells whether it counts; by
            default all do. The others are constants. Parameters that are not floats are constants always.
        per_leaf: return the norm of each parameter's gradient instead of that of the whole gradient.
        has_aux: `loss_fn` returns (scalar, anything), as for `jax.grad`; anything is returned for each
            example beside the norms.
        precision: of the matrix products that the norms are computed with. "network": each in the precision
            of the network's own product, such as TF32 or bfloat16, summed in float32. "highest": float32.
            "auto" is "highest" on CPUs and "network" elsewhere.

    Returns:
        `(params, *batch) -> float32 [b]` (float64 for float64 parameters), or with `per_leaf` a pytree of
        them like `params`, None where a parameter is a constant; with `has_aux` a pair (norms, what the loss
        returned). `batch` are pytrees of arrays `[b ...]`. It composes with `jit`, `vmap` (over stacked
        params) and sharded arrays. Norms below about 1e-18 underflow in float32: scale the loss.

    Raises:
        InputError: (when called) the batch axes differ, the loss is no scalar, nothing is selected, no such
            precision.

    Paper: Definition 2.1, for any loss.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def loss(w, x, y):
        ...     return jnp.square(x @ w - y)  # the gradient is 2 (x @ w - y) x
        >>> x = jnp.array([[3.0, 4.0], [0.0, 1.0]])
        >>> per_example_grad_norms(loss)(jnp.zeros(2), x, jnp.array([1.0, 2.0])).tolist()
        [10.0, 4.0]
    """
    check_function(loss_fn, "loss_fn", "(params, *example) -> scalar")
    if select is not None:
        check_function(select, "select", "of a parameter's path that returns True or False")
    check_choice(precision, "precision", get_args(Precision))
    check_type(per_leaf, "per_leaf", bool, "True or False")
    check_type(has_aux, "has_aux", bool, "True or False")

    def norms(params: Any, *batch: Any) -> Any:
        count = check_batch(batch)
        selection, method = Selection(params, select), choose_method(precision)
        plan, structure = plan_gradients(loss_fn, selection, batch, method, has_aux=has_aux)
        others = range(len(plan.gradients), len(plan.program.jaxpr.outvars))

        def squares_of(example: Any) -> tuple[list[Any], list[Array]]:
            args = jax.tree.leaves((selection.chosen, selection.fixed, example))
            return run_program(plan, args, others)

        aux, squares = jax.vmap(squares_of, axis_size=count)(batch)
        if per_leaf:
            result = selection.tree([jnp.sqrt(_summed([square])) for square in squares])
        else:
            result = jnp.sqrt(_summed(squares))
        return (result, jax.tree.unflatten(structure, aux)) if has_aux else result

    return norms


def _summed(squares: Sequence[Array]) -> Array:
    """From float `[b]` and `[b k]` to the sum of all numbers of each example."""
    totals = [square for square in squares if square.ndim == 1]
    rows = [square for square in squares if square.ndim == 2]
    if rows:
        totals.append(jnp.sum(jnp.concatenate(rows, axis=1), axis=1))
    return sum(totals[1:], totals[0])


class Selection:
    """A pytree of parameters, split into those that are differentiated and constants."""

    def __init__(self, params: Any, select: Select | None):
        with_paths, self._structure = jax.tree_util.tree_flatten_with_path(params)
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in with_paths]
        leaves = [leaf for _, leaf in with_paths]
        kinds = [_dtype(name, leaf) for name, leaf in zip(names, leaves, strict=True)]
        for name, kind in zip(names, kinds, strict=True):
            if jnp.issubdtype(kind, jnp.complexfloating):
                raise InputError(f"params must be real, but {name or 'params'} is {kind}")
        self._is_chosen = [
            jnp.issubdtype(kind, jnp.floating) and (select is None or bool(select(name)))
            for name, kind in zip(names, kinds, strict=True)
        ]
        if not any(self._is_chosen):
            raise InputError(
                f"there is nothing to differentiate: of {len(names)} parameters none is a float that "
                f"`select` chooses; their paths are {', '.join(name or 'params' for name in names[:8])}"
                f"{', ...' if len(names) > 8 else ''}"
            )
        self.names = [name for name, yes in zip(names, self._is_chosen, strict=True) if yes]
        self.chosen = [leaf for leaf, yes in zip(leaves, self._is_chosen, strict=True) if yes]
        self.fixed = [leaf for leaf, yes in zip(leaves, self._is_chosen, strict=True) if not yes]

    def tree(self, values: Sequence[Any], fixed: Sequence[Any] | None = None) -> Any:
        """Returns a pytree like the parameters, with None for constants unless they are given."""
        chosen = iter(values)
        others = iter([None] * len(self.fixed) if fixed is None else fixed)
        leaves = [next(chosen) if yes else next(others) for yes in self._is_chosen]
        return jax.tree.unflatten(self._structure, leaves)


def _dtype(name: str, leaf: Any) -> Any:
    try:
        return jnp.result_type(leaf)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"params must hold arrays and numbers only, but {name or 'params'} is a {type(leaf).__name__}; "
            f"keep what is no array in a closure"
        ) from error


def check_batch(batch: Sequence[Any]) -> int:
    """Returns the number of examples after checking that all arrays of a batch have as many."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(batch)]
    if not shapes:
        raise InputError("the batch has no arrays: call with (params, *batch)")
    if any(shape == () for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
        raise InputError(
            f"all arrays of a batch must have the same first axis, the examples; got shapes "
            f"{', '.join(map(str, shapes))}. What is not per example belongs into params or a closure"
        )
    return shapes[0][0]


def plan_gradients(
    loss_fn: LossFn, selection: Selection, batch: Sequence[Any], method: Method, *, has_aux: bool = False
) -> tuple[ProgramPlan, Any]:
    """Traces the gradient of one example's loss and plans the norms of its leaves; nothing is run.

    Returns:
        The plan of a program whose first results are the gradients, and the structure of the others, which
        are what the loss returned beside its value.
    """
    shapes = jax.eval_shape(lambda *args: args, selection.chosen, selection.fixed, tuple(batch))
    example = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), shapes[2])

    def loss(chosen: Any, fixed: Any, example: Any) -> tuple[Array, Any]:
        with calling("loss_fn"):
            result = loss_fn(selection.tree(chosen, fixed), *example)
        value, aux = result if has_aux else (result, ())
        try:
            value = jnp.asarray(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"loss_fn must return one real number, got {type(value).__name__}") from error
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise InputError(
                f"loss_fn must return one real number for one example (its arrays have no batch axis), got "
                f"{value.dtype} of shape {value.shape}; take the sum or mean over what is not an example"
            )
        return value, aux

    gradient = jax.make_jaxpr(jax.grad(loss, has_aux=True), return_shape=True)
    closed, (_, aux) = gradient(shapes[0], shapes[1], example)
    varies = [False] * len(selection.chosen + selection.fixed) + [True] * len(jax.tree.leaves(example))
    return plan_program(closed, range(len(selection.chosen)), varies, method), jax.tree.structure(aux)
