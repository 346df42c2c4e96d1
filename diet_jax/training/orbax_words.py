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
    # Of each write that nobody waits for any more, asyncio logs its error when it is collected.
    logging.getLogger("asyncio").addFilter(_of_others)

    def hook(unraisable: Any) -> None:
        # Of each array whose write comes to an end when nobody waits for it any more.
        if not _is_of_a_write(unraisable.exc_value):
            before(unraisable)

    logger.addFilter(_none)
    sys.unraisablehook = hook
    try:
        yield
        sys.unraisablehook = before
    finally:
        logger.removeFilter(_none)


def _is_of_a_write(error: BaseException | None) -> bool:
    return str(error) == "Event loop is closed" or any(word in str(error) for word in ("zarr3", "ocdbt"))


def _of_others(record: logging.LogRecord) -> bool:
    return not (record.exc_info and _is_of_a_write(record.exc_info[1]))


def _none(record: logging.LogRecord) -> bool:
    return False
