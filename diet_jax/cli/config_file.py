"""Config files: Python that defines CONFIG, and brings scores, rules, data and models of one's own."""

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

import diet_jax
from diet_jax.errors import InputError
from diet_jax.experiments.config import RunConfig
from diet_jax.experiments.own import Own

# Beside the package, or where an installation puts them.
PLACES = (Path(diet_jax.__file__).parents[1] / "configs", Path(sys.prefix) / "share/diet_jax/configs")


def run_file(path: str) -> Any:
    """Runs a Python file and returns it as a module; modules beside it can be imported by their names.

    Args:
        path: of the file.

    Raises:
        InputError: there is no such file, or it fails.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(
            f"no config file {path}; those of the project are in "
            f"{next((str(place) for place in PLACES if place.is_dir()), 'configs/ of its repository')}"
        )
    spec = importlib.util.spec_from_file_location(f"diet_jax_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"config file {path} must be a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    # Where the help on its options, and pickle, look for what it defines.
    sys.modules[spec.name] = module
    if str(file.parent.absolute()) not in sys.path:
        sys.path.append(str(file.parent.absolute()))
    try:
        spec.loader.exec_module(module)
    except InputError:
        raise
    except SystemExit as error:
        raise InputError(
            f"config file {path} calls sys.exit({error.code!r}); it must define CONFIG, and no more"
        ) from error
    except Exception as error:
        lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == spec.origin]
        where = f" in line {lines[-1]}" if lines else ""
        raise InputError(f"config file {path} fails{where}: {type(error).__name__}: {error}") from error
    return module


def load_config(path: str, kind: type = RunConfig) -> Any:
    """Runs a config file and returns its CONFIG.

    Args:
        path: of a Python file.
        kind: what CONFIG must be.

    Raises:
        InputError: there is no such file, it fails, or CONFIG is missing.
    """
    return config_of(run_file(path), path, kind)


def config_of(module: Any, path: str, kind: type = RunConfig) -> Any:
    """Returns the CONFIG of a config file that has run."""
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, kind):
        raise InputError(f"config file {path} must define CONFIG, a {kind.__module__}.{kind.__name__}")
    return config


def own_of(module: Any, path: str) -> Own:
    """Returns what a config file that has run brings beside CONFIG: TRAIN and TEST, MODEL.

    Raises:
        InputError: one of them is something else.
    """
    train, test, model = (getattr(module, name, None) for name in ("TRAIN", "TEST", "MODEL"))
    try:
        return Own(train, test, model)
    except InputError as error:
        raise InputError(f"TRAIN, TEST or MODEL of config file {path}: {error}") from error
