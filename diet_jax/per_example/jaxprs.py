"""Programs as lists of equations: inlining, running a part, what depends on what."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jex

# Primitives that only wrap a body; how a wrapped weight gradient is computed is seen once they are gone.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2", "custom_vmap_call")


def flattened(closed: jex.ClosedJaxpr, varies: Sequence[bool]) -> jex.ClosedJaxpr:
    """Returns an equal program with the bodies of jitted and checkpointed parts in line.

    A checkpointed part that runs a second time (in a backward pass) keeps its own copy of the forward pass:
    its inputs go through an optimization barrier, as they do where it is not inlined, so that the compiler
    does not find the first copy and keep its results in memory after all. They also wait for the cotangent,
    or everything would be recomputed as soon as the forward pass is done.

    Args:
        closed: any program.
        varies: which inputs differ between examples.
    """
    if not any(equation.primitive.name in _CALLS for equation in closed.jaxpr.eqns):
        return closed
    return retraced(closed, lambda *args: _run_inline(closed, args, varies))


def retraced(closed: jex.ClosedJaxpr, fn: Callable[..., Any]) -> jex.ClosedJaxpr:
    """Returns the program of `fn`, which takes the same inputs as `closed`."""
    avals = [variable.aval for variable in closed.jaxpr.invars]
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype, weak_type=getattr(a, "weak_type", False)) for a in avals]
    return jax.make_jaxpr(fn)(*shapes)


def varying(closed: jex.ClosedJaxpr, varies: Sequence[bool]) -> set[Any]:
    """Returns the variables that differ between examples, given which inputs do."""
    jaxpr = closed.jaxpr
    found = {variable for variable, yes in zip(jaxpr.invars, varies, strict=True) if yes}
    for equation in jaxpr.eqns:
        inputs = [not isinstance(atom, jex.Literal) and atom in found for atom in equation.invars]
        name = equation.primitive.name
        if name == "optimization_barrier":
            results = inputs
        elif name == "scan":
            results = _varying_results_of_scan(equation, inputs)
        else:
            results = [any(inputs)] * len(equation.outvars)
        found.update(variable for variable, yes in zip(equation.outvars, results, strict=True) if yes)
    return found


def scan_counts(scan: jex.JaxprEqn) -> tuple[int, int]:
    """Returns how many of a scan's inputs are constants, and how many are carried.

    Read off the shapes, for what a scan tells about itself differs between versions of JAX: what is stacked
    has an axis more outside than in the body.
    """
    body = scan.params["jaxpr"].jaxpr

    def stacked(outside: Sequence[Any], inside: Sequence[Any]) -> int:
        pairs = zip(outside, inside, strict=True)
        return sum(len(a.aval.shape) > len(b.aval.shape) for a, b in pairs)

    carried = len(scan.outvars) - stacked(scan.outvars, body.outvars)
    return len(scan.invars) - stacked(scan.invars, body.invars) - carried, carried


def scan_inputs_that_vary(scan: jex.JaxprEqn, inputs: Sequence[bool]) -> list[bool]:
    """Returns which inputs of a scan's body differ between examples in some step."""
    start, count = scan_counts(scan)
    inputs = list(inputs)
    while True:
        carried = _varying_results(scan.params["jaxpr"], inputs)[:count]
        joined = [a or b for a, b in zip(inputs[start : start + count], carried, strict=True)]
        if joined == inputs[start : start + count]:
            return inputs
        inputs[start : start + count] = joined


def _varying_results_of_scan(scan: jex.JaxprEqn, inputs: Sequence[bool]) -> list[bool]:
    return _varying_results(scan.params["jaxpr"], scan_inputs_that_vary(scan, inputs))


def _varying_results(body: jex.ClosedJaxpr, inputs: Sequence[bool]) -> list[bool]:
    found = varying(body, inputs)
    return [not isinstance(atom, jex.Literal) and atom in found for atom in body.jaxpr.outvars]


def _run_inline(closed: jex.ClosedJaxpr, args: Sequence[Any], varies: Sequence[bool]) -> list[Any]:
    env = Environment(closed, args)
    found = varying(closed, varies)
    for equation in closed.jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name not in _CALLS:
            env.run([equation])
            continue
        body = next(params[key] for key in ("jaxpr", "call_jaxpr", "call") if key in params)
        if not hasattr(body, "consts"):
            body = jex.ClosedJaxpr(body, ())
        inputs = [not isinstance(atom, jex.Literal) and atom in found for atom in equation.invars]
        values = [env.read(atom) for atom in equation.invars]
        if params.get("differentiated") and params.get("prevent_cse"):
            values = jax.lax.optimization_barrier(values)
            if inputs and inputs[-1]:
                # The cotangents come last.
                now = values[-1]
                values[:-1] = [
                    after(value, now) if yes else value
                    for value, yes in zip(values[:-1], inputs[:-1], strict=True)
                ]
        env.write(equation.outvars, _run_inline(body, values, inputs))
    return [env.read(atom) for atom in closed.jaxpr.outvars]


class Environment:
    """The values of a program's variables while it runs, possibly traced."""

    def __init__(self, closed: jex.ClosedJaxpr, args: Sequence[Any]):
        self._jaxpr = closed.jaxpr
        self._values: dict[Any, Any] = {}
        self.write(closed.jaxpr.constvars, closed.consts)
        self.write(closed.jaxpr.invars, args)

    def read(self, atom: Any) -> Any:
        """Returns the value of a variable or literal."""
        return atom.val if isinstance(atom, jex.Literal) else self._values[atom]

    def write(self, variables: Sequence[Any], values: Sequence[Any]) -> None:
        """Sets variables, also ones that have a value already."""
        self._values.update(zip(variables, values, strict=True))

    def run(self, equations: Sequence[jex.JaxprEqn]) -> None:
        """Runs consecutive equations on the values at hand."""
        made: dict[Any, None] = {}
        used: dict[Any, None] = {}
        for equation in equations:
            used.update(dict.fromkeys(v for v in variables_of(equation.invars) if v not in made))
            made.update(dict.fromkeys(equation.outvars))
        # The names of the whole program's arguments do not fit a part of it.
        info = self._jaxpr.debug_info._replace(arg_names=None, result_paths=None)
        part = self._jaxpr.replace(
            constvars=[], invars=list(used), outvars=list(made), eqns=list(equations), debug_info=info
        )
        results = jex.jaxpr_as_fun(jex.ClosedJaxpr(part, ()))(*(self._values[v] for v in used))
        self.write(list(made), results)


def variables_of(atoms: Sequence[Any]) -> list[Any]:
    """Returns those that are variables and not literals."""
    return [atom for atom in atoms if not isinstance(atom, jex.Literal)]


def needed_equations(equations: Sequence[jex.JaxprEqn], wanted: Sequence[Any]) -> tuple[list[bool], set[Any]]:
    """Returns which equations compute the wanted variables, and every variable that is then in use."""
    alive = set(variables_of(wanted))
    needed = [False] * len(equations)
    for index in reversed(range(len(equations))):
        equation = equations[index]
        if equation.effects or any(var in alive for var in equation.outvars):
            needed[index] = True
            alive.update(variables_of(equation.invars))
    return needed, alive


def after(array: Any, when: Any) -> Any:
    """Returns the array, made to depend on another one, so that the other one is computed first.

    XLA takes `lax.optimization_barrier` away before it orders the program, and on CPUs starts whatever can be
    started: slices of the inputs of all layers would be in memory at once. This is a sum with a zero that no
    compiler knows to be one: min(|number|, 0). Both must differ between examples, or one copy of the array
    becomes many.
    """
    when = jnp.asarray(when)
    floats = all(jnp.issubdtype(kind, jnp.floating) for kind in (jnp.result_type(array), when.dtype))
    if not floats or when.size == 0:
        return array
    zero = jnp.minimum(jnp.abs(when[(0,) * when.ndim]), 0)
    # NaN, which belongs to the other array, stays there.
    return array + jnp.where(zero == 0, zero, 0).astype(array.dtype)
