"""Scores and rules in a config: chosen by name, with the options that each of them brings."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

from diet_jax.errors import InputError
from diet_jax.options.plain import from_json
from diet_jax.options.registry import Registry
from diet_jax.options.typed import check_types


def choices_of(registry: Registry[Any], *, several: bool = False) -> Callable[[], Any]:
    """Returns what the command line asks for the names that are registered by then."""

    def annotation() -> Any:
        names = Literal[registry.names()]  # type: ignore[valid-type]
        return tuple[names, ...] if several else names

    return annotation


def options_of(registry: Registry[Any]) -> Callable[[], dict[str, Any]]:
    """Returns what lists the options, by name, of everything that is registered by then."""
    return lambda: {item.name: item.options for item in registry if item.options is not None}


class Chosen(str):
    """The name of an object that a config was given: a name everywhere, and it keeps the object.

    Another object may be registered under that name later on, as when a cell of a notebook runs again.
    """

    item: Any

    @classmethod
    def of(cls, item: Any) -> "Chosen":
        """Names an object."""
        name = cls(item.name)
        name.item = item
        return name


def take_options(section: Any, field: str, registry: Registry[Any], kind: type) -> None:
    """Completes a config section: objects become registered names, and everything registered has its options.

    Args:
        section: a frozen dataclass with a field `options`.
        field: of a name or a tuple of names, or of objects to be registered.
        registry: of the names.
        kind: of the objects.

    Raises:
        InputError: something unknown is named, or options are not what they should be.
    """
    if not isinstance(section.options, dict):
        raise InputError(f"options must be a dict of options by name, got {section.options!r}")
    given, options = getattr(section, field), dict(section.options)
    given = tuple(given) if isinstance(given, list) else given
    items = given if isinstance(given, tuple) else (given,)
    for item in items:
        if not isinstance(item, str):
            if not isinstance(item, kind):
                raise InputError(
                    f"{field} must hold names and {kind.__name__} objects, {_remedy(item, kind)}"
                )
            before = registry.find(item.name).options if item.name in registry.names() else None
            is_variant = _differs_by_options(registry, item)
            if not is_variant:
                registry.register(item, anew=True)
            # A config that was made before holds the defaults of every name: nobody asked for these.
            asked = options.get(item.name)
            if item.options is not None and (asked is None or asked == before):
                options[item.name] = item.options
            elif is_variant and item.options not in (before, _options(asked, item)):
                raise InputError(
                    f"{item.name} is an object with {item.options}, and the config's options ask for "
                    f"{asked}; leave one out"
                )
    names = tuple(item if isinstance(item, str) else Chosen.of(item) for item in items)
    for name in (*names, *options):
        registry.find(name)
    complete = {
        item.name: _options(options.get(item.name), item) for item in registry if item.options is not None
    }
    idle = [name for name in complete if complete[name] != registry.find(name).options and name not in names]
    if idle:
        raise InputError(
            f"options of {', '.join(idle)} are set, but {field} is {' '.join(names)}; choose it there, or "
            f"leave its options out"
        )
    unknown = sorted(set(options) - set(complete))
    if unknown:
        raise InputError(f"options: {', '.join(unknown)} has no options; leave them out")
    object.__setattr__(section, field, names if isinstance(given, tuple) else names[0])
    object.__setattr__(section, "options", complete)


def with_others(section: Any, field: str, names: tuple[Any, ...]) -> Any:
    """Returns a config section with others chosen; the options of objects go with them."""
    objects = {name for name in getattr(section, field) if isinstance(name, Chosen)}
    options = {name: value for name, value in section.options.items() if name not in objects}
    return dataclasses.replace(section, **{field: names, "options": options})


def chosen(registry: Registry[Any], name: str, options: Mapping[str, Any]) -> Any:
    """Returns what is registered under a name, with its options."""
    item = name.item if isinstance(name, Chosen) else registry.find(name)
    return item if item.options is None else item.with_options(options[name])


def _differs_by_options(registry: Registry[Any], item: Any) -> bool:
    """Whether an object is what is registered under its name, with options of its own.

    The name keeps its defaults then: another config that names it does not mean these options.
    """
    if item.options is None or item.name not in registry.names():
        return False
    other = registry.find(item.name)
    return type(other.options) is type(item.options) and item.with_options(other.options) == other


def _remedy(item: Any, kind: type) -> str:
    """What was given instead, and what to write."""
    got = f"got {str(item)[:60]!r} ({type(item).__name__})"
    if isinstance(item, os.PathLike):
        return f"{got}; read a score file by dj.ScoreFile.load(path), or name it in score.files"
    if callable(item) and not isinstance(item, type):
        return f"{got}; wrap a function: dj.{kind.__name__}(name=..., ...)"
    return f"{got}; give a tuple of them"


def _options(given: Any, item: Any) -> Any:
    if given is None:
        return item.options
    if isinstance(given, Mapping):
        defaults = dataclasses.asdict(item.options)
        given = from_json(type(item.options), {**defaults, **given}, f"options of {item.name}")
    if type(given) is not type(item.options):
        raise InputError(
            f"options of {item.name} must be {type(item.options).__name__} or a dict, got {given!r}"
        )
    check_types(given)
    return given
