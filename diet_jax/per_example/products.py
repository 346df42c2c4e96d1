"""What a weight gradient is made of: factors whose product it is, and ways to take the product's norm.

A `Product` describes one equation of the backward pass whose result is (a part of) the gradient of one
parameter. A `Form` is a way to compute `‖product‖²`, or `‖sum of products‖²`, from the factors, with what it
costs. All shapes are those of one example: the norms are taken under `vmap`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import lax

from diet_jax.per_example.method import Costs
from diet_jax.types import Array

Factors = tuple[Any, Array]


@dataclass(frozen=True)
class Form:
    """One way to compute the square of a norm; the numbers are for one example."""

    name: str
    multiply_adds: int
    """In matrix products."""
    elements: int
    """Of intermediate arrays, all told."""
    compute: Callable[[Sequence[Factors], Any], Array]
    """From the factors of each term and the `precision` of products to the square of the norm of the sum."""
    shifted: int = 0
    """Elements that are read at an offset, in passing."""
    products: int = 1
    """Matrix products."""

    def cost(self, costs: Costs) -> float:
        """Estimated time, in multiply-adds."""
        parts = (self.elements, self.shifted, self.products)
        return self.multiply_adds + sum(each * count for each, count in zip(costs, parts, strict=True))


@runtime_checkable
class Product(Protocol):
    """One product of two factors."""

    @property
    def inputs(self) -> tuple[Any, Any]:
        """The variables or literals that hold the factors."""
        ...

    @property
    def precision(self) -> Any:
        """In which the network forms it, as in `lax.dot_general`."""
        ...

    @property
    def multiply_adds(self) -> int:
        """To form the product itself, for one example."""
        ...

    @property
    def signature(self) -> Any:
        """Sums of products with equal signatures can be taken together."""
        ...

    def transposed(self, permutation: Sequence[int]) -> "Product":
        """Returns the product with its axes permuted as `lax.transpose` does."""
        ...

    def factors(self, first: Array, second: Array) -> Factors:
        """Returns the factors with their axes in the order that the forms take."""
        ...

    def forms(self, others: "Sequence[Any]") -> list[Form]:
        """Returns ways to take the norm of the sum of this product and others of its signature."""
        ...


def contract(
    left: Array, right: Array, over: Any, batch: Any = ((), ()), precision: Any = lax.Precision.HIGHEST
) -> Array:
    """`lax.dot_general` with sums in float32 or wider, by default without TF32 or bfloat16 passes."""
    kind = accumulator(left.dtype, right.dtype)
    if left.dtype != right.dtype:
        left, right = left.astype(kind), right.astype(kind)
    return lax.dot_general(left, right, (over, batch), precision=precision, preferred_element_type=kind)


def sum_of_squares(array: Any) -> Array:
    """Returns the sum over all elements, in float32 or wider."""
    array = jnp.asarray(array)
    return jnp.sum(jnp.square(array.astype(accumulator(array.dtype))))


def accumulator(*dtypes: Any) -> Any:
    """Returns the dtype that products of these dtypes are summed in."""
    return jnp.float64 if any(jnp.dtype(d).itemsize > 4 for d in dtypes) else jnp.float32


def in_one_dtype(*arrays: Array) -> tuple[Array, ...]:
    """Returns arrays in the widest of their dtypes, at least float32: float64 networks may return less."""
    kind = accumulator(*(array.dtype for array in arrays))
    return tuple(array.astype(kind) for array in arrays)


def size(shape: Sequence[int]) -> int:
    """Returns the number of elements."""
    return math.prod(shape)


def joined(factors: Sequence[Factors], axis: int) -> Factors:
    """Returns the factors of a sum as those of one product, joined along the axis that is summed over."""
    if len(factors) == 1:
        return factors[0]
    kinds = [side.dtype for pair in factors for side in pair]
    kind = kinds[0] if len(set(kinds)) == 1 else accumulator(*kinds)
    left, right = zip(*factors, strict=True)
    return tuple(jnp.concatenate([a.astype(kind) for a in side], axis) for side in (left, right))  # type: ignore[return-value]
