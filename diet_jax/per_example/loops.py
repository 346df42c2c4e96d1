"""Weights that every step of a loop uses: their gradient is a product summed over the steps.

In the backward pass of `lax.scan` such a gradient is carried along, and in every step a product is added
to it. Here the loop hands out the factors instead, stacked, and one product over all steps follows: what was
a matrix product over the tokens of one step is then one over tokens and steps.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core as jex

from diet_jax.per_example.dense import DenseProduct
from diet_jax.per_example.jaxprs import (
    Environment,
    flattened,
    needed_equations,
    retraced,
    scan_counts,
    scan_inputs_that_vary,
    variables_of,
    varying,
)
from diet_jax.per_example.method import Method
from diet_jax.per_example.products import accumulator, joined
from diet_jax.per_example.terms import Term, definitions, ends, is_zeros, obstacle, term_of
from diet_jax.types import Array


class Accumulator(NamedTuple):
    """A carried sum of products."""

    carry: int
    """Position among the loop's results."""
    terms: tuple[Term, ...]


def with_products_exported(
    closed: jex.ClosedJaxpr, gradients: Sequence[int], varies: Sequence[bool], method: Method
) -> jex.ClosedJaxpr:
    """Returns an equal program whose loops hand out factors, wherever that needs no more memory.

    Args:
        closed: a flat program.
        gradients: positions of the results to look at.
        varies: which inputs differ between examples.
        method: in which precision the factors are multiplied.
    """
    defined = definitions(closed.jaxpr)
    found = [end.atom for i in gradients for end in ends(closed.jaxpr.outvars[i], defined)]
    reached = set(variables_of(found))
    vary = varying(closed, varies)
    exports = {}
    for position, equation in enumerate(closed.jaxpr.eqns):
        if equation.primitive.name != "scan" or not reached.intersection(equation.outvars):
            continue
        inputs = [not isinstance(atom, jex.Literal) and atom in vary for atom in equation.invars]
        body = flattened(equation.params["jaxpr"], scan_inputs_that_vary(equation, inputs))
        carried = range(scan_counts(equation)[1])
        reached_here = [i for i in carried if equation.outvars[i] in reached]
        sums = [_accumulator(equation, body, i, defined) for i in reached_here]
        if any(sums):
            exports[position] = (body, [found for found in sums if found is not None])
    if not exports:
        return closed

    def run(*args: Any) -> list[Any]:
        env = Environment(closed, args)
        for position, equation in enumerate(closed.jaxpr.eqns):
            if position in exports:
                body, sums = exports[position]
                _run_loop(equation, body, sums, env, method)
            else:
                env.run([equation])
        return [env.read(atom) for atom in closed.jaxpr.outvars]

    return retraced(closed, run)


def run_scan(scan: Any, values: Sequence[Any], body: Any, dropped: Sequence[int] = ()) -> tuple[Any, Any]:
    """Runs a scan equation with another body.

    Args:
        scan: the equation.
        values: of its inputs.
        body: takes the values of the body's inputs and returns (carry, anything to be stacked); carries
            that are dropped are neither given nor returned.
        dropped: positions of carries.

    Returns:
        The last carry and what was stacked.
    """
    params = scan.params
    consts, num_carry = scan_counts(scan)
    first = consts + num_carry
    kept = [i for i in range(num_carry) if i not in dropped]

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], Any]:
        # A dropped carry is read only where it is summed, which is not run.
        full: list[Any] = [None] * num_carry
        for i, value in zip(kept, carry, strict=True):
            full[i] = value
        return body([*values[:consts], *full, *x])

    return jax.lax.scan(
        step,
        [values[consts + i] for i in kept],
        list(values[first:]),
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )


def _accumulator(scan: Any, body: jex.ClosedJaxpr, carry: int, defined: Any) -> Accumulator | None:
    jaxpr, start = body.jaxpr, scan_counts(scan)[0] + carry
    own = jaxpr.invars[start]
    uses = [atom for equation in jaxpr.eqns for atom in equation.invars] + list(jaxpr.outvars)
    if not is_zeros(scan.invars[start], defined) or sum(atom is own for atom in uses) != 1:
        return None
    inside = definitions(jaxpr)
    result = jaxpr.outvars[carry]
    last = None if isinstance(result, jex.Literal) else inside.get(result)
    if last is None or last.primitive.name not in ("add_any", "add"):
        # What is done to the whole sum in each step is done again and again.
        return None
    found = ends(result, inside)
    itself = [end for end in found if end.atom is own]
    rest = [end for end in found if end.atom is not own]
    plain_sum = len(itself) == 1 and not (itself[0].path.steps or itself[0].path.scales)
    if not (plain_sum and itself[0].path.sign == 1 and rest) or any(end.product is None for end in rest):
        return None
    terms = tuple(term_of(end) for end in rest)
    products = [term.product for term in terms if isinstance(term.product, DenseProduct)]
    if len(products) < len(terms) or any(term.rearranged for term in terms) or obstacle(terms) is not None:
        return None
    _, _, k, o = products[0].sizes
    t = sum(product.sizes[1] for product in products)
    # More numbers than the gradient itself has would be a bad bargain.
    return Accumulator(carry, terms) if scan.params["length"] * t * (k + o) <= k * o else None


def _run_loop(
    scan: Any, body: jex.ClosedJaxpr, sums: Sequence[Accumulator], env: Environment, method: Method
) -> None:
    dropped = [found.carry for found in sums]
    jaxpr, (_, num_carry) = body.jaxpr, scan_counts(scan)
    kept = [i for i in range(num_carry) if i not in dropped]
    results = [jaxpr.outvars[i] for i in kept] + list(jaxpr.outvars[num_carry:])
    inputs = [atom for found in sums for term in found.terms for atom in term.inputs]
    needed, _ = needed_equations(jaxpr.eqns, [*results, *inputs])

    def step(values: list[Any]) -> tuple[list[Any], Any]:
        inside = Environment(body, values)
        inside.run([equation for equation, used in zip(jaxpr.eqns, needed, strict=True) if used])
        factors = [joined([scaled_factors(term, inside) for term in found.terms], 1) for found in sums]
        carry = [inside.read(jaxpr.outvars[i]) for i in kept]
        return carry, ([inside.read(atom) for atom in jaxpr.outvars[num_carry:]], factors)

    last, (stacked, factors) = run_scan(scan, [env.read(atom) for atom in scan.invars], step, dropped)
    env.write([scan.outvars[i] for i in kept], last)
    env.write(scan.outvars[num_carry:], stacked)
    for found, (left, right) in zip(sums, factors, strict=True):
        product = found.terms[0].product
        assert isinstance(product, DenseProduct)
        variable = scan.outvars[found.carry]
        precision = method.precision_of([term.product for term in found.terms])
        whole = product.assembled(_over_steps(left), _over_steps(right), precision)
        env.write([variable], [whole.astype(variable.aval.dtype)])


def scaled_factors(term: Term, env: Environment) -> tuple[Any, Array]:
    """Returns the factors of a term with its scale and sign in the second one."""
    first, second = term.product.factors(*(env.read(atom) for atom in term.product.inputs))
    if term.sign < 0:
        second = -second
    if term.scales:
        kind = accumulator(second.dtype)
        second = second.astype(kind) * scale_of(term.scales, env).astype(kind)
    return first, second


def scale_of(scales: Sequence[tuple[str, Any]], env: Environment) -> Array:
    """Returns the product of all scales, a float32 or float64 scalar."""
    total = jnp.ones((), jnp.float32)
    for name, atom in scales:
        value = jnp.asarray(env.read(atom))
        value = value.astype(accumulator(value.dtype))
        total = total.astype(value.dtype)
        total = total * value if name == "mul" else total / value
    return total


def _over_steps(factor: Array) -> Array:
    """From `[steps s t k]` to `[s steps·t k]`."""
    steps, s, t, k = factor.shape
    return jnp.moveaxis(factor, 0, 1).reshape(s, steps * t, k)
