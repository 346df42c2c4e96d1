"""Weight gradients that are convolutions: `P[c, o, k] = Σ_t x[position(k, t), c] g[t, o]`.

x is the layer's input, g the gradient at its output, t runs over the places where the kernel was applied, k
over the kernel's offsets. Everything is read off the equation: strides, dilations, padding and axes.

Factors are x as `[n S.. g c]` and g as `[n T.. g o]`: n is summed over (1 for one image, more for shared
layers), S and T are the spatial axes, and g the groups, which do not mix.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from diet_jax.per_example.dense import dense_forms
from diet_jax.per_example.jaxprs import after
from diet_jax.per_example.method import precision_of
from diet_jax.per_example.products import Factors, Form, accumulator, contract, joined, size, sum_of_squares
from diet_jax.per_example.windows import Window, moved, padded, patches_of, read, shifted_sum
from diet_jax.types import Array

# A slice for each offset is written out in the program.
MOST_OFFSETS = 512


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
    precision: Any

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
            precision_of(equation),
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
        return replace(self, axes=tuple(self.axes[i] for i in permutation))

    def factors(self, first: Array, second: Array) -> Factors:
        """Returns x as float `[n S.. g c]`, padded and dilated, and g as float `[n T.. g o]`."""
        x, g = jnp.transpose(first, self.orders[0]), jnp.transpose(second, self.orders[1])
        x = x.reshape(*x.shape[:-1], self.groups, self.c)
        return x, g.reshape(*g.shape[:-1], self.groups, self.o)

    def forms(self, others: Sequence[Any]) -> list[Form]:
        """Returns the forms that hold for these windows, which may differ between uses but in "pixel"."""
        terms: list[ConvProduct] = [self, *others]
        if size([window.offsets for window in self.windows]) > MOST_OFFSETS:
            return []
        forms = [self._offset(terms), *self._laid_out(terms, 0)]
        if len(self.windows) > 1 and self.windows[0].offsets > 1:
            forms += self._laid_out(terms, 1)
        equal = all(term.windows == self.windows for term in terms)
        if equal and all(window.dilation == 1 for window in self.windows):
            forms.append(self._pixel(sum(term.n for term in terms)))
        return forms

    def _offset(self, terms: "Sequence[ConvProduct]") -> Form:
        """One matrix product for each offset of the kernel, squared and summed.

        `‖P‖² = Σ_k ‖Σ_t x[position(k, t)] g[t]ᵀ‖²`: neither patches nor the gradient are ever whole.
        """
        offsets = list(itertools.product(*(range(window.offsets) for window in self.windows)))

        def compute(factors: Sequence[Factors], precision: Any) -> Array:
            total = jnp.zeros((), accumulator(*(g.dtype for _, g in factors)))
            for offset in offsets:
                # One slice of x at a time.
                slices = [
                    read(after(padded(x, term.windows), total), term.windows, offset)
                    for term, (x, _) in zip(terms, factors, strict=True)
                ]
                pairs = zip(slices, factors, strict=True)
                parts = [_grouped_product(x, g, precision) for x, (_, g) in pairs]
                total = total + sum_of_squares(sum(parts[1:], parts[0]))
            return total

        block = self.groups * self.c * self.o
        t = sum(term.n * term._places for term in terms)
        elements = len(offsets) * (block + t * self.groups * self.c)
        products = len(offsets) * len(terms)
        return Form("offset", t * len(offsets) * block, elements, compute, products=products)

    def _laid_out(self, terms: "Sequence[ConvProduct]", beside: int) -> list[Form]:
        """Treats the layer as dense: what each offset reads lies beside the channels.

        The offsets of the first `beside` axes lie beside the channels of g, moved against x, and those of the
        others beside the channels of x. With none beside g, x is laid out as patches: "patch ...". With one
        axis beside g, a kernel of 3×3 makes three copies of both and not nine of one: "split product".
        """
        counts = [window.offsets for window in self.windows]
        width, height = size(counts[beside:]) * self.c, size(counts[:beside]) * self.o
        t = sum(term.n * term._places_beside(beside) for term in terms)

        def laid_out(dense: Form) -> Form:
            def compute(factors: Sequence[Factors], precision: Any) -> Array:
                pairs = []
                for term, (x, g) in zip(terms, factors, strict=True):
                    left = patches_of(padded(x, term.windows), _whole(term.windows, beside))
                    pairs.append((_rows(left, 2), _rows(moved(g, term.windows[:beside]), 2)))
                return dense.compute(pairs, precision)

            copied = self.groups * t * (width + (height if beside else 0))
            name = f"{'split' if beside else 'patch'} {dense.name}"
            elements = dense.elements + copied
            return replace(dense, name=name, elements=elements, compute=compute, shifted=copied)

        forms = dense_forms(self.groups, t, width, height)
        return [laid_out(form) for form in forms if not beside or form.name == "product"]

    def _pixel(self, n: int) -> Form:
        """The Gram matrix of patches from that of pixels: equal shifts of both copies, summed over offsets.

        `Σ_k x[position(k, t)] · x[position(k, t')]` is a sum of slices of the pixels' Gram matrix, one
        spatial axis at a time; with the Gram matrix of g as in the dense "gram" form.
        """
        pixels, places = n * size([w.length for w in self.windows]), n * self._places

        def compute(factors: Sequence[Factors], precision: Any) -> Array:
            # Layers of equal geometry that share a kernel are one layer that saw more images.
            x, g = joined(factors, 0)
            gram = _gram_of(x, precision)  # [g n S.. n S..]
            rank = len(self.windows)
            for axis, window in enumerate(self.windows):
                gram = shifted_sum(gram, (2 + axis, 3 + rank + axis), window)
            return jnp.maximum(jnp.sum(gram * _gram_of(g, precision)), 0)

        elements, shifted, shape = pixels**2 + places**2, 0, [window.length for window in self.windows]
        for axis, window in enumerate(self.windows):
            shape[axis] = window.places
            elements += (n * size(shape)) ** 2
            shifted += window.offsets * (n * size(shape)) ** 2
        macs = self.groups * (pixels**2 * self.c + places**2 * self.o)
        counts = (self.groups * elements, compute, self.groups * shifted)
        return Form("pixel", macs, *counts, products=2)

    def _places_beside(self, beside: int) -> int:
        """Places that are multiplied where x is read at all positions of the first axes."""
        return size([window.places for window in _whole(self.windows, beside)])

    @property
    def _places(self) -> int:
        return size([window.places for window in self.windows])


def _whole(windows: Sequence[Window], beside: int) -> list[Window]:
    return [*(window.whole for window in windows[:beside]), *windows[beside:]]


def _grouped_product(x: Array, g: Array, precision: Any) -> Array:
    """`Σ_{n t} x[n t g c] g[n t g o]`, float `[g c o]`."""
    groups, c, o = x.shape[-2], x.shape[-1], g.shape[-1]
    if groups > 1 and c * o <= 4:
        # Depthwise: a matrix product of single numbers.
        kind = accumulator(x.dtype, g.dtype)
        return jnp.sum(x.astype(kind)[..., None] * g.astype(kind)[..., None, :], tuple(range(x.ndim - 2)))
    return contract(_rows(x, 1), _rows(g, 1), ((1,), (1,)), ((0,), (0,)), precision)


def _rows(array: Array, trailing: int) -> Array:
    """From `[n T.. g ...]` to `[g t ...]`, the last `trailing` axes as one."""
    axis = array.ndim - trailing - 1
    moved = jnp.moveaxis(array, axis, 0)
    return moved.reshape(array.shape[axis], size(array.shape[:axis]), size(array.shape[axis + 1 :]))


def _gram_of(array: Array, precision: Any) -> Array:
    """Inner products over the last axis, from `[n T.. g c]` to `[g n T.. n T..]`."""
    rows = _rows(array, 1)
    gram = contract(rows, rows, ((2,), (2,)), ((0,), (0,)), precision)
    space = array.shape[:-2]
    return gram.reshape(rows.shape[0], *space, *space)
