"""Weight gradients that are matrix products `P = Σ_t left_t right_tᵀ`: dense layers, attention, embeddings.

`left` is float `[s t k]` and `right` float `[s t o]`: t is summed over (tokens, positions, time), k and o are
the axes of the parameter that come from one factor each, and s are axes that both factors have.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from diet_jax.per_example.method import precision_of
from diet_jax.per_example.products import Factors, Form, accumulator, contract, joined, size, sum_of_squares
from diet_jax.types import Array


class OneHot(NamedTuple):
    """A left factor whose row t is the unit vector of index t, or zero where the index is not valid."""

    index: Array
    """int `[t]`."""
    valid: Array
    """bool `[t]`."""


@dataclass(frozen=True)
class DenseProduct:
    """`lax.dot_general` of two arrays, with its result's axes permuted.

    `axes` names where each axis of the result comes from: ("batch", i), ("left", i) or ("right", i), with i
    the axis of the factor (for batch axes a position in the pairs).
    """

    inputs: tuple[Any, Any]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    over: tuple[tuple[int, ...], tuple[int, ...]]
    batch: tuple[tuple[int, ...], tuple[int, ...]]
    axes: tuple[tuple[str, int], ...]
    precision: Any

    @classmethod
    def of(cls, equation: Any) -> "DenseProduct":
        """Reads a `dot_general` equation."""
        over, batch = equation.params["dimension_numbers"]
        left, right = (tuple(atom.aval.shape) for atom in equation.invars)
        axes = [("batch", i) for i in range(len(batch[0]))]
        for side, shape, used in (("left", left, (over[0], batch[0])), ("right", right, (over[1], batch[1]))):
            axes += [(side, i) for i in range(len(shape)) if i not in (*used[0], *used[1])]
        pairs = [tuple(map(tuple, pair)) for pair in (over, batch)]
        parts = (tuple(equation.invars), (left, right), *pairs, tuple(axes), precision_of(equation))
        return cls(*parts)  # type: ignore[arg-type]

    @property
    def multiply_adds(self) -> int:
        """To form the product."""
        return size(self.sizes)

    @property
    def signature(self) -> Any:
        """Which axes of the parameter come from both factors, which from the same one."""
        return "dense", self._groups

    def transposed(self, permutation: Sequence[int]) -> "DenseProduct":
        """Returns the product with its axes permuted."""
        return replace(self, axes=tuple(self.axes[i] for i in permutation))

    def factors(self, first: Array, second: Array) -> Factors:
        """Returns float `[s t k]` and `[s t o]`: k is the group of the first axis that is not in s."""
        arranged = [self._arranged(side, array) for side, array in enumerate((first, second))]
        if self._first_group == "right":
            arranged.reverse()
        return arranged[0], arranged[1]

    def forms(self, others: Sequence[Any]) -> list[Form]:
        """Returns the forms of the sum, which is the product of factors joined along t."""
        terms = [self, *others]
        if any(isinstance(term, LookupProduct) for term in terms):
            terms.sort(key=lambda term: isinstance(term, DenseProduct))
            return terms[0].forms(terms[1:])
        s, _, k, o = self.sizes
        return dense_forms(s, sum(term.sizes[1] for term in terms), k, o)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """s, t, k and o."""
        left = self.shapes[0]
        count = {"batch": 1, "left": 1, "right": 1}
        for group, i in self.axes:
            count[group] *= left[self.batch[0][i]] if group == "batch" else self.shapes[group == "right"][i]
        k, o = count["left"], count["right"]
        k, o = (o, k) if self._first_group == "right" else (k, o)
        return count["batch"], size([left[i] for i in self.over[0]]), k, o

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the product."""
        return tuple(self._length(axis) for axis in self.axes)

    def assembled(self, left: Array, right: Array, precision: Any) -> Array:
        """Returns the product of factors `[s t k]` and `[s t o]`, of any length t, with its own axes."""
        product = contract(left, right, ((1,), (1,)), ((0,), (0,)), precision)
        groups = self._groups
        order = [i for group in ("batch", 0, 1) for i, g in enumerate(groups) if g == group]
        flat = product.reshape([self.shape[i] for i in order])
        return jnp.transpose(flat, [order.index(axis) for axis in range(len(order))])

    def _length(self, axis: tuple[str, int]) -> int:
        group, i = axis
        return self.shapes[0][self.batch[0][i]] if group == "batch" else self.shapes[group == "right"][i]

    @property
    def _first_group(self) -> str:
        return next((group for group, _ in self.axes if group != "batch"), "left")

    @property
    def _groups(self) -> tuple[Any, ...]:
        return tuple("batch" if g == "batch" else int(g != self._first_group) for g, _ in self.axes)

    def _arranged(self, side: int, array: Array) -> Array:
        name = ("left", "right")[side]
        batch = [self.batch[side][i] for group, i in self.axes if group == "batch"]
        free = [i for group, i in self.axes if group == name]
        over = list(self.over[side])
        lengths = [size([self.shapes[side][i] for i in axes]) for axes in (batch, over, free)]
        return jnp.transpose(array, (*batch, *over, *free)).reshape(lengths)


@dataclass(frozen=True)
class LookupProduct:
    """`scatter-add` of rows into zeros, the gradient of looking rows up in a table.

    As a matrix product: `P = Σ_t onehot(index_t) update_tᵀ`.
    """

    inputs: tuple[Any, Any]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    rows: int
    window: tuple[int, ...]
    """Axes of the updates that are axes of the table; the others are t."""
    clip: bool
    axes: tuple[int, ...]
    """Permutation of (row, *window)."""

    @classmethod
    def of(cls, equation: Any, starts_at_zero: bool) -> "LookupProduct | None":
        """Reads a `scatter-add` equation, if it adds whole rows of its first axis to zeros."""
        numbers = equation.params["dimension_numbers"]
        table, index, update = (tuple(atom.aval.shape) for atom in equation.invars)
        simple = (
            starts_at_zero
            and numbers.inserted_window_dims == (0,)
            and numbers.scatter_dims_to_operand_dims == (0,)
            and not numbers.operand_batching_dims
            and index[-1] == 1
            and tuple(update[i] for i in numbers.update_window_dims) == table[1:]
        )
        if not simple:
            return None
        clip = equation.params["mode"] == lax.GatherScatterMode.CLIP
        window, axes = tuple(numbers.update_window_dims), tuple(range(len(table)))
        return cls(tuple(equation.invars[1:]), (index, update), table[0], window, clip, axes)

    @property
    def precision(self) -> Any:
        """Full: rows are added, and nothing is rounded."""
        return lax.Precision.HIGHEST

    @property
    def multiply_adds(self) -> int:
        """None: rows are added."""
        return 0

    @property
    def signature(self) -> Any:
        """That of the dense product with one-hot rows."""
        first_is_row = self.axes[0] == 0
        return "dense", tuple(int((axis == 0) != first_is_row) for axis in self.axes)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """s, t, k and o, where k are the rows of the table."""
        return 1, size(self.shapes[0]), self.rows, size([self.shapes[1][i] for i in self.window])

    def transposed(self, permutation: Sequence[int]) -> "LookupProduct":
        """Returns the product with its axes permuted."""
        return replace(self, axes=tuple(self.axes[i] for i in permutation))

    def factors(self, first: Array, second: Array) -> Factors:
        """Returns the one-hot rows and the updates, float `[1 t o]`."""
        window = [self.window[axis - 1] for axis in self.axes if axis != 0]
        over = [i for i in range(second.ndim) if i not in self.window]
        _, count, _, width = self.sizes
        index = jnp.asarray(first).reshape(count)
        # The number of rows may be beyond what small integers can hold.
        index = index if index.dtype.itemsize >= 4 else index.astype(jnp.int32)
        if self.clip:
            index = jnp.clip(index, 0, self.rows - 1)
        updates = jnp.transpose(second, (*over, *window)).reshape(1, count, width)
        return OneHot(index, (index >= 0) & (index < self.rows)), updates

    def forms(self, others: Sequence[Any]) -> list[Form]:
        """Returns the one form of lookups alone, or that of lookups and dense products of one table."""
        terms = [self, *others]
        t = sum(term.sizes[1] for term in terms)
        _, _, rows, width = self.sizes
        if all(isinstance(term, LookupProduct) for term in terms):
            return [Form("rows", t * t * width, t * (t + width), _rows_form)]
        table_first = self.axes[0] == 0
        macs = t * t * (width + sum(rows for term in terms if isinstance(term, DenseProduct)))

        def compute(factors: Sequence[Factors], precision: Any) -> Array:
            # A dense product's factors come in the order of the parameter's axes.
            pairs = [f if isinstance(f[0], OneHot) or table_first else (f[1], f[0]) for f in factors]
            return _gram_form(pairs, precision)

        return [Form("gram", macs, 3 * t * t, compute, products=2)]


def dense_forms(s: int, t: int, k: int, o: int) -> list[Form]:
    """Returns the forms of a product with these sizes."""
    if t == 1:
        return [Form("outer", s * (k + o), s * (k + o), _outer_form, products=0)]
    return [
        Form("gram", s * t * t * (k + o), 3 * s * t * t, _gram_form, products=2),
        Form("product", s * t * k * o, s * k * o, _product_form),
    ]


def _outer_form(factors: Sequence[Factors], precision: Any) -> Array:
    """`‖a bᵀ‖² = ‖a‖² ‖b‖²`, where t is 1 in all: no matrix product."""
    del precision
    left, right = joined(factors, 1)
    kind = accumulator(left.dtype, right.dtype)
    squares = [jnp.sum(jnp.square(side.astype(kind)), (1, 2)) for side in (left, right)]
    return jnp.sum(squares[0] * squares[1])


def _product_form(factors: Sequence[Factors], precision: Any) -> Array:
    """Multiplies out: one matrix at a time, as many multiply-adds as the ordinary gradient."""
    left, right = joined(factors, 1)
    return sum_of_squares(contract(left, right, ((1,), (1,)), ((0,), (0,)), precision))


def _gram_form(factors: Sequence[Factors], precision: Any) -> Array:
    """`‖Σ_t a_t b_tᵀ‖² = Σ_{t t'} (a_t·a_t') (b_t·b_t')`: never forms the product.

    The sum over t runs over all terms, so products of a shared parameter are blocks of one Gram matrix.
    """
    if not any(isinstance(left, OneHot) for left, _ in factors):
        factors = [joined(factors, 1)]
    kind = accumulator(*(side.dtype for pair in factors for side in pair if not isinstance(side, OneHot)))
    total = jnp.zeros((), kind)
    for i, (left, right) in enumerate(factors):
        for j, (other_left, other_right) in enumerate(factors[: i + 1]):
            grams = [_gram(*sides, precision) for sides in ((left, other_left), (right, other_right))]
            block = jnp.sum(grams[0].astype(kind) * grams[1].astype(kind))
            total = total + (block if i == j else 2 * block)
    # Rounding may leave a small negative number where the true one is zero.
    return jnp.maximum(total, 0)


def _rows_form(factors: Sequence[Factors], precision: Any) -> Array:
    """Sums the updates of equal indices and squares: no more rows than lookups, no signed sum of squares."""
    index = jnp.concatenate([left.index for left, _ in factors])
    valid = jnp.concatenate([left.valid for left, _ in factors])
    updates = jnp.concatenate([right for _, right in factors], axis=1)[0]
    same = (index[:, None] == index[None, :]) & valid[:, None] & valid[None, :]
    # Each row is summed at its first lookup, and only there.
    first = ~jnp.any(jnp.tril(same, -1), axis=1)
    summed = contract(
        (same & first[:, None]).astype(updates.dtype), updates, ((1,), (0,)), precision=precision
    )
    return sum_of_squares(summed)


def _gram(left: Any, right: Any, precision: Any) -> Array:
    """All inner products of rows, `[s t t']`."""
    if isinstance(left, OneHot) and isinstance(right, OneHot):
        same = (left.index[:, None] == right.index[None, :]) & left.valid[:, None] & right.valid[None, :]
        return same.astype(jnp.float32)[None]
    if isinstance(right, OneHot):
        return jnp.swapaxes(_gram(right, left, precision), 1, 2)
    if isinstance(left, OneHot):
        picked = jnp.take(right, left.index, axis=2, mode="clip")  # [1 t' t]
        picked = jnp.where(left.valid, picked, jnp.zeros((), picked.dtype))
        return jnp.swapaxes(picked, 1, 2).astype(accumulator(picked.dtype))
    return contract(left, right, ((2,), (2,)), ((0,), (0,)), precision)
