"""Functions of one's own that the library calls: whose it was that failed, and why NumPy cannot be used."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from diet_jax.checks.values import check_array, check_function, check_pytree, check_same_length
from diet_jax.errors import InputError

_OF_TRACED = (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError)


@contextlib.contextmanager
def calling(what: str) -> Iterator[None]:
    """Says of what is raised inside that it comes from a function that was given, such as "the score gap".

    Raises:
        InputError: the function uses NumPy, or Python's `if` or `int`, on values that JAX traces.
        Exception: any other as it was raised, with its traceback and a note.
    """
    try:
        yield
    except InputError:
        raise
    except _OF_TRACED as error:
        raise InputError(
            f"{what} uses NumPy, or Python's if, int or float, on values that are not known yet, for it is "
            f"compiled ({type(error).__name__}); use jax.numpy, and jax.numpy.where for if"
        ) from error
    except Exception as error:
        note = f"This was raised inside {what}, a function that diet_jax was given."
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise


def check_batch_of(predict_fn: Any, variables: Any, inputs: Any, name: str = "predict_fn") -> Any:
    """Returns the inputs `[b ...]` that a function of variables and inputs is to be called with."""
    check_function(predict_fn, name, "(variables, inputs) -> logits [b c]")
    check_pytree(variables, "variables")
    return check_array(inputs, "inputs", "b ...", "anything")


def check_labelled_batch(
    predict_fn: Any, variables: Any, inputs: Any, labels: Any, name: str = "predict_fn"
) -> tuple[Any, Any]:
    """Returns inputs and labels, int `[b]`, after `check_batch_of`."""
    inputs = check_batch_of(predict_fn, variables, inputs, name)
    labels = check_array(labels, "labels", "b", "integers")
    check_same_length("labels", labels, "inputs", inputs)
    return inputs, labels


def called(fn: Callable[..., Any], variables: Any, inputs: Any, name: str = "predict_fn") -> Any:
    """Returns `fn(variables, inputs)`; what it raises says that it was that function."""
    with calling(name):
        return fn(variables, inputs)


def num_logits(predict_fn: Callable[..., Any], variables: Any, inputs: Any) -> int:
    """Returns how many logits a network has; nothing is run. InputError where it returns none `[b c]`."""
    with calling("predict_fn"):
        logits = jax.eval_shape(predict_fn, variables, inputs)
    if getattr(logits, "ndim", None) != 2:
        raise InputError(f"predict_fn must return logits [b c], got {logits}")
    return logits.shape[1]
