"""Options as plain JSON values and back, and how two sets of them differ."""

import dataclasses
import math
import types
import typing
from collections.abc import Collection
from typing import Any

from diet_jax.errors import InputError
from diet_jax.options.identity import identify


def to_json(config: Any) -> dict[str, Any]:
    """Returns a config dataclass as plain JSON values; functions and objects of one's own by `identify`."""
    return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def plain(value: Any) -> Any:
    """Returns nested dicts, lists, tuples and dataclasses as JSON knows them.

    Infinite and NaN numbers become text, and so do functions and tuples of functions: a name and a digest of
    the source.
    """
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    # A named tuple of functions, such as an Optax transformation, is one thing.
    if isinstance(value, (list, tuple)) and not (value and all(map(callable, value))):
        return [plain(v) for v in value]
    if dataclasses.is_dataclass(value) and not callable(value):
        return to_json(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    is_code = callable(value) or isinstance(value, tuple)
    return identify(value) if is_code else value


def without(values: dict[str, Any], leaving_out: Collection[tuple[str, ...]]) -> dict[str, Any]:
    """Returns a config (as JSON) without some of its options, given as paths."""
    inner = {name: [path[1:] for path in leaving_out if path[0] == name] for name in values}
    return {
        name: without(value, inner[name]) if isinstance(value, dict) else value
        for name, value in values.items()
        if () not in inner[name]
    }


def from_json(cls: Any, values: Any, path: str = "config") -> Any:
    """Builds a config dataclass from what `to_json` made of it.

    Raises:
        InputError: a field is unknown or missing.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if not isinstance(values, dict) or set(values) != set(fields):
        given = set(values) if isinstance(values, dict) else set()
        raise InputError(
            f"{path} does not fit this version of diet_jax: unknown {sorted(given - set(fields))}, "
            f"missing {sorted(set(fields) - given)}"
        )
    hints = typing.get_type_hints(cls)
    return cls(**{n: _value(hints[n], v, f"{path}.{n}") for n, v in values.items()})


def _value(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value, path)
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if float in options and isinstance(value, str):
        if value in ("inf", "-inf", "nan"):
            return float(value)
        if hint is float:
            raise InputError(f"{path} must be a number, got {value!r}")
    if isinstance(value, list) and any(typing.get_origin(option) is tuple for option in options):
        return tuple(value)
    return value


def differences(
    old: dict[str, Any],
    new: dict[str, Any],
    *,
    leaving_out: Collection[tuple[str, ...]] = (),
    path: tuple[str, ...] = (),
) -> list[str]:
    """Lists the options in which two configs (as JSON) differ, such as "train.epochs: 20, was 10"."""
    lines = []
    for name in sorted({*old, *new}):
        here = (*path, name)
        # Not None, which is a value of its own.
        a, b = (values.get(name, "not there") for values in (old, new))
        if here in leaving_out:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, leaving_out=leaving_out, path=here)
        elif a != b:
            lines.append(f"{'.'.join(here)}: {b}, was {a}")
    return lines
