"""Running a planned program: every norm is taken as soon as its factors are there."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend import core as jex

from diet_jax.per_example.jaxprs import Environment, after, needed_equations, scan_counts, variables_of
from diet_jax.per_example.loops import run_scan, scale_of, scaled_factors
from diet_jax.per_example.plan import GradientPlan, ProgramPlan
from diet_jax.per_example.products import accumulator, sum_of_squares
from diet_jax.types import Array

# Squares of so few numbers are summed with those of all other gradients, where the order is not forced: a sum
# for each bias and scale of a deep network is much to compile.
SMALL = 4096


def run_program(
    plan: ProgramPlan, args: Sequence[Any], kept: Sequence[int] = ()
) -> tuple[list[Any], list[Array]]:
    """Runs a program on the inputs of one example.

    Args:
        plan: from `plan_program`.
        args: the program's inputs.
        kept: positions of results to return as they are.

    Returns:
        The results at `kept`, and for each planned gradient the square of its norm, or numbers `[k]` that
        sum up to it.
    """
    jaxpr = plan.program.jaxpr
    results = [jaxpr.outvars[i] for i in kept]
    inputs = [variable for gradient in plan.gradients for variable in gradient.inputs]
    needed, alive = needed_equations(jaxpr.eqns, [*results, *inputs])
    ready = _ready(plan)
    last_use = _last_use(plan, needed, results)
    env = Environment(plan.program, args)
    squares: dict[int, Array] = {}
    inside: dict[Any, Array] = {}
    fresh: list[int] = []
    waiting: list[jex.JaxprEqn] = []
    for position in range(-1, len(jaxpr.eqns)):
        here = ready.get(position, [])
        if position in plan.bodies:
            env.run(waiting)
            waiting = []
            inside.update(_run_loop(plan, position, alive, env))
        elif position >= 0 and needed[position]:
            waiting.append(jaxpr.eqns[position])
        if not here:
            continue
        env.run(waiting)
        waiting = []
        for index in here:
            squares[index] = _square(plan, plan.gradients[index], env, inside)
        fresh += here
        if not plan.method.in_order:
            continue
        # Otherwise the compiler may put the norms off and keep their factors in memory till then.
        used = variables_of([v for index in here for v in plan.gradients[index].inputs])
        later = [variable for variable in dict.fromkeys(used) if last_use.get(variable, -1) > position]
        tied = [variable for variable in later if variable in plan.varies]
        if tied and all(_varies(plan, plan.gradients[index]) for index in fresh):
            done = sum(squares[index] for index in fresh)
            env.write(tied, [after(env.read(variable), done) for variable in tied])
            fresh = []
    env.run(waiting)
    return [env.read(atom) for atom in results], [squares[i] for i in range(len(plan.gradients))]


def _ready(plan: ProgramPlan) -> dict[int, list[int]]:
    """Returns which gradients' factors are complete after each equation; -1 is before the first."""
    defined_at = {
        variable: position
        for position, equation in enumerate(plan.program.jaxpr.eqns)
        for variable in equation.outvars
    }
    ready: dict[int, list[int]] = {}
    for index, gradient in enumerate(plan.gradients):
        inputs = gradient.inputs
        if gradient.loop is not None:
            inputs = variables_of([gradient.atom, *(atom for _, atom in gradient.scales)])
        position = max((defined_at.get(variable, -1) for variable in inputs), default=-1)
        ready.setdefault(position, []).append(index)
    return ready


def _last_use(plan: ProgramPlan, needed: Sequence[bool], results: Sequence[Any]) -> dict[Any, int]:
    jaxpr = plan.program.jaxpr
    last: dict[Any, int] = {}
    for position, equation in enumerate(jaxpr.eqns):
        if needed[position] or position in plan.bodies:
            last.update(dict.fromkeys(variables_of(equation.invars), position))
    for position, indices in _ready(plan).items():
        for variable in (v for index in indices for v in plan.gradients[index].inputs):
            last[variable] = max(last.get(variable, -1), position)
    last.update(dict.fromkeys(variables_of(results), len(jaxpr.eqns)))
    return last


def _square(plan: ProgramPlan, gradient: GradientPlan, env: Environment, inside: dict[Any, Array]) -> Array:
    if gradient.loop is not None:
        square = inside[gradient.atom]
        return square * jnp.square(scale_of(gradient.scales, env)) if gradient.scales else square
    if gradient.form is None:
        leaf = jnp.asarray(env.read(gradient.atom))
        if plan.method.in_order or leaf.size > SMALL:
            return sum_of_squares(leaf)
        return jnp.square(leaf.astype(accumulator(leaf.dtype))).reshape(-1)
    if len(gradient.terms) > 1:
        factors = [scaled_factors(term, env) for term in gradient.terms]
        return gradient.form.compute(factors, gradient.precision)
    (term,) = list(gradient.terms)
    first, second = (env.read(atom) for atom in term.product.inputs)
    if not plan.method.in_order:
        # Else XLA works what made them into the products, where it is done again, and no two are alike.
        first, second = lax.optimization_barrier((first, second))
    elif all(atom in plan.varies for atom in variables_of(term.product.inputs)):
        # The first factor is there since the forward pass; nothing is to be made of it before its turn.
        first = after(first, second)
    square = gradient.form.compute([term.product.factors(first, second)], gradient.precision)
    return square * jnp.square(scale_of(term.scales, env)) if term.scales else square


def _varies(plan: ProgramPlan, gradient: GradientPlan) -> bool:
    return any(variable in plan.varies for variable in gradient.inputs)


def _run_loop(plan: ProgramPlan, position: int, alive: set[Any], env: Environment) -> dict[Any, Array]:
    """Runs a scan whose body takes norms, and returns the squares of those of its stacked gradients."""
    scan, body = plan.program.jaxpr.eqns[position], plan.bodies[position]
    _, num_carry = scan_counts(scan)
    stacked = [i for i in range(num_carry, len(scan.outvars)) if scan.outvars[i] in alive]
    kept = [*range(num_carry), *stacked]

    def step(values: list[Any]) -> tuple[list[Any], Any]:
        results, inside = run_program(body, values, kept)
        return results[:num_carry], (results[num_carry:], inside)

    carry, (arrays, inside) = run_scan(scan, [env.read(atom) for atom in scan.invars], step)
    env.write(scan.outvars[:num_carry], carry)
    env.write([scan.outvars[i] for i in stacked], arrays)
    return {
        scan.outvars[gradient.output]: jnp.sum(square)
        for gradient, square in zip(body.gradients, inside, strict=True)
    }
