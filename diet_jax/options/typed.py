"""Checking that a config's fields hold what their types say, for configs that no parser has checked."""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from diet_jax.errors import InputError


def check_types(config: Any) -> None:
    """Raises InputError unless every field of a dataclass has the type that it is declared with.

    Integers serve as floats; NumPy scalars do not serve as either, for configs are written as JSON.

    Args:
        config: a dataclass of numbers, text, None, choices (`Literal`), tuples of these, dataclasses,
            functions and named tuples.

    Raises:
        InputError: names the field, its type and its value.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        if not _fits(value, hint):
            raise InputError(
                f"{field.name} must be {_describe(hint)}, got {value!r} ({type(value).__name__})"
            )


def _fits(value: Any, hint: Any) -> bool:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in options)
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in options)
    if origin is tuple:
        if type(value) is not tuple:
            return False
        kinds = options[:1] * len(value) if options[-1:] == (...,) else options
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if hint is float:
        return type(value) in (int, float)
    if hint is Any or origin is dict:
        return True
    if origin is Callable:
        return callable(value) and not isinstance(value, type)
    # Named tuples, such as Optax's transformations, have kinds of their own.
    is_open = dataclasses.is_dataclass(hint) or hasattr(hint, "_fields")
    return type(value) is hint or (is_open and isinstance(value, hint))  # type: ignore[arg-type]


def _describe(hint: Any) -> str:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(option) for option in options)
    if origin is Literal:
        return "one of " + ", ".join(map(str, options))
    if origin is tuple:
        return f"a tuple, each entry {_describe(options[0])}"
    if origin is Callable:
        return "a function"
    return "None" if hint is type(None) else hint.__name__
