"""Numbers, arrays, keys and pytrees of arguments: by type, shape and dtype, which `jit` knows too.

Values are looked at only where they are there, never those of traced arrays. What is right is returned as it
was given, so that nothing computes otherwise for having been checked.
"""

import contextlib
import numbers
import operator
import os
from collections.abc import Iterable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from diet_jax.checks.arrays import plain_array
from diet_jax.errors import InputError

# Sizes and row numbers are counted in 32 bits.
MOST = 2**31 - 1
Kind = Literal["floats", "numbers", "integers", "booleans", "anything"]
_KINDS: dict[str, tuple[Any, ...]] = {
    "floats": (jnp.floating,),
    "numbers": (jnp.floating, jnp.integer),
    "integers": (jnp.integer,),
    "booleans": (jnp.bool_,),
    "anything": (jnp.floating, jnp.integer, jnp.bool_),
}


def check_count(value: Any, name: str, *, least: float = 1, most: float = MOST) -> int:
    """Returns a whole number; NumPy's will do, True and 2.0 are none.

    Raises:
        InputError: it is none, or out of its range.
    """
    number = None
    if not _is_boolean(value):
        with contextlib.suppress(TypeError):
            number = operator.index(value)
    if number is None:
        raise InputError(f"{name} must be an integer, got {shown(value)}")
    if number < least:
        raise InputError(f"{name} must be at least {least}, got {number}")
    if number > most:
        raise InputError(f"{name} must be at most {most}, got {number}; lower it")
    return number


def check_number(
    value: Any,
    name: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> Any:
    """Returns a real number within its range as it is, or a traced scalar; NaN is in no range.

    Raises:
        InputError: it is none, or out of its range.
    """
    limits = (
        [f"above {above:g}"] if above is not None else [f"at least {least:g}"] if least is not None else []
    )
    limits += [f"below {below:g}"] if below is not None else [f"at most {most:g}"] if most is not None else []
    if isinstance(value, Tracer) and value.ndim == 0:
        return value
    scalar = (
        isinstance(value, np.ndarray | jax.Array) and value.ndim == 0 and _is_kind(value.dtype, "numbers")
    )
    if _is_boolean(value) or not (scalar or isinstance(value, numbers.Real)):
        raise InputError(f"{name} must be a number{' ' + limits[0] if limits else ''}, got {shown(value)}")
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        number = np.inf
    fits = (
        number == number
        and (above is None or number > above)
        and (least is None or number >= least)
        and (below is None or number < below)
        and (most is None or number <= most)
    )
    if not fits:
        raise InputError(f"{name} must be {' and '.join(limits) or 'a number'}, got {value}")
    # JAX takes Python's integers for 32 bits.
    return number if isinstance(value, int) and abs(value) > MOST else value


def check_array(value: Any, name: str, shape: str, kind: Kind = "floats") -> Any:
    """Returns an array of NumPy or JAX as it is; of lists, tensors and columns an array of NumPy is made.

    Args:
        value: the argument.
        name: what the argument is called.
        shape: a letter for each axis, such as "b c"; at the beginning or the end "..." stands for any.
        kind: of the entries; "anything" is numbers and booleans.

    Raises:
        InputError: it is no array, masked, of another kind or rank, or holds integers that JAX, which is set
            to 32 bits, would cut off to other ones.
    """
    array = value
    if not isinstance(value, jax.Array) and (type(value) is not np.ndarray or value.dtype == object):
        array = plain_array(value, name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "V":  # bfloat16 is a number to JAX.
            array = value
    axes = shape.split()
    least = len([axis for axis in axes if axis != "..."])
    fits = array.ndim >= least if "..." in axes else array.ndim == least
    if not fits or not _is_kind(array.dtype, kind):
        raise InputError(f"{name} must be {kind} [{shape}], got {array.dtype} of shape {array.shape}")
    if isinstance(array, np.ndarray) and array.dtype in (np.int64, np.uint64) and array.size:
        limits = np.iinfo(np.int32)
        if array.min() < limits.min or array.max() > limits.max:
            raise InputError(
                f"{name} must fit 32 bits, as JAX computes with, and go from {array.min()} to {array.max()}"
            )
    return array


def check_same_length(name: str, array: Any, other_name: str, other: Any) -> None:
    """Raises InputError unless two arrays have as many entries along their first axes."""
    if len(array) != len(other):
        raise InputError(
            f"{name} must have one entry for each of {other_name}, {len(other)}; got {len(array)}"
        )


def check_key(key: Any, name: str = "key", *, several: bool = False) -> Any:
    """Returns keys of JAX as they are, typed or as words: one, or `[s]` of them.

    Raises:
        InputError: it is none.
    """
    axes = int(several)
    if isinstance(key, jax.Array | np.ndarray):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == axes and (key.size or several):
            return key
        # What `jax.random.PRNGKey` makes, in as many words as this JAX's kind of keys has: no axis of keys.
        if key.dtype == jnp.uint32 and key.ndim == axes + 1 and key.size and key.shape[-1] == _words():
            return key
    what = "keys [s] of JAX, such as dj.seed_keys(0, 'score', 3)" if several else "a key, jax.random.key(0)"
    raise InputError(f"{name} must be {what}; got {shown(key)}")


def _words() -> int:
    return jax.eval_shape(lambda: jax.random.PRNGKey(0)).shape[-1]


def check_shape(shape: Any, name: str = "shape") -> tuple[int, ...]:
    """Returns the shape of one example, a tuple of whole numbers.

    Raises:
        InputError: it is none.
    """
    if not isinstance(shape, tuple | list) or not shape:
        array = isinstance(shape, jax.Array | np.ndarray)
        got = f"an array of shape {shape.shape}" if array else shown(shape)
        raise InputError(f"{name} must be the shape of one example, such as (32, 32, 3); got {got}")
    return tuple(check_count(size, f"a size in {name}") for size in shape)


def check_pytree(tree: Any, name: str) -> Any:
    """Returns parameters or variables as they are: a pytree of arrays and numbers, of which it may hold none.

    Raises:
        InputError: a leaf is neither: text, an array of text or objects, a masked or complex one.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        array = isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) or type(leaf) is np.ndarray
        known = array or isinstance(leaf, np.generic)
        keys = known and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        if known and not keys and not _is_kind(leaf.dtype, "anything"):
            array = known = False
        if not known and (_is_boolean(leaf) or not isinstance(leaf, numbers.Real)):
            where = jax.tree_util.keystr(path, simple=True, separator="/")
            raise InputError(
                f"{name} must be a pytree of real arrays, as a model's init returns it; "
                f"{where or 'it'} is {shown(leaf)}"
            )
    return tree


def check_path(value: Any, name: str) -> Any:
    """Returns a path, text or `os.PathLike`, as it is; InputError for anything else, and for an empty one."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise InputError(f"{name} must be a path, not empty, got {shown(value)}")
    return value


def check_floats(params: Any, name: str = "variables") -> Any:
    """Returns parameters as they are; InputError where a leaf is none of floats and so has no gradient."""
    for leaf in jax.tree.leaves(params):
        if not isinstance(leaf, float) and not _is_kind(getattr(leaf, "dtype", int), "floats"):
            raise InputError(f"{name} must hold floats to be differentiated, got {shown(leaf)}")
    return params


def check_choice(value: Any, name: str, choices: Iterable[Any]) -> Any:
    """Returns one of several words; InputError for anything else."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}")
    return value


def check_type(value: Any, name: str, kind: type | tuple[type, ...], expected: str) -> Any:
    """Returns an object of a class; InputError, which says what is expected, for anything else."""
    if not isinstance(value, kind):
        raise InputError(f"{name} must be {expected}, got {shown(value)}")
    return value


def check_function(value: Any, name: str, expected: str) -> Any:
    """Returns a function; InputError, which says of what to what, for anything else."""
    if not callable(value):
        raise InputError(f"{name} must be a function {expected}, got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """Says what an argument is, in a few words."""
    if isinstance(value, np.ndarray | jax.Array):
        masked = "a masked " if isinstance(value, np.ma.MaskedArray) else ""
        return f"{masked}{value.dtype} of shape {value.shape}"
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


def _is_kind(dtype: Any, kind: str) -> bool:
    return any(jnp.issubdtype(dtype, one) for one in _KINDS[kind])


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == np.dtype(bool)
