"""What a config cannot write down: functions, classes and objects, by name and digest of their source.

Two processes that run the same code find the same digest; a changed formula, constant or helper function
gives another one. Comments, docstrings and the layout of the text do not count.
"""

import contextlib
import dataclasses
import enum
import functools
import hashlib
import inspect
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from diet_jax.options.source import file_of, is_in_package, named_in, source_of

LETTERS = 12
# Longer descriptions are parts of others by their digest.
LONG = 1000
# What classes and dataclasses are given by Python and Flax, and what follows from the rest.
GIVEN = {"_abc_impl", "_state", "scope", "parent", "name"}


def identify(thing: Any) -> str:
    """Returns the name of a function, class or object with a digest of all that decides what it does.

    The digest is over the source of the thing, over what it closes over, its defaults, its fields and its
    members, and, in turn, over everything of these kinds that its source names, wherever it is defined. What
    stands in an installed package counts by its name, and by what it holds.

    Args:
        thing: anything, such as a score's function, a Flax module or an Optax transformation.

    Returns:
        Such as "MyNet 3f0c22a98b1d".

    Example:
        >>> import functools
        >>> def power(x, exponent):
        ...     return x**exponent
        >>> square, cube = (identify(functools.partial(power, exponent=e)) for e in (2, 3))
        >>> square == identify(functools.partial(power, exponent=2)), square == cube
        (True, False)
    """
    digest = _digest(_Describer().describe(thing).encode())
    inner = thing.func if isinstance(thing, functools.partial) else thing
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return f"{name.rpartition('<locals>.')[2]} {digest[:LETTERS]}"


def is_of_package(function: Any) -> bool:
    """Returns whether a function's own code stands in an installed package, this one among them."""
    code = getattr(function, "__code__", None)
    return code is not None and is_in_package(code.co_filename)


class _Describer:
    """Writes down what decides the work of a thing; each object once, so that cycles end."""

    def __init__(self) -> None:
        # With the objects, or another one could come to have the number of one that is gone.
        self._known: dict[int, tuple[str, Any]] = {}

    def describe(self, thing: Any) -> str:
        # Equal numbers are one: a schedule of Optax makes floats of the integers it holds when it is called.
        if type(thing) is float and thing.is_integer():
            thing = int(thing)
        if type(thing) in (type(None), bool, int, float, complex, str, bytes) or isinstance(
            thing, np.generic | np.dtype | types.EllipsisType
        ):
            return f"{type(thing).__name__} {thing!r}"
        if id(thing) not in self._known:
            self._known[id(thing)] = "itself", thing
            text = self._describe(thing)
            self._known[id(thing)] = (text if len(text) < LONG else _digest(text.encode())), thing
        return self._known[id(thing)][0]

    def _describe(self, thing: Any) -> str:
        if isinstance(thing, jax.Array | np.ndarray):
            return self._array(thing)
        if isinstance(thing, enum.Enum):
            return self._all("enum", [("", type(thing)), ("", thing.name), ("", thing.value)])
        if isinstance(thing, Mapping) and type(thing).__module__ in ("builtins", "types", "collections"):
            items = sorted((self.describe(key), self.describe(value)) for key, value in thing.items())
            return f"{type(thing).__name__} {items}"
        if type(thing) in (tuple, list):
            return self._all(type(thing).__name__, enumerate(thing))
        if isinstance(thing, set | frozenset):
            return f"{type(thing).__name__} {sorted(self.describe(item) for item in thing)}"
        if isinstance(thing, types.ModuleType):
            return f"module {thing.__name__}"
        if isinstance(thing, functools.partial):
            return self._all("partial", [("", thing.func), ("", thing.args), ("", thing.keywords)])
        if isinstance(thing, types.MethodType):
            return self._all("method", [("", thing.__func__), ("", thing.__self__)])
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        if isinstance(thing, types.CodeType):
            parts = [("", thing.co_names), ("", thing.co_varnames), ("", thing.co_consts)]
            return self._all(f"code {thing.co_code.hex()}", parts)
        if isinstance(thing, types.CellType):
            return self.describe(_content(thing))
        if isinstance(thing, type):
            return self._class(thing)
        if isinstance(thing, Path):
            return f"path {thing}"
        return self._object(thing)

    def _all(self, kind: str, parts: Iterable[tuple[Any, Any]]) -> str:
        return f"{kind}({', '.join(f'{name}={self.describe(part)}' for name, part in parts)})"

    def _array(self, array: Any) -> str:
        if isinstance(array, Tracer):
            return f"traced {array.aval}"
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        values = np.ascontiguousarray(array)
        content = self.describe(values.tolist()).encode() if values.dtype.hasobject else values.tobytes()
        return f"array {values.dtype} {values.shape} {_digest(content)}"

    def _function(self, function: types.FunctionType) -> str:
        code = function.__code__
        parts: list[tuple[str, Any]] = [("defaults", function.__defaults__), ("", function.__kwdefaults__)]
        parts += zip(code.co_freevars, function.__closure__ or (), strict=True)
        parts += [("wrapped", found)] if (found := function.__dict__.get("__wrapped__")) is not None else []
        if is_in_package(code.co_filename):
            # A wrapper has the name of what it wraps; its code has its own.
            return self._all(f"{Path(code.co_filename).stem}.{code.co_qualname}", parts)
        text = source_of(function)
        source = [] if text is not None else [("", code)]
        # Of several lambdas in one line, the line is the source of each.
        source += [("", code)] if text is not None and function.__name__ == "<lambda>" else []
        return self._all(text or function.__qualname__, [*source, *parts, *named_in(function)])

    def _class(self, cls: type) -> str:
        file = file_of(cls)
        if file is None or is_in_package(file):
            return f"{cls.__module__}.{cls.__qualname__}"
        own = [(name, member) for name, member in vars(cls).items() if not _is_made(cls, name, member)]
        members = [(name, _inside(member)) for name, member in sorted(own, key=lambda item: item[0])]
        annotated = [(name, str(kind)) for name, kind in vars(cls).get("__annotations__", {}).items()]
        return self._all(cls.__qualname__, [("", cls.__bases__), ("", annotated), *members])

    def _object(self, thing: Any) -> str:
        held = dict(getattr(thing, "__dict__", {}))
        wrapped = held.pop("__wrapped__", None) or getattr(thing, "__wrapped__", None)
        kinds = type(thing).__mro__
        cached = {name for kind in kinds for name, member in vars(kind).items() if _is_cached(member)}
        hidden = GIVEN | cached
        extra = {name: value for name, value in held.items() if name[:1] != "_" and name not in hidden}
        if dataclasses.is_dataclass(thing):
            fields = {field.name for field in dataclasses.fields(thing)} - {"parent"}
            extra |= {name: getattr(thing, name, None) for name in fields}
            return self._all("", [("", type(thing)), *sorted(extra.items())])
        if wrapped is not None:
            return self._all(f"{type(thing).__qualname__}", [("", wrapped), *sorted(extra.items())])
        if hasattr(thing, "__qualname__") and getattr(thing, "__self__", None) is None:
            return f"{getattr(thing, '__module__', '')}.{thing.__qualname__}"
        if hasattr(thing, "__dict__"):
            parts = [(name, held[name]) for name in sorted(held.keys() - cached)]
            state = [("", list(thing))] if isinstance(thing, list | tuple) else []
            state += [("", dict(thing))] if isinstance(thing, dict) else []
            return self._all("", [("", type(thing)), *parts, *state])
        with contextlib.suppress(Exception):
            made = thing.__reduce_ex__(4)
            return self._all("made", enumerate(made[:5])) if isinstance(made, tuple) else f"global {made}"
        return self._all("", [("", type(thing))])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # Not filled yet: a function that names itself.
        return None


def _is_cached(member: Any) -> bool:
    return isinstance(member, functools.cached_property)


def _is_made(cls: type, name: str, member: Any) -> bool:
    """Whether Python or a library gave a class this member, which follows from the rest."""
    if name in GIVEN or (name.startswith("__") and not callable(member)):
        return True
    code = getattr(inspect.unwrap(member) if callable(member) else member, "__code__", None)
    of_dataclass = dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")
    return name.startswith("__") and of_dataclass and getattr(code, "co_filename", "") == "<string>"


def _inside(member: Any) -> Any:
    """The functions in a member of a class, below what makes them a property or a method of the class."""
    if isinstance(member, property):
        return member.fget, member.fset
    if _is_cached(member):
        return member.func
    return member.__func__ if isinstance(member, staticmethod | classmethod) else member
