"""What Orbax says of a failed write beside raising it: a hundred lines in which ours would be lost."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def one_error_only() -> Iterator[None]:
    """Leaves out what Orbax logs in a block, and what its threads print then and, once it has failed, later.

    What fails is raised in the block, to be said once.
    """
    logger, before = logging.getLogger("absl"), sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # Of each array whose write comes to an end when nobody waits for it any more.
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    logger.addFilter(_none)
    sys.unraisablehook = hook
    try:
        yield
        sys.unraisablehook = before
    finally:
        logger.removeFilter(_none)


def _none(record: logging.LogRecord) -> bool:
    return False
