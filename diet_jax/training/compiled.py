"""Compiled programs of a training, each with the compiler's options that its config names."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from diet_jax.errors import InputError


class CompiledProgram:
    """A function of arrays and of a static `program`, compiled with `program.config.compiler_options`."""

    def __init__(self, fn: Callable[..., Any], static: Sequence[str] = (), donate: str | None = None) -> None:
        self._fn = fn
        self._options = {"static_argnames": ("program", *static), "donate_argnames": donate}
        self._jitted = functools.lru_cache(self._jit)
        self.__name__ = fn.__name__

    def __call__(self, *args: Any, program: Any, **options: Any) -> Any:
        """Runs the program, which is compiled once for each set of shapes and static arguments."""
        return self._jitted(program.config.compiler_options)(*args, program=program, **options)

    def lower(self, *args: Any, program: Any, **options: Any) -> Any:
        """Returns the program for these shapes before it is compiled, as `jax.jit`'s `lower` does."""
        return self._jitted(program.config.compiler_options).lower(*args, program=program, **options)

    def _jit(self, compiler_options: tuple[str, ...]) -> Any:
        return jax.jit(self._fn, compiler_options=_parsed(compiler_options) or None, **self._options)


def _parsed(options: tuple[str, ...]) -> dict[str, Any]:
    """Options as JAX takes them, after the compiler has taken each with an empty program."""
    parsed: dict[str, Any] = {}
    for option in options:
        name, _, text = option.partition("=")
        value = _value(text)
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
        except (jax.errors.JaxRuntimeError, TypeError) as error:
            reason = str(error).removeprefix("INVALID_ARGUMENT: ").split("\n")[0]
            raise InputError(
                f"compiler_options: the {jax.default_backend()} compiler refuses {option!r} ({reason}); "
                f"give name=value as `jax.jit(compiler_options=...)` takes it"
            ) from error
        parsed[name] = value
    return parsed


def _value(text: str) -> Any:
    """Truth values and fractions as such; the compiler reads whole numbers and names from text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text) if "." in text else text
    except ValueError:
        return text
