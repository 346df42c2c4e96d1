"""How norms are computed on a backend: the precision, the order, and what the parts of a form cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
from jax import lax

from diet_jax.errors import InputError

Precision = Literal["auto", "network", "highest"]


class Costs(NamedTuple):
    """What parts of a form cost, in multiply-adds of a large matrix product on the same machine."""

    element: float
    """An element that is written to an intermediate array, and read again."""
    shifted: float
    """An element that is read at an offset, in passing."""
    product: float
    """A matrix product, however small: one example's share."""


def derived(multiply_adds: float, memory: float, cache: float, launch: float) -> Costs:
    """Returns costs from what a machine's makers promise, or a peak that was measured.

    Args:
        multiply_adds: of a large matrix product, in a second.
        memory: bytes in a second.
        cache: bytes in a second.
        launch: seconds to start what surrounds a product, one example's share of a batch.
    """
    # Four bytes for each number, written and read.
    return Costs(8 / memory * multiply_adds, 4 / cache * multiply_adds, launch * multiply_adds)


COSTS = {
    # Measured: times of the offset form, 0.65 ns an element against 0.012 ns a multiply-add.
    "cpu": Costs(50, 50, 0),
    # Derived, not measured: products of an H100 in TF32 (365 TFLOP/s, measured), its memory and cache (3.35
    # and 6.65 TB/s, promised), 5 microseconds to start a product and its slices, for a batch of 256.
    "gpu": derived(365e12 / 2, 3.35e12, 6.65e12, 5e-6 / 256),
}
"""By backend. `benchmarks/forms.py` prints what measures them; other accelerators are taken for a GPU."""


@dataclass(frozen=True)
class Method:
    """How norms are computed."""

    highest: bool
    """Whether the products of the norms are at full precision; else they are like the network's own."""
    in_order: bool
    """Whether the order of computation must be forced; XLA's scheduler for GPUs saves memory by itself."""
    costs: Costs

    def precision_of(self, products: Sequence[Any]) -> Any:
        """Returns the `precision` for the norm of a sum of products; full where the network used several."""
        used = {product.precision for product in products}
        return lax.Precision.HIGHEST if self.highest or len(used) > 1 else used.pop()


def choose_method(precision: Precision = "auto", backend: str | None = None) -> Method:
    """Returns how norms are computed on a backend, by default on JAX's own.

    Raises:
        InputError: no such precision.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision must be one of {', '.join(get_args(Precision))}; got {precision!r}")
    backend = backend or jax.default_backend()
    on_cpu = backend == "cpu"
    highest = precision == "highest" or (precision == "auto" and on_cpu)
    return Method(highest, on_cpu, COSTS.get(backend, COSTS["gpu"]))


def precision_of(equation: Any) -> Any:
    """Returns the precision in which an equation of the network multiplies, None for the backend's own.

    It is what the product was written with, else what `jax.default_matmul_precision` was.
    """
    precision = equation.params["precision"]
    # One for each factor; an inner product within one factor has only that one.
    sides = set(precision) if type(precision) is tuple else {precision}
    return sides.pop() if len(sides) == 1 else lax.Precision.HIGHEST
