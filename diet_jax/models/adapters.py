"""Which adapter an object needs to be a model."""

from typing import Any

from diet_jax.errors import InputError
from diet_jax.types import Model

# By the module that a class, or one that it is made from, comes from.
_ADAPTERS = {
    "flax.linen": "dj.from_linen(Net(...))",
    "flax.nnx": "dj.from_nnx(lambda rngs: Net(..., rngs=rngs))",
    "equinox": "dj.from_equinox(lambda key: Net(..., key=key))",
}
_OF_MODULES = (*(f"{library}." for library in _ADAPTERS), "torch.")
_NOT_JAX = ("torch", "keras", "tensorflow", "sklearn")


def check_model(model: Any) -> None:
    """Raises InputError unless an object is a model; the message names the adapter that it needs."""
    if isinstance(model, type) or not isinstance(model, Model):
        raise InputError(f"model: expected a diet_jax model. {remedy_for(model)}")
    try:
        hash(model)
    except TypeError as error:
        raise InputError(
            f"model: {type(model).__name__} cannot be hashed ({error}), by which programs are found; "
            f"make its fields numbers, text and tuples, or define __hash__ and __eq__"
        ) from error


def check_constructor(constructor: Any, library: str) -> None:
    """Raises InputError unless an object may make modules of a library: no module, and no class of another.

    Args:
        constructor: what was given.
        library: "flax.nnx" or "equinox".
    """
    kind = constructor if isinstance(constructor, type) else type(constructor)
    # The first that is called so is the library's own, whatever the user's are called.
    origins = [base.__module__ for base in reversed(kind.__mro__) if base.__name__ == "Module"]
    origin = f"{origins[0]}." if origins else ""
    own = isinstance(constructor, type) and origin.startswith(f"{library}.")
    if callable(constructor) and (own or not origin.startswith((*_OF_MODULES, f"{library}."))):
        return
    raise InputError(
        f"constructor: expected a function that makes the module, for every seed has its own. "
        f"{remedy_for(constructor)}"
    )


def model_name(model: Model) -> str:
    """Returns what a model is called in tables and folders: its `name`, or that of its class."""
    name = getattr(model, "name", None)
    return name if isinstance(name, str) else type(model).__name__


def remedy_for(given: Any) -> str:
    """Returns what to write instead of an object that is no model, in a sentence or two."""
    kind = given if isinstance(given, type) else type(given)
    if isinstance(given, Model) and not isinstance(given, type):
        return f"Got {kind.__name__}, which is a model already: use it as it is."
    origins = {".".join(base.__module__.split(".")[:2]) for base in kind.__mro__}
    origins |= {base.__module__.split(".")[0] for base in kind.__mro__}
    what = f"the class {kind.__name__}" if isinstance(given, type) else f"an object of {kind.__name__}"
    for origin, adapter in _ADAPTERS.items():
        if origin in origins:
            return f"Got {what} of {origin}: write {adapter}."
    for library in _NOT_JAX:
        if library in origins:
            return (
                f"Got {what} of {library}, which JAX cannot differentiate: score its logits in your own loop."
            )
    if callable(given) and not isinstance(given, type):
        return f"Got {what}: write dj.from_functions(init, apply)."
    return f"Got {what}: make a model by {', '.join(_ADAPTERS.values())} or dj.from_functions(init, apply)."
