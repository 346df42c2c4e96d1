"""How a convolution reads its input: positions, offsets, patches.

Arrays are float `[n S.. g c]`, S the spatial axes, one window for each.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
from jax import lax

from diet_jax.types import Array


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
    def whole(self) -> "Window":
        """One that reads every position between the first and the last."""
        return replace(self, offsets=1, places=self.reach, offset_step=1, step=1)

    @property
    def padding(self) -> tuple[int, int, int]:
        """Low, high and interior padding after which every position is an index."""
        dilated = (self.length - 1) * self.dilation + 1
        return self.low, self.reach - dilated - self.low, self.dilation - 1

    def places_of(self, offset: int) -> tuple[int, int, int]:
        """First, last (not included) and step of the padded indices that an offset reads."""
        start = offset * self.offset_step
        return start, start + (self.places - 1) * self.step + 1, self.step


def padded(x: Array, windows: Sequence[Window]) -> Array:
    """Returns x padded and dilated, so that every position is an index."""
    config = [(0, 0, 0), *(window.padding for window in windows), (0, 0, 0), (0, 0, 0)]
    if all(amounts == (0, 0, 0) for amounts in config):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def read(x: Array, windows: Sequence[Window], offset: Sequence[int]) -> Array:
    """Returns what an offset reads of padded x, `[n T.. g c]`."""
    slices = [window.places_of(k) for window, k in zip(windows, offset, strict=True)]
    start, stop, step = zip((0, x.shape[0], 1), *slices, *((0, a, 1) for a in x.shape[-2:]), strict=True)
    return lax.slice(x, start, stop, step)


def patches_of(x: Array, windows: Sequence[Window]) -> Array:
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
    return jnp.stack([read(x, windows, offset) for offset in offsets], axis=-2)


def moved(g: Array, windows: Sequence[Window]) -> Array:
    """From `[n T.. g o]` to `[n T.. g k o]`: copies of g, moved and dilated along the axes of the windows.

    At position p the copy of offset k holds the g of the place that reads p at that offset, or zero; along
    these axes places become positions.
    """
    copies = []
    for offset in itertools.product(*(range(window.offsets) for window in windows)):
        config = [(0, 0, 0)] * g.ndim
        for axis, (window, k) in enumerate(zip(windows, offset, strict=True)):
            start, stop, step = window.places_of(k)
            config[1 + axis] = (start, window.reach - stop, step - 1)
        copies.append(lax.pad(g, jnp.zeros((), g.dtype), config) if windows else g)
    return jnp.stack(copies, axis=-2)


def shifted_sum(gram: Array, axes: tuple[int, int], window: Window) -> Array:
    """Sums a Gram matrix over the offsets of one axis, read at the same offset along both of its copies."""
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
