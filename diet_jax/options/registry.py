"""What is found by name: everything of a kind is registered in the file that defines it."""

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from diet_jax.errors import InputError, NotHereError


@runtime_checkable
class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """What it is called in configs, files and on the command line."""
        ...


Item = TypeVar("Item", bound=Named)


class Registry(Generic[Item]):
    """Objects of one kind by name: the library's own, and those that users register.

    The library's own are found by importing every module of a package, when a name is first asked for: a new
    one is a new file, and no list has to be edited.

    Args:
        kind: what they are, for messages, such as "score".
        package: the package whose modules register the library's own.

    Example:
        >>> from typing import NamedTuple
        >>> class Colour(NamedTuple):
        ...     name: str
        >>> colours = Registry("colour", package="diet_jax.options")
        >>> red = colours.register(Colour("red"))
        >>> colours.find("red") is red, colours.resolve(red) is red, colours.names()
        (True, True, ('red',))
    """

    def __init__(self, kind: str, *, package: str) -> None:
        self._kind, self._package = kind, package
        self._items: dict[str, Item] = {}
        self._complete = False

    def register(self, item: Item, *, anew: bool = False) -> Item:
        """Adds an object and returns it; the same one again changes nothing.

        Args:
            item: what has a name.
            anew: whether it may take the place of another one that is not the library's own.

        Raises:
            InputError: there is another one of that name.
        """
        # Else a name of the library's own would be free until that one is imported.
        if not _origin(item)[:1] or not _origin(item)[0].startswith(f"{self._package}."):
            self._import_all()
        other = self._items.setdefault(item.name, item)
        # A module that runs twice, such as a config file, defines the same thing anew.
        is_own = not any(origin.startswith(f"{self._package}.") for origin in _origin(other))
        if other != item and _origin(other) != _origin(item) and not (anew and is_own):
            raise InputError(
                f"two things want to be the {self._kind} {item.name!r}: {', '.join(_origin(other))} and "
                f"{', '.join(_origin(item))}; choose another name for one"
            )
        self._items[item.name] = item
        return item

    def find(self, name: str) -> Item:
        """Returns the object of a name.

        Raises:
            InputError: there is none; the message lists what there is.
        """
        self._import_all()
        if not isinstance(name, str) or name not in self._items:
            near = difflib.get_close_matches(str(name), self._items, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise NotHereError(
                f"no {self._kind} is called {name!r}; {hint}there are {', '.join(self.names())}; one of your "
                f"own must be registered first, in a module that the config file imports"
            )
        return self._items[name]

    def resolve(self, item: Item | str) -> Item:
        """Returns the object of a name, or the object itself."""
        return item if isinstance(item, Named) and not isinstance(item, str) else self.find(str(item))

    def names(self) -> tuple[str, ...]:
        """Returns all names in alphabetical order."""
        self._import_all()
        return tuple(sorted(self._items))

    def __iter__(self) -> Iterator[Item]:
        return (self._items[name] for name in self.names())

    def _import_all(self) -> None:
        if self._complete:
            return
        self._complete = True
        for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
            importlib.import_module(f"{self._package}.{module.name}")


def _origin(item: Any) -> list[str]:
    """Where an object's functions were defined."""
    values = [value for value in getattr(item, "__dict__", {}).values() if callable(value)]
    functions = [value.func if isinstance(value, functools.partial) else value for value in values]
    return [f"{f.__module__}.{f.__qualname__}" for f in functions if hasattr(f, "__qualname__")]
