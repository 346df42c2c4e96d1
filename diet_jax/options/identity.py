"""What a config cannot write down: functions, classes and objects, by name and digest of their source.

Two processes that run the same code find the same digest; a changed formula, constant or helper function
gives another one. Comments, docstrings and the layout of the text do not count.
"""

import ast
import dataclasses
import enum
import functools
import hashlib
import inspect
import linecache
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

LETTERS = 12
# Longer descriptions are parts of others by their digest.
LONG = 1000


def identify(thing: Any) -> str:
    """Returns the name of a function, class or object with a digest of all that decides what it does.

    The digest is over the source of the thing, over what it closes over, its defaults and its fields, and, in
    turn, over everything of these kinds that its source names, wherever it is defined. What stands in an
    installed package counts by its name alone. An object of a compiled extension counts by its type.

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


def is_of_package(thing: Any) -> bool:
    """Returns whether a thing's code stands in an installed package, this one or Python itself."""
    while isinstance(thing, functools.partial | types.MethodType):
        thing = thing.func if isinstance(thing, functools.partial) else thing.__func__
    return _is_in_package(str(getattr(thing, "__module__", None) or "builtins"))


def _is_in_package(module: str) -> bool:
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == __name__.partition(".")[0]:
        return True
    # The module of what was started may stand in a package, such as a debugger's, and hold code of one's own.
    file = None if module == "__main__" else getattr(sys.modules.get(module), "__file__", None)
    return file is not None and bool({"site-packages", "dist-packages"} & set(Path(file).parts))


class _Describer:
    """Writes down what decides the work of a thing; each object once, so that cycles end."""

    def __init__(self) -> None:
        # With the objects, or another one could come to have the number of one that is gone.
        self._known: dict[int, tuple[str, Any]] = {}

    def describe(self, thing: Any) -> str:
        # Equal numbers are one: a schedule of Optax makes floats of the integers it holds when it is called.
        if type(thing) is float and thing.is_integer():
            thing = int(thing)
        if thing is None or isinstance(
            thing, bool | int | float | complex | str | bytes | np.generic | np.dtype
        ):
            return f"{type(thing).__name__} {thing!r}"
        if isinstance(thing, Path):
            return str(thing)
        if id(thing) not in self._known:
            self._known[id(thing)] = "itself", thing
            text = self._describe(thing)
            self._known[id(thing)] = (text if len(text) < LONG else _digest(text.encode())), thing
        return self._known[id(thing)][0]

    def _describe(self, thing: Any) -> str:
        if isinstance(thing, jax.Array | np.ndarray):
            return _array(thing)
        if isinstance(thing, enum.Enum):
            return f"{_name(type(thing))} {thing.name}"
        if isinstance(thing, Mapping):
            return self._all(
                _name(type(thing)), sorted(((str(k), v) for k, v in thing.items()), key=lambda x: x[0])
            )
        if isinstance(thing, tuple | list):
            return self._all(_name(type(thing)), enumerate(thing))
        if isinstance(thing, set | frozenset):
            return f"set {sorted(self.describe(item) for item in thing)}"
        if isinstance(thing, types.ModuleType):
            return f"module {thing.__name__}"
        if isinstance(thing, functools.partial):
            return self._all("partial", [("", thing.func), ("", thing.args), ("", thing.keywords)])
        if isinstance(thing, types.MethodType):
            return self._all("method", [("", thing.__func__), ("", thing.__self__)])
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        if isinstance(thing, type):
            return self._class(thing)
        if callable(wrapped := getattr(thing, "__wrapped__", None)):
            return self._all(_name(type(thing)), [("", wrapped)])
        if dataclasses.is_dataclass(thing):
            fields = [(f.name, getattr(thing, f.name, None)) for f in dataclasses.fields(thing)]
            return self._all("", [("", type(thing)), *fields])
        if hasattr(thing, "__qualname__"):
            return _name(thing)
        return self._all("", [("", type(thing)), *sorted(getattr(thing, "__dict__", {}).items())])

    def _all(self, kind: str, parts: Iterable[tuple[Any, Any]]) -> str:
        return f"{kind}({', '.join(f'{name}={self.describe(part)}' for name, part in parts)})"

    def _function(self, function: types.FunctionType) -> str:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        parts: list[tuple[str, Any]] = [("defaults", function.__defaults__), ("", function.__kwdefaults__)]
        parts += [(name, _content(cell)) for name, cell in cells]
        wrapped = getattr(function, "__wrapped__", None)
        parts += [] if wrapped is None else [("wrapped", wrapped)]
        if is_of_package(function):
            return self._all(_name(function), parts)
        return self._all(_source(function), parts + _named(function))

    def _class(self, cls: type) -> str:
        if is_of_package(cls):
            return _name(cls)
        functions = [found for member in vars(cls).values() if (found := _function_in(member)) is not None]
        try:
            text, parts = _plain(inspect.getsource(cls)), []
        except (OSError, TypeError):
            text, parts = _name(cls), [("", function) for function in functions]
        parts += [("base", base) for base in cls.__bases__]
        return self._all(text, [*parts, *(part for function in functions for part in _named(function))])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _array(array: Any) -> str:
    if isinstance(array, Tracer):
        return f"traced {array.aval}"
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    values = np.ascontiguousarray(array)
    content = repr(values.tolist()).encode() if values.dtype.hasobject else values.tobytes()
    return f"array {values.dtype} {values.shape} {_digest(content)}"


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{thing.__qualname__}"


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # Not filled yet: a function that names itself.
        return None


def _function_in(member: Any) -> types.FunctionType | None:
    """The function in a member of a class, below what decorators put around it."""
    member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    member = inspect.unwrap(member) if callable(member) else member
    return member if isinstance(member, types.FunctionType) else None


def _named(function: types.FunctionType) -> list[tuple[str, Any]]:
    """What a function's code names: global values, and what of modules of one's own it uses."""
    names, found = sorted(_names(function.__code__)), []
    for name in names:
        value = function.__globals__.get(name)
        if name not in function.__globals__ or name.startswith("__"):
            continue
        found.append((name, value))
        if isinstance(value, types.ModuleType) and not _is_in_package(value.__name__):
            found += [(f"{name}.{used}", vars(value)[used]) for used in names if used in vars(value)]
    return found


def _names(code: types.CodeType) -> set[str]:
    inner = (_names(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*inner)


def _source(function: Callable[..., Any]) -> str:
    code = function.__code__
    try:
        # Of a function without a file, inspect takes lines of another one.
        if not Path(code.co_filename).is_file() and code.co_filename not in linecache.cache:
            raise OSError(code.co_filename)
        text = _plain(inspect.getsource(function))
    except (OSError, TypeError):
        return f"{function.__qualname__} {code.co_code.hex()} {_constants(code)}"
    # Of several lambdas in one line, the line is the source of each.
    return f"{text} {_constants(code)}" if function.__name__ == "<lambda>" else text


def _constants(code: types.CodeType) -> str:
    inner = [_constants(const) for const in code.co_consts if isinstance(const, types.CodeType)]
    values = [repr(const) for const in code.co_consts if not isinstance(const, types.CodeType)]
    return f"{code.co_names} {code.co_varnames} {values} {inner}"


def _plain(text: str) -> str:
    """The source without comments, docstrings and layout; as it stands where it is no whole statement."""
    text = textwrap.dedent(text)
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text.strip()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or len(body) < 2 or not isinstance(body[0], ast.Expr):
            continue
        if isinstance(body[0].value, ast.Constant):
            del body[0]
    return ast.unparse(tree)
