"""Plain arrays out of what others hold: tables, tensors, columns, lists. What is none is refused."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.errors import InputError

WHITE = 'Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")'


def plain_array(given: Any, name: str) -> np.ndarray:
    """Returns as a NumPy array what an argument holds, with the values that it has.

    Arrays of NumPy and JAX, tensors, tables and columns with `to_numpy`, and lists of numbers, of text, of
    arrays or of Pillow images are arrays. Of bfloat16 and its like, which few programs know, float32 is made.

    Raises:
        InputError: it is no array, or entries are missing, masked, of several kinds or of several shapes:
            the message has the line of code that makes an array of it.
    """
    if isinstance(given, np.ma.MaskedArray):
        masked = np.ma.count_masked(given)
        if masked:
            raise InputError(
                f"{name} has {masked} masked of {given.size} entries; fill them ({name}.filled(0)) or leave "
                "those examples out"
            )
        given = given.data
    if isinstance(given, Mapping):
        keys = list(given)
        raise InputError(
            f"{name} is a {type(given).__name__} of {len(keys)} columns; give one of them"
            + (f", such as {name}[{keys[0]!r}]" if keys else "")
        )
    if isinstance(given, Iterator | set | frozenset):
        order = "without an order; sort it" if isinstance(given, set | frozenset) else "read once"
        raise InputError(f"{name} is a {type(given).__name__}, {order}; give list({name})")
    if hasattr(given, "toarray"):
        raise InputError(f"{name} is a sparse {type(given).__name__}; give {name}.toarray()")
    if hasattr(given, "collect"):
        raise InputError(f"{name} is a {type(given).__name__}, not computed yet; give {name}.collect()")
    array = _converted(given, name)
    if array.dtype.names:
        raise InputError(
            f"{name} has the named fields {', '.join(array.dtype.names)}; give "
            f"np.stack([{name}[field] for field in {name}.dtype.names], axis=-1)"
        )
    if array.dtype == object:
        array = _of_objects(array, name, given)
    if array.dtype.kind == "V":  # bfloat16 and its like are no numbers to NumPy.
        wide = np.float32 if jnp.issubdtype(array.dtype, jnp.floating) else np.int32
        array = array.astype(wide)
    return array


def in_code(given: Any, name: str) -> str:
    """What code in a message calls an argument that may be no array yet."""
    return name if isinstance(given, np.ndarray | jax.Array) else f"np.asarray({name})"


def _converted(given: Any, name: str) -> np.ndarray:
    if isinstance(given, np.ndarray):
        return given
    try:
        if hasattr(given, "detach") and hasattr(given, "cpu"):  # a tensor of PyTorch
            given = given.detach().cpu()
            return np.asarray(given.float() if "bfloat16" in str(given.dtype) else given)
        if hasattr(given, "to_numpy"):
            return np.asarray(given.to_numpy())
        arrays = ("__array__", "__array_interface__", "__dlpack__")
        if isinstance(given, str | bytes) or any(hasattr(given, word) for word in arrays):
            return np.asarray(given)
        if hasattr(given, "__len__") and hasattr(given, "__getitem__"):
            return _of_items(list(given), name)
        return np.asarray(given)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"{name} ({type(given).__name__}) cannot be read as an array: {reason}; make one of NumPy of it"
        ) from error


def _of_items(items: list[Any], name: str) -> np.ndarray:
    first = items[0] if items else None
    if isinstance(first, Mapping):
        keys = list(first)
        one = f"row[{keys[0] if keys else ''!r}]"
        if "bytes" in keys:  # an image of Hugging Face that is not decoded
            one = "Image.open(io.BytesIO(row['bytes']))"
        raise InputError(
            f"{name} is a list of {type(first).__name__}s with {', '.join(map(repr, keys))}; give one "
            f"column: [{one} for row in {name}]"
        )
    if hasattr(first, "convert") and hasattr(first, "mode"):
        return _of_pictures(items, name)
    if hasattr(first, "detach") or hasattr(first, "to_numpy"):
        items = [plain_array(item, name) for item in items]
    kinds = set(map(type, items))
    if len(kinds) > 1 and any(issubclass(kind, str | bytes) for kind in kinds):
        _check_missing(items, name)
        words = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(f"{name} mixes {words}; make one kind of them: [str(value) for value in {name}]")
    try:
        return np.asarray(items)
    except ValueError as error:
        if isinstance(first, tuple) and len(first) == 2:
            raise InputError(
                f"{name} is a list of pairs; take them apart: inputs, labels = zip(*{name})"
            ) from error
        raise _different_shapes(items, name) from error


def _of_pictures(items: list[Any], name: str) -> np.ndarray:
    """Stacks images of Pillow whose pixels are what they show."""
    _check_missing(items, name)
    modes, sizes = sorted({image.mode for image in items}), sorted({image.size for image in items})
    if len(modes) > 1 or modes[0] not in ("L", "RGB"):
        deep = any(mode[0] in "IF" for mode in modes)
        alpha = any(mode in ("RGBA", "LA", "PA", "P") for mode in modes)
        one = "np.asarray(image, np.float32)" if deep else WHITE if alpha else 'image.convert("RGB")'
        raise InputError(
            f"{name} holds Pillow images of the mode{'s' * (len(modes) > 1)} {', '.join(modes)}, not all L "
            f"(grey) or all RGB; convert them: [{one} for image in {name}]"
        )
    if len(sizes) > 1:
        raise InputError(
            f"{name} holds images of {len(sizes)} sizes, such as {sizes[0]} and {sizes[-1]}; make them one: "
            f"[image.resize({items[0].size}) for image in {name}]"
        )
    return np.stack([np.asarray(image) for image in items])


def _of_objects(array: np.ndarray, name: str, given: Any) -> np.ndarray:
    """Makes an array of numbers or of text of an array of objects, which may be of a table that was given."""
    columns = getattr(given, "columns", None)
    if array.ndim == 0:
        raise InputError(f"{name} must be an array or a list, got {type(array.item()).__name__}")
    if array.ndim == 1:
        _check_missing(array.tolist(), name)
        made = _of_items(array.tolist(), name)
        if made.dtype != object:
            return made
        raise InputError(f"{name} holds objects ({type(array[0]).__name__}), no numbers or text")
    numbers = []
    for place, column in enumerate(np.moveaxis(array, -1, 0)):
        values = column.ravel().tolist()
        label = repr(list(columns)[place]) if columns is not None else str(place)
        _check_missing(values, f"{name}, column {label},")
        wrong = next((v for v in values if not isinstance(v, int | float | np.number | np.bool_)), None)
        if wrong is not None:
            if columns is not None and array.shape[1:] == (1,):
                raise InputError(f"{name} is a table of one column; give the column: {name}[{label}]")
            polars = hasattr(given, "to_dummies")
            code = f"{name}.to_dummies({label})" if polars else f"pandas.get_dummies({name})"
            raise InputError(
                f"{name}: column {label} holds {type(wrong).__name__}, such as {wrong!r}; make a "
                f"column of 0 and 1 for each of its values ({code} does), or leave it out"
            )
        numbers.append(np.asarray(values).reshape(column.shape))
    return np.stack(numbers, axis=-1)


def _check_missing(items: Sequence[Any], name: str) -> None:
    missing = [row for row, item in enumerate(items) if _is_missing(item)]
    if missing:
        raise InputError(
            f"{name} has {len(missing)} missing of {len(items)} entries ({items[missing[0]]!r}), the first "
            f"in row {missing[0]}; leave those examples out of every array, or fill them"
        )


def _is_missing(item: Any) -> bool:
    is_nan = isinstance(item, float | np.floating) and bool(np.isnan(item))
    return item is None or is_nan or type(item).__name__ in ("NAType", "NaTType")


def _different_shapes(items: list[Any], name: str) -> InputError:
    _check_missing(items, name)
    try:
        shapes = [np.shape(item) for item in items]
    except ValueError:
        return InputError(f"{name} holds lists of several lengths; pad them to one or cut them")
    other = next((row for row, shape in enumerate(shapes) if shape != shapes[0]), 0)
    # What one example holds may be cut; of what has an entry for each example none may go.
    remedy = "all must have one shape"
    if name == "inputs":
        least = min((s[0] for s in shapes if s), default=1)
        remedy = f"pad or cut them to one shape: np.stack([one[:{least}] for one in {name}])"
    return InputError(
        f"{name} has {'examples' if name == 'inputs' else 'rows'} of several shapes: the first is "
        f"{shapes[0]}, row {other} is {shapes[other]}; {remedy}"
    )
