"""Libraries that are not needed by the package, asked for where one is used."""

import importlib
from typing import Any

from diet_jax.errors import InputError


def optional(name: str, what: str) -> Any:
    """Returns a module that need not be installed.

    Args:
        name: of the module, such as "pyarrow.parquet".
        what: what needs it, in the plural, for the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise InputError(f"{what} need {package}, which is not installed: pip install {package}") from error
