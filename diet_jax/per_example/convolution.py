"""Weight gradients that are convolutions: `P[c, o, k] = Σ_t x[position(k, t), c] g[t, o]`.

x is the layer's input, g the gradient at its output, t runs over the places where the kernel was applied, k
over the kernel's offsets. Everything is read off the equation: strides, dilations, padding and axes.

Factors are x as `[n S.. g c]` and g as `[n T.. g o]`: n is summed over (1 for one image, more for shared
layers), S and T are the spatial axes, and g the groups, which do not mix.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax

from diet_jax.per_example.dense import dense_forms
from diet_jax.per_example.jaxprs import after
from diet_jax.per_example.products import Factors, Form, accumulator, contract, size, sum_of_squares
from diet_jax.types import Array

# A slice for each offset is written out in the program.
MOST_OFFSETS = 512


@dataclass(frozen=True)
class Window:
    """How one spatial axis of x is read: offset k and place t meet at `k · offset_step + t · step − low`."""

    length: int
    """Of x, before it is dilated."""
    offsets: int
    """Of the kernel."""
    places: int
    offset_step: int
    """The kernel's dilation."""
    step: int
    """The layer's stride."""
    low: int
    """Zeros before x; may be negative."""
    dilation: int
    """Of x: how far apart its entries are read (transposed convolutions)."""

    @property
    def reach(self) -> int:
        """One more than the highest position that is read, counted from the first."""
        return (self.offsets - 1) * self.offset_step + (self.places - 1) * self.step + 1

    @property
    def padding(self) -> tuple[int, int, int]:
        """Low, high and interior padding after which every position is an index."""
        dilated = (self.length - 1) * self.dilation + 1
        return self.low, self.reach - dilated - self.low, self.dilation - 1

    def places_of(self, offset: int) -> tuple[int, int, int]:
        """First, last (not included) and step of the padded indices that an offset reads."""
        start = offset * self.offset_step
        return start, start + (self.places - 1) * self.step + 1, self.step


@dataclass(frozen=True)
class ConvProduct:
    """`lax.conv_general_dilated` whose result is a kernel's gradient, with the result's axes permuted."""

    inputs: tuple[Any, Any]
    windows: tuple[Window, ...]
    n: int
    groups: int
    c: int
    o: int
    orders: tuple[tuple[int, ...], tuple[int, ...]]
    """Permutations of x and g to (n, spatial.., channel)."""
    axes: tuple[int, ...]
    """Permutation of (c, o, spatial..)."""

    @classmethod
    def of(cls, equation: Any) -> "ConvProduct | None":
        """Reads a `conv_general_dilated` equation; None if its groups are of a kind that is not known."""
        params = equation.params
        numbers, groups = params["dimension_numbers"], params["batch_group_count"]
        if params["feature_group_count"] != 1:
            return None
        x, g = (tuple(atom.aval.shape) for atom in equation.invars)
        result = tuple(equation.outvars[0].aval.shape)
        (c_axis, n_axis, *x_space), (o_axis, _, *g_space) = numbers.lhs_spec, numbers.rhs_spec
        windows = tuple(
            Window(x[a], result[r], g[b], offset_step, step, low, dilation)
            for a, b, r, offset_step, step, (low, _), dilation in zip(
                x_space,
                g_space,
                numbers.out_spec[2:],
                params["window_strides"],
                params["rhs_dilation"],
                params["padding"],
                params["lhs_dilation"],
                strict=True,
            )
        )
        orders = ((n_axis, *x_space, c_axis), (numbers.rhs_spec[1], *g_space, o_axis))
        axes = tuple(numbers.out_spec.index(i) for i in range(len(result)))
        return cls(
            tuple(equation.invars),
            windows,
            x[n_axis],
            groups,
            x[c_axis] // groups,
            g[o_axis] // groups,
            orders,
            axes,
        )

    @property
    def multiply_adds(self) -> int:
        """To form the product."""
        offsets = size([window.offsets for window in self.windows])
        return self.n * self._places * offsets * self.groups * self.c * self.o

    @property
    def signature(self) -> Any:
        """Axes of the kernel."""
        return "conv", self.axes, self.groups

    def transposed(self, permutation: Sequence[int]) -> "ConvProduct":
        """Returns the product with its axes permuted."""
        axes = tuple(self.axes[i] for i in permutation)
        parts = (self.inputs, self.windows, self.n, self.groups, self.c, self.o, self.orders)
        return ConvProduct(*parts, axes)

    def factors(self, first: Array, second: Array) -> Factors:
        """Returns x as float `[n S.. g c]`, padded and dilated, and g as float `[n T.. g o]`."""
        x, g = jnp.transpose(first, self.orders[0]), jnp.transpose(second, self.orders[1])
        x = x.reshape(*x.shape[:-1], self.groups, self.c)
        return x, g.reshape(*g.shape[:-1], self.groups, self.o)

    def forms(self, others: Sequence[Any]) -> list[Form]:
        """Returns the forms that hold for these windows; sums of layers of other geometry only by offset."""
        terms: list[ConvProduct] = [self, *others]
        if size([window.offsets for window in self.windows]) > MOST_OFFSETS:
            return []
        forms = [self._offset(terms)]
        if all(term.windows == self.windows for term in terms):
            n = sum(term.n for term in terms)
            forms += self._patches(n)
            if all(window.dilation == 1 for window in self.windows):
                forms.append(self._pixel(n))
        return forms

    def _offset(self, terms: "Sequence[ConvProduct]") -> Form:
        """One matrix product for each offset of the kernel, squared and summed.

        `‖P‖² = Σ_k ‖Σ_t x[position(k, t)] g[t]ᵀ‖²`: neither patches nor the gradient are ever whole.
        """
        offsets = list(itertools.product(*(range(window.offsets) for window in self.windows)))

        def compute(factors: Sequence[Factors]) -> Array:
            total = jnp.zeros((), accumulator(*(g.dtype for _, g in factors)))
            for offset in offsets:
                # One slice of x at a time.
                parts = [
                    _grouped_product(_read(after(_padded(x, term.windows), total), term.windows, offset), g)
                    for term, (x, g) in zip(terms, factors, strict=True)
                ]
                total = total + sum_of_squares(sum(parts[1:], parts[0]))
            return total

        block = self.groups * self.c * self.o
        macs = sum(term.n * term._places for term in terms) * len(offsets) * block
        read = sum(term.n * term._places for term in terms) * self.groups * self.c
        return Form("offset", macs, len(offsets) * (block + read), compute)

    def _patches(self, n: int) -> list[Form]:
        """Lays out the patches of x and treats the layer as dense: for long kernels and large strides."""
        width = size([window.offsets for window in self.windows]) * self.c
        t = n * self._places

        def with_patches(dense: Form) -> Form:
            def compute(factors: Sequence[Factors]) -> Array:
                x, g = _joined(factors)
                left = _rows(_patches_of(_padded(x, self.windows), self.windows), 2)
                return dense.compute([(left, _rows(g, 1))])

            name = f"patch {dense.name}"
            elements = dense.elements + 2 * self.groups * t * width
            return Form(name, dense.multiply_adds, elements, compute)

        return [with_patches(form) for form in dense_forms(self.groups, t, width, self.o)]

    def _pixel(self, n: int) -> Form:
        """The Gram matrix of patches from that of pixels: equal shifts of both copies, summed over offsets.

        `Σ_k x[position(k, t)] · x[position(k, t')]` is a sum of slices of the pixels' Gram matrix, one
        spatial axis at a time; with the Gram matrix of g as in the dense "gram" form.
        """
        pixels, places = n * size([w.length for w in self.windows]), n * self._places

        def compute(factors: Sequence[Factors]) -> Array:
            x, g = _joined(factors)
            gram = _gram_of(x)  # [g n S.. n S..]
            rank = len(self.windows)
            for axis, window in enumerate(self.windows):
                gram = _shifted_sum(gram, (2 + axis, 3 + rank + axis), window)
            return jnp.maximum(jnp.sum(gram * _gram_of(g)), 0)

        elements, shape = 0, [window.length for window in self.windows]
        for axis, window in enumerate(self.windows):
            before = size(shape) // shape[axis]
            elements += (before * window.reach * n) ** 2
            # A shifted copy is read across the grain: twice the time of a product's element.
            elements += 2 * window.offsets * (before * window.places * n) ** 2
            shape[axis] = window.places
        macs = self.groups * (pixels**2 * self.c + places**2 * self.o)
        return Form("pixel", macs, self.groups * (elements + 2 * places**2), compute)

    @property
    def _places(self) -> int:
        return size([window.places for window in self.windows])


def _joined(factors: Sequence[Factors]) -> Factors:
    # Layers of equal geometry that share a kernel are one layer that saw more images.
    if len(factors) == 1:
        return factors[0]
    kind = accumulator(*(side.dtype for pair in factors for side in pair))
    x, g = zip(*factors, strict=True)
    return tuple(jnp.concatenate([a.astype(kind) for a in side]) for side in (x, g))  # type: ignore[return-value]


def _padded(x: Array, windows: Sequence[Window]) -> Array:
    config = [(0, 0, 0), *(window.padding for window in windows), (0, 0, 0), (0, 0, 0)]
    if all(amounts == (0, 0, 0) for amounts in config):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _read(x: Array, windows: Sequence[Window], offset: Sequence[int]) -> Array:
    slices = [window.places_of(k) for window, k in zip(windows, offset, strict=True)]
    start, stop, step = zip((0, x.shape[0], 1), *slices, *((0, a, 1) for a in x.shape[-2:]), strict=True)
    return lax.slice(x, start, stop, step)


def _grouped_product(x: Array, g: Array) -> Array:
    """`Σ_{n t} x[n t g c] g[n t g o]`, float `[g c o]`."""
    groups, c, o = x.shape[-2], x.shape[-1], g.shape[-1]
    if groups > 1 and c * o <= 4:
        # Depthwise: a matrix product of single numbers.
        kind = accumulator(x.dtype, g.dtype)
        return jnp.sum(x.astype(kind)[..., None] * g.astype(kind)[..., None, :], tuple(range(x.ndim - 2)))
    return contract(_rows(x, 1), _rows(g, 1), ((1,), (1,)), ((0,), (0,)))


def _patches_of(x: Array, windows: Sequence[Window]) -> Array:
    """From padded x to patches, `[n T.. g k c]`."""
    if all(window.step == window.offsets and window.offset_step == 1 for window in windows):
        # Tiles: every number is read once.
        split = [length for window in windows for length in (window.places, window.offsets)]
        tiles = x.reshape(x.shape[0], *split, *x.shape[-2:])
        rank = len(windows)
        places, offsets = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
        tiles = jnp.transpose(tiles, (0, *places, 2 * rank + 1, *offsets, 2 * rank + 2))
        return tiles.reshape(*tiles.shape[: rank + 2], -1, x.shape[-1])
    offsets = itertools.product(*(range(window.offsets) for window in windows))
    return jnp.stack([_read(x, windows, offset) for offset in offsets], axis=-2)


def _rows(array: Array, trailing: int) -> Array:
    """From `[n T.. g ...]` to `[g t ...]`, the last `trailing` axes as one."""
    axis = array.ndim - trailing - 1
    moved = jnp.moveaxis(array, axis, 0)
    return moved.reshape(array.shape[axis], size(array.shape[:axis]), size(array.shape[axis + 1 :]))


def _gram_of(array: Array) -> Array:
    """Inner products over the last axis, from `[n T.. g c]` to `[g n T.. n T..]`."""
    rows = _rows(array, 1)
    gram = contract(rows, rows, ((2,), (2,)), ((0,), (0,)))
    space = array.shape[:-2]
    return gram.reshape(rows.shape[0], *space, *space)


def _shifted_sum(gram: Array, axes: tuple[int, int], window: Window) -> Array:
    config = [window.padding if axis in axes else (0, 0, 0) for axis in range(gram.ndim)]
    gram = lax.pad(gram, jnp.zeros((), gram.dtype), config)

    total = None
    for offset in range(window.offsets):
        start, stop, step = window.places_of(offset)
        part = gram
        for axis in axes:
            part = lax.slice_in_dim(part, start, stop, step, axis)
        total = part if total is None else total + part
    assert total is not None
    return total
