"""Options that take a name or, in Python, an object: the command line offers the names."""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

from diet_jax.errors import InputError
from diet_jax.options.plain import plain

REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def names_or_objects(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Offers the names of a union of names and functions; the object of a config file stays the default."""
    if typing.get_origin(info.type) not in (typing.Union, types.UnionType):
        return None
    kinds = typing.get_args(info.type)
    names = tuple(
        name for kind in kinds if typing.get_origin(kind) is Literal for name in typing.get_args(kind)
    )
    if not names or not any(typing.get_origin(kind) is Callable for kind in kinds):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{','.join(names)}}}",
        choices=names,
        instance_from_str=lambda given: given[0],
        is_instance=lambda _: True,
        str_from_instance=lambda value: [plain(value)],
    )


class RefusedOptionError(Exception):
    """An InputError of a section of options on its way past tyro, which puts a ValueError in a frame."""


_asking: list[StructTypeInfo] = []


@REGISTRY.struct_rule
def sections(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Makes sections as tyro does, and lets what they refuse through as it is."""
    if info in _asking or not dataclasses.is_dataclass(info.type):
        return None
    _asking.append(info)
    try:
        spec = ConstructorRegistry.get_struct_spec(info)
    finally:
        _asking.remove(info)
    if not isinstance(spec, StructConstructorSpec):
        return None
    return dataclasses.replace(spec, instantiate=functools.partial(_made, spec.instantiate))


def _made(instantiate: Callable[..., Any], **values: Any) -> Any:
    try:
        return instantiate(**values)
    except InputError as error:
        raise RefusedOptionError(str(error)) from error
