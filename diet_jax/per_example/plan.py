"""Which form each gradient's norm is taken in, and where in the program."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.extend import core as jex

from diet_jax.per_example.jaxprs import flattened, scan_counts, scan_inputs_that_vary, variables_of, varying
from diet_jax.per_example.loops import with_products_exported
from diet_jax.per_example.method import Method
from diet_jax.per_example.products import Form
from diet_jax.per_example.terms import Term, definitions, ends, obstacle, term_of


@dataclass(frozen=True)
class GradientPlan:
    """How the norm of one gradient is taken."""

    output: int
    """Position among the program's results."""
    shape: tuple[int, ...]
    atom: Any
    """The gradient itself, which is computed only if there is no form and no loop."""
    why: str
    terms: tuple[Term, ...] = ()
    form: Form | None = None
    scales: tuple[tuple[str, Any], ...] = ()
    """For gradients that come out of a loop, as in `Term`."""
    precision: Any = None
    """Of the form's matrix products."""
    loop: Any = None
    """The scan equation whose stacked result the gradient is; its norm is taken inside."""

    @property
    def inputs(self) -> list[Any]:
        """The variables that the norm is computed from."""
        if self.loop is not None:
            return variables_of([*self.loop.invars, *(atom for _, atom in self.scales)])
        if self.form is None:
            return variables_of([self.atom])
        return variables_of([atom for term in self.terms for atom in term.inputs])


@dataclass(frozen=True)
class ProgramPlan:
    """A flat program and how the norms of some of its results are taken."""

    program: jex.ClosedJaxpr
    gradients: tuple[GradientPlan, ...]
    bodies: "dict[int, ProgramPlan]"
    """Plans of the bodies of loops, by position of the scan equation."""
    varies: frozenset[Any]
    """The variables that differ between examples."""
    method: Method


def plan_program(
    closed: jex.ClosedJaxpr, gradients: Sequence[int], varies: Sequence[bool], method: Method
) -> ProgramPlan:
    """Plans how to take the norms of some results of a program.

    Args:
        closed: the program for one example.
        gradients: positions of the results.
        varies: which inputs differ between examples.
        method: the precision of the norms, and what the parts of a form cost.
    """
    program = with_products_exported(flattened(closed, varies), gradients, varies, method)
    jaxpr = program.jaxpr
    defined, found = definitions(jaxpr), varying(program, varies)
    plans = tuple(_plan_gradient(i, jaxpr.outvars[i], defined, method) for i in gradients)
    bodies = {}
    for position, equation in enumerate(jaxpr.eqns):
        stacked = {_result_position(plan) for plan in plans if plan.loop is equation}
        if stacked:
            inputs = [not isinstance(atom, jex.Literal) and atom in found for atom in equation.invars]
            inside = scan_inputs_that_vary(equation, inputs)
            bodies[position] = plan_program(equation.params["jaxpr"], sorted(stacked), inside, method)
    return ProgramPlan(program, plans, bodies, frozenset(found), method)


def _result_position(plan: GradientPlan) -> int:
    return plan.loop.outvars.index(plan.atom)


def _plan_gradient(output: int, atom: Any, defined: Any, method: Method) -> GradientPlan:
    shape = tuple(atom.aval.shape)
    found = ends(atom, defined)
    if not found:
        return GradientPlan(output, shape, jex.Literal(np.zeros((), atom.aval.dtype), atom.aval), "is zero")
    stops = [end for end in found if end.product is None]
    if stops:
        equation = None if isinstance(stops[0].atom, jex.Literal) else defined.get(stops[0].atom)
        name = "an input" if equation is None else equation.primitive.name
        if len(found) == 1 and name == "scan" and _is_stacked(equation, stops[0].atom):
            return GradientPlan(
                output,
                shape,
                stops[0].atom,
                "stacked by a loop: taken inside, step by step",
                scales=stops[0].path.scales,
                loop=equation,
            )
        why = f"from {name}, no product" if len(found) == 1 else f"a sum with a part from {name}, no product"
        return GradientPlan(output, shape, atom, why)
    terms = tuple(term_of(end) for end in found)
    why = obstacle(terms)
    products = [term.product for term in terms]
    forms = [] if why else products[0].forms(products[1:])
    if not forms:
        return GradientPlan(output, shape, atom, why or "no form for this product")
    best, *others = sorted(forms, key=lambda form: form.cost(method.costs))
    least = best.cost(method.costs)
    costs = ", ".join(f"{form.name} {form.cost(method.costs) / least:.1f}" for form in others[:2])
    why = f"times its cost: {costs}" if others else "the only form"
    if len(terms) > 1:
        why = f"{len(terms)} uses joined; {why}"
    return GradientPlan(output, shape, atom, why, terms, best, precision=method.precision_of(products))


def _is_stacked(scan: Any, atom: Any) -> bool:
    return scan.outvars.index(atom) >= scan_counts(scan)[1]
