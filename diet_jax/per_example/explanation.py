"""What `per_example_grad_norms` does with a loss, parameter by parameter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diet_jax.checks.values import check_function
from diet_jax.per_example.method import choose_method
from diet_jax.per_example.norms import LossFn, Select, Selection, check_batch, plan_gradients
from diet_jax.per_example.plan import GradientPlan, ProgramPlan
from diet_jax.per_example.products import size


@dataclass(frozen=True)
class LeafExplanation:
    """How the norm of one parameter's gradient is computed; the numbers are for one example."""

    name: str
    """Path of the parameter."""
    shape: tuple[int, ...]
    form: str
    """"gradient" where the gradient itself is computed, else the form that replaces it."""
    multiply_adds: int
    """In the matrix products of the form; 0 where the backward pass computes the gradient itself."""
    bytes: int
    """Of the arrays that the form goes through, or of the gradient."""
    gradient_multiply_adds: int
    """In the products that form the gradient."""
    gradient_bytes: int
    """Of the gradient."""
    why: str


@dataclass(frozen=True)
class Explanation:
    """All parameters; `print` it."""

    leaves: tuple[LeafExplanation, ...]

    def __str__(self) -> str:
        header = ("parameter", "shape", "form", "Mflop", "kB", "if formed: Mflop", "kB", "why")
        rows = [header, *(_row(leaf) for leaf in self.leaves), self._total()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = []
        for row in rows:
            cells = [
                cell.rjust(width) if 3 <= i <= 6 else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines)

    def _total(self) -> tuple[str, ...]:
        sums = [
            sum(getattr(leaf, name) for leaf in self.leaves)
            for name in ("multiply_adds", "bytes", "gradient_multiply_adds", "gradient_bytes")
        ]
        formed = [size(leaf.shape) for leaf in self.leaves if leaf.form == "gradient"]
        share = sum(formed) / max(sum(size(leaf.shape) for leaf in self.leaves), 1)
        note = f"{len(formed)} of {len(self.leaves)} gradients are formed: {share:.2%} of all numbers"
        return ("all", "", "", *_numbers(*sums), note)


def explain(loss_fn: LossFn, params: Any, *batch: Any, select: Select | None = None) -> Explanation:
    """Returns how `per_example_grad_norms` would compute the norm of each parameter's gradient.

    Nothing is run: shapes are enough (`jax.eval_shape` gives them). The forms are those for JAX's backend.

    | form | computes | where it wins |
    |---|---|---|
    | outer | `‖a‖² ‖b‖²` | dense layers that saw one vector |
    | gram | `Σ (A Aᵀ) ∘ (B Bᵀ)` | few tokens, wide layers |
    | product | `‖Aᵀ B‖²` | many tokens, narrow layers |
    | offset | a product for each offset of a kernel | convolutions on large maps, grouped ones |
    | pixel | the gram form, from inner products of pixels | convolutions on small maps |
    | patch ... | a dense form on patches | large strides, long kernels |
    | split product | one product of copies of both factors | convolutions on large maps on GPUs |
    | rows | updates of equal indices summed | embeddings |
    | gradient | the gradient itself | biases, scales, whatever is not a product |

    Args:
        loss_fn: as for `per_example_grad_norms`.
        params: as there, or their shapes.
        *batch: as there, or their shapes.
        select: as there.

    Returns:
        An explanation, whose text is a table and whose `leaves` are its rows.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = lambda w, x: jnp.sum(jnp.tanh(x @ w))
        >>> explanation = explain(loss, jnp.zeros((64, 64)), jnp.zeros((2, 8, 64)))
        >>> explanation.leaves[0].form
        'gram'
    """
    check_function(loss_fn, "loss_fn", "(params, *example) -> scalar")
    if select is not None:
        check_function(select, "select", "of a parameter's path that returns True or False")
    check_batch(batch)
    selection = Selection(params, select)
    plan, _ = plan_gradients(loss_fn, selection, batch, choose_method())
    leaves = (_explained(name, g, plan) for name, g in zip(selection.names, plan.gradients, strict=True))
    return Explanation(tuple(leaves))


def _explained(name: str, gradient: GradientPlan, plan: ProgramPlan) -> LeafExplanation:
    gradient_bytes = gradient.atom.aval.dtype.itemsize * size(gradient.shape)
    if gradient.loop is not None:
        position = next(i for i, equation in enumerate(plan.program.jaxpr.eqns) if equation is gradient.loop)
        body, steps = plan.bodies[position], gradient.loop.params["length"]
        output = gradient.loop.outvars.index(gradient.atom)
        inside = _explained(name, next(g for g in body.gradients if g.output == output), body)
        return LeafExplanation(
            name,
            gradient.shape,
            inside.form,
            steps * inside.multiply_adds,
            inside.bytes,
            steps * inside.gradient_multiply_adds,
            gradient_bytes,
            f"in each of {steps} steps of a loop; {inside.why}",
        )
    formed = sum(term.product.multiply_adds for term in gradient.terms)
    if gradient.form is None:
        return LeafExplanation(
            name, gradient.shape, "gradient", 0, gradient_bytes, formed, gradient_bytes, gradient.why
        )
    form = gradient.form
    bytes_ = gradient.atom.aval.dtype.itemsize * form.elements
    macs = form.multiply_adds
    return LeafExplanation(
        name, gradient.shape, form.name, macs, bytes_, formed, gradient_bytes, gradient.why
    )


def _row(leaf: LeafExplanation) -> tuple[str, ...]:
    numbers = _numbers(leaf.multiply_adds, leaf.bytes, leaf.gradient_multiply_adds, leaf.gradient_bytes)
    return (leaf.name, "x".join(map(str, leaf.shape)), leaf.form, *numbers, leaf.why)


def _numbers(macs: int, bytes_: int, gradient_macs: int, gradient_bytes: int) -> Sequence[str]:
    return (
        _mega(2 * macs),
        f"{1e-3 * bytes_:,.1f}",
        _mega(2 * gradient_macs),
        f"{1e-3 * gradient_bytes:,.1f}",
    )


def _mega(number: int) -> str:
    return "<0.01" if 0 < number < 5_000 else f"{1e-6 * number:,.2f}"
