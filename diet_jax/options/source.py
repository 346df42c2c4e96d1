"""The source of functions as it runs, and what it names."""

import ast
import dis
import functools
import importlib
import importlib.util
import inspect
import linecache
import sys
import sysconfig
import textwrap
import types
from pathlib import Path
from typing import Any

import diet_jax

OWN_PACKAGE = Path(diet_jax.__file__).parent
STDLIB = Path(sysconfig.get_paths()["stdlib"])


@functools.cache
def is_in_package(file: str) -> bool:
    """Returns whether a file stands in an installed package, in this one or in Python itself."""
    if file.startswith("<frozen"):
        return True
    path = Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts) or path.is_relative_to(OWN_PACKAGE):
        return True
    return path.is_relative_to(STDLIB)


def file_of(cls: type) -> str | None:
    """Returns where a class is defined; None for one of Python's own or a compiled extension's."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if file is not None:
        # The module of what was started may stand in a package, such as a debugger's, and hold own code.
        return "<started>" if cls.__module__ == "__main__" else file
    is_compiled = cls.__module__ in sys.stdlib_module_names or cls.__module__ in sys.builtin_module_names
    return None if is_compiled else "<no file>"


def source_of(function: types.FunctionType) -> str | None:
    """Returns a function's source without comments, docstrings and layout.

    None where there is none, or where the file was edited since the function was made.
    """
    code = function.__code__
    lines = linecache.getlines(code.co_filename)
    if not lines or not any(made == code for made in _codes("".join(lines), code.co_filename)):
        return None
    try:
        return _plain(inspect.getsource(code))
    except (OSError, TypeError):
        return None


@functools.lru_cache(maxsize=64)
def _codes(text: str, file: str) -> tuple[types.CodeType, ...]:
    """All code objects of a file's text."""
    try:
        waiting = [compile(text, file, "exec", dont_inherit=True)]
    except (SyntaxError, ValueError):
        return ()
    found: list[types.CodeType] = []
    while waiting:
        code = waiting.pop()
        found.append(code)
        waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return tuple(found)


def named_in(function: types.FunctionType) -> list[tuple[str, Any]]:
    """Returns what a function's code names: global values, and what it uses of modules of one's own."""
    names, space = _names(function.__code__), function.__globals__
    found: list[tuple[str, Any]] = []
    for name in sorted(names):
        if name in space and not name.startswith("__"):
            found.append((name, space[name]))
            found += _used(name, space[name], names, set())
    for module in sorted(_imported(function.__code__, space)):
        try:
            found += _used(module, importlib.import_module(module), names, set())
        except Exception:  # What cannot be imported cannot be used either.
            found.append((module, "not importable"))
    return found


def _used(name: str, value: Any, names: set[str], seen: set[int]) -> list[tuple[str, Any]]:
    """What code of these names can use of a module of one's own, and of the modules in it."""
    if not isinstance(value, types.ModuleType) or id(value) in seen:
        return []
    file = getattr(value, "__file__", None)
    # A package without __init__.py has no file.
    if file is None and not hasattr(value, "__path__"):
        return []
    if file is not None and is_in_package(file):
        return []
    seen.add(id(value))
    found: list[tuple[str, Any]] = []
    for used in sorted(names & set(vars(value))):
        if not used.startswith("__"):
            found.append((f"{name}.{used}", vars(value)[used]))
            found += _used(f"{name}.{used}", vars(value)[used], names, seen)
    return found


def _names(code: types.CodeType) -> set[str]:
    inner = (_names(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*inner)


def _imported(code: types.CodeType, space: dict[str, Any]) -> set[str]:
    """The modules of one's own that code imports when it runs."""
    found: set[str] = set()
    previous: list[Any] = []
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            level = next((value for value in reversed(previous) if isinstance(value, int)), 0)
            package = space.get("__package__") or ""
            name = "." * level + step.argval
            with_dots = importlib.util.resolve_name(name, package) if level and package else step.argval
            found.add(with_dots)
        previous = [*previous[-3:], step.argval]
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= _imported(const, space)
    top = {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names}
    return {name for name in top if not _is_installed(name)}


@functools.cache
def _is_installed(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return False
    return spec is None or (spec.origin is not None and is_in_package(spec.origin))


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
