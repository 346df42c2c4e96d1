"""From a parameter's gradient back to the products it is made of.

The walk goes back through equations that keep the norm, or scale it by one number, and takes sums apart. It
ends at a product, or at anything else, and then the gradient is taken as it is: always right.

To teach it a primitive: a product gets a reader in `_product`, an equation that keeps the norm gets its name
in `KEEPS_NORM`; and a test in tests/test_grad_norm_rules.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from diet_jax.per_example.convolution import ConvProduct
from diet_jax.per_example.dense import DenseProduct, LookupProduct
from diet_jax.per_example.products import Product, size

# Equations that rearrange the elements of one array.
KEEPS_NORM = {"reshape", "squeeze", "expand_dims", "rev", "copy", "copy_p"}

Definitions = Mapping[Any, Any]


@dataclass(frozen=True)
class Term:
    """`scale · rearranged(product)`, a summand of a gradient."""

    product: Product
    scales: tuple[tuple[str, Any], ...] = ()
    """Pairs ("mul" or "div", scalar variable or literal)."""
    sign: int = 1
    rearranged: tuple[Any, ...] = ()
    """Steps after the product other than transpositions: terms are joined only if these are equal."""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """All variables and literals that the norm is computed from."""
        return (*self.product.inputs, *(atom for _, atom in self.scales))


class Path(NamedTuple):
    """What lies between a gradient and where the walk stands, nearest to the gradient first."""

    steps: tuple[Any, ...] = ()
    """Equations that rearrange elements."""
    scales: tuple[tuple[str, Any], ...] = ()
    """Pairs ("mul" or "div", scalar variable or literal)."""
    sign: int = 1


class End(NamedTuple):
    """Where a walk ended."""

    atom: Any
    path: Path
    product: Product | None


def definitions(jaxpr: jex.Jaxpr) -> Definitions:
    """Returns which equation computes each variable."""
    return {var: equation for equation in jaxpr.eqns for var in equation.outvars}


def ends(gradient: Any, defined: Definitions) -> list[End]:
    """Walks back from a gradient and returns the ends, whose sum it is; zeros are left out."""
    found: list[End] = []
    waiting = [(gradient, Path())]
    is_sum = False
    while waiting:
        atom, path = waiting.pop()
        if is_zeros(atom, defined):
            continue
        equation = None if isinstance(atom, jex.Literal) else defined.get(atom)
        product = None if equation is None else _product(equation, defined)
        if equation is None or product is not None:
            found.append(End(atom, path, product))
        elif equation.primitive.name in ("add_any", "add") and _adds_equal_shapes(equation):
            # What is done to a whole sum does not change its norm; what is done to a part of it matters.
            path = path if is_sum else Path(scales=path.scales)
            is_sum = True
            waiting += [(operand, path) for operand in reversed(equation.invars)]
        else:
            onward = _onward(atom, equation, path, defined)
            if onward is None:
                found.append(End(atom, path, None))
            else:
                waiting.append(onward)
    return found


def term_of(end: End) -> Term:
    """Returns the term at the end of a walk that found a product."""
    assert end.product is not None
    product, steps = end.product, list(reversed(end.path.steps))
    while steps and steps[0].primitive.name == "transpose":
        product = product.transposed(steps.pop(0).params["permutation"])
    rearranged = tuple(
        (str([a.aval for a in step.invars]), step.primitive.name, str(step.params), str(step.invars[2:]))
        for step in steps
    )
    return Term(product, end.path.scales, end.path.sign, rearranged)


def is_zeros(atom: Any, defined: Definitions) -> bool:
    """Returns whether an array is known to be all zeros."""
    if isinstance(atom, jex.Literal):
        return bool(np.all(np.asarray(atom.val) == 0))
    equation = defined.get(atom)
    if equation is None or equation.primitive.name not in ("broadcast_in_dim", "convert_element_type"):
        return False
    return is_zeros(equation.invars[0], defined)


def obstacle(terms: Sequence[Term]) -> str | None:
    """Returns why the norm of a sum cannot be taken from its terms' factors, or None if it can."""
    signatures = {term.product.signature for term in terms}
    if len(signatures) > 1:
        return "a sum of products of different kinds or axes"
    if len({term.rearranged for term in terms}) > 1:
        return "a sum of products that are rearranged differently"
    return None


def _product(equation: Any, defined: Definitions) -> Product | None:
    name = equation.primitive.name
    if name == "dot_general":
        return DenseProduct.of(equation)
    if name == "conv_general_dilated":
        return ConvProduct.of(equation)
    if name == "scatter-add":
        return LookupProduct.of(equation, is_zeros(equation.invars[0], defined))
    return None


def _adds_equal_shapes(equation: Any) -> bool:
    shapes = {atom.aval.shape for atom in (*equation.invars, *equation.outvars)}
    return len(shapes) == 1


def _onward(at: Any, equation: Any, path: Path, defined: Definitions) -> tuple[Any, Path] | None:
    name, operands = equation.primitive.name, equation.invars
    if name == "optimization_barrier":
        return operands[equation.outvars.index(at)], path
    if name == "neg":
        return operands[0], Path(path.steps, path.scales, -path.sign)
    if name == "convert_element_type":
        kinds = [operands[0].aval.dtype, at.aval.dtype]
        return (operands[0], path) if all(jnp.issubdtype(kind, jnp.floating) for kind in kinds) else None
    if name == "dynamic_update_slice" and is_zeros(operands[0], defined):
        return operands[1], Path((*path.steps, equation), path.scales, path.sign)
    if name == "pad" and is_zeros(operands[1], defined) and _only_adds(equation):
        return operands[0], Path((*path.steps, equation), path.scales, path.sign)
    same_size = size(operands[0].aval.shape) == size(at.aval.shape)
    rearranges = name in KEEPS_NORM or name == "transpose"
    if rearranges or (name in ("broadcast_in_dim", "reduce_sum") and same_size):
        return operands[0], Path((*path.steps, equation), path.scales, path.sign)
    if name in ("mul", "div"):
        for side, operand in enumerate(operands):
            scalar = _scalar(operand, defined)
            if scalar is not None and not (name == "div" and side == 0) and at.aval.shape != ():
                scales = (*path.scales, (name, scalar))
                return operands[1 - side], Path(path.steps, scales, path.sign)
    return None


def _only_adds(pad: Any) -> bool:
    return all(low >= 0 and high >= 0 for low, high, _ in pad.params["padding_config"])


def _scalar(atom: Any, defined: Definitions) -> Any:
    """Returns the number that an array is full of, as a variable or literal, or None."""
    if atom.aval.shape == ():
        return atom
    equation = None if isinstance(atom, jex.Literal) else defined.get(atom)
    if equation is not None and equation.primitive.name == "broadcast_in_dim":
        return _scalar(equation.invars[0], defined)
    return None
