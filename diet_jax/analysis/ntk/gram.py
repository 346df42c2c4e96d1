"""The tangent kernel: how the logits of examples move together, block by block in bounded memory.

A Gram matrix has one row for each pair of an example and a class, flattened with the class running fastest:
pair `(i, k)` is row `i c + k`. In shapes, `m` is such a number of pairs and `e` one of examples.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jaxtyping import Float, Shaped

from diet_jax.checks.calls import check_batch_of, num_logits
from diet_jax.checks.values import check_array, check_count, check_floats
from diet_jax.devices.mesh import batch_parts, over_parts, replicate
from diet_jax.errors import InputError
from diet_jax.per_example.products import contract
from diet_jax.types import AnyArray, AnyVariables, Array, Inputs, PredictFn, params_of, with_params

BLOCK_BYTES = 2**32
# Enough to fill the matrix products; more images only cost memory for activations.
MOST_IMAGES_PER_PIECE = 8

_Leaves = list[Array]


def logit_gram(
    predict_fn: PredictFn,
    variables: AnyVariables,
    images: Inputs,
    other: Shaped[AnyArray, "b2 ..."] | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> Float[Array, "m m2"]:
    """Returns the tangent kernel: the inner products of the gradients of all logits of all images.

    `K[i c + k, j c + l] = ∇f_k(x_i) · ∇f_l(x'_j)`, exact, over all parameters. The Jacobian is never whole: a
    block of its rows is kept while the others pass by in small pieces, so that time grows with
    `e² / block_bytes` once the block is full. Products and sums are in full float32; the network computes as
    it always does (for accelerators that round, see `jax.default_matmul_precision`).

    Called with arrays it is a loop in Python over programs compiled once for each `predict_fn`: pass the same
    one again (a method of the same model). Inside `jit` it is a loop on the device, of the same compile time
    for any number of images; on CPUs convolutions are several times slower there.

    On a mesh whose axis "data" or "fsdp" has several devices (`make_mesh`), each computes and holds the rows
    of its part of the images, in one program that loops on the device; the variables are whole on each.
    Leaving `other` out does not halve the cost there.

    Args:
        predict_fn: `(variables, images) -> logits [b c]`, in eval mode.
        variables: of one model: the params of `dj.Variables` are differentiated, of anything else all.
        images: float `[e ...]`, inputs of any kind, normalised, not augmented.
        other: float `[e2 ...]`, those of the columns; by default `images`, at half the cost.
        block_bytes: bytes, on each device, for rows of the Jacobian, one of which has as many as the
            parameters. Activations of `c` backward passes for each of at most 8 images come on top.

    Returns:
        float32 `[e·c, e2·c]`; symmetric if `other` is left out.

    Raises:
        InputError: no images, images of two shapes, or not even three rows fit into `block_bytes`.

    Paper: the kernel of section 5, at one state of the weights; 1000 rows of ResNet18 are 44.7 GB.

    Example:
        >>> import jax, diet_jax as dj
        >>> model = dj.create_model("mlp", num_classes=3)
        >>> variables = model.init(jax.random.key(0), (8, 8, 1))
        >>> images = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
        >>> logit_gram(model.predict, variables, images).shape
        (15, 15)
    """
    images = jnp.asarray(check_batch_of(predict_fn, variables, images))
    check_floats(params_of(variables))
    variables = jax.tree.map(jnp.asarray, variables)
    columns = images if other is None else jnp.asarray(check_array(other, "other", "b ...", "anything"))
    check_count(block_bytes, "block_bytes", most=2**63)
    num_classes = checked_num_classes(predict_fn, variables, images, columns)
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((variables, images, columns)))
    if batch_parts() > 1:
        arrays = (variables, images, columns)
        gram = _rows_over_devices(
            *(arrays if traced else replicate(arrays)), predict_fn=predict_fn, block_bytes=block_bytes
        )
        return gram if other is not None else _mirrored(gram)
    block, piece = _block_sizes(params_of(variables), len(images), len(columns), num_classes, block_bytes)
    loop = lax.fori_loop if traced else python_loop

    row_blocks = Blocks(len(images), num_classes, *block)
    column_blocks = Blocks(len(columns), num_classes, *piece)
    pieces_of_block = Blocks(block[0], block[1], *piece)

    def jacobian(images: Array, example: Any, first_class: Any) -> _Leaves:
        batch = lax.dynamic_slice_in_dim(images, example, piece[0])
        return _jacobian(predict_fn, variables, batch, first_class, num_classes, piece[1])

    def fill(kept: _Leaves, example: Any, first_class: Any) -> _Leaves:
        def body(index: Any, kept: _Leaves) -> _Leaves:
            offset, class_offset = pieces_of_block.start(index)
            rows = jacobian(images, example + offset, first_class + class_offset)
            return _store(kept, rows, offset * block[1] + class_offset)

        return loop(0, pieces_of_block.count, body, kept)

    def one_block(index: Any, state: tuple[Array, _Leaves]) -> tuple[Array, _Leaves]:
        gram, kept = state
        example, first_class = row_blocks.start(index)
        row = example * num_classes + first_class
        kept = fill(kept, example, first_class)
        if other is None:
            gram = _put_products(gram, kept, kept, row, row)

        def one_piece(index: Any, gram: Array) -> Array:
            example, first_class = column_blocks.start(index)
            passing = jacobian(columns, example, first_class)
            return _put_products(gram, kept, passing, row, example * num_classes + first_class)

        # What is left of the diagonal follows from what is right of it.
        first = 0 if other is not None else (index + 1) * pieces_of_block.count
        return loop(first, column_blocks.count, one_piece, gram), kept

    gram = jnp.zeros((len(images) * num_classes, len(columns) * num_classes), jnp.float32)
    size = block[0] * block[1]
    kept = [jnp.zeros((size, leaf.size), leaf.dtype) for leaf in jax.tree.leaves(params_of(variables))]
    gram, _ = loop(0, row_blocks.count, one_block, (gram, kept))
    return gram if other is not None else _mirrored(gram)


@functools.partial(jax.jit, static_argnames=("predict_fn", "block_bytes"))
def _rows_over_devices(
    variables: AnyVariables, images: Array, columns: Array, *, predict_fn: PredictFn, block_bytes: int
) -> Array:
    """Each device computes the rows of its images."""

    def rows(shared: tuple[AnyVariables, Array], images: Array) -> Array:
        variables, columns = shared
        gram = logit_gram(predict_fn, variables, images, columns, block_bytes=block_bytes)
        return gram.reshape(len(images), -1, gram.shape[1])

    gram = over_parts(rows, (variables, columns), images)
    return gram.reshape(-1, gram.shape[2])


def _mirrored(gram: Array) -> Array:
    """Exactly symmetric, by what is right of the diagonal."""
    return jnp.triu(gram) + jnp.triu(gram, 1).T


class Blocks(NamedTuple):
    """Cuts `length` images of `num_classes` classes into equal blocks; the last ones may overlap others."""

    length: int
    num_classes: int
    examples: int
    classes: int

    @property
    def count(self) -> int:
        return -(-self.length // self.examples) * self._per_example

    @property
    def _per_example(self) -> int:
        return -(-self.num_classes // self.classes)

    def start(self, index: Any) -> tuple[Array, Array]:
        """First image and first class of a block."""
        example = index // self._per_example * self.examples
        first_class = index % self._per_example * self.classes
        return (
            jnp.minimum(example, self.length - self.examples),
            jnp.minimum(first_class, self.num_classes - self.classes),
        )


def _block_sizes(
    params: Any, rows: int, columns: int, num_classes: int, block_bytes: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Inputs and classes of the block that is kept and of the pieces that pass by."""
    row_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    fits = block_bytes // row_bytes
    if fits < 3:
        raise InputError(
            f"block_bytes must be at least {3 * row_bytes}, three rows of the Jacobian; got {block_bytes}"
        )
    if fits < 3 * num_classes:
        return (1, fits // 3), (1, fits // 3)
    images = fits // num_classes
    piece = min(max(images // 8, 1), MOST_IMAGES_PER_PIECE, rows, columns)
    # A piece takes twice its size while it is computed. A block is a whole number of pieces, or everything.
    block = min((images - 2 * piece) // piece * piece, rows)
    return (block, num_classes), (piece, num_classes)


@functools.partial(jax.jit, static_argnames=("predict_fn", "num_classes", "size"))
def _jacobian(
    predict_fn: PredictFn,
    variables: AnyVariables,
    images: Inputs,
    first_class: Any,
    num_classes: int,
    size: int,
) -> _Leaves:
    """Gradients of `size` logits of each image, `[rows parameters]` for each leaf."""

    def of_one(image: AnyArray) -> Any:
        logits, pullback = jax.vjp(
            lambda params: predict_fn(with_params(variables, params), image[None])[0], params_of(variables)
        )
        chosen = jax.nn.one_hot(first_class + jnp.arange(size), num_classes, dtype=logits.dtype)
        return jax.vmap(lambda one_hot: pullback(one_hot)[0])(chosen)

    leaves = jax.tree.leaves(jax.vmap(of_one)(images))
    return [leaf.reshape(len(images) * size, -1) for leaf in leaves]


@functools.partial(jax.jit, donate_argnums=0)
def _store(kept: _Leaves, rows: _Leaves, at: Any) -> _Leaves:
    return [lax.dynamic_update_slice_in_dim(all_, new, at, 0) for all_, new in zip(kept, rows, strict=True)]


@functools.partial(jax.jit, donate_argnums=0)
def _put_products(gram: Array, left: _Leaves, right: _Leaves, row: Any, column: Any) -> Array:
    """Leaf by leaf, so that no row is copied into one vector."""
    products = sum(contract(a, b, ((1,), (1,))) for a, b in zip(left, right, strict=True))
    return lax.dynamic_update_slice(gram, jnp.asarray(products).astype(gram.dtype), (row, column))


def python_loop(first: int, last: int, body: Callable[[Any, Any], Any], state: Any) -> Any:
    """`lax.fori_loop` on the host. It waits for each step: queued ones would hold memory."""
    for index in range(first, last):
        state = jax.block_until_ready(body(index, state))
    return state


def checked_num_classes(predict_fn: PredictFn, variables: AnyVariables, images: Array, columns: Array) -> int:
    """Returns the number of logits after checking that both sets of images can be compared."""
    if images.shape[1:] != columns.shape[1:] or not len(images) or not len(columns):
        raise InputError(
            f"images and other must be at least one image each, of one shape; got {images.shape} and "
            f"{columns.shape}"
        )
    count = num_logits(predict_fn, variables, images[:1])
    if not jax.tree.leaves(params_of(variables)):
        raise InputError("variables has no parameters to differentiate")
    return count
